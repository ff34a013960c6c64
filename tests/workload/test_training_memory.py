"""Training memory footprint: published formulas, ZeRO stages, recomputation, measured peaks."""

import csv
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trained_models import DEEPSEEK_V3, LLAMA3_70B, MIXTRAL, gpt, training

from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import total
from hwdse.specs.design import Parallelism
from hwdse.specs.software import Software
from hwdse.validation.training.training_jobs import job_of, problem_of
from hwdse.workload.transformer.decoder_layer import kept_bytes, score_bytes
from hwdse.workload.transformer.gemm_groups import LayerSharding
from hwdse.workload.transformer.model_config import LayerKind
from hwdse.workload.transformer.sharding import shard
from hwdse.workload.transformer.training_memory import StageParameters, num_shards

DATA = Path(__file__).parents[1] / "data"
DENSE = LayerKind(is_latent=False, is_mixture=False)
UNFUSED = Software(fused_attention_fraction=0.0)
ALONE = Parallelism(1.0, 1.0, 1.0, 0.0, 0.0)
SPREAD = ALONE.replace(tensor=8.0, pipeline=4.0)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@quick_jit
def _memory_of(job, parallelism, num_chips, software):
    return shard(job, parallelism, num_chips, software).memory


def memory_of(job, parallelism, num_chips=1024.0, software=UNFUSED):
    """Footprint of the most loaded chip; one program for all jobs of one structure."""
    return jax.tree.map(
        float, _memory_of(*jax.tree.map(float, (job, parallelism, num_chips, software)))
    )


# A layer -----------------------------------------------------------------------------------------

KORTHIKANTI = {  # heads, hidden, tensor ranks: arXiv 2205.05198, table 3
    "22B": (64.0, 6144.0, 8.0),
    "175B": (96.0, 12288.0, 8.0),
    "530B": (128.0, 20480.0, 8.0),
    "1T": (160.0, 25600.0, 8.0),
}


@pytest.mark.parametrize("name", sorted(KORTHIKANTI))
@pytest.mark.parametrize("micro_batch", [1.0, 4.0])
def test_saved_activations_equal_korthikanti_except_dropout_masks(name, micro_batch):
    """Table 2 of the paper. Two of its bytes an element are the masks of dropout after attention
    and after the MLP, which models of today do not have; ours has the fp32 sum of each softmax,
    which a fused kernel keeps in place of its outputs."""
    heads, hidden, tensor = KORTHIKANTI[name]
    job = training(gpt(1.0, hidden, 4.0 * hidden, heads, hidden / heads))
    s, sbh = job.seq_len, job.seq_len * micro_batch * hidden
    sums = 4.0 * s * micro_batch * heads / tensor
    of_scores = 5.0 * heads * s / hidden

    def ours(sequence):
        sharding = LayerSharding(
            micro_batch, tensor, sequence_parallel_fraction=sequence, fused_attention_fraction=0.0
        )
        full, own = kept_bytes(job, sharding, DENSE)
        return float(full + score_bytes(job, sharding)) - sums, float(own)

    theirs = sbh * (10.0 + 24.0 / tensor + of_scores / tensor)
    assert ours(0.0)[0] == pytest.approx(theirs - 2.0 * sbh, rel=1e-12)
    theirs = sbh / tensor * (34.0 + of_scores)
    assert ours(1.0)[0] == pytest.approx(theirs - 2.0 * sbh / tensor, rel=1e-12)
    # Full recomputation: the input of a layer, 2 s b h.
    assert (ours(0.0)[1], ours(1.0)[1]) == (2.0 * sbh, 2.0 * sbh / tensor)


def test_fused_attention_saves_no_scores():
    job = training(gpt(1.0, 6144.0, 24576.0, 64.0, 96.0))
    assert score_bytes(job, LayerSharding()) == 0.0
    unfused = float(score_bytes(job, LayerSharding(fused_attention_fraction=0.0)))
    assert unfused == 5.0 * 64.0 * 2048.0**2
    assert score_bytes(job, LayerSharding(fused_attention_fraction=0.25)) == 0.75 * unfused
    sharding = LayerSharding(2.0, 4.0, 8.0, fused_attention_fraction=0.0)  # each rank has all keys
    assert score_bytes(job, sharding) == 2.0 * unfused / 4.0 / 8.0


# Replicas ----------------------------------------------------------------------------------------


def test_zero_stages_equal_the_paper():
    """Rajbhandari et al., SC 2020, figure 1: 7.5 G parameters, 64 replicas, 12 bytes of state."""
    parameters = StageParameters(7.5e9, 0.0, 1e8, 0.0, 64.0, 64.0)
    shared = float(parameters.per_replica(1.0))
    assert (shared, parameters.per_replica(0.0)) == (7.5e9 / 64.0, 7.5e9)
    stages = [(0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)]
    parts = [[shared if is_sharded else 7.5e9 for is_sharded in stage] for stage in stages]
    found = [(2.0 * w + 2.0 * g + 12.0 * s) / 1e9 for w, g, s in parts]
    assert found == pytest.approx([120.0, 31.4, 16.6, 1.9], abs=0.05)


SHARDED_TENSORS = {
    "optimizer_shard_fraction": {"optimizer"},
    "gradient_shard_fraction": {"gradients"},
    "weight_shard_fraction": {"gradients", "weights"},
}


@pytest.mark.parametrize("field", sorted(SHARDED_TENSORS))
def test_each_zero_stage_divides_its_tensors_by_the_replicas(field):
    none = ALONE.replace(optimizer_shard_fraction=0.0, tensor=8.0, context=2.0)
    before = memory_of(training(LLAMA3_70B), none)
    after = memory_of(training(LLAMA3_70B), none.replace(**{field: 1.0}))
    for name in ("weights", "gradients", "optimizer"):
        ratio = 128.0 if name in SHARDED_TENSORS[field] else 1.0  # context ranks are replicas too
        assert getattr(before, name) == pytest.approx(ratio * getattr(after, name), rel=1e-12)
    gathered = after.buffers - before.buffers
    expected = (
        2.0 * 2.0 * layer_weights(LLAMA3_70B, 8.0) if field == "weight_shard_fraction" else 0.0
    )
    assert gathered == pytest.approx(expected, rel=1e-9)  # the executed layer and the next one
    assert before.activations == after.activations


def layer_weights(model, tensor):
    width, kv_width = model.num_heads * model.head_dim, 2.0 * model.num_kv_heads * model.head_dim
    matrices = 2.0 * width + kv_width + 3.0 * model.feedforward
    return model.hidden * matrices / tensor + 2.0 * model.hidden


def test_experts_are_sharded_over_fewer_replicas():
    job = training(MIXTRAL)
    all_here, dealt = (
        memory_of(job, ALONE.replace(expert=expert, optimizer_shard_fraction=1.0), 64.0)
        for expert in (1.0, 8.0)
    )
    # Eight times fewer experts per rank, sharded over eight times fewer replicas.
    assert dealt.optimizer == pytest.approx(all_here.optimizer, rel=1e-12)
    experts = 2.0 * 32.0 * 8.0 * 3.0 * 4096.0 * 14336.0
    assert all_here.weights - dealt.weights == pytest.approx(7.0 / 8.0 * experts, rel=1e-12)
    too_many = memory_of(job, ALONE.replace(expert=8.0), 4.0)  # 4 replicas: at least one copy
    assert too_many.optimizer == pytest.approx(
        12.0 * ((too_many.weights / 2.0 - experts / 16.0) / 4.0 + experts / 16.0), rel=1e-12
    )


def test_sharding_over_one_rank_has_no_effect():
    assert num_shards(1.0, 1.0) == num_shards(0.0, 64.0) == 1.0
    assert num_shards(1.0, 64.0) == 64.0


# Activations -------------------------------------------------------------------------------------


def test_full_recomputation_saves_more_memory_than_selective_and_none():
    job = training(LLAMA3_70B)
    selective = SPREAD.replace(attention_recompute_fraction=1.0)
    kept = [
        memory_of(job, parallelism).activations
        for parallelism in (SPREAD.replace(recompute_fraction=1.0), selective, SPREAD)
    ]
    assert np.all(np.diff(kept) > 0.0)
    # A fused kernel saves no scores.
    fused = [memory_of(job, x, software=Software()).activations for x in (selective, SPREAD)]
    assert fused[0] == fused[1]
    # Selective recomputation saves as much as a fused kernel, and the scores of one layer.
    one = float(score_bytes(job, LayerSharding(tensor=8.0, fused_attention_fraction=0.0)))
    assert kept[1] - fused[0] == pytest.approx(one, rel=1e-12)


@pytest.mark.parametrize(("pipeline", "virtual_pipeline"), [(4.0, 2.0), (8.0, 5.0), (4.0, 20.0)])
def test_virtual_pipeline_keeps_more_micro_batches(pipeline, virtual_pipeline):
    """1 + (p - 1) / (p v): Korthikanti et al., arXiv 2205.05198, section 4.2.3."""
    parallelism = SPREAD.replace(pipeline=pipeline)
    plain = memory_of(training(LLAMA3_70B), parallelism, 256.0)
    interleaved = memory_of(
        training(LLAMA3_70B), parallelism.replace(virtual_pipeline=virtual_pipeline), 256.0
    )
    factor = 1.0 + (pipeline - 1.0) / (pipeline * virtual_pipeline)
    assert interleaved.activations == pytest.approx(factor * plain.activations, rel=1e-12)
    assert (interleaved.weights, interleaved.gradients, interleaved.optimizer) == (
        plain.weights,
        plain.gradients,
        plain.optimizer,
    )


FRACTIONS = (
    "optimizer_shard_fraction",
    "gradient_shard_fraction",
    "recompute_fraction",
    "attention_recompute_fraction",
)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["dense", "mixture", "latent"]),
    tensor=st.sampled_from([1.0, 2.0, 8.0]),
    pipeline=st.sampled_from([1.0, 4.0]),
    context=st.sampled_from([1.0, 4.0]),
    expert=st.sampled_from([1.0, 8.0]),
    sequence=st.sampled_from([0.0, 1.0]),
    field=st.sampled_from(
        [*FRACTIONS, "context", "tensor", "sequence_parallel_fraction", "expert"]
    ),
)
def test_finer_sharding_never_increases_the_footprint(
    kind, tensor, pipeline, context, expert, sequence, field
):
    model = {"dense": LLAMA3_70B, "mixture": MIXTRAL, "latent": DEEPSEEK_V3}[kind]
    parallelism = ALONE.replace(
        tensor=tensor,
        pipeline=pipeline,
        context=context,
        expert=expert,
        sequence_parallel_fraction=sequence,
        optimizer_shard_fraction=0.0,
    )
    finer = 1.0 if field.endswith("_fraction") else 2.0 * getattr(parallelism, field)
    with jax.enable_x64(True):
        # Enough micro-batches per replica to fill every pipeline.
        job = training(model).replace(global_batch=65536.0)
        coarse, fine = (
            memory_of(job, parallelism, 2048.0),
            memory_of(job, parallelism.replace(**{field: finer}), 2048.0),
        )
    for name in ("weights", "gradients", "activations"):
        slack = 1.0 + 1e-12
        if kind == "latent" and field in ("tensor", "sequence_parallel_fraction"):
            slack = 1.35  # latents are gathered over a tensor group and kept on every rank
        assert getattr(fine, name) <= getattr(coarse, name) * slack, name
    assert all(x >= 0.0 and np.isfinite(x) for x in jax.tree.leaves(coarse))


# Measured ----------------------------------------------------------------------------------------


def test_peak_memory_of_simumax_runs_is_within_two_percent():
    """Peaks measured by MooreThreads on B200: dense and MoE models, with and without latent
    attention, pipeline and expert parallelism, recomputation."""
    lines = (DATA / "measured_training_public.csv").read_text().splitlines()
    rows = list(csv.DictReader(x for x in lines if not x.startswith("#")))
    rows = [x for x in rows if x["source_id"] == "simumax_b200" and x["peak_memory_bytes"]]
    assert [problem_of(row) for row in rows] == [None] * 25
    for row in rows:
        job = job_of(row)
        design = job.design
        parts = memory_of(
            job.workload, design.parallelism, design.cluster.num_chips, design.software
        )
        measured = float(row["peak_memory_bytes"])
        assert total(parts) == pytest.approx(measured, rel=0.02), row["row_id"]
