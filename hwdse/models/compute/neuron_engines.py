"""Cycles and times of instructions and DMA transfers on the engines of a NeuronCore.

Cycles are initiation intervals: the delay until the next instruction of the same engine can start.
Source of all rules: NKI guides and instruction notes of the AWS Neuron SDK (v2.26 to v2.32),
"Trainium/Inferentia2 Architecture Guide", "NKI Performance Optimizations", `nki.isa` and
"Introduction to DMA with NKI". `core/neuron_kernel_time.py` overlaps the engines.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp
from hwdse.numerics.relaxation import floor_ste, num_tiles, positive_part
from hwdse.specs.hardware.neuron_core import (
    ROW_RATIOS,
    DmaEngines,
    LaneEngine,
    StateBuffer,
    TensorEngine,
)

NARROW_FORMATS = ("bf16", "fp16", "fp8", "mx")
"""Formats of the wide modes of the lane engines; the other formats are FP32 and TF32."""
PARTITIONS_PER_DMA_ENGINE = 8.0
"""Each of the 16 engines serves 8 of the 128 partitions of a transfer (NKI DMA introduction)."""
STRIDE_LIMIT_BYTES = 16.0
"""A larger element stride in a partition halves the SBUF bandwidth (architecture guide)."""


def contraction_rows(format_name: str, tensor: TensorEngine, kind: str = "matmul") -> PerOp:
    """Rows of a contraction per instruction.

    The array's `rows`, times 2 for FP8 with the double-row mode, times 4 for MX formats, times the
    dense-equivalent factor for structured sparsity.
    """
    ratio = getattr(tensor, ROW_RATIOS[format_name]) if format_name in ROW_RATIOS else 1.0
    return tensor.rows * ratio * (tensor.sparsity_ratio if kind == "sparse" else 1.0)


def passes(format_name: str, tensor: TensorEngine, kind: str = "matmul") -> PerOp:
    """Number of times that operands stream through the array: 1 except for FP32.

    FP32 takes 4 passes, 2 if an operand contains only zeros and ones (`broadcast`), and a separate
    number to transpose a tile (2 in the transpose mode of Trainium2 and later).
    """
    if format_name != "fp32":
        return 1.0
    special = {"transpose": tensor.fp32_transpose_passes, "broadcast": tensor.onezero_passes}
    return special.get(kind, tensor.fp32_passes)


def matmul_cycles(
    stationary: PerOp,
    moving: PerOp,
    num_passes: PerOp,
    tensor: TensorEngine,
    *,
    is_load_hidden: bool = True,
) -> PerOp:
    r"""Cycles of one matmul of `stationary` by `moving` columns, at most 512 each.

    $p \max(N_\text{moving}, I, N_\text{stationary} / r)$ if the next stationary tile loads behind
    the running matmul, $p (\max(N_\text{moving}, I) + N_\text{stationary} / r)$ otherwise: $I$
    cycles per issue (64), $r$ columns per cycle of the fast load (4), $p$ passes. A matrix-vector
    product takes $I$ with the vector moving and 128 with the vector stationary.
    """
    stream = jnp.maximum(moving, tensor.issue_cycles)
    load = stationary / tensor.load_speedup_ratio
    busy = jnp.maximum(stream, load) if is_load_hidden else stream + load
    return num_passes * busy


def transpose_cycles(
    partitions: PerOp, columns: PerOp, format_name: str, tensor: TensorEngine
) -> PerOp:
    """Cycles to transpose a tile on TensorE: `max(P, min(64, F))` times the passes."""
    smallest = jnp.minimum(tensor.issue_cycles, columns)
    return passes(format_name, tensor, "transpose") * jnp.maximum(partitions, smallest)


def gemm_cycles(
    m: PerOp,
    k: PerOp,
    n: PerOp,
    tensor: TensorEngine,
    *,
    format_name: str = "bf16",
    kind: str = "matmul",
    is_load_hidden: bool = True,
) -> PerOp:
    r"""Cycles of C[m,n] = A[m,k] B[k,n] with A stationary, tile by tile.

    $\lceil m / 128 \rceil \lceil k / K \rceil$ stationary tiles times all n columns in moving tiles
    of one PSUM bank (512 columns). A last tile below 64 columns takes 64. Assumes operands in SBUF
    and A with k on the partitions.
    """
    num_stationary = num_tiles(m, tensor.cols)
    num_stationary = num_stationary * num_tiles(k, contraction_rows(format_name, tensor, kind))
    bank = tensor.psum_bank_elements
    num_full = floor_ste(n / bank)
    rest = n - bank * num_full
    num_passes = passes(format_name, tensor, kind)
    last = matmul_cycles(tensor.cols, rest, num_passes, tensor, is_load_hidden=is_load_hidden)
    full = matmul_cycles(tensor.cols, bank, num_passes, tensor, is_load_hidden=is_load_hidden)
    return num_stationary * (num_full * full + jnp.where(rest > 0.0, last, 0.0))


def peak_flop_per_s(format_name: str, tensor: TensorEngine, kind: str = "matmul") -> PerOp:
    """Dense-equivalent rate of full tiles (FLOP/s): 2 x rows x columns x clock / passes."""
    rows = contraction_rows(format_name, tensor, kind)
    return 2.0 * rows * tensor.cols * tensor.clock_hz / passes(format_name, tensor, kind)


def _one_operand(n: PerOp, engine: LaneEngine, is_narrow: bool, in_psum: bool) -> PerOp:
    rate = engine.bf16_rate if is_narrow else engine.fp32_rate
    # The wide modes need operands in SBUF.
    return jnp.maximum(n / (jnp.minimum(rate, 1.0) if in_psum else rate), engine.fixed_cycles)


def _two_operands(n: PerOp, engine: LaneEngine, is_narrow: bool, in_psum: bool) -> PerOp:
    rate = engine.bf16_pair_rate if is_narrow else engine.fp32_pair_rate
    return jnp.maximum(n if in_psum else n / rate, engine.fixed_cycles)


def _exponential(n: PerOp, engine: LaneEngine, is_narrow: bool, in_psum: bool) -> PerOp:
    slowest = _one_operand(n, engine, is_narrow, in_psum)
    return jnp.minimum(slowest, jnp.maximum(n / engine.exp_rate, engine.fixed_cycles))


def _with_result(n: PerOp, engine: LaneEngine, is_narrow: bool, in_psum: bool) -> PerOp:
    return _one_operand(n, engine, is_narrow, in_psum) + engine.fixed_cycles


def _reduction(n: PerOp, engine: LaneEngine, is_narrow: bool, in_psum: bool) -> PerOp:
    return n / (2.0 if is_narrow and not in_psum else 1.0)


def _filling(n: PerOp, engine: LaneEngine, is_narrow: bool, in_psum: bool) -> PerOp:
    return jnp.maximum(n / (2.0 if is_narrow else 1.0), engine.fixed_cycles)


def _software(n: PerOp, engine: LaneEngine, is_narrow: bool, in_psum: bool) -> PerOp:
    return engine.software_cycles + n


def _times(ratio: float, floor_cycles: float = 0.0) -> "LaneCycles":
    """Rule of `ratio` cycles per element, at least the fixed cycles and `floor_cycles`."""

    def cycles(n: PerOp, engine: LaneEngine, is_narrow: bool, in_psum: bool) -> PerOp:
        return jnp.maximum(ratio * n, jnp.maximum(engine.fixed_cycles, floor_cycles))

    return cycles


LaneCycles = Callable[[PerOp, LaneEngine, bool, bool], PerOp]
"""Cycles from elements per partition, engine, narrow format or not, operand in PSUM or not."""

LANE_CYCLES: Mapping[str, LaneCycles] = MappingProxyType(
    {
        "tensor_scalar": _one_operand,
        "copy": _one_operand,
        "select": _one_operand,
        "dropout": _one_operand,
        "activation": _one_operand,
        "exp": _exponential,
        "activation_reduce": _with_result,
        "tensor_scalar_reduce": _with_result,
        "tensor_tensor": _two_operands,
        "scalar_tensor_tensor": _two_operands,
        "tensor_reduce": _reduction,
        "scan": _times(2.0),
        "memset": _filling,
        "vector_reciprocal": _times(8.0),
        "reciprocal": _one_operand,
        "bn_stats": _times(1.0),
        "bn_aggr": _times(13.0 / 3.0),
        "dynamic_copy": _times(1.0, 600.0),
        "max8": _reduction,
        "find_index8": _reduction,
        "transpose32": _times(1.0),
        "iota": _software,
        "affine_select": _software,
    }
)
"""Rules of `nki.isa` by operation; `reciprocal` is that of ScalarE, one cycle per element."""


def lane_cycles(
    operation: str,
    elements: PerOp,
    engine: LaneEngine,
    *,
    format_name: str = "fp32",
    in_psum: bool = False,
    is_dependent: bool = False,
) -> PerOp:
    """Cycles of one instruction on `elements` per partition; all partitions run in parallel.

    `is_dependent` adds the static overhead of an instruction that uses the previous result (about
    100 cycles). `operation` is a key of `LANE_CYCLES`.
    """
    is_narrow = format_name in NARROW_FORMATS
    cycles = LANE_CYCLES[operation](elements, engine, is_narrow, in_psum)
    return cycles + (engine.dependent_cycles if is_dependent else 0.0)


def top_k_cycles(elements: PerOp, num_kept: PerOp) -> PerOp:
    """Cycles of VectorE for the `num_kept` largest of `elements`: 4 N + K."""
    return 4.0 * elements + num_kept


def gather_cycles(
    num_indices: PerOp, run_length: PerOp, num_channels: PerOp, gpsimd: LaneEngine
) -> PerOp:
    """Cycles of GpSimd for `num_indices` runs on `num_channels`: 150 + indices x length / C."""
    return gpsimd.software_cycles + num_indices * run_length / num_channels


def queued_transfer_time_s(total_bytes: PerOp, row_bytes: PerOp, dma: DmaEngines) -> PerOp:
    r"""Time of a transfer among others that keep all DMA engines busy (s).

    Rows of b bytes, one per partition, are split into packets of at most P = 4 KiB. Each packet
    takes the time of $o$ additional bytes: $t = (B / b) (b + \lceil b / P \rceil o) / (e \beta)$
    for e engines of $\beta$ bytes per second. $o = P (\beta / \beta_\text{measured} - 1)$
    reproduces the bandwidth that the guide measures with 4 KiB packets.
    """
    overhead = num_tiles(row_bytes, dma.packet_bytes) * dma.packet_overhead_bytes
    bytes_per_s = dma.num_engines * dma.bandwidth_bytes_per_s
    return total_bytes * (1.0 + overhead / row_bytes) / bytes_per_s


def sustained_bytes_per_s(dma: DmaEngines) -> PerOp:
    """Bandwidth of one DMA engine with full packets (B/s)."""
    share = dma.packet_bytes / (dma.packet_bytes + dma.packet_overhead_bytes)
    return dma.bandwidth_bytes_per_s * share


def lone_transfer_time_s(row_bytes: PerOp, num_rows: PerOp, dma: DmaEngines) -> PerOp:
    r"""Time of one transfer of `num_rows` partitions without other traffic (s).

    Each engine takes 8 partitions: $t = r \max(b, s_0) / \beta_s$ for the r rows of the busiest
    engine, $s_0$ = 2430 bytes (fitted to the guide's chart of throughput over bytes per partition).
    """
    num_engines = jnp.minimum(num_tiles(num_rows, PARTITIONS_PER_DMA_ENGINE), dma.num_engines)
    busiest = num_rows / num_engines
    return busiest * jnp.maximum(row_bytes, dma.saturating_bytes) / sustained_bytes_per_s(dma)


def transfer_efficiency(row_bytes: PerOp, dma: DmaEngines) -> PerOp:
    """Throughput of lone transfers of `row_bytes` per partition relative to large transfers."""
    return row_bytes / jnp.maximum(row_bytes, dma.saturating_bytes)


def sbuf_time_s(traffic_bytes: PerOp, sbuf: StateBuffer, stride_bytes: PerOp = 0.0) -> PerOp:
    """SBUF time of a number of bytes (s); a stride above 16 bytes doubles it."""
    slowdown = jnp.where(positive_part(stride_bytes - STRIDE_LIMIT_BYTES) > 0.0, 2.0, 1.0)
    return slowdown * traffic_bytes / sbuf.bandwidth_bytes_per_s
