"""NeuronCore of AWS Trainium: compute engines, on-chip memories and DMA engines.

Cycles are cycles of the engine that the field belongs to. Sources are given with the values in
`configs/engines/`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf

ROW_RATIOS: Mapping[str, str] = MappingProxyType({"fp8": "double_row_ratio", "mx": "mx_ratio"})
"""Field of `TensorEngine` that multiplies the rows contracted at once, by number format."""


@struct.dataclass
class TensorEngine:
    """Systolic array that multiplies a stationary tile by a moving tile and writes to PSUM."""

    rows: Leaf
    """Partitions: largest contraction of one instruction. Typical: 128 (Trainium2)."""
    cols: Leaf
    """Largest number of columns of the stationary tile. Typical: 128 (Trainium2)."""
    clock_hz: Leaf
    """Clock. Typical: 2.4 GHz (Trainium2)."""
    issue_cycles: Leaf
    """Minimum cycles between two instructions. Typical: 64 (Trainium2)."""
    load_speedup_ratio: Leaf
    """Columns of a stationary tile loaded per cycle. Typical: 4 (Trainium2)."""
    psum_banks: Leaf
    """PSUM banks per partition. Typical: 8 (Trainium2)."""
    psum_bank_elements: Leaf
    """FP32 results per partition and bank: largest number of columns of the moving tile. Typical:
    512 (Trainium2)."""
    fp32_passes: Leaf
    """Passes of an FP32 matmul. Typical: 4 (Trainium2)."""
    onezero_passes: Leaf
    """Passes of an FP32 matmul with one operand of zeros and ones. Typical: 2 (Trainium2)."""
    fp32_transpose_passes: Leaf
    """Passes of an FP32 transpose. Typical: 2 (Trainium2)."""
    double_row_ratio: Leaf
    """FP8 rate over 16-bit rate; 1 without double-row mode. Typical: 2 (Trainium2)."""
    mx_ratio: Leaf
    """MX rate over 16-bit rate; 1 without MX mode. Typical: 1 (Trainium2)."""
    sparsity_ratio: Leaf
    """Rate with structured sparsity over dense rate; 1 without. Typical: 4 (Trainium2)."""
    sustained_fraction: Leaf
    """Fraction of cycles used in a long sequence of matmuls. Typical: 1 (Trainium2), 0.868
    (Trainium1, fitted)."""


@struct.dataclass
class LaneEngine:
    """Engine with one lane per partition: Vector, Scalar or GpSimd.

    Rates are elements per lane and cycle, by number format: for instructions with one operand
    tensor, and for pairs of operand tensors in SBUF.
    """

    clock_hz: Leaf
    """Clock. Typical: 0.96 GHz (VectorE), 1.2 GHz (ScalarE, Trainium2)."""
    lanes: Leaf
    """Lanes. Typical: 128 (Trainium2)."""
    fixed_cycles: Leaf
    """Minimum cycles per instruction. Typical: 64 (Trainium2)."""
    fp32_rate: Leaf
    """FP32 rate with one operand tensor. Typical: 2 (VectorE of Trainium2)."""
    bf16_rate: Leaf
    """BF16 rate with one operand tensor. Typical: 4 (VectorE of Trainium2)."""
    fp32_pair_rate: Leaf
    """FP32 rate with two operand tensors in SBUF. Typical: 0.5 (VectorE of Trainium2)."""
    bf16_pair_rate: Leaf
    """BF16 rate with two operand tensors in SBUF. Typical: 1 (VectorE of Trainium2)."""
    exp_rate: Leaf
    """Rate of exponentials, and of all activation functions without a faster rate. Typical: 1
    (ScalarE of Trainium2)."""
    software_cycles: Leaf
    """Start-up cycles of an instruction that runs as a program on a GpSimd processor. Typical: 150
    (Trainium2)."""
    dependent_cycles: Leaf
    """Additional cycles of an instruction that depends on the previous result. Typical: 100
    (VectorE), 266 (ScalarE, Trainium2)."""
    access_cycles: Leaf
    """Latency of SBUF and PSUM accesses, overlapped with the next instruction. Typical: 60
    (Trainium2)."""


@struct.dataclass
class StateBuffer:
    """SBUF: the scratchpad shared by all engines of a core."""

    capacity_bytes: Leaf
    """Capacity. Typical: 28 MiB (Trainium2)."""
    bandwidth_bytes_per_s: Leaf
    """Bandwidth. Typical: 7.25 TB/s, about 20 times HBM (Trainium2)."""
    usable_fraction: Leaf
    """Fraction of the capacity available to tensors kept for reuse; the remainder buffers tiles in
    flight. Typical: 0.795 (fitted)."""


@struct.dataclass
class DmaEngines:
    """DMA engines of one core, which transfer rows of SBUF partitions in packets."""

    num_engines: Leaf
    """DMA engines per core. Typical: 16 (Trainium2)."""
    bandwidth_bytes_per_s: Leaf
    """Bandwidth of one engine within a packet. Typical: 27.2 GB/s (Trainium2)."""
    packet_bytes: Leaf
    """Packet size. Typical: 4 KiB (Trainium2)."""
    packet_overhead_bytes: Leaf
    """Time between packets, as bytes at the engine bandwidth. Typical: 748 B (Trainium2)."""
    start_latency_s: Leaf
    """Time from a semaphore to the first byte. Typical: 1.3 µs (Trainium2)."""
    saturating_bytes: Leaf
    """Bytes per partition below which the time of a single transfer is constant. Typical: 2430 B
    (Trainium2, fitted)."""
    transpose_fraction: Leaf
    """Bandwidth of a transposing copy from HBM over that of a plain copy. Typical: 0.9
    (Trainium2)."""


@struct.dataclass
class NeuronCore:
    """One core with its share of the chip's HBM bandwidth."""

    tensor: TensorEngine
    """TensorE: matmuls and transposes."""
    vector: LaneEngine
    """VectorE: elementwise operations and reductions."""
    scalar: LaneEngine
    """ScalarE: activation functions and operations with one operand tensor."""
    gpsimd: LaneEngine
    """GpSimd: general-purpose SIMD processors."""
    sbuf: StateBuffer
    """On-chip scratchpad."""
    dma: DmaEngines
    """DMA engines."""
    hbm_bandwidth_bytes_per_s: Leaf
    """Share of one core of the HBM bandwidth. Typical: 362.5 GB/s (Trainium2)."""
    launch_latency_s: Leaf
    """Start-up and tear-down time of a kernel, with all engines idle. Typical: 0 s (Trainium2),
    0.1 ms (Trainium1)."""
    vector_gpsimd_fraction: Leaf
    """Fraction of SBUF time in which VectorE and GpSimd exclude each other; 0 with separate ports.
    Typical: 0 (Trainium2), 1 (Trainium1)."""
    vector_scalar_fraction: Leaf
    """Fraction of PSUM time in which VectorE and ScalarE exclude each other; 0 with separate ports.
    Typical: 0 (Trainium2), 1 (Trainium1)."""
