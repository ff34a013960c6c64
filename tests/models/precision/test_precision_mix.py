"""Laws of the precision models: closed-form splits, limits, gradients, rates and bytes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hwdse.config import load_chip
from hwdse.models.precision.precision_mix import (
    TWO_FLOAT_ADD_FLOP,
    TWO_FLOAT_MULTIPLY_FLOP,
    best_fp64_area_fraction,
    best_fp64_per_fp16_ratio,
    best_split_time_ratio,
    fp64_flop_per_s,
    fp64_fraction_for_ratio,
    fp64_per_fp16_ratio_of_area,
    mix_bytes_per_element,
    mix_cast_bytes_per_element,
    mix_mac_energy_ratio,
    mix_matrix_speedup_ratio,
    native_fp64_flop_per_s,
    split_time_ratio,
)
from hwdse.specs.number_formats import PrecisionMix

AREA_RATIO = 23.2142  # (53 / 11)^2: squares of the significands
MIX = PrecisionMix(fp64_flop_fraction=0.002, fp8_flop_fraction=0.25)


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param):
        yield jnp.float64 if request.param else jnp.float32


def test_serial_phases_worked_by_hand():
    # half the area each, half the FLOP each, kappa 16: t16 = 1, t64 = 16
    assert split_time_ratio(0.5, 0.5, 16.0, 1.0) == pytest.approx(17.0, rel=1e-6)
    assert split_time_ratio(0.5, 0.5, 16.0, 2.0) == pytest.approx(math.sqrt(257.0), rel=1e-6)
    assert best_fp64_per_fp16_ratio(0.5, 16.0, 1.0) == pytest.approx(0.25, rel=1e-6)
    assert best_fp64_area_fraction(0.5, 16.0, 1.0) == pytest.approx(0.8, rel=1e-6)
    assert best_split_time_ratio(0.5, 16.0, 1.0) == pytest.approx(12.5, rel=1e-6)


def test_all_area_for_fp16_is_optimal_without_fp64_work():
    assert best_fp64_area_fraction(0.0, AREA_RATIO, 1.0) < 1e-4
    assert best_split_time_ratio(0.0, AREA_RATIO, 1.0) == pytest.approx(1.0, abs=2e-5)
    assert split_time_ratio(0.0, 0.0, AREA_RATIO, 1.0) <= 1.0 + AREA_RATIO + 1e-5


def test_all_fp64_takes_the_area_ratio():
    assert best_split_time_ratio(1.0, AREA_RATIO, 1.0) == pytest.approx(AREA_RATIO, rel=1e-3)


def test_perfect_overlap_limit():
    f = 0.01
    assert best_fp64_per_fp16_ratio(f, AREA_RATIO, 1e4) == pytest.approx(f / (1 - f), rel=1e-3)
    assert best_split_time_ratio(f, AREA_RATIO, 1e4) == pytest.approx(
        1 - f + AREA_RATIO * f, rel=1e-3
    )


@pytest.mark.parametrize("share", [1e-5, 1e-3, 0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("power", [1.0, 2.0, 8.0])
def test_closed_form_is_the_minimum(share, power):
    with jax.enable_x64(True):
        area = best_fp64_area_fraction(share, AREA_RATIO, power)
        best = best_split_time_ratio(share, AREA_RATIO, power)
        assert split_time_ratio(area, share, AREA_RATIO, power) == pytest.approx(float(best))
        slope = jax.grad(split_time_ratio)(area, share, AREA_RATIO, power)
        assert abs(slope) * area < 1e-10 * best
        grid = jnp.geomspace(1e-6, 0.999999, 2001)
        times = jax.vmap(lambda a: split_time_ratio(a, share, AREA_RATIO, power))(grid)
        assert jnp.all(times >= best * (1.0 - 1e-12))
        ratio = fp64_per_fp16_ratio_of_area(area, AREA_RATIO)
        assert ratio == pytest.approx(float(best_fp64_per_fp16_ratio(share, AREA_RATIO, power)))


@pytest.mark.parametrize(
    ("area_ratio", "power", "share"),
    [
        (8.6, 1.0, 0.00086),
        (16.0, 1.0, 0.0016),
        (23.2142, 1.0, 0.0023),
        (27.0, 1.0, 0.0027),
        (23.2142, 2.0, 0.0048),
        (23.2142, 1e5, 0.0099),
    ],
)
def test_fp64_fraction_at_which_one_to_a_hundred_is_optimal(area_ratio, power, share):
    found = fp64_fraction_for_ratio(0.01, area_ratio, power)
    assert found == pytest.approx(share, rel=0.03)
    assert best_fp64_per_fp16_ratio(found, area_ratio, power) == pytest.approx(0.01, rel=1e-4)


def test_fp64_fraction_of_one_to_a_hundred_in_closed_form():
    found = fp64_fraction_for_ratio(0.01, AREA_RATIO, 1.0)
    assert found == pytest.approx(AREA_RATIO / (AREA_RATIO + 1e4), rel=1e-5)


@pytest.mark.parametrize(
    ("share", "one_to", "time_ratio"),
    [(1e-4, 482.0, 1.099), (1e-3, 152.0, 1.327), (0.01, 48.0, 2.18), (0.1, 14.5, 6.11)],
)
def test_worked_examples(share, one_to, time_ratio):
    ratio = best_fp64_per_fp16_ratio(share, AREA_RATIO, 1.0)
    assert 1.0 / ratio == pytest.approx(one_to, rel=0.005)
    assert best_split_time_ratio(share, AREA_RATIO, 1.0) == pytest.approx(time_ratio, rel=1e-3)


def test_slope_of_the_best_ratio():
    """d ln ratio / d ln f = p / ((p + 1)(1 - f))."""
    with jax.enable_x64(True):

        def log_ratio(log_f):
            return jnp.log(best_fp64_per_fp16_ratio(jnp.exp(log_f), 16.0, 2.0))

        slope = jax.grad(log_ratio)(math.log(0.1))
        assert slope == pytest.approx(2.0 / (3.0 * 0.9))


def test_gradients_agree_with_finite_differences():
    with jax.enable_x64(True):
        check_grads(split_time_ratio, (0.2, 0.05, 16.0, 2.0), order=1)
        for closed_form in (
            best_fp64_per_fp16_ratio,
            best_fp64_area_fraction,
            best_split_time_ratio,
            fp64_fraction_for_ratio,
        ):
            check_grads(closed_form, (0.05, 16.0, 2.0), order=1)
        check_grads(fp64_flop_per_s, (667.0, 0.01, 7.0, 15.0), order=1)


@jax.jit
def _slopes(area, share, area_ratio, power):
    best = (share, area_ratio, power)
    return (
        jax.value_and_grad(split_time_ratio, range(4))(area, *best),
        jax.value_and_grad(best_fp64_per_fp16_ratio, range(3))(*best),
        jax.value_and_grad(best_fp64_area_fraction, range(3))(*best),
        jax.value_and_grad(best_split_time_ratio, range(3))(*best),
        jax.value_and_grad(fp64_fraction_for_ratio, range(3))(*best),
    )


SHARE = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0), st.floats(0.0, 1e-10))


@pytest.mark.parametrize("is_double", [False, True], ids=["float32", "float64"])
@settings(max_examples=300, deadline=None)
@given(SHARE, SHARE, st.floats(1.0, 100.0), st.floats(1.0, 64.0))
def test_finite_and_bounded_everywhere(is_double, area, share, area_ratio, power):
    with jax.enable_x64(is_double):
        kind = np.float64 if is_double else np.float32
        results = _slopes(*np.array([area, share, area_ratio, power], kind))
        for value, slopes in results:
            assert 0.0 <= value < np.inf
            assert np.all(np.isfinite(slopes))
        time_ratio, best_area, best_time = results[0][0], results[2][0], results[3][0]
        assert 0.0 < best_area < 1.0 or share in (0.0, 1.0) or not is_double
        assert best_time <= time_ratio * (1.0 + 1e-4)
        assert best_time >= min(1.0, area_ratio) * (1.0 - 1e-4)


def test_fp64_rate_adds_native_units_and_two_float_arithmetic(dtype):
    peak, vector = jnp.asarray(667e12, dtype), jnp.asarray(7e12, dtype)
    assert native_fp64_flop_per_s(peak, 0.01) == pytest.approx(6.67e12)
    assert fp64_flop_per_s(peak, 0.0, vector, 14.0) == pytest.approx(0.5e12)
    assert fp64_flop_per_s(peak, 0.01, vector, 14.0) == pytest.approx(7.17e12)


def test_a_chip_without_fp64_units_finishes():
    ratio = 0.5 * (TWO_FLOAT_ADD_FLOP + TWO_FLOAT_MULTIPLY_FLOP)

    def time_s(native_ratio):
        return 0.002e18 / fp64_flop_per_s(1e15, native_ratio, 1e13, ratio)

    value, slope = jax.value_and_grad(time_s)(0.0)
    assert value == pytest.approx(0.002 * 1e18 * 14.5 / 1e13, rel=1e-5)
    assert slope < 0.0
    assert jnp.isfinite(slope)


@pytest.mark.parametrize(
    ("share", "num_bytes", "speedup"), [(0.0, 2.0, 1.0), (0.5, 1.5, 4.0 / 3.0), (1.0, 1.0, 2.0)]
)
def test_bytes_and_speed_of_a_mix(share, num_bytes, speedup):
    mix = MIX.replace(fp8_flop_fraction=share)
    assert mix_bytes_per_element(mix) == num_bytes
    assert mix_matrix_speedup_ratio(mix, narrow(2.0)) == pytest.approx(speedup)


def narrow(eight, four=1.0):
    """Chip with the given speed of narrow formats."""
    return load_chip("h100").replace(fp8_speedup_ratio=eight, fp4_speedup_ratio=four)


def test_mix_of_three_formats_by_hand():
    mix = MIX.replace(fp8_flop_fraction=0.5, fp4_flop_fraction=0.25)
    # A quarter in 16 bits, half at twice, a quarter at four times the rate: 0.5625 of the time.
    assert mix_matrix_speedup_ratio(mix, narrow(2.0, 4.0)) == pytest.approx(1.0 / 0.5625)
    assert mix_bytes_per_element(mix) == pytest.approx(0.25 * 2.0 + 0.5 + 0.25 * 0.5625)
    # One 16-bit read and two FP8 writes; two reads and two FP4 writes with their scales.
    assert mix_cast_bytes_per_element(mix) == pytest.approx(0.5 * 4.0 + 0.25 * (4.0 + 2.0 * 0.5625))
    assert mix_cast_bytes_per_element(MIX.replace(fp8_flop_fraction=0.0)) == 0.0


def test_narrow_formats_take_less_energy():
    energies = [
        mix_mac_energy_ratio(MIX.replace(fp8_flop_fraction=eight, fp4_flop_fraction=four))
        for eight, four in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    ]
    assert energies[0] == 1.0
    assert energies[0] > energies[1] > energies[2] > 0.0
    assert (
        mix_mac_energy_ratio(MIX.replace(fp8_flop_fraction=0.0, operand_activity_ratio=0.6)) == 0.6
    )


def test_fp8_of_equal_speed_gives_no_speedup():
    assert mix_matrix_speedup_ratio(MIX, narrow(1.0)) == 1.0


def test_speedup_is_below_that_of_the_fast_format():
    chip = narrow(2.0)
    speedups = jax.vmap(lambda x: mix_matrix_speedup_ratio(MIX.replace(fp8_flop_fraction=x), chip))(
        jnp.linspace(0.0, 1.0, 33)
    )
    assert jnp.all(jnp.diff(speedups) > 0.0)
    assert jnp.all((speedups >= 1.0) & (speedups <= 2.0))
