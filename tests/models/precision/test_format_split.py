"""Laws of the split over any number of formats, with and without memory bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.slopes import check_slopes

from hwdse.analysis.mixed_format_jobs import format_area_ratios, format_energy_ratios
from hwdse.models.precision import format_split as split
from hwdse.models.precision import precision_mix
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.number_formats import FORMATS

KAPPA = np.array([23.2142, 4.76, 1.0, 0.4, 0.2])
WORK = np.array([0.001, 0.02, 0.7, 0.2, 0.079])
POWERS = (1.0, 1.5, 2.0, 8.0, 1e4)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@jax.jit
def time_of(shares, power, memory=0.0):
    return split.job_time_ratio(split.phase_time_ratios(shares, WORK, KAPPA, memory), power)


times_of = jax.jit(jax.vmap(time_of, (0, None, None)))
many_times_of = jax.jit(jax.vmap(time_of, (0, None, 0)))
least_time_of = jax.jit(
    jax.vmap(
        lambda shares, power, memory: jnp.min(times_of(shares, power, memory)), (None, None, 0)
    )
)
capped = jax.jit(split.best_capped_budget_fractions)
many_capped = jax.jit(jax.vmap(split.best_capped_budget_fractions, (None, None, 0, None)))


# The tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_sign_exponent_and_stored_significand_fill_the_bits(name):
    entry = FORMATS[name]
    assert 1.0 + entry.exponent_bits + entry.significand_bits - 1.0 == entry.total_bits
    assert entry.stored_bits >= entry.total_bits


def test_a_block_of_32_shares_a_byte():
    assert FORMATS["mxfp4_e2m1"].stored_bits == 4.25
    assert FORMATS["fp64"].stored_bits == 64.0


def test_fp64_over_fp16_by_each_area_law():
    """Horowitz's units with sums in FP32 8.6; squares of significands; those of LLMCompass."""
    assert format_area_ratios(("fp64",))[0] == pytest.approx(8.6, rel=0.01)
    assert format_energy_ratios(("fp64",))[0] == pytest.approx(7.35, rel=0.01)
    assert split.significand_area_ratio(53.0, 11.0) == pytest.approx(23.2149, rel=1e-4)
    assert split.significand_area_ratio(52.0, 10.0) == pytest.approx(27.04)


def test_narrower_units_need_less_area_and_energy():
    names = ("fp64", "fp32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2")
    for ratios in (format_area_ratios(names), format_energy_ratios(names)):
        assert np.all(np.diff(ratios) < 0.0)
        assert ratios[2] == pytest.approx(1.0)
    # Area grows with a higher power of the width than energy.
    assert format_area_ratios(names)[0] > format_energy_ratios(names)[0]


def test_an_unknown_format_is_rejected():
    with pytest.raises(ValueError, match="number format 'fp7': expected one of fp64"):
        format_area_ratios(("fp7",))


# Without memory bounds --------------------------------------------------------------------------


def test_two_formats_equal_the_fp64_fp16_split():
    shares, powers = np.meshgrid([1e-4, 1e-3, 0.01, 0.1, 0.5], POWERS)

    @jax.jit
    @jax.vmap
    def both(share, power):
        work, kappa = jnp.stack([share, 1.0 - share]), jnp.array([23.2142, 1.0])
        best = split.best_budget_fractions(work, kappa, power)
        peaks = split.peak_ratios(best, kappa)
        time = split.best_job_time_ratio(work, kappa, power)
        case = (share, 23.2142, power)
        return (best[0], peaks[0] / peaks[1], time), (
            precision_mix.best_fp64_area_fraction(*case),
            precision_mix.best_fp64_per_fp16_ratio(*case),
            precision_mix.best_split_time_ratio(*case),
        )

    general, special = both(shares.ravel(), powers.ravel())
    for found, expected in zip(general, special, strict=True):
        assert np.allclose(found, expected, rtol=1e-11)


def test_three_phases_worked_by_hand():
    """kappa w = 0.25, 0.25, 0.49: roots 0.5, 0.5, 0.7, whose sum is 1.7."""
    work, kappa = np.array([0.01, 0.0625, 0.9275]), np.array([25.0, 4.0, 0.49 / 0.9275])
    assert split.best_job_time_ratio(work, kappa, 1.0) == pytest.approx(1.7**2)
    assert split.best_budget_fractions(work, kappa, 1.0) == pytest.approx(
        np.array([0.5, 0.5, 0.7]) / 1.7
    )


@pytest.mark.parametrize("power", POWERS)
def test_closed_form_is_the_minimum_of_five_formats(power):
    shares = split.best_budget_fractions(WORK, KAPPA, power)
    best = split.best_job_time_ratio(WORK, KAPPA, power)
    assert jnp.sum(shares) == pytest.approx(1.0)
    assert time_of(shares, power) == pytest.approx(float(best), rel=1e-12)
    slope = jax.grad(time_of)(shares, power)
    assert np.ptp(slope) < 1e-7 * np.max(np.abs(slope))  # one Lagrange multiplier for all
    others = np.random.default_rng(0).dirichlet(np.ones(5), 2000)
    assert np.min(times_of(others, power, 0.0)) >= best


def test_limits_of_overlap():
    serial = split.best_job_time_ratio(WORK, KAPPA, 1.0)
    assert serial == pytest.approx(np.sum(np.sqrt(KAPPA * WORK)) ** 2)
    overlapped = split.best_job_time_ratio(WORK, KAPPA, 1e7)
    assert overlapped == pytest.approx(np.sum(KAPPA * WORK), rel=1e-5)
    assert split.job_energy_ratio(WORK, KAPPA) == pytest.approx(np.sum(KAPPA * WORK))


def test_costlier_units_get_more_budget_and_less_peak():
    def of(kappa):
        kappas = KAPPA.copy()
        kappas[0] = kappa
        shares = split.best_budget_fractions(WORK, kappas, 1.0)
        return shares[0], split.peak_ratios(shares, kappas)[0]

    area, power = of(23.2142), of(8.0)  # area budget, power budget
    assert area[0] > power[0]
    assert area[1] < power[1]


# Memory bounds ----------------------------------------------------------------------------------


def test_no_memory_bound_leaves_the_split_unchanged():
    free = split.best_budget_fractions(WORK, KAPPA, 2.0)
    found = capped(WORK, KAPPA, np.zeros(5), 2.0)
    assert found == pytest.approx(np.asarray(free), rel=1e-12)


def test_two_phases_stop_at_the_bound():
    work, kappa = np.array([0.1, 0.9]), np.array([16.0, 1.0])
    # FreeParameter: 4 / 7 of the area. Memory as fast as 0.25 of it: kappa / c = 0.25.
    shares = capped(work, kappa, np.array([64.0, 0.0]), 1.0)
    assert shares == pytest.approx(np.array([0.25, 0.75]))
    loose = capped(work, kappa, np.array([20.0, 0.0]), 1.0)
    assert loose == pytest.approx(np.array([4.0, 3.0]) / 7.0)


@pytest.mark.parametrize("power", [1.0, 2.0, 8.0])
def test_capped_split_is_the_minimum(power):
    rng = np.random.default_rng(1)
    memory = np.exp(rng.uniform(np.log(0.5), np.log(300.0), (40, 5)))
    best = many_capped(WORK, KAPPA, memory, power)
    assert np.all(np.sum(best, axis=1) <= 1.0 + 1e-12)
    times = many_times_of(best, power, memory)
    others = rng.dirichlet(np.full(5, 0.7), 3000)
    assert np.all(least_time_of(others, power, memory) >= times * (1.0 - 1e-12))
    for _ in range(20):
        near = np.maximum(best * np.exp(rng.normal(0.0, 0.02, (40, 5))), 1e-12)
        near /= np.maximum(near.sum(axis=1, keepdims=True), 1.0)
        assert np.all(many_times_of(near, power, memory) >= times * (1.0 - 1e-9))


def test_budget_remains_if_memory_bounds_all_phases():
    shares = capped(WORK, KAPPA, np.full(5, 1e3), 1.0)
    assert shares == pytest.approx(KAPPA / 1e3)
    assert jnp.sum(shares) < 1.0


@pytest.mark.parametrize(
    ("fp16_tflops", "tb_per_s", "intensity"), [(989.0, 4.8, 2.1), (2250.0, 8.0, 2.8)]
)
def test_one_to_a_hundred_is_memory_bound_as_published(fp16_tflops, tb_per_s, intensity):
    """H200 and B200: stencils and sparse products, below 1 FLOP/B, are memory-bound."""
    peak, bandwidth = fp16_tflops * 1e10, tb_per_s * 1e12
    met = split.balanced_intensity_flop_per_byte(peak, bandwidth)
    assert met == pytest.approx(intensity, abs=0.05)
    assert split.useful_peak_flop_per_s(1.0 / met, bandwidth) == pytest.approx(peak)
    assert split.useful_peak_flop_per_s(1.0, bandwidth) < peak


def test_a_phase_is_bounded_by_units_or_memory():
    times = split.phase_times_s(
        np.array([1e12, 1e12]), np.array([1e12, 1e15]), np.array([0.0, 0.5]), 1e12
    )
    assert times == pytest.approx(np.array([1.0, 0.5]))


# Gradients and edges ----------------------------------------------------------------------------


def test_gradients_agree_with_differences():
    memory = np.array([60.0, 0.5, 0.01, 0.3, 0.4])

    def of(*entries):
        work, kappa, memory = jnp.stack(entries[:15]).reshape(3, 5)
        shares = split.best_capped_budget_fractions(work, kappa, memory, entries[15])
        free = split.best_budget_fractions(work, kappa, entries[15])
        phases = split.phase_time_ratios(free, work, kappa, memory)
        best = split.best_job_time_ratio(work, kappa, entries[15])
        return best, shares, free, split.job_time_ratio(phases, entries[15])

    check_slopes(of, (*WORK, *KAPPA, *memory, 2.0))


@quick_jit
@jax.vmap
def _slopes(work, memory, power):
    def whole(work, kappa, memory, power):
        shares = split.best_capped_budget_fractions(work, kappa, memory, power)
        phases = split.phase_time_ratios(shares, work, kappa, memory)
        return split.job_time_ratio(phases, power) + split.best_job_time_ratio(work, kappa, power)

    kappa = jnp.array([23.0, 1.0, 0.3], work.dtype)
    return jax.value_and_grad(whole, range(4))(work, kappa, memory, power)


@pytest.mark.parametrize("is_double", [False, True], ids=["float32", "float64"])
def test_finite_everywhere(is_double):
    """No work, almost none, all of it; memory that never or always limits."""
    rng, shape = np.random.default_rng(2), (20_000, 3)
    work = np.choose(
        rng.integers(0, 4, shape),
        [0.0, 1.0, rng.uniform(size=shape), 10 ** rng.uniform(-40, 0, shape)],
    )
    memory = np.choose(rng.integers(0, 2, shape), [0.0, 10 ** rng.uniform(-30.0, 6.0, shape)])
    power = rng.choice([1.0, 2.0, 64.0], shape[0])
    with jax.enable_x64(is_double):
        kind = np.float64 if is_double else np.float32
        results = _slopes(*(x.astype(kind) for x in (work, memory, power)))
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(results))
