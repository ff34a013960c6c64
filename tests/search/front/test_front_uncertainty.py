"""Fronts under uncertain constants: percentiles, membership, robust sweeps and fronts."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hwdse.numerics import struct
from hwdse.numerics.relaxation import EXACT
from hwdse.objectives import exact_objectives_fn
from hwdse.search.front.front_search import search_front
from hwdse.search.front.front_uncertainty import SampledDesigns, attained, sample_designs
from hwdse.search.pareto.dominance_and_hypervolume import non_dominated_mask
from hwdse.search.space.point_sequences import host_points
from hwdse.search.space.search_space import Dimension, SearchSpace
from hwdse.search.sweeps.chunked_sweep import ChunkRunner
from hwdse.search.sweeps.sweep_plan import merge_chunk, plan_sweep
from hwdse.search.uncertainty.robust import (
    SAMPLES_AT_ONCE,
    RobustObjectivesFn,
    over_sample,
    parse_robust,
)
from hwdse.search.uncertainty.uncertain_constants import (
    UncertainConstant,
    relative_uncertainty,
    sample_factors,
)


@struct.dataclass
class Machine:
    a: object
    b: object
    x: object
    y: object


BASE = Machine(2.0, 5.0, 1.0, 0.3)
SPACE = SearchSpace((Dimension("x", 0.1, 10.0, "log", None), Dimension("y", 0.1, 1.0, "log", None)))
LIMIT = 12.0


def objectives_fn(design, relaxation):
    """Time a x, energy b (1 / x + y), with a limit on the time."""
    time = design.a * design.x
    energy = design.b * (1.0 / design.x + design.y)
    return jnp.log(jnp.stack([time, energy])), jnp.log(time / LIMIT)[None]


def constants_of(relative):
    return tuple(relative_uncertainty(name, relative) for name in "ab")


def units_at(*points):
    return np.array([SPACE.encode(Machine(BASE.a, BASE.b, x, y)) for x, y in points])


LINE = units_at(*((x, 0.1) for x in (0.5, 1.0, 2.0, 4.0, 5.9)))


def sampled(uncertain_constants, units=LINE, num_samples=200, seed=0):
    return sample_designs(
        objectives_fn, SPACE, BASE, units, np.zeros(len(units), int), uncertain_constants,
        num_samples=num_samples, seed=seed,
    )  # fmt: skip


def test_certain_constants_give_the_nominal_front_without_intervals():
    """The last point is dominated: equal time, more energy than the one before it."""
    found = sampled((), np.concatenate((LINE, units_at((5.9, 0.5)))))
    np.testing.assert_allclose(
        np.exp(found.nominal[:, 0]), 2.0 * np.array([0.5, 1, 2, 4, 5.9, 5.9])
    )
    for band in found.percentiles:
        np.testing.assert_allclose(band, np.exp(found.nominal), rtol=1e-14)
    assert found.meets_limits.all()
    assert (found.is_on_front == [True] * 5 + [False]).all()


def test_intervals_widen_with_the_uncertainty_and_contain_the_nominal_value():
    widths = []
    for relative in (1e-6, 0.05, 0.2, 0.5):
        found = sampled(constants_of(relative))
        low, middle, high = np.log(found.percentiles)
        assert (low < found.nominal).all()
        assert (found.nominal < high).all()
        np.testing.assert_allclose(middle, found.nominal, atol=0.05 * relative + 1e-9)
        # A monomial of one lognormal constant: 1.645 standard deviations on each side.
        np.testing.assert_allclose(high - low, 3.29 * math.log1p(relative), rtol=0.06)
        widths.append(np.max(high - low))
    assert all(narrow < wide for narrow, wide in itertools.pairwise(widths))


def test_constants_common_to_all_designs_change_no_ranking():
    """Common random numbers: a and b scale all designs equally, so the ranking is constant."""
    found = sampled(constants_of(0.5), np.concatenate((LINE[:3], units_at((1.0, 0.11)))))
    is_feasible = found.meets_limits
    assert 0.9 < is_feasible.mean() < 1.0
    assert (found.is_on_front[:, :3] == is_feasible[:, :3]).all()
    # Within the interval of the second design, slightly worse, and always dominated.
    low, _, high = found.percentiles[:, 1, 1]
    assert low < np.exp(found.nominal[3, 1]) < high
    assert not found.is_on_front[:, 3].any()


def test_no_design_dominates_itself():
    found = sampled(constants_of(0.3), np.repeat(LINE[1:2], 3, axis=0))
    np.testing.assert_array_equal(found.log_objectives[:, 0], found.log_objectives[:, 2])
    np.testing.assert_array_equal(found.is_on_front, found.meets_limits)


def test_feasible_fraction_follows_the_distribution_of_the_constant():
    """Time a x <= 12 with x = 6 and the median a = 2: half of the samples. For x = 3: samples with
    a factor of a below 2."""
    found = sampled((relative_uncertainty("a", 0.5),), units_at((6.0, 0.1), (3.0, 0.1)))
    share = 0.5 * (1.0 + math.erf(math.log(2.0) / math.log(1.5) / math.sqrt(2.0)))
    np.testing.assert_allclose(found.meets_limits.mean(axis=0), [0.5, share], atol=0.006)
    # If the slow design is infeasible, the other is alone; if both are feasible, neither dominates.
    np.testing.assert_array_equal(found.is_on_front, found.meets_limits)


def test_front_membership_agrees_with_brute_force():
    generator = np.random.default_rng(1)
    values = generator.integers(0, 4, (40, 9, 2)).astype(float)  # with many ties
    broken = generator.normal(-0.5, 1.0, (40, 9, 1))
    found = SampledDesigns(values[0], values, broken).is_on_front
    for s, i in np.ndindex(found.shape):
        others = values[s, broken[s, :, 0] <= 0.0]
        is_dominated = (others <= values[s, i]).all(axis=1) & (others < values[s, i]).any(axis=1)
        assert found[s, i] == (broken[s, i, 0] <= 0.0 and not is_dominated.any())


def test_attainment_curve_of_one_sample_is_its_staircase():
    points = np.array([[[2.0, 1.0], [1.0, 3.0], [3.0, 2.0]]])
    curves = attained(points, np.array([0.5, 1.0, 1.9, 2.0, 9.0]))
    np.testing.assert_array_equal(curves, [[np.inf, 3.0, 3.0, 1.0, 1.0]] * 3)
    both = attained(np.concatenate((points, points + 1.0)), np.array([1.5, 9.0]))
    np.testing.assert_array_equal(both, [[3.0, 1.0], [3.0, 1.0], [np.inf, 2.0]])


@pytest.mark.parametrize("num_samples", [3, SAMPLES_AT_ONCE, SAMPLES_AT_ONCE + 1, 200])
def test_samples_in_parts_are_all_samples_in_order(num_samples):
    uncertain_constants = constants_of(0.3)
    factors = sample_factors(uncertain_constants, num_samples, 0)
    with jax.enable_x64(True):
        found = over_sample(lambda design: (design.a, design.b), BASE, uncertain_constants, factors)
    np.testing.assert_allclose(np.stack(found, axis=1), factors * [2.0, 5.0], rtol=1e-15)


@pytest.mark.parametrize("num_samples", [64, 300])
def test_mean_of_a_linear_objective_in_closed_form(num_samples):
    """Time a x with a uniform from 0.5 to 2 times its nominal value: mean 1.25 times the
    nominal."""
    uncertain_constants = (UncertainConstant("a", 0.5, 2.0, "uniform"),)
    robust = RobustObjectivesFn(
        objectives_fn, uncertain_constants, parse_robust("mean", num_samples), 0
    )
    with jax.enable_x64(True):
        values, broken = robust(BASE, EXACT)
    expected = sample_factors(uncertain_constants, num_samples, 0).mean()
    assert float(values[0]) == pytest.approx(math.log(2.0 * expected), rel=1e-12)
    assert expected == pytest.approx(1.25, rel=0.01)
    assert float(broken[0]) == pytest.approx(math.log(2.0 * expected / LIMIT), rel=1e-12)
    assert float(values[1]) == pytest.approx(math.log(5.0 * 1.3), rel=1e-12)


def brute_force(units, uncertain_constants, robust, seed):
    """Robust logs of objectives and constraint value of each point, in NumPy."""
    factors = sample_factors(uncertain_constants, robust.num_samples, seed)
    x, y = (dim.rounded(units[:, i]) for i, dim in enumerate(SPACE.dimensions))
    time = 2.0 * factors[:, 0, None] * x
    energy = 5.0 * factors[:, 1, None] * (1.0 / x + y)
    metrics = np.log(np.stack((time, energy, time / LIMIT), axis=-1))
    if robust.rule == "mean":
        return np.log(np.exp(metrics).mean(axis=0))
    share = 1.0 if robust.rule == "worst" else robust.share
    return np.quantile(metrics, share, axis=0)


def swept(robust, screen="float32", chunk_points=128):
    plan = plan_sweep(SPACE, num_points=512, chunk_points=chunk_points)
    wrapped = RobustObjectivesFn(objectives_fn, constants_of(0.2), robust, 7)
    runner = ChunkRunner(
        exact_objectives_fn(wrapped), plan, BASE, screen=screen, num_samples=robust.num_samples
    )
    result = None
    for index in reversed(range(plan.num_chunks)):
        result = merge_chunk(result, runner.run(index))
    assert result is not None
    return plan, result


@pytest.mark.parametrize(
    ("rule", "num_samples"), [("mean", 100), ("worst", 16), ("quantile 0.9", 16), ("mean", 2)]
)
def test_robust_sweep_agrees_with_brute_force(rule, num_samples):
    robust = parse_robust(rule, num_samples)
    plan, result = swept(robust)
    units = SPACE.snap_points(host_points(plan.sequence, np.arange(512)))
    metrics = brute_force(units, constants_of(0.2), robust, 7)
    feasible = np.flatnonzero(metrics[:, 2] <= 0.0)
    assert 0 < len(feasible) < 512
    expected = feasible[non_dominated_mask(metrics[feasible, :2])]
    order = np.argsort(result.front.sequence_indices)
    np.testing.assert_array_equal(result.front.sequence_indices[order], expected)
    np.testing.assert_allclose(
        result.front.log_objectives[order], metrics[expected, :2], rtol=1e-12
    )
    assert result.num_feasible == len(feasible)
    assert result.num_points == 512


def test_robust_sweeps_are_bit_identical_for_other_chunks_and_screens():
    robust = parse_robust("quantile 0.9", 16)
    _, first = swept(robust)
    _, second = swept(robust, screen="float64", chunk_points=64)
    for name in ("sequence_indices", "log_objectives", "constraint_values", "units"):
        np.testing.assert_array_equal(getattr(first.front, name), getattr(second.front, name))


def test_stricter_rules_leave_fewer_feasible_designs_with_worse_objectives():
    rules = ["quantile 0.1", "quantile 0.5", "quantile 0.9", "worst"]
    results = [swept(parse_robust(rule, 16))[1] for rule in rules]
    for loose, strict in itertools.pairwise(results):
        assert strict.num_feasible < loose.num_feasible
        assert (
            strict.front.log_objectives.min(axis=0) > loose.front.log_objectives.min(axis=0)
        ).all()


def test_robust_front_search_meets_the_limits_in_every_sample():
    """The front is y = 0.1 and x up to the limit of the worst sample; its extremes are known."""
    uncertain_constants, robust = constants_of(0.2), parse_robust("worst", 16)
    wrapped = RobustObjectivesFn(objectives_fn, uncertain_constants, robust, 0)
    found, again = (
        search_front(wrapped, SPACE, BASE, seed=0, num_evaluations=600).front for _ in range(2)
    )
    np.testing.assert_array_equal(found.log_objectives, again.log_objectives)
    largest = sample_factors(uncertain_constants, 16, 0).max(axis=0)
    x, y = (dim.rounded(found.units[:, i]) for i, dim in enumerate(SPACE.dimensions))
    np.testing.assert_allclose(
        np.exp(found.log_objectives),
        np.stack((2.0 * largest[0] * x, 5.0 * largest[1] * (1.0 / x + y)), axis=1),
        rtol=1e-12,
    )
    assert (2.0 * largest[0] * x <= LIMIT * (1.0 + 1e-9)).all()
    assert x.max() == pytest.approx(LIMIT / 2.0 / largest[0], rel=0.05)
