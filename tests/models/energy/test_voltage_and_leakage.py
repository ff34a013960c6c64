"""Laws of voltage, switching, scratchpad and leakage energy."""

import jax
import numpy as np
import pytest
from jax.test_util import check_grads

from hwdse.models.energy.voltage_and_leakage import (
    VELOCITY_EXPONENT,
    dynamic_energy_ratio,
    leakage_power_w,
    sram_energy_j_per_byte,
    supply_voltage_v,
)
from hwdse.specs.hardware.chip import Process

N5 = Process(
    mac_area_mm2=595e-6,
    mac_energy_j=0.413e-12,
    fp64_area_ratio=23.2,
    fp64_energy_ratio=7.35,
    sram_area_mm2_per_byte=6.5e-7,
    hbm_phy_area_mm2_per_bytes_per_s=2.3e-11,
    link_phy_area_mm2_per_bytes_per_s=1.75e-10,
    cache_area_mm2_per_byte=1.6e-6,
    sram_port_area_mm2_per_byte=2.2e-3,
    network_port_area_mm2_per_byte=7.8e-3,
    fp32_unit_area_mm2=1.5e-3,
    int32_unit_area_mm2=2.0e-3,
    issue_lane_area_mm2=7.8e-3,
    nominal_voltage_v=0.75,
    threshold_voltage_v=0.3,
    leakage_w_per_mm2=0.1,
    wafer_cost_usd=16988.0,
    defects_per_mm2=0.0011,
    defect_clustering=10.0,
)


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def tolerance(request):
    with jax.enable_x64(request.param):
        yield 1e-12 if request.param else 1e-5


def test_nominal_clock_needs_the_nominal_voltage(tolerance):
    assert supply_voltage_v(1.0, N5) == pytest.approx(0.75, rel=tolerance)
    assert dynamic_energy_ratio(1.0, N5) == pytest.approx(1.0, rel=2.0 * tolerance)


@pytest.mark.parametrize("clock_ratio", [0.05, 0.3, 0.7, 1.0, 1.3, 2.0, 5.0])
def test_voltage_solves_the_alpha_power_law(tolerance, clock_ratio):
    voltage = float(supply_voltage_v(clock_ratio, N5))

    def speed(volts):
        return (volts - 0.3) ** VELOCITY_EXPONENT / volts

    assert voltage > 0.3
    assert speed(voltage) / speed(0.75) == pytest.approx(clock_ratio, rel=20.0 * tolerance)


def test_clock_raises_voltage_and_energy(tolerance):
    ratios = np.linspace(0.1, 3.0, 30)
    with jax.enable_x64(True):
        volts = np.array([float(supply_voltage_v(ratio, N5)) for ratio in ratios])
        energies = [float(dynamic_energy_ratio(ratio, N5)) for ratio in ratios]
    assert np.all(np.diff(volts) > 0.0)
    assert np.allclose(energies, (volts / 0.75) ** 2)


def test_without_a_threshold_the_law_has_a_closed_form(tolerance):
    # f ~ V^(alpha - 1), so V = V_n r^(1 / 0.3)
    ideal = N5.replace(threshold_voltage_v=0.0)
    found = supply_voltage_v(1.1, ideal)
    assert found == pytest.approx(0.75 * 1.1 ** (1.0 / 0.3), rel=20.0 * tolerance)


def test_implicit_derivative_agrees_with_differences():
    def volts(ratio, threshold, nominal):
        process = N5.replace(threshold_voltage_v=threshold, nominal_voltage_v=nominal)
        return supply_voltage_v(ratio, process)

    with jax.enable_x64(True):
        for ratio in (0.3, 1.0, 1.7):
            check_grads(volts, (ratio, 0.3, 0.75), order=1, rtol=1e-6)


def test_scratchpad_energy_grows_as_in_cacti(tolerance):
    assert sram_energy_j_per_byte(65536.0, 1e-12) == pytest.approx(1e-12, rel=tolerance)
    sixteen_fold = sram_energy_j_per_byte(16.0 * 65536.0, 1e-12)
    assert sixteen_fold == pytest.approx(1e-12 * 16.0**0.52, rel=tolerance)
    with jax.enable_x64(True):
        check_grads(lambda s: sram_energy_j_per_byte(65536.0 * s, 1.0), (3.0,), order=1)


def test_leakage_by_hand(tolerance):
    assert leakage_power_w(400.0, 1.0, N5) == pytest.approx(40.0, rel=tolerance)
    assert leakage_power_w(400.0, 1.1, N5) == pytest.approx(40.0 * 1.21, rel=tolerance)
    assert leakage_power_w(0.0, 1.0, N5) == 0.0
