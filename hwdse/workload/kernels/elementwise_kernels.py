"""Trainium kernels without GEMMs: elementwise, row-wise, and the Mamba scan.

Arguments as in `workload.kernels.matmul_kernels`. As the compiler places them, ScalarE executes
instructions with one operand, VectorE reductions and instructions with two operands.
"""

import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp
from hwdse.numerics.relaxation import num_tiles
from hwdse.specs.hardware.neuron_core import NeuronCore
from hwdse.workload.kernels.kernel_instructions import FORMAT_BYTES, Kernel, KernelStage, LaneWork
from hwdse.workload.kernels.kernel_parts import (
    BANK,
    BLOCK,
    PARTITIONS,
    broadcasts,
    lane_work,
    load,
    store,
    usable_bytes,
)


def _elementwise(
    elements: PerOp,
    format_name: str,
    *,
    num_inputs: PerOp,
    on_vector: tuple[str, ...],
    on_scalar: tuple[str, ...],
) -> Kernel:
    """One stage over tensors of equal shape, in blocks of 1024 elements per partition."""
    each = elements / PARTITIONS
    work = [lane_work("vector", name, each, format_name=format_name) for name in on_vector]
    work += [lane_work("scalar", name, each, format_name=format_name) for name in on_scalar]
    transfers = (
        load(elements, BLOCK, format_name, num_inputs),
        store(elements, BLOCK, format_name),
    )
    return Kernel((KernelStage((), tuple(work), transfers),))


def adamw(m: PerOp, n: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """One AdamW step on m x n parameters; only the parameters are written back.

    Four input tensors, six two-operand and nine one-operand instructions. Source: NKIBench `adamw`.
    """
    return _elementwise(
        m * n,
        format_name,
        num_inputs=4.0,
        on_vector=("tensor_tensor",) * 6,
        on_scalar=("tensor_scalar",) * 7 + ("activation", "reciprocal"),
    )


def silu(m: PerOp, n: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """x / (1 + exp(-x)) in four instructions. Source: NKIBench `silu`."""
    return _elementwise(
        m * n,
        format_name,
        num_inputs=1.0,
        on_vector=("tensor_tensor",),
        on_scalar=("exp", "tensor_scalar", "reciprocal"),
    )


def softmax(m: PerOp, n: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """Softmax of m rows kept in SBUF: row maximum, exponential with its sum, scaling."""
    each = m * n / PARTITIONS
    work = (
        lane_work("vector", "tensor_reduce", each, n, format_name=format_name),
        lane_work("scalar", "activation_reduce", each, n, format_name=format_name),
        lane_work("vector", "tensor_scalar", each, n, format_name=format_name),
    )
    transfers = (load(m * n, n, format_name), store(m * n, n, format_name))
    return Kernel((KernelStage((), work, transfers, 2.0 * num_tiles(m, PARTITIONS)),))


def rms_norm(m: PerOp, n: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """RMSNorm with gain of m rows kept in SBUF. Source: NKI tutorial `rmsnorm`."""
    each = m * n / PARTITIONS
    work = (
        lane_work("scalar", "activation_reduce", each, n, format_name=format_name),
        lane_work("scalar", "tensor_scalar", each, n, format_name=format_name),
        lane_work("vector", "tensor_tensor", each, n, format_name=format_name),
    )
    transfers = (load(m * n, n, format_name), store(m * n, n, format_name))
    waits = 2.0 * num_tiles(m, PARTITIONS)
    return Kernel((KernelStage((broadcasts(n, format_name),), work, transfers, waits),))


def rotary(columns: PerOp, head_dim: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """Rotary embedding of `columns` positions x heads, with the elements of a head on partitions.

    Six two-operand instructions and a copy on half of the partitions, in tiles of 512 columns.
    Source: NKIBench `rope_single_freq_apply`.
    """
    work = (
        *(lane_work("vector", "tensor_tensor", columns) for _ in range(6)),
        lane_work("scalar", "copy", columns),
    )
    elements = head_dim * columns
    transfers = (
        load(elements, BANK, format_name),
        load(elements, BANK, format_name),  # cosines and sines, half of the elements each
        store(elements, BANK, format_name),
    )
    return Kernel((KernelStage((), work, transfers),))


MAMBA_VERSIONS = ("v1", "v2", "v3", "v3_sbuf", "best")
"""Versions of the Mamba scan kernel.

v1: state loop outside. v2: channel loop outside. v3, v3_sbuf: tiles of 512 with products in PSUM
or SBUF. best: sums kept in PSUM, work independent of the state moved out of the loop.
"""
TILED_VERSIONS = ("v3", "v3_sbuf", "best")
"""Versions that divide the sequence into tiles of at most one PSUM bank."""


def mamba_scan(
    channels: PerOp,
    length: PerOp,
    states: PerOp,
    format_name: str,
    core: NeuronCore,
    *,
    version: str,
    batch: PerOp = 1.0,
) -> Kernel:
    """Selective scan of Mamba: products, exponential, scan and sum over the states.

    TensorE broadcasts a row of B or C over the partitions; it stays in PSUM as an operand if a tile
    is not longer than a bank. Source: NKI tutorial "Fused Mamba" (v1 to v3) and NKIBench `mamba`
    (v1); "best" is the result of the autocomp search. Spills are not modeled: measured kernels
    without tiles lose time to them above a length of about 6000.
    """
    tile = jnp.where(length <= BANK, length, BANK) if version in TILED_VERSIONS else length
    num_tiles_of_channels = batch * num_tiles(channels, PARTITIONS)
    work = _mamba_work(num_tiles_of_channels * states * length, tile, states, version)
    elements = batch * channels * length
    transfers = (
        *_mamba_loads(elements, channels, length, states, format_name, core, version),
        load(2.0 * num_tiles_of_channels * states * length, tile, format_name),
        store(elements, tile, format_name),
    )
    num_rows = 2.0 * length / tile * states * num_tiles_of_channels
    broadcast = broadcasts(tile, format_name, count=num_rows)
    return Kernel((KernelStage((broadcast,), work, transfers),))


def _mamba_work(total: PerOp, tile: PerOp, states: PerOp, version: str) -> tuple[LaneWork, ...]:
    """Lane instructions of a scan of `total` elements per partition, in tiles."""
    fits_bank = tile <= BANK
    in_bank, in_sbuf = jnp.where(fits_bank, total, 0.0), jnp.where(fits_bank, 0.0, total)
    is_summed_in_psum = version in ("v3", "best")
    products = total / states if version == "best" else total
    work = [
        lane_work("scalar", "exp", total, tile),
        lane_work("scalar", "copy", 2.0 * in_sbuf, tile, in_psum=True),
        lane_work("vector", "tensor_tensor", products, tile),
        lane_work("vector", "tensor_tensor", 2.0 * in_bank, tile, in_psum=True),
        lane_work("vector", "tensor_tensor", 2.0 * in_sbuf, tile),
        lane_work("vector", "scan", total, tile),
        lane_work("vector", "tensor_tensor", total, tile, in_psum=is_summed_in_psum),
    ]
    if version in TILED_VERSIONS:  # the last state of a tile initializes the next tile
        work.append(lane_work("vector", "copy", total / tile, 1.0 + 0.0 * tile))
    return tuple(work)


def _mamba_loads(
    elements: PerOp,
    channels: PerOp,
    length: PerOp,
    states: PerOp,
    format_name: str,
    core: NeuronCore,
    version: str,
) -> tuple:
    """Loads of the two inputs: once, or (v1) once per state if SBUF cannot hold all channels.

    SBUF holds the sums, then the steps, then the other input, as far as they fit.
    """
    if version != "v1":
        return (load(elements, length, format_name, 2.0),)
    input_bytes = channels * length * FORMAT_BYTES[format_name]
    usable = usable_bytes(core)
    return tuple(
        load(elements, length, format_name, jnp.where(count * input_bytes <= usable, 1.0, states))
        for count in (2.0, 3.0)
    )
