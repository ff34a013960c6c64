"""Laws of pipeline schedules and of stages divided by hand, on whole steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.designs import BASE, JOB

from hwdse.config import load_workload
from hwdse.config.design.strategy import parse_strategy
from hwdse.evaluation import evaluate
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.design import Parallelism
from hwdse.training.strategy_enumeration import (
    SCHEDULES,
    StrategyOptions,
    enumerate_strategies,
    schedule_names,
    strategy_at,
    strategy_label,
)
from hwdse.training.strategy_rules import strategy_problem

# 80 layers; TP16 PP4 DP16, 64 micro-batches.
STRATEGY = BASE.parallelism
FREE = BASE.replace(chip=BASE.chip.replace(power_limit_w=None))
_RUN = quick_jit(lambda parallelism: evaluate(FREE.replace(parallelism=parallelism), JOB))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def found(**fields):
    parallelism = STRATEGY.replace(**fields)
    with jax.enable_x64(True):
        return jax.tree.map(float, _RUN(jax.tree.map(float, parallelism)))


def passes_s(evaluation):
    """Seconds of the passes through the slowest stage and the head."""
    time = evaluation.time
    once_s = time.bubble + time.data_comm + time.optimizer + time.pipeline_comm + time.fp64
    return evaluation.step_time_s - once_s - FREE.software.step_overhead_s


def test_schedules_shorten_the_bubble():
    plain = found()
    for name in ("zero_bubble_fraction", "dual_pipe_fraction"):
        other = found(**{name: 1.0})
        assert 0.0 < other.time.bubble < plain.time.bubble
        assert passes_s(other) == pytest.approx(passes_s(plain), rel=1e-12)
        half = found(**{name: 0.5})
        mean = 0.5 * (plain.time.bubble + other.time.bubble)
        assert half.time.bubble == pytest.approx(mean, rel=1e-12)
    # Weight gradients are about a third of the work.
    ratio = found(zero_bubble_fraction=1.0).time.bubble / plain.time.bubble
    assert 1.0 / 3.0 < ratio < 0.75


def test_one_stage_has_no_bubble_in_any_schedule():
    for pair in SCHEDULES.values():
        fields = dict(zip(("zero_bubble_fraction", "dual_pipe_fraction"), pair, strict=True))
        assert found(pipeline=1.0, **fields).time.bubble == 0.0


def test_memory_of_the_schedules():
    """ZB-H1 holds p micro-batches on all stages, DualPipe p + 1 and the weights of two stages."""
    plain, zero_bubble, dual = (
        found(),
        found(zero_bubble_fraction=1.0),
        found(dual_pipe_fraction=1.0),
    )
    for part in ("weights", "gradients", "optimizer", "activations"):
        before, after = getattr(plain.hbm, part), getattr(zero_bubble.hbm, part)
        assert after == pytest.approx(before, rel=1e-12), part
    # The LM head has its buffers beside p micro-batches now.
    assert zero_bubble.hbm.buffers > plain.hbm.buffers
    assert dual.hbm.weights == pytest.approx(2.0 * plain.hbm.weights, rel=1e-12)
    assert dual.hbm.gradients == pytest.approx(2.0 * plain.hbm.gradients, rel=1e-12)
    # Twice the parameters over twice the ranks.
    assert dual.hbm.optimizer == pytest.approx(plain.hbm.optimizer, rel=1e-12)
    assert dual.hbm.activations == pytest.approx(5.0 / 4.0 * plain.hbm.activations, rel=1e-12)
    assert dual.time.data_comm > plain.time.data_comm


def test_given_stages_of_equal_layers_change_nothing():
    plain, given = found(), found(first_stage_layers=20.0, last_stage_layers=20.0)
    for before, after in zip(jax.tree.leaves(plain), jax.tree.leaves(given), strict=True):
        assert after == pytest.approx(before, rel=1e-12)


def test_fewer_layers_beside_the_head_save_its_time():
    """Half a layer less in the last stage hides half a layer of the head; one layer less hides all
    of it, 0.73 layers."""
    plain = found()
    layer_s = plain.time.bubble / (3.0 * 20.0)
    head_s = passes_s(plain) / 64.0 - 20.0 * layer_s
    assert 0.5 * layer_s < head_s < layer_s
    partly = found(first_stage_layers=18.0, last_stage_layers=20.5)  # 21 between
    assert passes_s(partly) == pytest.approx(64.0 * (20.5 * layer_s + head_s), rel=1e-9)
    assert partly.time.bubble == pytest.approx(21.0 / 20.0 * plain.time.bubble, rel=1e-9)
    hidden = found(first_stage_layers=18.0, last_stage_layers=20.0)
    assert passes_s(hidden) == pytest.approx(64.0 * 21.0 * layer_s, rel=1e-9)
    parts = [getattr(hidden.time, name) for name in hidden.time.__dataclass_fields__]
    assert sum(parts) == pytest.approx(hidden.step_time_s, rel=1e-12)


def test_fewer_layers_of_the_first_stage_hold_fewer_activations():
    plain = found(recompute_fraction=0.0)
    less = found(recompute_fraction=0.0, first_stage_layers=14.0)
    # The second stage holds 3 micro-batches of 22 layers, the first one 4 of 14.
    share = 3.0 * 22.0 / (4.0 * 20.0)
    assert less.hbm.activations == pytest.approx(share * plain.hbm.activations, rel=1e-9)
    assert less.hbm.weights > plain.hbm.weights  # 22 layers in the largest stage


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"zero_bubble_fraction": 1.0, "pipeline": 1.0}, "zero_bubble_fraction"),
        ({"zero_bubble_fraction": 1.0, "virtual_pipeline": 2.0}, "zero_bubble_fraction"),
        ({"zero_bubble_fraction": 1.0, "dual_pipe_fraction": 1.0}, "dual_pipe_fraction"),
        ({"dual_pipe_fraction": 1.0, "pipeline": 1.0}, "dual_pipe_fraction"),
        ({"dual_pipe_fraction": 1.0, "weight_shard_fraction": 1.0}, "dual_pipe_fraction"),
        ({"dual_pipe_fraction": 1.0, "micro_batch": 16.0}, "dual_pipe_fraction"),
        ({"first_stage_layers": 80.0, "pipeline": 1.0}, "first_stage_layers"),
        ({"first_stage_layers": 78.0}, "first_stage_layers"),
        ({"last_stage_layers": 30.0, "first_stage_layers": 20.0, "pipeline": 2.0},
         "first_stage_layers"),
        ({"last_stage_layers": 20.0, "virtual_pipeline": 2.0}, "last_stage_layers"),
    ],
)  # fmt: skip
def test_impossible_schedules_and_stages_are_refused(change, key):
    problem = strategy_problem(STRATEGY.replace(**change), 1024.0, JOB)
    assert problem is not None
    assert problem[0] == key


@pytest.mark.parametrize(
    "change",
    [
        {"zero_bubble_fraction": 1.0},
        {"dual_pipe_fraction": 1.0},
        {"first_stage_layers": 19.0, "last_stage_layers": 18.0},
        {"first_stage_layers": 42.0, "last_stage_layers": 38.0, "pipeline": 2.0},
    ],
)
def test_possible_schedules_and_stages_are_accepted(change):
    assert strategy_problem(STRATEGY.replace(**change), 1024.0, JOB) is None


def test_schedules_are_enumerated_where_they_are_possible():
    every = enumerate_strategies(JOB, 1024.0, StrategyOptions(schedule=tuple(SCHEDULES)))
    names = np.array(schedule_names(every))
    plain = enumerate_strategies(JOB, 1024.0)
    assert np.sum(names == "1f1b") == len(plain)
    is_one = (plain["pipeline"] > 1.0) & (plain["virtual_pipeline"] == 1.0)
    assert np.sum(names == "zero_bubble") == np.sum(is_one)
    dual = every.take(np.flatnonzero(names == "dual_pipe"))
    assert 0 < len(dual) < np.sum(is_one)
    assert np.all(dual["pipeline"] % 2.0 == 0.0)
    for row in (0, len(dual) // 2, len(dual) - 1):
        assert strategy_problem(strategy_at(dual, row, STRATEGY), 1024.0, JOB) is None


def test_texts_of_schedules_and_expert_shards_are_read_back():
    job = load_workload("mixtral_8x7b")
    options = StrategyOptions(schedule=("dual_pipe", "zero_bubble"), expert_tensor=(1.0,))
    some = enumerate_strategies(job, 256.0, options)
    alone = Parallelism(1.0, 1.0, 1.0, 0.0)
    for row in np.linspace(0, len(some) - 1, 20).astype(int):
        text = strategy_label(some, int(row), 256.0)
        own = strategy_at(some, int(row), alone)
        if own.tensor > 1.0:
            assert "ETP1" in text
        assert alone.replace(**parse_strategy(text, 256.0)) == own.replace(
            expert_tensor=own.expert_tensor if own.tensor > 1.0 else 0.0
        )


def test_gradients_by_schedules_and_stages_are_finite_and_match_differences():
    middle = STRATEGY.replace(
        zero_bubble_fraction=0.4,
        dual_pipe_fraction=0.3,
        first_stage_layers=19.0,
        last_stage_layers=18.0,
    )

    def step_s(parallelism):
        return evaluate(FREE.replace(parallelism=parallelism), JOB).step_time_s

    given = jax.tree.map(lambda x: jnp.asarray(x, float), middle)
    slopes = quick_jit(jax.grad(step_s))(given)
    assert all(bool(jnp.isfinite(x)) for x in jax.tree.leaves(slopes))
    for name in ("zero_bubble_fraction", "dual_pipe_fraction"):
        ends = [
            float(_RUN(given.replace(**{name: getattr(given, name) + d})).step_time_s)
            for d in (-1e-3, 1e-3)
        ]
        assert float(getattr(slopes, name)) == pytest.approx((ends[1] - ends[0]) / 2e-3, rel=1e-4)
