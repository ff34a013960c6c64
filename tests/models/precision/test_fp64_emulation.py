"""Laws of emulated FP64 GEMMs: counts, thresholds, mixes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.slopes import check_slopes

from hwdse.models.precision import fp64_emulation, precision_mix
from hwdse.numerics.jit_compile import quick_jit

KAPPA = 23.2142


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


native_time = jax.jit(precision_mix.best_split_time_ratio)
break_even = jax.jit(fp64_emulation.break_even_flop_ratio)
emulated_share = jax.jit(fp64_emulation.best_emulated_fraction)


@pytest.mark.parametrize(("slices", "products"), [(7.0, 28.0), (8.0, 36.0), (9.0, 45.0)])
def test_products_of_slices(slices, products):
    assert fp64_emulation.ozaki_slice_products(slices) == products


@pytest.mark.parametrize(("tflops", "flop_ratio"), [(56.6, 17.5), (80.2, 12.3)])
def test_measured_rates_are_12_to_18_flop_of_16_bits(tflops, flop_ratio):
    """GH200, 1979 TOPS of INT8: 25 to 35 operations, half as many FLOP of 16 bits."""
    assert 989.0 / tflops == pytest.approx(flop_ratio, abs=0.05)
    num_int8 = 1979.0 / tflops
    assert fp64_emulation.emulated_flop_ratio(num_int8, 2.0, 1.0) == pytest.approx(
        flop_ratio, abs=0.05
    )
    # 15 moduli at twice the rate would take 7.5: 43 to 61 % of the peak are reached.
    moduli = fp64_emulation.ozaki_modular_products(15.0)
    assert 0.42 < moduli / num_int8 < 0.62
    reached = fp64_emulation.emulated_flop_ratio(moduli, 2.0, moduli / num_int8)
    assert reached == pytest.approx(flop_ratio, abs=0.05)
    assert tuple(sorted(fp64_emulation.MEASURED_FLOP_RATIO_GH200)) == (12.3, 17.5)


# Break-even of emulation ------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1e-6, 1e-3, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("power", [1.0, 2.0, 8.0])
def test_both_take_equal_time_at_the_break_even(share, power):
    flop_ratio = break_even(share, KAPPA, power)
    emulated = fp64_emulation.emulated_time_ratio(share, 1.0, flop_ratio)
    assert emulated == pytest.approx(float(native_time(share, KAPPA, power)), rel=1e-9)
    assert flop_ratio >= KAPPA * (1.0 - 1e-12)


@pytest.mark.parametrize("share", [1e-6, 1e-3, 0.01, 0.3, 0.9])
def test_break_even_of_serialized_phases(share):
    expected = KAPPA + 2.0 * np.sqrt(KAPPA * (1.0 - share) / share)
    assert break_even(share, KAPPA, 1.0) == pytest.approx(expected, rel=1e-9)
    back = fp64_emulation.break_even_fp64_fraction(expected, KAPPA)
    assert back == pytest.approx(share, rel=1e-9)


def test_published_thresholds():
    share = fp64_emulation.break_even_fp64_fraction
    assert share(12.0, KAPPA) == share(18.0, KAPPA) == share(KAPPA, KAPPA) == 1.0
    assert share(35.0, KAPPA) == pytest.approx(0.40, abs=0.005)
    assert float(share(36.0, KAPPA)) < float(share(35.0, KAPPA))


def test_times_at_one_percent():
    """Native 2.18, emulated with n = 18 1.17."""
    assert native_time(0.01, KAPPA, 1.0) == pytest.approx(2.18, abs=0.005)
    assert fp64_emulation.emulated_time_ratio(0.01, 1.0, 18.0) == pytest.approx(1.17)


def test_worked_job_with_gemms():
    """f = 10 %, four fifths of it GEMMs, n = 15: 1:49, 4.54; all native 6.11."""
    time, ratio = fp64_emulation.best_split_with_gemms(0.1, 0.8, 15.0, KAPPA, 1.0)
    assert time == pytest.approx(4.54, abs=0.005)
    assert 1.0 / ratio == pytest.approx(49.0, abs=0.5)
    assert native_time(0.1, KAPPA, 1.0) == pytest.approx(6.11, abs=0.005)


def test_without_gemms_the_split_is_native():
    time, ratio = fp64_emulation.best_split_with_gemms(0.1, 0.0, 15.0, KAPPA, 2.0)
    assert time == pytest.approx(float(native_time(0.1, KAPPA, 2.0)), rel=1e-12)
    assert ratio == pytest.approx(
        float(precision_mix.best_fp64_per_fp16_ratio(0.1, KAPPA, 2.0)), rel=1e-12
    )


# Mixes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [1.0, 2.0, 8.0])
def test_all_or_nothing_is_emulated_if_the_area_adapts(power):
    parts = jnp.linspace(0.0, 1.0, 101)
    times = jax.jit(
        jax.vmap(
            jax.vmap(
                lambda n, x: fp64_emulation.best_split_with_gemms(0.1, 0.8 * x, n, KAPPA, power)[0],
                (None, 0),
            ),
            (0, None),
        )
    )(jnp.linspace(5.0, 80.0, 26), parts)
    ends = jnp.minimum(times[:, 0], times[:, -1])
    assert np.all(times >= ends[:, None] * (1.0 - 1e-12))
    assert {0, 100} == set(np.argmin(times, axis=1).tolist())


@pytest.mark.parametrize("power", [1.0, 1.5, 4.0, 64.0])
def test_emulated_fraction_on_a_given_chip_is_the_fastest(power):
    share, gemms, flop_ratio = 0.1, 0.7, 30.0
    parts = jnp.linspace(0.0, 1.0, 2001)

    @jax.jit
    @jax.vmap
    def of(area):
        def time(part):
            work = fp64_emulation.emulated_time_ratio(share, gemms * part, flop_ratio)
            native = fp64_emulation.native_fp64_work(share, gemms * part)
            times = jnp.stack([work / (1.0 - area), KAPPA * native / area])
            return jnp.exp(jax.nn.logsumexp(power * jnp.log(times)) / power)

        best = fp64_emulation.best_emulated_fraction(area, share, gemms, flop_ratio, KAPPA, power)
        return time(best), jnp.min(jax.vmap(time)(parts)), best

    found, least, best = of(jnp.array([0.02, 0.2, 0.4, 0.5, 0.7, 0.95]))
    assert np.all(found <= least * (1.0 + 1e-12))
    assert best[0] == 1.0
    assert best[-1] == 0.0


def test_the_faster_unit_takes_all_gemms_of_serialized_phases():
    assert emulated_share(0.5, 0.1, 0.5, 12.0, KAPPA, 1.0) == 1.0
    assert emulated_share(0.5, 0.1, 0.5, 40.0, KAPPA, 1.0) == 0.0
    assert emulated_share(0.0, 0.1, 0.5, 40.0, KAPPA, 1.0) == 1.0


def test_gradients_agree_with_differences():
    def of(share, gemms, flop_ratio, kappa, power):
        return (
            fp64_emulation.best_split_with_gemms(share, gemms, flop_ratio, kappa, power),
            fp64_emulation.break_even_flop_ratio(share, kappa, power),
            fp64_emulation.break_even_fp64_fraction(flop_ratio, kappa),
            fp64_emulation.best_emulated_fraction(0.45, share, gemms, flop_ratio, kappa, power),
        )

    check_slopes(of, (0.1, 0.9, 28.0, KAPPA, 4.0))


@quick_jit
@jax.vmap
def _slopes(area, share, gemms, flop_ratio, power):
    whole = (share, gemms, flop_ratio, KAPPA, power)
    return (
        jax.value_and_grad(lambda *x: fp64_emulation.best_split_with_gemms(*x)[0], range(5))(
            *whole
        ),
        jax.value_and_grad(fp64_emulation.break_even_flop_ratio, (0, 1, 2))(share, KAPPA, power),
        jax.value_and_grad(fp64_emulation.break_even_fp64_fraction, (0, 1))(flop_ratio, KAPPA),
        jax.value_and_grad(fp64_emulation.best_emulated_fraction, range(6))(area, *whole),
    )


@pytest.mark.parametrize("is_double", [False, True], ids=["float32", "float64"])
def test_finite_everywhere(is_double):
    """Fractions of zero, almost zero, any, one."""
    rng, shape = np.random.default_rng(3), (3, 20_000)
    tiny = 10 ** rng.uniform(-40.0, 0.0, shape)
    shares = np.choose(rng.integers(0, 4, shape), [0.0, 1.0, rng.uniform(size=shape), tiny])
    flop_ratio = rng.uniform(1.0, 100.0, shape[1])
    power = rng.choice([1.0, 1.01, 2.0, 64.0], shape[1])
    with jax.enable_x64(is_double):
        kind = np.float64 if is_double else np.float32
        results = _slopes(*(x.astype(kind) for x in (*shares, flop_ratio, power)))
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(results))
        assert all(np.all(np.asarray(value) >= 0.0) for value, _ in results)
        assert np.all(np.asarray(results[3][0]) <= 1.0)
