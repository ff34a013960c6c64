"""Kinds of layers: their numbers, what follows from changed numbers, windows, pipeline stages."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.designs import BASE
from support.trained_models import DEEPSEEK_V3, LLAMA3_8B, MIXTRAL, QWEN3, training

from hwdse.core.network_mapper import step_partitions
from hwdse.numerics.content_key import content_key
from hwdse.numerics.relaxation import num_tiles, total
from hwdse.search.space.pytree_path import set_path
from hwdse.specs.design import Parallelism
from hwdse.workload.transformer.dense_transformer import num_active_parameters, num_parameters
from hwdse.workload.transformer.gemm_groups import attended_fraction
from hwdse.workload.transformer.layer_stacks import (
    layer_stacks,
    slowest_stage_layers,
    stage_candidates,
)
from hwdse.workload.transformer.micro_batch_gemms import gemm_names
from hwdse.workload.transformer.model_config import LayerKind, LayerOverrides
from hwdse.workload.transformer.sharding import shard

PARALLELISM = Parallelism(2.0, 1.0, 1.0, 0.0, 0.5)
LOCAL, GLOBAL = LayerOverrides(count=5.0, sliding_window=1024.0), LayerOverrides(count=1.0)
GEMMA = LLAMA3_8B.replace(num_layers=62.0, layers=(LOCAL, GLOBAL))
DENSE = LayerOverrides(count=3.0, num_experts=0.0)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def step_of(model, parallelism=PARALLELISM, num_chips=64.0):
    return shard(training(model, 4096.0, 0.5), parallelism, num_chips)


def work_of(step):
    """Everything that a step is made of, as numbers that do not depend on the order of operators:
    sums over its operators, messages, memory and counts."""
    each = step.executions.total * step.gemms.count
    sums = [jnp.sum(each * x) for x in (step.gemms.num_macs, step.gemms.vector_flop)]
    sums.append(jnp.sum(step.executions.model * step.gemms.num_macs))
    rest = (step.messages, step.memory, step.layers_per_stage, step.checkpoint_bytes)
    return jnp.array([*sums, *jax.tree.leaves(rest)], float)


def counts_of(model):
    return [float(stack.count) for stack in layer_stacks(model)]


# Numbers of layers ------------------------------------------------------------------------------


def test_a_list_of_kinds_is_repeated():
    assert counts_of(GEMMA) == [52.0, 10.0]  # 10 x (5 + 1), then 2 local layers
    assert counts_of(GEMMA.replace(num_layers=60.0)) == [50.0, 10.0]
    assert counts_of(GEMMA.replace(num_layers=5.0)) == [5.0, 0.0]
    assert counts_of(DEEPSEEK_V3) == [3.0, 58.0]
    assert counts_of(LLAMA3_8B) == [32.0]


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 60),
)
@settings(max_examples=50, deadline=None)
def test_numbers_of_layers_follow_the_list(counts, num_layers):
    with jax.enable_x64(True):
        entries = tuple(LayerOverrides(count=float(n), feedforward=float(n)) for n in counts)
        model = LLAMA3_8B.replace(num_layers=float(num_layers), layers=entries)
        kinds = itertools.chain.from_iterable([i] * n for i, n in enumerate(counts))
        in_order = list(itertools.islice(itertools.cycle(list(kinds)), num_layers))
        assert counts_of(model) == [in_order.count(i) for i in range(len(counts))]


def test_one_kind_in_a_list_is_the_model():
    for model in (LLAMA3_8B, MIXTRAL):
        listed = model.replace(layers=(LayerOverrides(count=model.num_layers),))
        own = LayerOverrides(count=model.num_layers, feedforward=model.feedforward)
        expected = work_of(step_of(model))
        for other in (listed, model.replace(feedforward=7.0, layers=(own,))):
            assert np.array_equal(work_of(step_of(other)), expected)


def test_dense_layers_in_a_list_equal_the_first_dense_layers():
    dense = LayerOverrides(count=3.0, num_experts=0.0)
    listed = DEEPSEEK_V3.replace(num_dense_layers=0.0, layers=(dense, LayerOverrides(count=58.0)))
    assert num_parameters(listed) == num_parameters(DEEPSEEK_V3)
    assert num_active_parameters(listed) == num_active_parameters(DEEPSEEK_V3)
    for pipeline in (1.0, 16.0):
        strategy = PARALLELISM.replace(pipeline=pipeline, expert=2.0)
        expected = work_of(step_of(DEEPSEEK_V3, strategy))
        np.testing.assert_allclose(work_of(step_of(listed, strategy)), expected, rtol=1e-12)


def test_values_of_kinds_weigh_by_their_layers():
    """Work, parameters and memory of a model are the mean of those of its kinds."""
    wide = LayerOverrides(count=1.0, feedforward=28672.0, num_heads=64.0)
    local = LayerOverrides(count=3.0, sliding_window=512.0, num_kv_heads=4.0)
    mixed = LLAMA3_8B.replace(layers=(wide, local))
    alone = [step_of(LLAMA3_8B.replace(**entry.given())) for entry in (wide, local)]
    steps = [step.replace(memory=step.memory.replace(buffers=0.0)) for step in alone]
    found = step_of(mixed)  # its buffers are those of the largest layer
    assert found.memory.buffers == max(step.memory.buffers for step in alone)
    found = work_of(found.replace(memory=found.memory.replace(buffers=0.0)))
    mean = 0.25 * work_of(steps[0]) + 0.75 * work_of(steps[1])
    np.testing.assert_allclose(found, mean, rtol=1e-12)


@pytest.mark.parametrize("model", [LLAMA3_8B, MIXTRAL, DEEPSEEK_V3, GEMMA])
def test_every_operator_has_a_name(model):
    names, gemms = gemm_names(training(model)), step_of(model).gemms
    assert len(names) == len(set(names)) == len(gemms.m)
    sizes = dict(zip(names, zip(gemms.m, gemms.k, gemms.n, strict=True), strict=True))
    assert sizes["head"][2] == model.vocabulary / 2.0
    if model is GEMMA:
        assert sizes["scores_1"][2] < sizes["scores"][2] == 2048.0
    if model.num_experts:
        assert sizes["router"][2] == model.num_experts
    else:
        assert names[-9:-3] == ("up", "up_dx", "up_dw", "down", "down_dx", "down_dw")


def test_absent_experts_have_no_parts_on_a_core():
    with jax.enable_x64(True):
        parts, _, _ = step_partitions(step_of(MIXTRAL), BASE)
    is_absent = np.array([name.startswith("shared") for name in gemm_names(training(MIXTRAL))])
    assert np.array_equal(np.asarray(parts.count) == 0.0, np.tile(is_absent, 3))
    assert np.all(np.isfinite(parts.count))


# Changed numbers --------------------------------------------------------------------------------

CROSSINGS = {
    "num_experts": (MIXTRAL, 0.0),
    "num_dense_layers": (MIXTRAL, 4.0),
    "num_shared_experts": (MIXTRAL, 2.0),
    "kv_lora_rank": (DEEPSEEK_V3, 0.0),
    "q_lora_rank": (DEEPSEEK_V3, 0.0),
    "sliding_window": (LLAMA3_8B, 512.0),
    "num_lm_head_bias": (LLAMA3_8B, 1.0),
}
"""Fields that are zero without a feature: a model, and the value on the other side of zero."""


@pytest.mark.parametrize("name", sorted(CROSSINGS))
def test_a_number_that_crosses_zero_changes_the_model_as_if_it_were_new(name):
    model, other = CROSSINGS[name]
    fields = {field: getattr(model, field) for field in model.__dataclass_fields__}
    built = type(model)(**{**fields, name: other})
    expected = work_of(step_of(built))
    job = training(model, 4096.0, 0.5)
    assert not np.array_equal(expected, work_of(step_of(model)))
    for changed in (
        model.replace(**{name: other}),
        set_path(job, f"model.{name}", other).model,
        set_path(job, f"model.{name}", np.float64(other)).model,
        set_path(job, f"model.{name}", jnp.asarray(other)).model,
    ):
        assert changed.kinds == built.kinds
        assert np.array_equal(work_of(step_of(changed)), expected)
    back = model.replace(**{name: other}).replace(**{name: getattr(model, name)})
    assert np.array_equal(work_of(step_of(back)), work_of(step_of(model)))


@pytest.mark.parametrize("name", sorted(CROSSINGS))
def test_traced_numbers_may_cross_zero(name):
    model, other = CROSSINGS[name]
    values = np.array([getattr(model, name), other])

    def work(value):
        return work_of(step_of(set_path(model, name, value)))

    expected = [work(float(value)) for value in values]
    np.testing.assert_allclose(jax.vmap(work)(values), expected, rtol=1e-12)


def test_kinds_survive_jax_and_follow_no_gradient():
    job = training(DEEPSEEK_V3)
    slopes = jax.grad(lambda job: num_parameters(job.model))(job)
    assert jax.tree.structure(slopes) == jax.tree.structure(job)
    zeros = jax.tree.map(lambda x: 0.0 * x, job)
    assert zeros.model.kinds == DEEPSEEK_V3.kinds
    assert jax.tree.map(jnp.isfinite, slopes).model.kinds == DEEPSEEK_V3.kinds
    latent = (LayerKind(True, False), LayerKind(True, True))
    assert jax.jit(lambda job: job)(job).model.kinds == (latent,)


def test_models_of_other_kinds_have_other_programs():
    """Their leaves have equal types; a stored program must not be taken for another model."""
    jobs = [training(model) for model in (LLAMA3_8B, MIXTRAL, DEEPSEEK_V3, GEMMA)]
    keys = []
    for job in jobs:
        leaves, structure = jax.tree.flatten(job)
        types = [(type(leaf),) for leaf in leaves]
        keys.append(content_key(jax.tree.unflatten(structure, types)))
        assert content_key(job) != content_key(job.replace(model=job.model.replace(hidden=8.0)))
    assert len(set(keys)) == len(keys)
    again = jax.tree.unflatten(*reversed(jax.tree.flatten(jobs[0])))
    assert content_key(again) == content_key(jobs[0])


# Sliding windows --------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1.0, 100.0, 1024.0, 4096.0, 9999.0])
def test_a_window_has_the_keys_of_every_query(window):
    """Continuous in the window: half a key per query below the count of whole keys."""
    job = training(LLAMA3_8B.replace(sliding_window=window), 4096.0, 0.5)
    keys = np.minimum(np.arange(4096.0) + 1.0, window).mean() - min(window, 4096.0) / 2.0 / 4096.0
    expected = keys / 4096.0
    assert float(attended_fraction(job)) == pytest.approx(expected, rel=2e-3, abs=2e-4)


def test_a_window_of_all_keys_is_none():
    plain = training(LLAMA3_8B, 4096.0, 0.5)
    for window in (0.0, 4096.0, 8192.0):
        job = training(LLAMA3_8B.replace(sliding_window=window), 4096.0, 0.5)
        assert attended_fraction(job) == attended_fraction(plain) == 0.5
    both = training(LLAMA3_8B.replace(sliding_window=2048.0), 4096.0, 1.0)  # both sides
    assert attended_fraction(both) == 0.75


def test_local_layers_have_less_attention_and_nothing_else_changes():
    plain, local = step_of(LLAMA3_8B), step_of(LLAMA3_8B.replace(sliding_window=1024.0))
    saved = plain.executions.model * (plain.gemms.num_macs - local.gemms.num_macs)
    fraction = 0.5 * (1.0 - 1024.0 / 4096.0) ** 2
    # 12 FLOP per score, element and head, forward and backward; heads on two tensor ranks.
    flop = 12.0 * fraction * 4096.0**2 * 16.0 * 128.0
    assert 2.0 * float(jnp.sum(saved)) == pytest.approx(flop, rel=1e-12)
    assert jax.tree.leaves(plain.memory) == jax.tree.leaves(local.memory)
    assert jax.tree.leaves(plain.messages) == jax.tree.leaves(local.messages)


def test_gradient_by_a_window_agrees_with_finite_differences():
    def work(window):
        return total(
            jax.tree.map(jnp.sum, step_of(set_path(GEMMA, "layers.0.sliding_window", window)).gemms)
        )

    slope = jax.grad(work)(1000.0)
    expected = (work(1001.0) - work(999.0)) / 2.0
    assert float(slope) == pytest.approx(float(expected), rel=1e-6)


# Pipeline stages --------------------------------------------------------------------------------

MIXED = {
    "alternating": (36.0, (1.0, 1.0)),
    "five to one": (62.0, (5.0, 1.0)),
    "blocks": (61.0, (3.0, 58.0)),
    "three kinds": (24.0, (3.0, 2.0, 1.0)),
}


def mixed_model(name):
    num_layers, counts = MIXED[name]
    layers = tuple(
        LayerOverrides(count=n, feedforward=1024.0 * (k + 1)) for k, n in enumerate(counts)
    )
    return LLAMA3_8B.replace(num_layers=num_layers, layers=layers)


@pytest.mark.parametrize("name", sorted(MIXED))
@pytest.mark.parametrize("pipeline", [1.0, 2.0, 4.0, 7.0, 16.0])
def test_candidates_have_the_most_layers_of_a_kind(name, pipeline):
    """By brute force over all runs of consecutive layers."""
    model = mixed_model(name)
    stacks, num_layers = layer_stacks(model), int(model.num_layers)
    kinds = [k for k, entry in enumerate(model.layers) for _ in range(int(entry.count))]
    in_order = [kinds[i % len(kinds)] for i in range(num_layers)]
    depth = -(-num_layers // int(pipeline))
    candidates = stage_candidates(model, stacks, num_tiles(model.num_layers, pipeline))
    for kind, counts in enumerate(candidates):
        runs = [in_order[i : i + depth] for i in range(num_layers - depth + 1)]
        most = max(run.count(kind) for run in runs)
        # A run that is cut at the end of the model has fewer layers than the pattern allows.
        assert most <= float(counts[kind]) <= most + 1.0
        assert sum(map(float, counts)) == pytest.approx(depth, rel=1e-12)
        assert all(float(count) >= 0.0 for count in counts)


def test_slowest_stage_of_two_kinds():
    model = mixed_model("blocks")  # 3 layers of weight 5, 58 of weight 1
    stacks, macs = layer_stacks(model), (5.0, 1.0)
    mean = (3.0 * 5.0 + 58.0) / 61.0
    assert slowest_stage_layers(model, stacks, macs, 61.0) == pytest.approx(61.0, rel=1e-12)
    first = (3.0 * 5.0 + 1.0) / mean  # 3 + 1 layers
    assert slowest_stage_layers(model, stacks, macs, 4.0) == pytest.approx(first, rel=1e-12)
    assert slowest_stage_layers(model, stacks, (1.0, 1.0), 4.0) == 4.0
    last = 4.0 * 5.0 / ((3.0 + 58.0 * 5.0) / 61.0)
    assert slowest_stage_layers(model, stacks, (1.0, 5.0), 4.0) == pytest.approx(last, rel=1e-12)


def test_work_of_all_stages_is_independent_of_the_pipeline():
    def macs(pipeline):
        step = step_of(GEMMA, PARALLELISM.replace(pipeline=pipeline))
        per_layer = step.executions.total * step.gemms.num_macs * (1.0 - step.executions.is_lm_head)
        return float(jnp.sum(per_layer) * step.mean_layers_per_stage * pipeline)

    assert macs(7.0) == pytest.approx(macs(1.0), rel=1e-12)
    deep = step_of(GEMMA, PARALLELISM.replace(pipeline=7.0))
    assert float(deep.layers_per_stage) >= 9.0  # 62 layers in 7 stages


@pytest.mark.parametrize(
    "model", [GEMMA, QWEN3.replace(layers=(DENSE, LayerOverrides(count=91.0)))]
)
def test_gradients_by_every_number_of_a_mixed_model_are_finite(model):
    def sizes(model, parallelism):
        return jnp.sum(work_of(step_of(model, parallelism)))

    strategy = PARALLELISM.replace(pipeline=4.0, context=2.0)
    slopes = jax.grad(sizes, (0, 1))(model, strategy)
    assert all(np.isfinite(x) for x in jax.tree.leaves(slopes))
    values = jax.vmap(lambda p: sizes(model, strategy.replace(pipeline=p)))(jnp.array([1.0, 4.0]))
    assert float(values[1]) == pytest.approx(float(sizes(model, strategy)), rel=1e-12)
