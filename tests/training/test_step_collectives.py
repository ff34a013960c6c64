"""Collectives of a step: traffic per group, none for one chip, sent bytes."""

from types import SimpleNamespace

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trained_models import DEEPSEEK_V3, LLAMA3_70B, training

from hwdse.config import load_search, load_system
from hwdse.models.network.hierarchical_collectives import collective_time_s
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.design import Parallelism
from hwdse.specs.software import Software
from hwdse.training.step_collectives import RankGroups, collectives, sent_bytes
from hwdse.workload.transformer.sharding import shard

P5 = load_system("p5_48xlarge")
BASE = load_search("trn2_llama3_70b").base.replace(chip=P5.chip, cluster=P5.cluster)
ALONE = Parallelism(1.0, 1.0, 1.0, 0.0, 0.0)
WIDE = Parallelism(4.0, 2.0, 1.0, 0.0, 0.0, context=2.0, expert=8.0)
STEP_FIELDS = (
    "messages tensor pipeline context expert data replicas num_micro_batches mean_layers_per_stage"
)
JOBS = {
    name: training(model, 4096.0, 0.5).replace(global_batch=512.0)
    for name, model in (("dense", LLAMA3_70B), ("experts", DEEPSEEK_V3))
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@quick_jit
def _run(job, design):
    step = shard(job, design.parallelism, design.cluster.num_chips, design.software)
    kept = {name: getattr(step, name) for name in STEP_FIELDS.split()}
    groups = RankGroups.of(step, design)
    return kept, collectives(step, design, groups), sent_bytes(step, design, groups)


def run(name, parallelism, num_chips, software=None, base=BASE):
    """Step, its collectives, and its bytes over scale-up fabric and scale-out network."""
    design = base.replace(
        parallelism=parallelism,
        cluster=base.cluster.replace(num_chips=num_chips),
        software=software or Software(),
    )
    found = _run(*jax.tree.map(float, (JOBS[name], design)))
    step, each, sent = jax.tree.map(float, found)
    return SimpleNamespace(**step), each, sent


def alone_s(kind, size, num_chips, inner, chip=P5.chip):
    return float(collective_time_s(kind, size, num_chips, inner, chip, P5.cluster))


# Groups ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(JOBS))
@pytest.mark.parametrize("sharded", [0.0, 1.0])
def test_one_chip_has_no_communication(name, sharded):
    _, each, sent = run(name, ALONE.replace(weight_shard_fraction=sharded), 1.0)
    assert set(jax.tree.leaves(each)) == {0.0}
    assert sent == (0.0, 0.0)


GROUPS = {  # degree: collectives with nonzero time
    "tensor": {"tensor_s", "expert_s"},
    "context": {"context_s", "reduce_s", "update_gather_s"},
    "pipeline": {"send_s"},
}


@pytest.mark.parametrize("field", sorted(GROUPS))
@pytest.mark.parametrize("name", ["dense", "experts"])
def test_every_degree_has_its_collectives(name, field):
    _, each, sent = run(name, ALONE.replace(**{field: 4.0}), 4.0)
    slow = {key for key, value in vars(each).items() if value > 0.0}
    # Tensor-parallel ranks gather the tokens of an expert; a dense model has no experts.
    assert slow == GROUPS[field] - ({"expert_s"} if name == "dense" else set())
    assert sent[0] > 0.0
    assert sent[1] == 0.0  # in one server


def test_only_replicas_sum_gradients_and_gather_weights():
    _, each, _ = run("dense", ALONE, 4.0)
    assert {k for k, v in vars(each).items() if v > 0.0} == {"reduce_s", "update_gather_s"}
    _, each, _ = run("dense", ALONE.replace(weight_shard_fraction=1.0), 4.0)
    layers = {"layer_gather_s", "layer_reduce_s", "head_gather_s", "head_reduce_s"}
    assert {k for k, v in vars(each).items() if v > 0.0} == layers


@pytest.mark.parametrize("name", sorted(JOBS))
def test_times_equal_those_of_single_collectives(name):
    step, each, _ = run(name, WIDE, 256.0)
    of, replicas = step.messages, 256.0 / 8.0
    assert (step.data, step.replicas) == (16.0, replicas)
    expected = {
        "tensor_s": alone_s("all_gather", of.tensor_bytes, 4.0, 1.0),
        "context_s": alone_s("all_gather", of.context_bytes, 2.0, 4.0),
        "send_s": alone_s("point_to_point", of.pipeline_bytes, 2.0, 4.0 * replicas),
        "reduce_s": alone_s("all_gather", of.gradient_bytes, replicas, 4.0),
        "update_gather_s": alone_s("all_gather", of.weight_bytes, replicas, 4.0),
    }
    if name != "dense":
        expected["expert_s"] = alone_s("all_to_all", of.expert_bytes, 8.0, 4.0)
        expected["expert_s"] += alone_s("all_gather", of.expert_gather_bytes, 4.0, 1.0)
        expected["reduce_s"] += alone_s("all_gather", of.expert_gradient_bytes, 4.0, 32.0)
        expected["update_gather_s"] += alone_s("all_gather", of.expert_weight_bytes, 4.0, 32.0)
    for key, value in expected.items():
        assert getattr(each, key) == pytest.approx(value, rel=1e-12), key


def test_unsharded_optimizer_needs_an_all_reduce_of_gradients():
    step, each, sent = run("dense", WIDE.replace(optimizer_shard_fraction=0.0), 256.0)
    assert each.update_gather_s == each.reduce_s  # an all-reduce of the gradients
    _, shared, fewer = run("dense", WIDE, 256.0)
    assert shared.update_gather_s < each.update_gather_s
    assert sum(fewer) < sum(sent)
    assert step.messages.gradient_bytes == 2.0 * step.messages.weight_bytes


def test_software_parameters_affect_weight_gathers_only():
    parallelism = WIDE.replace(weight_shard_fraction=1.0)
    _, plain, _ = run("dense", parallelism, 256.0)
    _, narrow, _ = run("dense", parallelism, 256.0, Software(gather_network_fraction=0.125))
    _, many, _ = run("dense", parallelism, 256.0, Software(num_layer_messages=12.0))
    for key, value in vars(plain).items():
        is_gather = key.startswith(("layer", "head"))
        assert (getattr(narrow, key) > value) if is_gather else (getattr(narrow, key) == value)
        is_layer = key.startswith("layer")  # more starts
        assert (getattr(many, key) > value) if is_layer else (getattr(many, key) == value)


# Bytes -------------------------------------------------------------------------------------------


def by_hand(step, parallelism):
    """Bytes sent by a chip: (p - 1) / p of every group message, and full point-to-point sends."""
    of, m, p = step.messages, step.num_micro_batches, step.pipeline
    passes = m * step.mean_layers_per_stage
    recompute, sharded = parallelism.recompute_fraction, parallelism.weight_shard_fraction

    def share(ranks):
        return (ranks - 1.0) / ranks

    updated = parallelism.optimizer_shard_fraction

    def replicas(weights, gradients, ranks):
        update = updated * weights + (1.0 - updated) * gradients
        each = (1.0 - sharded) * (gradients + update) + sharded * m * (gradients + 2.0 * weights)
        return share(ranks) * each

    # Two collectives of the head, on one stage.
    count = passes * (of.num_tensor_forward + of.num_tensor_backward) + 2.0 * m / p
    sent = count * share(step.tensor) * of.tensor_bytes
    sent += (3.0 + recompute) * passes * share(step.context) * of.context_bytes
    sent += passes * of.num_expert * share(step.expert) * of.expert_bytes
    sent += passes * of.num_expert * share(step.tensor) * of.expert_gather_bytes
    sent += replicas(of.weight_bytes, of.gradient_bytes, step.replicas)
    copies = max(step.replicas / step.expert, 1.0)
    sent += replicas(of.expert_weight_bytes, of.expert_gradient_bytes, copies)
    return sent + 2.0 * m * share(p) * of.pipeline_bytes


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(JOBS)),
    degrees=st.tuples(
        st.sampled_from([1.0, 2.0, 8.0]),
        st.sampled_from([1.0, 4.0]),
        st.sampled_from([1.0, 2.0]),
        st.sampled_from([1.0, 4.0, 8.0]),
    ),
    recompute=st.sampled_from([0.0, 1.0]),
    updated=st.sampled_from([0.0, 1.0]),
    sharded=st.sampled_from([0.0, 1.0]),
)
def test_sent_bytes_match_hand_calculation(name, degrees, recompute, updated, sharded):
    tensor, pipeline, context, expert = degrees
    parallelism = ALONE.replace(
        tensor=tensor,
        pipeline=pipeline,
        context=context,
        expert=expert,
        recompute_fraction=recompute,
        optimizer_shard_fraction=updated,
        weight_shard_fraction=sharded,
    )
    with jax.enable_x64(True):
        step, _, sent = run(name, parallelism, 512.0)
        # A hierarchical gather forwards network bytes inside the domain: the fractions of the
        # tiers sum to the fraction of the full group.
        assert sum(sent) == pytest.approx(by_hand(step, parallelism), rel=1e-9)


def test_job_in_one_server_sends_nothing_over_the_network():
    parallelism = ALONE.replace(tensor=2.0, pipeline=2.0, expert=2.0)
    for name in JOBS:
        _, _, (link_bytes, network_bytes) = run(name, parallelism, 8.0)
        assert link_bytes > 0.0
        assert network_bytes == 0.0
