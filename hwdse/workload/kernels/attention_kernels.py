"""Trainium kernels of attention and batched softmax.

Arguments as in `workload.kernels.matmul_kernels`. Each step needs the complete row maximum or row
sum of the step before. The compiled kernels therefore have three stages: scores and their maxima,
exponentials and their sums, scaling and the remaining work. Scores beyond the capacity of SBUF are
spilled to HBM between the stages.
"""

from hwdse.numerics.array_types import PerOp
from hwdse.numerics.relaxation import num_tiles
from hwdse.specs.hardware.neuron_core import NeuronCore
from hwdse.workload.kernels.kernel_instructions import Kernel, KernelStage
from hwdse.workload.kernels.kernel_parts import (
    BANK,
    BLOCK,
    PARTITIONS,
    lane_work,
    load,
    matmul_work,
    spilled_elements,
    store,
    transposes,
)

WAITS_PER_TILE = 2.0
"""Dependent instructions per tile of 128 rows and stage: a reduction and its use."""


def batched_softmax(
    batch: PerOp, m: PerOp, k: PerOp, n: PerOp, format_name: str, core: NeuronCore
) -> Kernel:
    """softmax(A B) of a batch; scores of one batch element are live at a time.

    Source: NKIBench `bmm_softmax`.
    """
    spilled = batch * spilled_elements(m * n, format_name, core)
    scores = batch * m * n / PARTITIONS
    waits = WAITS_PER_TILE * batch * num_tiles(m, PARTITIONS)
    first = KernelStage(
        matmul_work=(
            matmul_work(m, k, n, format_name, core, count=batch),
            transposes(m, k, format_name, core, count=batch),
        ),
        lane_work=(
            lane_work("scalar", "copy", batch * m, PARTITIONS, in_psum=True),
            lane_work("scalar", "copy", scores, in_psum=True),
            lane_work("vector", "tensor_reduce", scores),
        ),
        transfers=(
            load(batch * m * k, k, format_name),
            load(batch * k * n, BLOCK, format_name),
            store(spilled, BANK, format_name),
        ),
        num_waits=waits,
    )
    last = KernelStage(
        matmul_work=(),
        lane_work=(lane_work("scalar", "tensor_scalar", scores),),
        transfers=(store(batch * m * n, BLOCK, format_name),),
        num_waits=waits,
    )
    return Kernel((first, _exponentials(scores, spilled, format_name, waits), last))


def _exponentials(scores: PerOp, spilled: PerOp, format_name: str, waits: PerOp) -> KernelStage:
    """Second stage: exponentials of the scores, with spilled scores read back, and row sums."""
    return KernelStage(
        matmul_work=(),
        lane_work=(
            lane_work("scalar", "exp", scores),
            lane_work("vector", "tensor_reduce", scores),
        ),
        transfers=(load(spilled, BANK, format_name),),
        num_waits=waits,
    )


def grouped_query_attention(
    batch: PerOp,
    length: PerOp,
    heads: PerOp,
    kv_heads: PerOp,
    head_dim: PerOp,
    format_name: str,
    core: NeuronCore,
) -> Kernel:
    """Compiled full attention of `heads` query heads over `kv_heads`; all scores are live at once.

    Source: NKIBench `gqa_full`.
    """
    pairs = batch * heads
    scores = pairs * length * length / PARTITIONS
    spilled = spilled_elements(pairs * length * length, format_name, core)
    queries, keys = pairs * length * head_dim, batch * kv_heads * length * head_dim
    waits = WAITS_PER_TILE * pairs * num_tiles(length, PARTITIONS)
    first = KernelStage(
        matmul_work=(
            transposes(length, head_dim, format_name, core, count=pairs + batch * kv_heads),
            matmul_work(length, head_dim, length, format_name, core, count=pairs),
        ),
        lane_work=(
            lane_work("scalar", "copy", (queries + keys) / PARTITIONS, PARTITIONS, in_psum=True),
            lane_work("scalar", "tensor_scalar", scores, in_psum=True),
            lane_work("vector", "tensor_reduce", scores),
        ),
        transfers=(
            load(queries + keys, BLOCK, format_name),
            store(spilled, BANK, format_name),
        ),
        num_waits=waits,
    )
    last = KernelStage(
        matmul_work=(
            transposes(length, length, format_name, core, count=pairs),
            matmul_work(length, length, head_dim, format_name, core, count=pairs),
        ),
        lane_work=(
            lane_work("scalar", "tensor_scalar", scores),
            lane_work("scalar", "copy", scores, PARTITIONS, in_psum=True),
            lane_work("scalar", "copy", queries / PARTITIONS, PARTITIONS, in_psum=True),
        ),
        transfers=(
            load(keys, BLOCK, format_name),
            store(queries, PARTITIONS, format_name),
        ),
        num_waits=waits,
    )
    return Kernel((first, _exponentials(scores, spilled, format_name, waits), last))


def fused_attention(
    length: PerOp, head_dim: PerOp, format_name: str, core: NeuronCore, *, heads: PerOp = 1.0
) -> Kernel:
    """Fused attention: one stage, scores stay on the core, scaling at the end.

    Scores pass from PSUM through the exponential (with its row sum) into SBUF, are transposed by
    TensorE and multiplied by the values. Source: NKI samples, `attention_fwd_performance`.
    """
    scores = heads * length * length / PARTITIONS
    values = heads * length * head_dim
    stage = KernelStage(
        matmul_work=(
            matmul_work(length, head_dim, length, format_name, core, count=heads),
            transposes(length, length, format_name, core, count=heads),
            matmul_work(length, length, head_dim, format_name, core, count=heads),
        ),
        lane_work=(
            lane_work("vector", "tensor_reduce", scores, in_psum=True),
            lane_work("scalar", "activation_reduce", scores, format_name=format_name, in_psum=True),
            lane_work("vector", "copy", scores, format_name=format_name, in_psum=True),
            lane_work("vector", "tensor_scalar", values / PARTITIONS, head_dim, in_psum=True),
        ),
        transfers=(
            load(3.0 * values, length, format_name),
            store(values, head_dim, format_name),
        ),
        num_waits=WAITS_PER_TILE * heads * num_tiles(length, PARTITIONS),
    )
    return Kernel((stage,))
