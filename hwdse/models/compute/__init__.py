"""Time of matrix multiplication on one chip's compute units.

- `systolic`: cycles and scratchpad words of systolic arrays, seven dataflows.
- `tile_overheads`: issue, DMA and start-up cycles of tiles on a weight-stationary core.
- `neuron_engines`: instruction and DMA costs of a NeuronCore.
- `cpu_simd`: register and cache blocking on the vector units of a CPU.
"""
