"""Engines of a NeuronCore: what an instruction and a transfer cost.

Cycles are initiation intervals: how soon the next instruction of the same engine can start. All
rules are those of the NKI guides and instruction notes of the AWS Neuron SDK (v2.26 to v2.32):
"Trainium/Inferentia2 Architecture Guide", "NKI Performance Optimizations", `nki.isa` and
"Introduction to DMA with NKI". `system.kernel_time` puts them side by side.
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
"""Formats that the wide modes of the lane engines take; fp32 and tf32 are the others."""
PARTITIONS_PER_DMA_ENGINE = 8.0
"""Each of the 16 engines serves 8 of the 128 partitions of a transfer (NKI DMA introduction)."""
STRIDE_LIMIT_BYTES = 16.0
"""A larger stride of a partition's elements halves the bandwidth of SBUF (architecture guide)."""


def contraction_rows(format_name: str, tensor: TensorEngine, kind: str = "matmul") -> PerOp:
    """Rows of a contraction that one instruction takes.

    The array's own `rows`; twice as many fp8 values where it has the double-row mode, four times
    as many MX values, and the same dense-equivalent factor for structured sparsity.
    """
    ratio = getattr(tensor, ROW_RATIOS[format_name]) if format_name in ROW_RATIOS else 1.0
    return tensor.rows * ratio * (tensor.sparsity_ratio if kind == "sparse" else 1.0)


def passes(format_name: str, tensor: TensorEngine, kind: str = "matmul") -> PerOp:
    """How often operands stream through the array: once, but for fp32.

    fp32 takes 4 passes, 2 where an operand holds only zeros and ones (`broadcast`), and its own
    number where a tile is transposed (2 in the transpose mode of Trainium2 and later).
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
    r"""Cycles of one product of `stationary` by `moving` columns, of at most 512.

    $p \max(N_\text{moving}, I, N_\text{stationary} / r)$ where the next stationary tile loads
    behind the running product, $p (\max(N_\text{moving}, I) + N_\text{stationary} / r)$ where it
    does not: $I$ cycles an issue (64), $r$ columns a cycle of the fast load (4), $p$ passes. A
    matrix-vector product takes $I$ with the vector moving and 128 with it stationary.
    """
    stream = jnp.maximum(moving, tensor.issue_cycles)
    load = stationary / tensor.load_speedup_ratio
    busy = jnp.maximum(stream, load) if is_load_hidden else stream + load
    return num_passes * busy


def transpose_cycles(
    partitions: PerOp, columns: PerOp, format_name: str, tensor: TensorEngine
) -> PerOp:
    """Cycles of transposing a tile on TensorE: `max(P, min(64, F))` times the passes."""
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

    $\lceil m / 128 \rceil \lceil k / K \rceil$ stationary tiles meet all n columns in moving
    tiles of one PSUM bank (512 columns); a last tile below 64 columns takes 64. Assumes that
    operands stand in SBUF and A comes with k on the partitions.
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
    """Dense-equivalent rate of full tiles in the array: 2 x rows x columns x clock / passes."""
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
    """Rule of `ratio` cycles an element, at least the fixed ones or `floor_cycles`."""

    def cycles(n: PerOp, engine: LaneEngine, is_narrow: bool, in_psum: bool) -> PerOp:
        return jnp.maximum(ratio * n, jnp.maximum(engine.fixed_cycles, floor_cycles))

    return cycles


LaneCycles = Callable[[PerOp, LaneEngine, bool, bool], PerOp]
"""Cycles by elements a partition, engine, whether the format is narrow, whether in PSUM."""

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
"""Rules of `nki.isa` by operation; `reciprocal` is ScalarE's, which takes one cycle an element."""


def lane_cycles(
    operation: str,
    elements: PerOp,
    engine: LaneEngine,
    *,
    format_name: str = "fp32",
    in_psum: bool = False,
    is_dependent: bool = False,
) -> PerOp:
    """Cycles of one instruction of `elements` a partition; all partitions run side by side.

    `is_dependent` adds the static overhead of an instruction that needs the result of the one
    before it (about 100 cycles). `operation` is a key of `LANE_CYCLES`.
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
    r"""Time of a transfer among others that keep all DMA engines busy.

    Rows of b bytes, one a partition, are cut into packets of at most P = 4 KiB, each with the
    time of $o$ more bytes: $t = (B / b) (b + \lceil b / P \rceil o) / (e \beta)$ for e engines of
    $\beta$ bytes a second. $o$ is what lowers the theoretical bandwidth of an engine to the one
    that the guide measures with 4 KiB packets, $o = P (\beta / \beta_\text{measured} - 1)$.
    """
    overhead = num_tiles(row_bytes, dma.packet_bytes) * dma.packet_overhead_bytes
    bytes_per_s = dma.num_engines * dma.bandwidth_bytes_per_s
    return total_bytes * (1.0 + overhead / row_bytes) / bytes_per_s


def sustained_bytes_per_s(dma: DmaEngines) -> PerOp:
    """What one DMA engine moves in full packets."""
    share = dma.packet_bytes / (dma.packet_bytes + dma.packet_overhead_bytes)
    return dma.bandwidth_bytes_per_s * share


def lone_transfer_time_s(row_bytes: PerOp, num_rows: PerOp, dma: DmaEngines) -> PerOp:
    r"""Time of one transfer of `num_rows` partitions with nothing else under way.

    Engines take 8 partitions each: $t = r \max(b, s_0) / \beta_s$ for the r rows of the busiest
    engine, $s_0$ = 2430 bytes (fitted to the guide's chart of throughput by bytes a partition).
    """
    num_engines = jnp.minimum(num_tiles(num_rows, PARTITIONS_PER_DMA_ENGINE), dma.num_engines)
    busiest = num_rows / num_engines
    return busiest * jnp.maximum(row_bytes, dma.saturating_bytes) / sustained_bytes_per_s(dma)


def transfer_efficiency(row_bytes: PerOp, dma: DmaEngines) -> PerOp:
    """Throughput of lone transfers of `row_bytes` a partition over that of large ones."""
    return row_bytes / jnp.maximum(row_bytes, dma.saturating_bytes)


def sbuf_time_s(traffic_bytes: PerOp, sbuf: StateBuffer, stride_bytes: PerOp = 0.0) -> PerOp:
    """Time that SBUF takes to hand over bytes; a stride above 16 bytes doubles it."""
    slowdown = jnp.where(positive_part(stride_bytes - STRIDE_LIMIT_BYTES) > 0.0, 2.0, 1.0)
    return slowdown * traffic_bytes / sbuf.bandwidth_bytes_per_s
