"""Trainium kernels of GEMMs.

Arguments: operand sizes, number format and core, whose SBUF capacity determines which blocks stay
on chip. Each kernel follows the loops of the published kernel named in its docstring. Compiled
kernels process a matrix in blocks of 1024 columns: DMA packets of 4 KiB in FP32.
"""

import dataclasses

from hwdse.numerics.array_types import PerOp
from hwdse.numerics.relaxation import num_tiles
from hwdse.specs.hardware.neuron_core import NeuronCore
from hwdse.workload.kernels.kernel_instructions import FORMAT_BYTES, Kernel, KernelStage
from hwdse.workload.kernels.kernel_parts import (
    BANK,
    BLOCK,
    PARTITIONS,
    block_row,
    lane_work,
    load,
    loads_of,
    matmul_work,
    store,
    transposes,
)


def streamed_matmul(
    m: PerOp,
    k: PerOp,
    n: PerOp,
    format_name: str,
    core: NeuronCore,
    *,
    left_loads: PerOp,
    left_row: PerOp,
    right_loads: PerOp,
    right_row: PerOp,
    result_row: PerOp = BANK,
) -> Kernel:
    """GEMM with A stored as [k, m], given the loads and the row length of each operand."""
    stage = KernelStage(
        matmul_work=(matmul_work(m, k, n, format_name, core),),
        lane_work=(lane_work("scalar", "copy", m * n / PARTITIONS, in_psum=True),),
        transfers=(
            load(m * k, left_row, format_name, left_loads),
            load(k * n, right_row, format_name, right_loads),
            store(m * n, result_row, format_name),
        ),
    )
    return Kernel((stage,))


def tiled_matmul(m: PerOp, k: PerOp, n: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """GEMM without blocking: both tiles are loaded for every 128 x 128 by 128 x 512 matmul.

    Source: NKI tutorial "Introduction to NKI Kernel Optimization", second kernel.
    """
    return streamed_matmul(
        m, k, n, format_name, core,
        left_loads=num_tiles(n, BANK), left_row=PARTITIONS,
        right_loads=num_tiles(m, PARTITIONS), right_row=BANK,
    )  # fmt: skip


def hoisted_matmul(m: PerOp, k: PerOp, n: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """GEMM with loads hoisted to the loops over m and n: A once, B once per 128 rows of A.

    Source: NKI tutorial "Introduction to NKI Kernel Optimization", third kernel.
    """
    return streamed_matmul(
        m, k, n, format_name, core,
        left_loads=1.0, left_row=PARTITIONS,
        right_loads=num_tiles(m, PARTITIONS), right_row=BANK,
    )  # fmt: skip


def free_blocked_matmul(m: PerOp, k: PerOp, n: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """GEMM in blocks of 256 x 1024 results over the full contraction.

    Source: NKI tutorial "Introduction to NKI Kernel Optimization", fourth kernel.
    """
    return streamed_matmul(
        m, k, n, format_name, core,
        left_loads=1.0, left_row=PARTITIONS,
        right_loads=num_tiles(m, 2.0 * PARTITIONS), right_row=BANK,
    )  # fmt: skip


def blocked_matmul(m: PerOp, k: PerOp, n: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """GEMM blocked in all dimensions (2048 x 1024 x 1024): B once, A once per 1024 columns.

    VectorE accumulates the partial sums of each block of the contraction in SBUF. Source: NKI
    tutorial "Introduction to NKI Kernel Optimization", fifth kernel ("DMA coalesced").
    """
    base = streamed_matmul(
        m, k, n, format_name, core,
        left_loads=num_tiles(n, BLOCK), left_row=2.0 * BLOCK,
        right_loads=1.0, right_row=BLOCK, result_row=BLOCK,
    )  # fmt: skip
    results = m * n / PARTITIONS
    sums = lane_work("vector", "tensor_tensor", results * num_tiles(k, BLOCK), in_psum=True)
    copies = lane_work("vector", "copy", results)
    return Kernel((dataclasses.replace(base.stages[0], lane_work=(sums, copies)),))


def grouped_matmul(m: PerOp, k: PerOp, n: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """GEMM with 512 x 1024 results at a time in the eight PSUM banks.

    B is loaded once per 512 rows. 512 rows of A stay in SBUF if they fit, otherwise they are loaded
    once per 1024 columns. Source: result of the autocomp search (trn-tutorial, gemm).
    """
    size = FORMAT_BYTES[format_name]
    return streamed_matmul(
        m, k, n, format_name, core,
        left_loads=loads_of(BANK * k * size, num_tiles(n, BLOCK), core), left_row=BANK,
        right_loads=num_tiles(m, BANK), right_row=BLOCK,
    )  # fmt: skip


def matmul(
    m: PerOp, k: PerOp, n: PerOp, format_name: str, core: NeuronCore, *, batch: PerOp = 1.0
) -> Kernel:
    """Compiled GEMM with A stored as [m, k] and transposed by TensorE.

    Per 1024 columns: the block of B stays in SBUF if it fits, otherwise it is loaded once per 128
    rows of A. A is loaded and transposed again unless all of it fits. Source: NKIBench `matmul`,
    `bmm`.
    """
    size = FORMAT_BYTES[format_name]
    num_blocks = num_tiles(n, BLOCK)
    left_times = loads_of(m * k * size, num_blocks, core)
    right_times = loads_of(k * BLOCK * size, num_tiles(m, PARTITIONS), core)
    moved = batch * left_times * m * k / PARTITIONS
    stage = KernelStage(
        matmul_work=(
            matmul_work(m, k, n, format_name, core, count=batch),
            transposes(m, k, format_name, core, count=batch * left_times),
        ),
        lane_work=(
            lane_work("scalar", "copy", moved, PARTITIONS, in_psum=True),
            lane_work("scalar", "copy", batch * m * n / PARTITIONS, in_psum=True),
        ),
        transfers=(
            load(batch * m * k, block_row(k), format_name, left_times),
            load(batch * k * n, BLOCK, format_name, right_times),
            store(batch * m * n, BLOCK, format_name),
        ),
    )
    return Kernel((stage,))


def transpose_matmul(m: PerOp, k: PerOp, n: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """Compiled GEMM with A stored as [k, m]: A once, B once per 1024 rows of the result.

    Source: NKIBench `transpose_matmul`.
    """
    return streamed_matmul(
        m, k, n, format_name, core,
        left_loads=1.0, left_row=BLOCK,
        right_loads=num_tiles(m, BLOCK), right_row=BLOCK, result_row=BLOCK,
    )  # fmt: skip
