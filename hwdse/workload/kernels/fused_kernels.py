"""Trainium kernels that fuse GEMMs with other work: norms, SwiGLU, LoRA.

Each follows the loops of the NKIBench kernel (github.com/zhang677/AccelOpt) named in its docstring.
Arguments as in `workload.kernels.matmul_kernels`.
"""

import dataclasses

from hwdse.numerics.array_types import PerOp
from hwdse.numerics.relaxation import num_tiles
from hwdse.specs.hardware.neuron_core import NeuronCore
from hwdse.workload.kernels.kernel_instructions import FORMAT_BYTES, Kernel, KernelStage, LaneWork
from hwdse.workload.kernels.kernel_parts import (
    BANK,
    BLOCK,
    PARTITIONS,
    block_row,
    broadcasts,
    lane_work,
    load,
    loads_of,
    matmul_work,
    store,
    transposes,
)


def swiglu(m: PerOp, k: PerOp, n: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """Down(silu(x gate) * (x up)) of m rows, k hidden and n inner columns, in three stages.

    Stages: gate; up with the activation, written to HBM; down. x is transposed once if it fits in
    SBUF, otherwise for every 1024 inner columns of gate and of up. Source: NKIBench `swiglu`.
    """
    size = FORMAT_BYTES[format_name]
    times = loads_of(m * k * size, 2.0 * num_tiles(n, BLOCK), core)
    inner, outer = m * n / PARTITIONS, m * k / PARTITIONS
    weights, matmul = load(k * n, BLOCK, format_name), matmul_work(n, k, m, format_name, core)
    gate = KernelStage(
        matmul_work=(matmul, transposes(m, k, format_name, core, count=times)),
        lane_work=(
            lane_work("scalar", "copy", times * outer, PARTITIONS, in_psum=True),
            lane_work("scalar", "copy", inner, in_psum=True),
        ),
        transfers=(load(m * k, block_row(k), format_name, times), weights),
    )
    up = KernelStage(
        matmul_work=(matmul,),
        lane_work=(
            *(lane_work("scalar", name, inner) for name in ("exp", "tensor_scalar", "reciprocal")),
            lane_work("vector", "tensor_tensor", inner),
            lane_work("vector", "tensor_tensor", inner, in_psum=True),
        ),
        transfers=(weights, store(m * n, BANK, format_name)),
    )
    down = KernelStage(
        matmul_work=(matmul_work(m, n, k, format_name, core),),
        lane_work=(lane_work("scalar", "copy", outer, in_psum=True),),
        transfers=(
            load(m * n, BANK, format_name),
            weights,
            store(m * k, BLOCK, format_name),
        ),
    )
    return Kernel((gate, up, down))


def lora(m: PerOp, k: PerOp, n: PerOp, rank: PerOp, format_name: str, core: NeuronCore) -> Kernel:
    """x W + (x A) B of m rows: first the low-rank GEMM, stored to HBM, then the full-rank GEMM.

    The full-rank GEMM is x W with W stationary. Its result is transposed back in tiles of 128 and
    stored in rows of 128. x is transposed again for every 1024 columns of W unless it fits in SBUF.
    Source: NKIBench `lora`.
    """
    low_rank = _low_rank_stage(m, k, n, rank, format_name, core)
    return Kernel((low_rank, _full_rank_stage(m, k, n, format_name, core)))


def _low_rank_stage(
    m: PerOp, k: PerOp, n: PerOp, rank: PerOp, format_name: str, core: NeuronCore
) -> KernelStage:
    inner, results = m * k / PARTITIONS, m * n / PARTITIONS
    return KernelStage(
        matmul_work=(
            transposes(m, k, format_name, core),
            matmul_work(rank, k, m, format_name, core),
            matmul_work(n, rank, m, format_name, core),
        ),
        lane_work=(
            lane_work("scalar", "copy", inner, PARTITIONS, in_psum=True),
            lane_work("scalar", "copy", m * rank / PARTITIONS + results, in_psum=True),
        ),
        transfers=(
            load(m * k, BLOCK, format_name),
            load(k * rank, rank, format_name),
            load(rank * n, BLOCK, format_name),
            store(m * n, BANK, format_name),
        ),
    )


LORA_BLOCKS = 4.0
"""Blocks of the contraction, accumulated by VectorE."""


def _full_rank_stage(
    m: PerOp, k: PerOp, n: PerOp, format_name: str, core: NeuronCore
) -> KernelStage:
    inner, results = m * k / PARTITIONS, m * n / PARTITIONS
    times = loads_of(m * k * FORMAT_BYTES[format_name], num_tiles(n, BLOCK), core)
    return KernelStage(
        matmul_work=(
            transposes(m, k, format_name, core, count=times),
            matmul_work(n, k, m, format_name, core),
            transposes(n, m, format_name, core),
        ),
        lane_work=(
            lane_work("scalar", "copy", times * inner + results, PARTITIONS, in_psum=True),
            lane_work("vector", "tensor_tensor", LORA_BLOCKS * results, in_psum=True),
            lane_work("vector", "tensor_tensor", results),
        ),
        transfers=(
            load(m * k, BLOCK, format_name, times),
            load(k * n, BLOCK, format_name),
            load(m * n, BANK, format_name),
            store(m * n, PARTITIONS, format_name),
        ),
    )


def _norm_work(m: PerOp, width: PerOp, *, is_added: bool) -> tuple[LaneWork, ...]:
    """Square, row sum and scaling of m rows; with `is_added` also a sum before and a gain after."""
    each = m * width / PARTITIONS
    pairs = ("tensor_tensor",) * (2 if is_added else 0)
    return (
        *(lane_work("vector", name, each, width) for name in (*pairs, "tensor_reduce")),
        *(lane_work("scalar", name, each, width) for name in ("activation", "tensor_scalar")),
    )


def _matmul_stage(
    m: PerOp, k: PerOp, n: PerOp, format_name: str, core: NeuronCore, *, is_hoisted: bool
) -> KernelStage:
    """GEMM stage with the left operand transposed by TensorE: once, or for every 512 columns."""
    times = 1.0 if is_hoisted else num_tiles(n, BANK)
    right_times = loads_of(k * n * FORMAT_BYTES[format_name], num_tiles(m, PARTITIONS), core)
    return KernelStage(
        matmul_work=(
            matmul_work(m, k, n, format_name, core),
            transposes(m, k, format_name, core, count=times),
        ),
        lane_work=(
            lane_work("scalar", "copy", times * m * k / PARTITIONS, PARTITIONS, in_psum=True),
            lane_work("scalar", "copy", m * n / PARTITIONS, in_psum=True),
        ),
        transfers=(load(k * n, BANK, format_name, right_times),),
    )


WAITS_PER_NORM = 3.0
"""Dependent instructions per tile of 128 rows: row sum, reciprocal root and scaling."""


def norm_matmul(
    m: PerOp,
    k: PerOp,
    n: PerOp,
    format_name: str,
    core: NeuronCore,
    *,
    is_added: bool = False,
    is_hoisted: bool = True,
) -> Kernel:
    """RMSNorm of m rows (of x + z with `is_added`), then a GEMM, in two stages.

    Source: NKIBench `rmsnorm_matmul` (reads x twice, transposes it once) and
    `add_rmsnorm_matmul` (transposes it for every 512 columns).
    """
    norm = KernelStage(
        matmul_work=(broadcasts(k, format_name),) if is_added else (),
        lane_work=_norm_work(m, k, is_added=is_added),
        transfers=(load(m * k, k, format_name, 2.0),),
        num_waits=WAITS_PER_NORM * num_tiles(m, PARTITIONS),
    )
    matmul = _matmul_stage(m, k, n, format_name, core, is_hoisted=is_hoisted)
    out = store(m * n, BANK, format_name)
    return Kernel((norm, dataclasses.replace(matmul, transfers=(*matmul.transfers, out))))


def matmul_norm(
    m: PerOp,
    k: PerOp,
    n: PerOp,
    format_name: str,
    core: NeuronCore,
    *,
    is_hoisted: bool = False,
) -> Kernel:
    """GEMM, then the RMSNorm of its result plus z, in two stages.

    Source: NKIBench `matmul_add_rmsnorm`.
    """
    matmul = _matmul_stage(m, k, n, format_name, core, is_hoisted=is_hoisted)
    norm = KernelStage(
        matmul_work=(broadcasts(n, format_name),),
        lane_work=_norm_work(m, n, is_added=True),
        transfers=(load(m * n, n, format_name), store(m * n, n, format_name)),
        num_waits=WAITS_PER_NORM * num_tiles(m, PARTITIONS),
    )
    left = load(m * k, k, format_name)
    return Kernel((dataclasses.replace(matmul, transfers=(*matmul.transfers, left)), norm))
