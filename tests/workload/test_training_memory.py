"""Laws of what training holds: published formulas, what ZeRO divides, what recomputing saves."""

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
from hwdse.validation.measured.training_jobs import job_of, problem_of
from hwdse.workload.transformer.decoder_layer import kept_bytes, score_bytes
from hwdse.workload.transformer.gemm_groups import LayerSharding
from hwdse.workload.transformer.model_config import LayerKind, with_kinds
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
def _held(job, parallelism, num_chips, software):
    return shard(job, parallelism, num_chips, software).memory


def held(job, parallelism, num_chips=1024.0, software=UNFUSED):
    """Bytes of the fullest chip; one program for all jobs of one structure."""
    return jax.tree.map(float, _held(*jax.tree.map(float, (job, parallelism, num_chips, software))))


# A layer -----------------------------------------------------------------------------------------

KORTHIKANTI = {  # heads, hidden, tensor ranks: arXiv 2205.05198, table 3
    "22B": (64.0, 6144.0, 8.0),
    "175B": (96.0, 12288.0, 8.0),
    "530B": (128.0, 20480.0, 8.0),
    "1T": (160.0, 25600.0, 8.0),
}


@pytest.mark.parametrize("name", sorted(KORTHIKANTI))
@pytest.mark.parametrize("micro_batch", [1.0, 4.0])
def test_a_layer_keeps_what_korthikanti_count_but_for_masks(name, micro_batch):
    """Table 2 of the paper. Two of its bytes an element are the masks of dropout after attention
    and after the MLP, which models of today do not have; ours has the fp32 sum of each softmax,
    which a fused kernel keeps in place of its outputs."""
    heads, hidden, tensor = KORTHIKANTI[name]
    job = training(gpt(1.0, hidden, 4.0 * hidden, heads, hidden / heads))
    s, sbh = job.seq_len, job.seq_len * micro_batch * hidden
    sums = 4.0 * s * micro_batch * heads / tensor
    of_scores = 5.0 * heads * s / hidden

    def ours(sequence):
        cut = LayerSharding(
            micro_batch, tensor, sequence_parallel_fraction=sequence, fused_attention_fraction=0.0
        )
        whole, own = kept_bytes(job, cut, DENSE)
        return float(whole + score_bytes(job, cut)) - sums, float(own)

    theirs = sbh * (10.0 + 24.0 / tensor + of_scores / tensor)
    assert ours(0.0)[0] == pytest.approx(theirs - 2.0 * sbh, rel=1e-12)
    theirs = sbh / tensor * (34.0 + of_scores)
    assert ours(1.0)[0] == pytest.approx(theirs - 2.0 * sbh / tensor, rel=1e-12)
    # Full recomputation: the input of a layer, 2 s b h.
    assert (ours(0.0)[1], ours(1.0)[1]) == (2.0 * sbh, 2.0 * sbh / tensor)


def test_fused_attention_holds_no_scores():
    job = training(gpt(1.0, 6144.0, 24576.0, 64.0, 96.0))
    assert score_bytes(job, LayerSharding()) == 0.0
    whole = float(score_bytes(job, LayerSharding(fused_attention_fraction=0.0)))
    assert whole == 5.0 * 64.0 * 2048.0**2
    assert score_bytes(job, LayerSharding(fused_attention_fraction=0.25)) == 0.75 * whole
    cut = LayerSharding(2.0, 4.0, 8.0, fused_attention_fraction=0.0)  # each rank has all the keys
    assert score_bytes(job, cut) == 2.0 * whole / 4.0 / 8.0


# Replicas ----------------------------------------------------------------------------------------


def test_replicas_share_as_in_the_zero_paper():
    """Rajbhandari et al., SC 2020, figure 1: 7.5 G parameters, 64 replicas, 12 bytes of state."""
    parameters = StageParameters(7.5e9, 0.0, 1e8, 0.0, 64.0, 64.0)
    shared = float(parameters.per_replica(1.0))
    assert (shared, parameters.per_replica(0.0)) == (7.5e9 / 64.0, 7.5e9)
    stages = [(0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)]
    parts = [[shared if is_cut else 7.5e9 for is_cut in stage] for stage in stages]
    found = [(2.0 * w + 2.0 * g + 12.0 * s) / 1e9 for w, g, s in parts]
    assert found == pytest.approx([120.0, 31.4, 16.6, 1.9], abs=0.05)


CUTS = {
    "optimizer_shard_fraction": {"optimizer"},
    "gradient_shard_fraction": {"gradients"},
    "weight_shard_fraction": {"gradients", "weights"},
}


@pytest.mark.parametrize("field", sorted(CUTS))
def test_each_stage_of_zero_divides_its_part_by_the_replicas(field):
    none = ALONE.replace(optimizer_shard_fraction=0.0, tensor=8.0, context=2.0)
    before = held(training(LLAMA3_70B), none)
    after = held(training(LLAMA3_70B), none.replace(**{field: 1.0}))
    for name in ("weights", "gradients", "optimizer"):
        ratio = 128.0 if name in CUTS[field] else 1.0  # context ranks hold copies too
        assert getattr(before, name) == pytest.approx(ratio * getattr(after, name), rel=1e-12)
    gathered = after.buffers - before.buffers
    expected = (
        2.0 * 2.0 * layer_weights(LLAMA3_70B, 8.0) if field == "weight_shard_fraction" else 0.0
    )
    assert gathered == pytest.approx(expected, rel=1e-9)  # a layer that runs, one that arrives
    assert before.activations == after.activations


def layer_weights(model, tensor):
    width, kv_width = model.num_heads * model.head_dim, 2.0 * model.num_kv_heads * model.head_dim
    products = 2.0 * width + kv_width + 3.0 * model.feedforward
    return model.hidden * products / tensor + 2.0 * model.hidden


def test_experts_have_fewer_copies_to_share_with():
    job = with_kinds(training(MIXTRAL))
    all_here, dealt = (
        held(job, ALONE.replace(expert=expert, optimizer_shard_fraction=1.0), 64.0)
        for expert in (1.0, 8.0)
    )
    # Eight times fewer experts on a rank, shared by eight times fewer copies.
    assert dealt.optimizer == pytest.approx(all_here.optimizer, rel=1e-12)
    experts = 2.0 * 32.0 * 8.0 * 3.0 * 4096.0 * 14336.0
    assert all_here.weights - dealt.weights == pytest.approx(7.0 / 8.0 * experts, rel=1e-12)
    too_many = held(job, ALONE.replace(expert=8.0), 4.0)  # 4 replicas: never less than one copy
    assert too_many.optimizer == pytest.approx(
        12.0 * ((too_many.weights / 2.0 - experts / 16.0) / 4.0 + experts / 16.0), rel=1e-12
    )


def test_a_cut_over_one_rank_is_none():
    assert num_shards(1.0, 1.0) == num_shards(0.0, 64.0) == 1.0
    assert num_shards(1.0, 64.0) == 64.0


# Activations -------------------------------------------------------------------------------------


def test_recomputing_everything_keeps_less_than_recomputing_scores_than_nothing():
    job = training(LLAMA3_70B)
    selective = SPREAD.replace(attention_recompute_fraction=1.0)
    kept = [
        held(job, parallelism).activations
        for parallelism in (SPREAD.replace(recompute_fraction=1.0), selective, SPREAD)
    ]
    assert np.all(np.diff(kept) > 0.0)
    # A fused kernel has no scores to save.
    fused = [held(job, x, software=Software()).activations for x in (selective, SPREAD)]
    assert fused[0] == fused[1]
    # Selective keeps what a fused kernel keeps, and the scores of the one layer that runs.
    one = float(score_bytes(job, LayerSharding(tensor=8.0, fused_attention_fraction=0.0)))
    assert kept[1] - fused[0] == pytest.approx(one, rel=1e-12)


@pytest.mark.parametrize(("pipeline", "chunks"), [(4.0, 2.0), (8.0, 5.0), (4.0, 20.0)])
def test_chunks_keep_more_micro_batches(pipeline, chunks):
    """1 + (p - 1) / (p v): Korthikanti et al., arXiv 2205.05198, section 4.2.3."""
    parallelism = SPREAD.replace(pipeline=pipeline)
    plain = held(training(LLAMA3_70B), parallelism, 256.0)
    cut = held(training(LLAMA3_70B), parallelism.replace(virtual_pipeline=chunks), 256.0)
    factor = 1.0 + (pipeline - 1.0) / (pipeline * chunks)
    assert cut.activations == pytest.approx(factor * plain.activations, rel=1e-12)
    assert (cut.weights, cut.gradients, cut.optimizer) == (
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
def test_cutting_more_never_holds_more(kind, tensor, pipeline, context, expert, sequence, field):
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
        # So many micro-batches in every replica that no pipeline starves.
        job = with_kinds(training(model).replace(global_batch=65536.0))
        coarse, fine = (
            held(job, parallelism, 2048.0),
            held(job, parallelism.replace(**{field: finer}), 2048.0),
        )
    for name in ("weights", "gradients", "activations"):
        slack = 1.0 + 1e-12
        if kind == "latent" and field in ("tensor", "sequence_parallel_fraction"):
            slack = 1.35  # latents are gathered over a tensor group and stay on every rank
        assert getattr(fine, name) <= getattr(coarse, name) * slack, name
    assert all(x >= 0.0 and np.isfinite(x) for x in jax.tree.leaves(coarse))


# Measured ----------------------------------------------------------------------------------------


def test_peak_memory_of_simumaxs_runs_is_within_two_percent():
    """MooreThreads' measured peaks on B200: dense and expert models, with and without latent
    attention, pipelines, expert groups, recomputation."""
    lines = (DATA / "measured_training_public.csv").read_text().splitlines()
    rows = list(csv.DictReader(x for x in lines if not x.startswith("#")))
    rows = [x for x in rows if x["source_id"] == "simumax_b200" and x["peak_memory_bytes"]]
    assert [problem_of(row) for row in rows] == [None] * 25
    for row in rows:
        job = job_of(row)
        design = job.design
        parts = held(job.workload, design.parallelism, design.cluster.num_chips, design.software)
        measured = float(row["peak_memory_bytes"])
        assert total(parts) == pytest.approx(measured, rel=0.02), row["row_id"]
