"""One NeuronCore of AWS Trainium: its engines, on-chip memories and DMA engines.

Cycles are those of the engine that a field belongs to. Sources stand beside the numbers in
`configs/engines/`.
"""

from collections.abc import Mapping
from types import MappingProxyType

import flax.struct

from hwdse.numerics.array_types import Leaf

ROW_RATIOS: Mapping[str, str] = MappingProxyType({"fp8": "double_row_ratio", "mx": "mx_ratio"})
"""Field of `TensorEngine` by which a format takes more rows of a contraction at once."""


@flax.struct.dataclass
class TensorEngine:
    """Systolic array that multiplies a stationary tile with a moving one, into PSUM."""

    rows: Leaf
    """Partitions: the most that one instruction contracts over."""
    cols: Leaf
    """Columns of the stationary tile that one instruction holds."""
    clock_hz: Leaf
    issue_cycles: Leaf
    """Fewest cycles between two instructions."""
    load_speedup_ratio: Leaf
    """Columns of a stationary tile that load in one cycle."""
    psum_banks: Leaf
    psum_bank_elements: Leaf
    """fp32 results of one partition and bank: the most columns of a moving tile."""
    fp32_passes: Leaf
    onezero_passes: Leaf
    """fp32 passes where one operand holds only zeros and ones."""
    fp32_transpose_passes: Leaf
    double_row_ratio: Leaf
    """Speed of fp8 over 16-bit formats; 1 where there is no double-row mode."""
    mx_ratio: Leaf
    sparsity_ratio: Leaf
    """Speed of structured sparsity over dense; 1 where there is none."""
    sustained_fraction: Leaf
    """Share of the cycles that a long run of products uses."""


@flax.struct.dataclass
class LaneEngine:
    """An engine of one lane a partition: Vector, Scalar or GpSimd.

    Rates are elements a lane and cycle by format: of instructions with one operand tensor, and
    with two that both come from SBUF.
    """

    clock_hz: Leaf
    lanes: Leaf
    fixed_cycles: Leaf
    """Fewest cycles of an instruction."""
    fp32_rate: Leaf
    bf16_rate: Leaf
    fp32_pair_rate: Leaf
    bf16_pair_rate: Leaf
    exp_rate: Leaf
    """Of exponentials (and of every other activation on engines without a faster one)."""
    software_cycles: Leaf
    """Start of an instruction that runs as a program of a GpSimd processor."""
    dependent_cycles: Leaf
    """Added to an instruction that waits for the result of the one before."""
    access_cycles: Leaf
    """Way to SBUF or PSUM and back, in which the next instruction can start already."""


@flax.struct.dataclass
class StateBuffer:
    """SBUF: the scratchpad that all engines share."""

    capacity_bytes: Leaf
    bandwidth_bytes_per_s: Leaf
    usable_fraction: Leaf
    """Share of the capacity that tensors kept for reuse can fill; the rest is tiles in flight."""


@flax.struct.dataclass
class DmaEngines:
    """The DMA engines of one core, which move rows of SBUF partitions in packets."""

    num_engines: Leaf
    bandwidth_bytes_per_s: Leaf
    """Of one engine inside a packet."""
    packet_bytes: Leaf
    packet_overhead_bytes: Leaf
    """Time between packets, in the bytes that could have moved."""
    start_latency_s: Leaf
    """From a semaphore to the first byte."""
    saturating_bytes: Leaf
    """Bytes a partition below which a lone transfer takes no less time."""
    transpose_fraction: Leaf
    """Bandwidth of a transposing copy from HBM, over that of a plain one."""


@flax.struct.dataclass
class NeuronCore:
    """A core with its share of the chip's HBM."""

    tensor: TensorEngine
    vector: LaneEngine
    scalar: LaneEngine
    gpsimd: LaneEngine
    sbuf: StateBuffer
    dma: DmaEngines
    hbm_bandwidth_bytes_per_s: Leaf
    launch_latency_s: Leaf
    """Start-up and tear-down of a kernel, in which no engine works."""
    vector_gpsimd_fraction: Leaf
    """Share of the time on SBUF in which VectorE and GpSimd take turns; 0 where ports are apart."""
    vector_scalar_fraction: Leaf
    """The same for VectorE and ScalarE on PSUM."""
