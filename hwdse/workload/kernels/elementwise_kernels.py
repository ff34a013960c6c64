"""Kernels of Trainium without matrix products: elementwise, row-wise, and the Mamba scan.

`workload.kernels` says what the arguments are. ScalarE takes every instruction of one operand,
VectorE those of two and the reductions, as the compiler places them.
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
    """One stage over tensors of equal shape in blocks of 1024 elements a partition."""
    each = elements / PARTITIONS
    work = [lane_work("vector", name, each, format_name=format_name) for name in on_vector]
    work += [lane_work("scalar", name, each, format_name=format_name) for name in on_scalar]
    transfers = (
        load(elements, BLOCK, format_name, num_inputs),
        store(elements, BLOCK, format_name),
    )
    return Kernel((KernelStage((), tuple(work), transfers),))


def adamw(m: PerOp, n: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """One step of AdamW on m x n parameters, of which only the parameters are written back.

    Four tensors in, six two-operand and nine one-operand instructions. Source: NKIBench `adamw`.
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
    """Softmax of m rows that stay in SBUF: row maximum, exponential with its sum, scaling."""
    each = m * n / PARTITIONS
    work = (
        lane_work("vector", "tensor_reduce", each, n, format_name=format_name),
        lane_work("scalar", "activation_reduce", each, n, format_name=format_name),
        lane_work("vector", "tensor_scalar", each, n, format_name=format_name),
    )
    transfers = (load(m * n, n, format_name), store(m * n, n, format_name))
    return Kernel((KernelStage((), work, transfers, 2.0 * num_tiles(m, PARTITIONS)),))


def rms_norm(m: PerOp, n: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """RMS norm with a gain of m rows that stay in SBUF. Source: NKI tutorial `rmsnorm`."""
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
    """Rotary embedding of `columns` positions x heads, the head's elements on the partitions.

    Six two-operand instructions and a copy on half of the partitions, in tiles of 512 columns.
    Source: NKIBench `rope_single_freq_apply`.
    """
    work = (
        *(lane_work("vector", "tensor_tensor", columns) for _ in range(6)),
        lane_work("scalar", "copy", columns),
    )
    whole = head_dim * columns
    transfers = (
        load(whole, BANK, format_name),
        load(whole, BANK, format_name),  # cosines and sines, half as many each
        store(whole, BANK, format_name),
    )
    return Kernel((KernelStage((), work, transfers),))


MAMBA_VERSIONS = ("v1", "v2", "v3", "v3_sbuf", "best")
"""State loop outside; channel loop outside; tiles of 512 with products in PSUM, or in SBUF; sums
kept in PSUM and what does not depend on the state moved out."""
TILED_VERSIONS = ("v3", "v3_sbuf", "best")


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

    A row of B or C is spread over the partitions by TensorE, and stays in PSUM as an operand if
    a tile is no longer than a bank. Source: NKI tutorial "Fused Mamba" (v1 to v3) and NKIBench
    `mamba` (v1); "best" is what autocomp's search ends with. What spills is not modeled: above a
    length of about 6000 without tiles, the measured kernels lose time to it.
    """
    tile = jnp.where(length <= BANK, length, BANK) if version in TILED_VERSIONS else length
    num_tiles_of_channels = batch * num_tiles(channels, PARTITIONS)
    work = _mamba_work(num_tiles_of_channels * states * length, tile, states, version)
    rows = batch * channels * length
    transfers = (
        *_mamba_loads(rows, channels, length, states, format_name, core, version),
        load(2.0 * num_tiles_of_channels * states * length, tile, format_name),
        store(rows, tile, format_name),
    )
    num_rows = 2.0 * length / tile * states * num_tiles_of_channels
    spread = broadcasts(tile, format_name, count=num_rows)
    return Kernel((KernelStage((spread,), work, transfers),))


def _mamba_work(total: PerOp, tile: PerOp, states: PerOp, version: str) -> tuple[LaneWork, ...]:
    """Lane instructions of a scan of `total` elements a partition, in tiles."""
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
    if version in TILED_VERSIONS:  # the last state of a tile starts the next one
        work.append(lane_work("vector", "copy", total / tile, 1.0 + 0.0 * tile))
    return tuple(work)


def _mamba_loads(
    rows: PerOp,
    channels: PerOp,
    length: PerOp,
    states: PerOp,
    format_name: str,
    core: NeuronCore,
    version: str,
) -> tuple:
    """Loads of the two inputs: once, or (v1) once a state where SBUF does not hold all channels.

    SBUF first takes the sums, then the steps, then the other input, while they fit.
    """
    if version != "v1":
        return (load(rows, length, format_name, 2.0),)
    held = channels * length * FORMAT_BYTES[format_name]
    usable = usable_bytes(core)
    return tuple(
        load(rows, length, format_name, jnp.where(count * held <= usable, 1.0, states))
        for count in (2.0, 3.0)
    )
