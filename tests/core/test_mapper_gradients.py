"""Gradients through the mapper: finite, and equal to those of the best mapping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tile_cores import KIB, core, gemms, unified_core

from hwdse.core.mapper.mapper import best_mapping
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, smooth
from hwdse.specs.hardware.accelerator import Operands

SIZES = ([512.0, 49.0, 384.0, 8.0], [768.0, 2048.0, 4096.0, 64.0], [768.0, 512.0, 1024.0, 100.0])
BASE = {
    "rows": 20.0,
    "cols": 12.0,
    "scratchpad": 40.7 * KIB,
    "accumulator": 9.3 * KIB,
    "dram_bandwidth": 8e9,
    "scratchpad_bandwidth": 2e9,
    "clock_hz": 0.9e9,
    "weights_word": 1.0,
    "inputs_word": 1.5,
    "sums_word": 4.0,
    "mac_energy": 0.5e-12,
}
NAMES = tuple(BASE)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def design(ratios, is_unified):
    """Core with each parameter of `BASE` times a ratio."""
    x = {name: ratio * BASE[name] for name, ratio in zip(NAMES, ratios, strict=True)}
    if is_unified:
        accelerator = unified_core(x["rows"], x["cols"], x["scratchpad"] + x["accumulator"])
    else:
        accelerator = core(x["rows"], x["cols"], x["scratchpad"], x["accumulator"])
    words = Operands(x["weights_word"], x["inputs_word"], 1.0)
    levels = [level.replace(word_bytes=words) for level in accelerator.levels]
    where = 1 if is_unified else 2
    levels[where] = levels[where].replace(word_bytes=words.replace(outputs=x["sums_word"]))
    bandwidths = zip((0, 1), ("dram_bandwidth", "scratchpad_bandwidth"), strict=True)
    for index, name in bandwidths:
        levels[index] = levels[index].replace(read_bandwidth_bytes_per_s=x[name])
    return accelerator.replace(
        levels=tuple(levels), clock_hz=x["clock_hz"], mac_energy_j=x["mac_energy"]
    )


def log_edp(ratios, temperature, is_unified=False):
    """Mean logarithm of the energy-delay product of some layers; exact if no temperature."""
    relaxation = EXACT if temperature is None else smooth(temperature)
    costs = best_mapping(gemms(*SIZES), design(ratios, is_unified), relaxation).costs
    return jnp.mean(jnp.log(costs.energy_j) + jnp.log(costs.time_s))


SLOPES = {
    (is_exact, is_unified): quick_jit(
        jax.value_and_grad(
            lambda ratios, theta, is_exact=is_exact, is_unified=is_unified: log_edp(
                ratios, None if is_exact else theta, is_unified
            )
        )
    )
    for is_exact in (True, False)
    for is_unified in (True, False)
}


def slopes(ratios, temperature, is_unified=False):
    """Value and gradient as NumPy arrays, in float64."""
    value, slope = SLOPES[temperature is None, is_unified](
        jnp.asarray(ratios), 0.0 if temperature is None else temperature
    )
    return float(value), np.asarray(slope)


def difference(name, temperature, step):
    """Central difference quotient with respect to one parameter."""
    sides = []
    for sign in (1.0, -1.0):
        ratios = np.ones(len(NAMES))
        ratios[NAMES.index(name)] += sign * step
        sides.append(slopes(ratios, temperature)[0])
    return (sides[0] - sides[1]) / (2.0 * step)


@pytest.mark.parametrize("name", NAMES)
def test_relaxed_gradients_match_finite_differences(name):
    slope = slopes(np.ones(len(NAMES)), 1.0)[1][NAMES.index(name)]
    assert slope == pytest.approx(difference(name, 1.0, 1e-6), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(
    "name", ["dram_bandwidth", "scratchpad_bandwidth", "clock_hz", "mac_energy"]
)
def test_exact_gradients_are_those_of_the_best_mapping(name):
    slope = slopes(np.ones(len(NAMES)), None)[1][NAMES.index(name)]
    assert slope == pytest.approx(difference(name, None, 1e-6), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", ["rows", "cols", "scratchpad", "accumulator", "sums_word"])
def test_exact_gradients_integrate_to_the_change_over_a_range(name):
    # Tile counts change in steps. Straight-through gradients hold on average, except for the gain
    # where a full extent starts to fit, which is a step without a gradient.
    index, scale = NAMES.index(name), np.geomspace(1.0, 4.0, 25)
    values, logs = [], []
    for ratio in scale:
        value, slope = slopes(np.where(np.arange(len(NAMES)) == index, ratio, 1.0), None)
        values.append(value)
        logs.append(ratio * slope[index])
    total, change = np.trapezoid(logs, np.log(scale)), values[-1] - values[0]
    assert abs(change) > 0.05
    assert 0.5 < total / change < 1.6


RATIOS = st.lists(st.floats(0.05, 20.0), min_size=len(NAMES), max_size=len(NAMES))


@settings(max_examples=25, deadline=None)
@given(RATIOS, st.sampled_from([None, 0.0, 0.4, 1.0]), st.booleans())
def test_gradients_are_finite_everywhere(ratios, temperature, is_unified):
    value, slope = slopes(ratios, temperature, is_unified)
    assert np.isfinite(value)
    assert np.all(np.isfinite(slope))


def test_gradient_favors_more_memory_if_nothing_fits():
    def most_used(memory, relaxation):
        best = best_mapping(gemms(512, 768, 768), core(scratchpad=memory), relaxation)
        return best.costs.used_ratio[1][0]

    for relaxation in (EXACT, smooth(0.5)):
        used, slope = quick_jit(jax.value_and_grad(most_used))(10.0, relaxation)
        assert used > 1.0
        assert slope < 0.0


@pytest.mark.parametrize("is_unified", [False, True])
def test_smooth_relaxation_at_low_temperature_is_the_exact_model(is_unified):
    ones = np.ones(len(NAMES))
    cold, exact = slopes(ones, 0.0, is_unified)[0], slopes(ones, None, is_unified)[0]
    assert cold == pytest.approx(exact, abs=5e-3)
    assert cold >= exact - 1e-9


def test_float32_gradients_are_finite():
    with jax.enable_x64(False):
        ones = jnp.ones(len(NAMES), jnp.float32)
        for temperature in (None, 0.5):
            assert np.all(np.isfinite(slopes(ones, temperature)[1]))
