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


def test_16_bit_rates_at_the_limit(kernels):
    for device, limit in (("H200", 0.08), ("B200", 0.10)):
        assert kernels.groups[f"rows={device} bfloat16"]["rate_at_limit"]["mape"] < limit


def test_products_from_memory_at_the_limit(kernels):
    assert kernels.groups["working_set=hbm"]["rate_at_limit"]["mape"] < 0.10
    assert kernels.metrics["rate_at_limit"]["median_ape"] < 0.08


def test_boards_reach_what_is_measured_of_their_printed_rate():
    """One efficiency for H200 and B200; the limit explains the medians of products from memory."""
    sizes = (np.array([16384.0]),) * 3
    for preset, limit_w, printed, share in (
        ("h200", 700.0, 989e12, 0.68),
        ("b200", 1000.0, 2250e12, 0.63),
    ):
        limit, none = np.array([limit_w]), np.zeros(1)
        rate = kernel_power.rates_at_limit(preset, sizes, limit, none)[0]
        assert rate / printed == pytest.approx(share, rel=0.1)
        free = kernel_power.rates_at_limit(preset, sizes, 10.0 * limit, none)[0]
        assert free / printed == pytest.approx(0.8, rel=0.05)


def test_more_watts_never_slow_a_product():
    limits = np.linspace(200.0, 1400.0, 13)
    sizes = tuple(np.full(13, size) for size in (4096.0, 8192.0, 2048.0))
    rates = kernel_power.rates_at_limit("b200", sizes, limits, np.zeros(13))
    assert np.all(np.diff(rates) >= -1e-9 * rates[0])
