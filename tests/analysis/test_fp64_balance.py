"""FP64 : 16-bit balance of chips and designs, and FP64 work in an evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.designs import BASE, JOB, with_static_defaults
from support.slopes import check_slopes

from hwdse.analysis.fp64_balance import design_precision_balance, precision_balance
from hwdse.analysis.mixed_format_jobs import format_peak_flop_per_s, job_phase_times_s, job_time_s
from hwdse.analysis.resource_balance import BALANCED_PARAMETERS, with_value
from hwdse.config import load_chip, load_search
from hwdse.config.files.errors import ConfigError
from hwdse.evaluation import evaluate
from hwdse.models.energy import voltage_and_leakage
from hwdse.models.memory.scratchpad_limits import sustained_hbm_bytes_per_s
from hwdse.models.precision import precision_mix
from hwdse.models.silicon.area import fp64_cost_ratio
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.number_formats import JobPhases, PrecisionMix
from hwdse.training.fp64_work import fp64_rates, fp64_work
from hwdse.training.gemm_operator_costs import peak_flop_per_s


def with_fp64_ratio(chip, ratio):
    """Chip with another FP64 ratio at iso-area."""
    return with_value(
        BASE.replace(chip=chip), BALANCED_PARAMETERS["chip.fp64_per_fp16_ratio"], ratio
    ).chip


CHIP = load_chip("b200")
BARE = CHIP.replace(software_fp64_flop_ratio=1e9, fp64_per_fp16_ratio=0.01)
KAPPA = float(fp64_cost_ratio(CHIP))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


balance = quick_jit(precision_balance)
work = quick_jit(lambda chip, mix: fp64_work(1e18, BASE.replace(chip=chip, mix=mix)))


def mix_of(share, gemms=0.0, traffic=0.0):
    return PrecisionMix(share, 0.0, gemms, traffic)


# The closed form --------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1e-4, 1e-3, 0.01, 0.1, 0.5])
def test_plain_job_matches_the_two_format_split(share):
    found = balance(BARE, mix_of(share))
    best = precision_mix.best_fp64_per_fp16_ratio(share, KAPPA, 1.0)
    assert found.optimal_ratio == pytest.approx(float(best), rel=1e-6)
    assert found.optimal_time_ratio == pytest.approx(
        float(precision_mix.best_split_time_ratio(share, KAPPA, 1.0)), rel=1e-6
    )
    native = KAPPA * 0.01
    time = precision_mix.split_time_ratio(native / (1.0 + native), share, KAPPA, 1.0)
    assert found.current_time_ratio == pytest.approx(float(time), rel=1e-6)
    assert found.penalty_fraction == pytest.approx(
        float(found.current_time_ratio / found.optimal_time_ratio) - 1.0, rel=1e-9
    )
    assert found.current_ratio == 0.01


@pytest.mark.parametrize(
    ("kappa", "percent"), [(8.6, 0.086), (16.0, 0.16), (23.2149, 0.23), (27.0, 0.27)]
)
def test_ratio_of_one_percent_is_optimal_for_a_tenth_of_a_percent_of_fp64(kappa, percent):
    """f = kappa / (kappa + 1e4): penalty and elasticity are zero."""
    share = kappa / (kappa + 1e4)
    assert 100.0 * share == pytest.approx(percent, rel=0.03)
    found = balance(BARE, mix_of(share), cost_ratio=kappa)
    assert found.suited_fp64_fraction == pytest.approx(share, rel=1e-9)
    assert found.optimal_ratio == pytest.approx(0.01, rel=1e-6)
    assert abs(found.penalty_fraction) < 1e-12
    assert abs(found.elasticity) < 1e-6


JOBS = {
    "plain": mix_of(0.01),
    "products": mix_of(0.05, 0.8),
    "only products": mix_of(0.05, 1.0),
    "memory": mix_of(0.05, 0.0, 1.0),
    "memory and products": mix_of(0.05, 0.5, 1.0),
    "little memory": mix_of(0.05, 0.5, 0.05),
    "no fp64": mix_of(0.0, 0.5, 1.0),
}


@pytest.mark.parametrize("flop_ratio", [15.0, 500.0])
@pytest.mark.parametrize("chip", [CHIP, BARE, load_chip("trainium2")], ids=["b200", "bare", "trn2"])
@pytest.mark.parametrize("name", sorted(JOBS))
def test_optimal_ratio_is_the_fastest_and_its_time_that_of_the_rebuilt_chip(name, chip, flop_ratio):
    """Compared with chips rebuilt with many ratios at iso-area."""
    chip = chip.replace(emulated_fp64_flop_ratio=flop_ratio)
    job = JOBS[name]
    found = balance(chip, job)
    ratios = np.concatenate(([0.0], np.geomspace(1e-8, 10.0, 4001)))
    times = _rebuilt_times(chip, job, ratios)
    best, present = _rebuilt_times(chip, job, np.array([found.optimal_ratio, found.current_ratio]))
    assert best <= np.min(times) * (1.0 + 1e-9)
    assert found.penalty_fraction == pytest.approx(float(present / best) - 1.0, abs=1e-9)
    ratio = chip.fp64_per_fp16_ratio
    if ratio > 0.0:
        around = _rebuilt_times(chip, job, ratio * np.exp(np.array([-1e-5, 1e-5])))
        slope = float(jnp.log(around[1] / around[0])) / 2e-5
        assert found.elasticity == pytest.approx(slope, abs=1e-6)


@quick_jit
def _rebuilt_times(chip, mix, ratios):
    """Seconds of 1e18 FLOP at 16-bit peak plus the FP64 work."""

    def time(ratio):
        other = with_fp64_ratio(chip, ratio)
        design = BASE.replace(chip=other, mix=mix)
        return 1e18 / peak_flop_per_s(other) + fp64_work(1e18, design).time_s

    return jax.vmap(time)(ratios)


def test_memory_bound_limits_the_useful_fp64_ratio():
    free, bound = balance(BARE, mix_of(0.1)), balance(BARE, mix_of(0.1, 0.0, 2.0))
    bandwidth = float(sustained_hbm_bytes_per_s(BARE))
    assert bound.optimal_ratio < free.optimal_ratio
    assert bound.largest_useful_ratio == pytest.approx(
        bandwidth / 2.0 / float(peak_flop_per_s(BARE)), rel=1e-9
    )
    # At the optimal ratio units and memory take equal time on the rebuilt chip.
    rebuilt = with_fp64_ratio(BARE, bound.optimal_ratio)
    assert fp64_rates(rebuilt)[1] == pytest.approx(bandwidth / 2.0, rel=1e-9)


def test_optimal_ratio_is_higher_for_a_power_budget_than_for_an_area_budget():
    energy_ratio = CHIP.process.fp64_energy_ratio
    area, power = balance(BARE, mix_of(0.01)), balance(BARE, mix_of(0.01), cost_ratio=energy_ratio)
    assert power.optimal_ratio > area.optimal_ratio


def test_gradients_of_the_balance_are_finite():
    def of(share, gemms, traffic, ratio, kappa):
        chip = CHIP.replace(fp64_per_fp16_ratio=ratio)
        found = precision_balance(chip, mix_of(share, gemms, traffic), cost_ratio=kappa)
        return found.optimal_ratio, found.penalty_fraction, found.elasticity

    check_slopes(of, (0.05, 0.3, 0.05, 0.01, 20.0))
    slopes = quick_jit(jax.vmap(jax.jacfwd(of, range(5))))
    edges = np.array(np.meshgrid([0.0, 1e-9, 1.0], [0.0, 1.0], [0.0, 5.0], [0.0, 1.0], [9.0]))
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slopes(*edges.reshape(5, -1))))


# Full step -----------------------------------------------------------------------------------


def test_optimal_ratio_of_a_design_matches_full_evaluations():
    shares = np.array([1e-4, 1e-2])
    ratios = np.append(np.geomspace(1e-4, 0.3, 60), 0.0)
    results, found = _evaluated(*(x.ravel() for x in np.meshgrid(shares, ratios, indexing="ij")))
    times = np.asarray(results.step_time_s).reshape(2, -1)
    present = jax.tree.map(lambda x: np.asarray(x).reshape(2, -1)[:, -1], found)
    # Tile quantization depends on the number of arrays: neighbors differ by 1 to 2 %.
    rebuilt = _evaluated(shares, present.optimal_ratio)[0].step_time_s
    assert np.all(rebuilt <= 1.03 * np.min(times, axis=1))
    loss = times[:, -1] / np.min(times, axis=1) - 1.0
    assert np.allclose(present.penalty_fraction, loss, rtol=0.05)


def _evaluated(shares, ratios, gemms=0.0, traffic=0.0, flop_ratio=36.0):
    """Evaluations of the reference job on iso-area chips, and their balances.

    Padded, so that one program serves all.
    """
    cases = np.broadcast_arrays(shares, ratios, gemms, traffic, flop_ratio)
    number = len(cases[0])
    padded = (np.concatenate((x, np.full(122 - number, x[0]))) for x in cases)
    return jax.tree.map(lambda x: np.asarray(x)[:number], _evaluate_all(*padded))


@quick_jit
@jax.vmap
def _evaluate_all(share, ratio, gemms, traffic, flop_ratio):
    chip = with_fp64_ratio(BASE.chip, ratio).replace(emulated_fp64_flop_ratio=flop_ratio)
    design = BASE.replace(chip=chip, mix=mix_of(share, gemms, traffic))
    result = evaluate(with_static_defaults(design), JOB)
    return result, design_precision_balance(design, result)


def test_fp64_gemms_run_on_the_faster_engine():
    rate, peak = float(fp64_rates(CHIP)[1]), float(peak_flop_per_s(CHIP))
    for flop_ratio in (2.0, 15.0, 100.0):
        chip = CHIP.replace(emulated_fp64_flop_ratio=flop_ratio)
        found = work(chip, mix_of(0.2, 0.75))
        flop = 1e18 * 0.25
        faster = max(rate, peak / flop_ratio)
        assert found.time_s == pytest.approx(flop * (0.25 / rate + 0.75 / faster), rel=1e-12)
        assert found.traffic_bytes == 0.0
        native = float(work(chip, mix_of(0.2)).energy_j)
        emulated_j = flop_ratio * chip.process.mac_energy_j / 2.0
        each = emulated_j if faster > rate else native / flop
        assert found.energy_j == pytest.approx(0.25 * native + 0.75 * flop * each, rel=1e-12)


def test_native_fp64_energy_is_that_of_its_units():
    chip = BARE.replace(fp64_per_fp16_ratio=1.0, vector_flop_per_s=1e-9)
    joules = work(chip, mix_of(0.5)).energy_j
    assert joules == pytest.approx(
        1e18 * chip.process.mac_energy_j / 2.0 * chip.process.fp64_energy_ratio, rel=1e-6
    )
    software = work(CHIP.replace(fp64_per_fp16_ratio=0.0), mix_of(0.5)).energy_j
    each = (
        CHIP.software_fp64_flop_ratio
        * CHIP.process.mac_energy_j
        * voltage_and_leakage.VECTOR_ENERGY_RATIO
    )
    assert software == pytest.approx(1e18 * each, rel=1e-12)


def test_other_fp64_work_is_memory_bound():
    bandwidth = float(sustained_hbm_bytes_per_s(CHIP))
    bound = work(CHIP, mix_of(0.5, 0.0, 8.0))
    assert bound.time_s == pytest.approx(8e18 / bandwidth, rel=1e-12)
    assert bound.traffic_bytes == 8e18
    faster = work(CHIP.replace(fp64_per_fp16_ratio=1.0), mix_of(0.5, 0.0, 8.0))
    assert faster.time_s == pytest.approx(8e18 / bandwidth, rel=1e-12)
    assert work(CHIP, mix_of(0.5, 0.0, 1e-9)).time_s == work(CHIP, mix_of(0.5)).time_s


def test_evaluation_includes_fp64_time_energy_and_traffic():
    results = _evaluated(np.full(3, 0.02), np.zeros(3), np.array([0.0, 0.9, 0.0]), [0.0, 0.0, 1e3])
    native, products, bound = (jax.tree.map(lambda x, i=i: x[i], results[0]) for i in range(3))
    assert products.time.fp64 < native.time.fp64 < bound.time.fp64
    assert products.energy.fp64 < native.energy.fp64
    assert products.hbm_traffic_bytes == native.hbm_traffic_bytes
    more = float(bound.hbm_traffic_bytes - native.hbm_traffic_bytes)
    joules = more * BASE.chip.hbm.energy_j_per_byte * BASE.cluster.num_chips
    assert bound.energy.hbm - native.energy.hbm == pytest.approx(joules, rel=1e-9)
    assert bound.energy.fp64 == pytest.approx(float(native.energy.fp64), rel=1e-12)
    rest = products.step_time_s - products.time.fp64
    assert rest == pytest.approx(float(native.step_time_s - native.time.fp64), rel=1e-9)


def test_gradients_of_fp64_work():
    def of(share, gemms, traffic, ratio, flop_ratio):
        chip = CHIP.replace(fp64_per_fp16_ratio=ratio, emulated_fp64_flop_ratio=flop_ratio)
        found = fp64_work(1.0, BASE.replace(chip=chip, mix=mix_of(share, gemms, traffic)))
        return found.time_s * 1e14, found.energy_j * 1e12, found.traffic_bytes

    check_slopes(of, (0.1, 0.5, 2.0, 0.02, 15.0))
    check_slopes(of, (0.1, 0.5, 0.01, 0.05, 40.0))
    # Without FP64 work the gradient is that of the rate: no tie of two zero times halves it.
    slope = jax.grad(lambda share: of(share, 0.0, 0.0, 0.02, 15.0)[0])(0.0)
    rate = fp64_rates(CHIP.replace(fp64_per_fp16_ratio=0.02))[1]
    assert slope == pytest.approx(1e14 / float(rate), rel=1e-12)


# Jobs of phases ---------------------------------------------------------------------------------


def test_serialized_phases_take_the_sum_and_overlapped_phases_the_maximum():
    formats = ("fp64", "fp32", "bf16", "fp8_e4m3")
    job = JobPhases(np.array([0.01, 0.04, 0.55, 0.4]), np.array([4.0, 0.0, 0.0, 0.0]), formats)
    times = np.asarray(job_phase_times_s(job, 1e18, CHIP))
    bandwidth = float(sustained_hbm_bytes_per_s(CHIP))
    assert times[0] == pytest.approx(1e16 * 4.0 / bandwidth)
    assert times[2] == pytest.approx(0.55e18 / float(peak_flop_per_s(CHIP)))
    assert times[3] == pytest.approx(0.4 / 0.55 / CHIP.fp8_speedup_ratio * times[2])
    assert job_time_s(job, 1e18, CHIP) == pytest.approx(np.sum(times), rel=1e-12)
    assert job_time_s(job, 1e18, CHIP, 1e4) == pytest.approx(np.max(times), rel=1e-3)
    squares = np.sqrt(np.sum(times**2))
    assert job_time_s(job, 1e18, CHIP, 2.0) == pytest.approx(squares, rel=1e-12)


def test_unknown_format_is_rejected():
    with pytest.raises(ValueError, match="number format 'fp7': expected one of fp64"):
        format_peak_flop_per_s(CHIP, "fp7")


# Files ------------------------------------------------------------------------------------------


def test_fp64_fields_are_set_by_path():
    loaded = load_search(
        "trn2_llama3_70b",
        [
            "mix.fp64_gemm_fraction=0.8",
            'mix.fp64_traffic="8 B/FLOP"',
            "chip.emulated_fp64_flop_ratio=12",
        ],
    )
    mix = loaded.base.mix
    assert (mix.fp64_gemm_fraction, mix.fp64_traffic_bytes_per_flop) == (0.8, 8.0)
    assert loaded.base.chip.emulated_fp64_flop_ratio == 12.0


@pytest.mark.parametrize(
    "text",
    ["mix.fp64_gemm_fraction=1.1", "mix.fp64_traffic=-1", "chip.emulated_fp64_flop_ratio=0"],
)
def test_invalid_values_are_rejected(text):
    with pytest.raises(ConfigError, match=text.split("=")[0].split(".")[1]):
        load_search("trn2_llama3_70b", [text])


def test_jobs_without_fp64_gemms_are_never_emulated():
    assert (BASE.mix.fp64_gemm_fraction, BASE.mix.fp64_traffic_bytes_per_flop) == (0.0, 0.0)
    results, found = _evaluated(np.full(2, 1e-3), np.zeros(2), 0.0, 0.0, np.array([1.0, 36.0]))
    assert results.step_time_s[0] == results.step_time_s[1]
    assert found.optimal_ratio[0] == found.optimal_ratio[1]
