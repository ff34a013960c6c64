"""Targets of the validations of power, and laws of their parts."""

from pathlib import Path

import numpy as np
import pytest

from hwdse.validation.power import job_power, kernel_collection, kernel_power, power_caps
from hwdse.validation.power.lagging_meter import mean_reading_w
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
    assert kernels.metrics["rate_at_limit"]["mape"] < 0.07
    assert abs(kernels.metrics["rate_at_limit"]["bias"]) < 0.03
    assert kernels.rows_skipped == {}


def test_power_below_the_limit(kernels):
    """The meter lags: a reading shows what ran before."""
    assert kernels.metrics["power"]["mape"] < 0.16
    assert kernels.metrics["power"]["median_ape"] < 0.08
    assert abs(kernels.metrics["power"]["bias"]) < 0.03
    for rows in ("H200 bfloat16", "H200 fp8_block", "B200 bfloat16", "B200 fp8", "B200 nvfp4"):
        assert kernels.groups[f"rows={rows}"]["power"]["mape"] < 0.18


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


def reading_w(load_w, load_s, before_s=(), before_w=(), earlier_w=170.0):
    one = np.ones(1)
    spans, watts = (np.array([list(values) or [0.0]]) for values in (before_s, before_w))
    return float(mean_reading_w(load_w * one, load_s * one, spans, watts, earlier_w * one)[0])


def test_a_meter_that_lags_shows_power_between_before_and_under_load():
    # trailing mean of 1 s, read at 0, 0.1, ... 0.9 s under load
    shares = np.arange(10) / 10.0
    readings = shares * 700.0 + (1.0 - shares) * 170.0
    assert reading_w(700.0, 0.99) == pytest.approx(np.mean(readings))
    assert reading_w(700.0, 0.05) == 170.0
    assert reading_w(700.0, 1e3) == pytest.approx(700.0, rel=1e-3)


def test_a_reading_weighs_what_ran_before_by_its_time():
    """One reading at the start: 0.1 s of pause, 0.4 s of load before it, 0.5 s of earlier."""
    expected = 0.1 * 150.0 + 0.4 * 600.0 + 0.5 * 170.0
    assert reading_w(700.0, 0.05, (0.1, 0.4), (150.0, 600.0)) == pytest.approx(expected)
    # What lies more than a window back is not shown.
    hidden = reading_w(700.0, 0.05, (1.0, 0.4), (150.0, 600.0))
    assert hidden == pytest.approx(150.0)


def test_loads_last_as_long_as_the_collector_aims():
    # 1 s, but at most 3000 passes; 0.3 s for passes below 0.1 ms; at least 6 passes
    durations_s = kernel_collection.load_s(np.array([1e-3, 1.5e-4, 5e-5, 2.0]), np.ones(4))
    assert durations_s == pytest.approx([1.0, 0.45, 0.15, 12.0], rel=2e-3)
    assert kernel_collection.load_s(np.array([1e-4]), 6.0) == pytest.approx(1.0, rel=1e-2)


def history(framework, preset, dtype, size, num):
    chip, _ = chip_and_area(preset)
    source = kernel_collection.Source(framework, chip)
    past = kernel_collection.before(source, dtype, tuple(np.array([x]) for x in size), num)
    names = source.formats(dtype)
    columns = (past.m[0], past.n[0], past.k[0], past.format_index[0], past.is_measured[0])
    return [(m, n, k, names[f]) for m, n, k, f, measured in zip(*columns, strict=True) if measured]


def test_products_before_a_row_follow_the_list_of_the_collector():
    assert history("VLLM", "h200", "bfloat16", (64.0, 1024.0, 4096.0), 3) == [
        (64.0, 1024.0, 6144.0, "fp8_block"),
        (64.0, 1024.0, 6144.0, "bfloat16"),
        (64.0, 1024.0, 8192.0, "fp8_block"),
    ]
    # The largest k of a width follows the smallest products of the next larger width.
    first = history("VLLM", "h200", "bfloat16", (64.0, 1024.0, 65536.0), 6)
    assert first[0] == (64.0, 1536.0, 32.0, "bfloat16")
    assert all(name == "bfloat16" or k >= 128.0 for _, _, k, name in first)
    assert history("TRTLLM", "b200", "fp8", (64.0, 1024.0, 4096.0), 2) == [
        (65.0, 1024.0, 4096.0, "fp8"),
        (80.0, 1024.0, 4096.0, "fp8"),
    ]


def test_few_tiles_keep_few_sms_busy():
    chip, _ = chip_and_area("h200")
    one = np.ones(1)
    share = kernel_power.busy_sm_share(chip, (64.0 * one, 256.0 * one, 512.0 * one))
    assert share == pytest.approx(2.0 / 132.0, rel=1e-3)
    assert kernel_power.busy_sm_share(chip, (4096.0 * one,) * 3) == 1.0


def test_traffic_below_the_l2_counts_nothing_and_copies_do_not_fit():
    chip, _ = chip_and_area("h200")
    source = kernel_collection.Source("VLLM", chip)
    sizes = tuple(np.array([x]) for x in (64.0, 4096.0, 2048.0))
    # 8 MiB of FP8 weights stay; six copies of 16 MiB in 16 bits do not.
    assert kernel_power.traffic_bytes(source, "fp8_block", sizes) == 0.0
    wide = 2.0 * (64 * 2048 + 4096 * 2048 + 64 * 4096)
    assert kernel_power.traffic_bytes(source, "bfloat16", sizes) == pytest.approx(wide)


def test_fp4_takes_less_power_than_fp8():
    chip, area_mm2 = chip_and_area("b200")
    eight = power_at_rates_w(WorkRates(1e15, 0.0, fp8_fraction=1.0), chip, area_mm2, 1e9)
    four = power_at_rates_w(WorkRates(1e15, 0.0, fp4_fraction=1.0), chip, area_mm2, 1e9)
    assert four < eight


def test_cached_operands_leave_more_power_for_the_product():
    sizes = tuple(np.full(1, size) for size in (64.0, 8192.0, 8192.0))
    limit_w = np.array([400.0])
    assert times_s("h200", sizes, limit_w, is_cached=1.0) <= times_s("h200", sizes, limit_w)
