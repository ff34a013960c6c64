"""Targets of the validations of power, and laws of their parts."""

from pathlib import Path

import numpy as np
import pytest

from hwdse.validation.power import job_power, kernel_power, power_caps
from hwdse.validation.power.served_work import DecodingStep, served_models, step_work
from hwdse.validation.power.steady_power import WorkRates, chip_and_area, power_at_rates_w

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def kernels():
    return kernel_power.validate(DATA / "measured_kernel_power_public.csv")


# Caps -----------------------------------------------------------------------------------------


def test_slowdown_under_caps_by_gpu():
    report = power_caps.validate(DATA / "measured_power_cap_public.csv")
    limits = {"V100": 0.06, "P100": 0.05, "RTX6000": 0.09, "A40": 0.13, "B300": 0.05}
    for gpu, limit in limits.items():
        assert report.groups[f"gpu={gpu}"]["slowdown"]["mape"] < limit


def test_a_cap_that_does_not_bind_changes_nothing_and_deeper_caps_slow_more():
    watts = np.linspace(100.0, 300.0, 21)
    factors = power_caps.slowdown(np.full(21, 250.0), watts, np.full(21, 40.0), np.full(21, 0.75))
    assert np.all(np.diff(factors) <= 0.0)
    assert factors[-1] == 1.0
    assert factors[0] > 1.5


def test_only_the_clocked_share_of_the_time_grows():
    one = np.ones(1)
    whole, half = (
        float(power_caps.slowdown(250.0 * one, 150.0 * one, 40.0 * one, share * one)[0])
        for share in (1.0, 0.5)
    )
    assert half - 1.0 == pytest.approx(0.5 * (whole - 1.0))


# Serving and training -------------------------------------------------------------------------


def test_power_of_gpus_that_serve():
    report = job_power.validate(DATA / "measured_serving_energy_public.csv")
    assert report.rows_skipped == {}
    assert report.groups["rows=H100, clean"]["power"]["mape"] < 0.12
    assert report.groups["rows=B200, clean"]["power"]["mape"] < 0.12


def test_power_of_chips_and_nodes_that_train():
    report = job_power.validate(DATA / "measured_training_power.csv")
    power = report.metrics["power"]
    assert power["mape"] < 0.12
    assert abs(power["bias"]) < 0.06
    assert set(report.rows_skipped) == {
        "no FLOP rate",
        "format tf32: no energy",
        "recalled, not looked up",
        "kind tdp: not a measurement",
    }


def test_more_work_takes_more_power_up_to_the_limit():
    chip, area_mm2 = chip_and_area("h100")
    watts = [
        power_at_rates_w(WorkRates(rate, 1e12), chip, area_mm2, 700.0)
        for rate in np.linspace(0.0, 1e15, 11)
    ]
    assert np.all(np.diff(watts) >= 0.0)
    assert watts[-1] == 700.0
    halted = power_at_rates_w(WorkRates(0.0, 0.0, resident_fraction=0.0), chip, area_mm2, 700.0)
    assert halted == pytest.approx(70.0, rel=0.02)
    rates = WorkRates(4e14, 0.0)
    fp8 = WorkRates(4e14, 0.0, fp8_fraction=1.0)
    constant = WorkRates(4e14, 0.0, operand_activity_ratio=0.6)
    plain, *cheaper = (power_at_rates_w(r, chip, area_mm2, 1e9) for r in (rates, fp8, constant))
    assert max(cheaper) < plain


def test_a_decoding_step_by_hand():
    """Dense model, one sequence: weights and KV read once, two FLOP a weight."""
    model = served_models()["meta-llama/Llama-3.1-8B-Instruct"]
    work = step_work(model, DecodingStep(1.0, 0.0, 1000.0, 1.0))
    kv_bytes = 2.0 * 32 * 2 * 8 * 128 * 1000.0
    # embedding lookup excluded: 8.03e9 - 0.525e9 parameters
    weights = 8.03e9 - 128256 * 4096
    sampling = 350.0 * 128256
    assert work.hbm_bytes == pytest.approx(2.0 * weights + kv_bytes + sampling, rel=2e-3)
    scores = 4.0 * 32 * 128 * 32 * 1000.0
    assert work.flop == pytest.approx(2.0 * weights + scores, rel=2e-3)
    assert work.fp8_fraction == 0.0


def test_experts_are_read_once_and_padded():
    model = served_models()["openai/gpt-oss-20b"]
    one, many = (step_work(model, DecodingStep(b, 0.0, 0.0, 1.0)) for b in (1.0, 1e6))
    no_experts = {b: b * 350.0 * model.vocabulary for b in (1.0, 1e6)}
    dense = 2.0 * model.wide_parameters + model.fp8_parameters
    expert_bytes = model.expert_parameters * model.expert_bits / 8.0
    assert one.hbm_bytes == pytest.approx(dense + 4.0 * expert_bytes + no_experts[1.0])
    assert many.hbm_bytes == pytest.approx(dense + 32.0 * expert_bytes + no_experts[1e6])


# Kernels --------------------------------------------------------------------------------------


def test_rates_at_the_limit_by_kernels(kernels):
    limits = {
        "H200 bfloat16": 0.08,
        "B200 bfloat16": 0.10,
        "H200 fp8_block": 0.12,
        "B200 fp8_block": 0.12,
        "B200 fp8": 0.12,
        "B200 nvfp4": 0.12,
    }
    for rows, limit in limits.items():
        assert kernels.groups[f"rows={rows}"]["rate_at_limit"]["mape"] < limit
    assert kernels.metrics["rate_at_limit"]["mape"] < 0.08
    assert abs(kernels.metrics["rate_at_limit"]["bias"]) < 0.03
    assert kernels.rows_skipped == {}


def test_power_below_the_limit(kernels):
    """Single readings of the meter scatter by 17 to 30 %."""
    assert kernels.metrics["power"]["mape"] < 0.30
    assert abs(kernels.metrics["power"]["bias"]) < 0.12


def times_s(preset, sizes, limits_w, data_type="bfloat16", is_cached=0.0):
    num = len(limits_w)
    rows = kernel_power.products(
        sizes, limits_w, [kernel_power.KERNELS[data_type]] * num, np.full(num, is_cached)
    )
    return kernel_power.product_times_s(preset, rows)


def test_boards_reach_what_is_measured_of_their_printed_rate():
    """One efficiency for H200 and B200; the limit explains the medians of products from memory."""
    limits = np.array([1.0, 10.0])
    sizes = (np.full(2, 16384.0),) * 3
    for preset, limit_w, printed, share in (
        ("h200", 700.0, 989e12, 0.68),
        ("b200", 1000.0, 2250e12, 0.63),
    ):
        limited, free = 2.0 * 16384.0**3 / times_s(preset, sizes, limit_w * limits) / printed
        assert limited == pytest.approx(share, rel=0.1)
        assert free == pytest.approx(0.82, rel=0.05)


@pytest.mark.parametrize("data_type", sorted(kernel_power.KERNELS))
def test_more_watts_never_slow_a_product(data_type):
    limits = np.linspace(200.0, 1400.0, 13)
    sizes = tuple(np.full(13, size) for size in (4096.0, 8192.0, 2048.0))
    found_s = times_s("b200", sizes, limits, data_type)
    assert np.all(np.diff(found_s) <= 1e-9 * found_s[0])


def test_the_cast_of_a_narrow_product_by_hand():
    """m k elements at some bytes each and one more launch, whatever n is."""
    preset, kernel = "h200", kernel_power.KERNELS["fp8_block"]
    chip, _ = chip_and_area(preset)
    sizes = (np.array([4096.0]), np.array([16384.0]), np.array([4096.0]))
    free = np.array([1e9])
    rows = kernel_power.products(sizes, free, [kernel], np.zeros(1))
    without = rows.replace(cast_bytes=np.zeros(1))
    both_s, product_s = (kernel_power.product_times_s(preset, x)[0] for x in (rows, without))
    bandwidth = chip.hbm.bandwidth_bytes_per_s * chip.hbm_efficiency_fraction
    assert both_s - product_s == pytest.approx(8.0 * 4096.0**2 / bandwidth, rel=0.01)


def test_a_meter_that_lags_shows_power_between_before_and_under_load():
    assert kernel_power.meter_w(700.0, 170.0, 5e-5) == 700.0
    # trailing mean of 1 s, read at 0.1, 0.2, ... 1.0 s under load
    readings = [share * 700.0 + (1.0 - share) * 170.0 for share in np.linspace(0.1, 1.0, 10)]
    assert kernel_power.meter_w(700.0, 170.0, 1e-3) == pytest.approx(np.mean(readings))


def test_cached_operands_leave_more_power_for_the_product():
    sizes = tuple(np.full(1, size) for size in (64.0, 8192.0, 8192.0))
    limit_w = np.array([400.0])
    assert times_s("h200", sizes, limit_w, is_cached=1.0) <= times_s("h200", sizes, limit_w)
