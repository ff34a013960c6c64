"""Energy of a chip by part, by hand, and the measured anchors of its constants."""

import jax
import numpy as np
import pytest

from hwdse.config import load_chip
from hwdse.models.energy.chip_energy import ChipWork, clock_power_w, energy_parts
from hwdse.models.energy.voltage_and_leakage import (
    OperatingPoint,
    operating_points,
    supply_voltage_v,
)
from hwdse.numerics.relaxation import total

NOTHING = ChipWork(*[0.0] * len(ChipWork.__dataclass_fields__))
H100_MM2, B200_MM2, A100_MM2 = 814.0, 1600.0, 826.0


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def at_set_clock(chip):
    return operating_points(chip)(0.0)


def power_w(name, area_mm2, work):
    """Power at the set clock of a chip that does `work` in one second."""
    chip = load_chip(name)
    return float(total(energy_parts(work, chip, 1.0, area_mm2, at_set_clock(chip))))


@pytest.mark.parametrize(
    ("name", "area_mm2", "idle_w", "resident_w"),
    [("h100", H100_MM2, 70.0, 275.0), ("b200", B200_MM2, 141.0, 440.0)],
)
def test_idle_and_clock_power_are_those_measured(name, area_mm2, idle_w, resident_w):
    idle = NOTHING.replace(elapsed_s=1.0)
    assert power_w(name, area_mm2, idle) == pytest.approx(idle_w, rel=0.03)
    assert power_w(name, area_mm2, idle.replace(resident_s=1.0)) == pytest.approx(
        resident_w, rel=0.03
    )


def test_idle_a100_draws_what_is_measured():
    assert power_w("a100", A100_MM2, NOTHING.replace(elapsed_s=1.0)) == pytest.approx(46, rel=0.02)


def test_memory_takes_ten_picojoules_a_bit_on_gpus():
    work = NOTHING.replace(hbm_bytes=1e12)
    assert power_w("h100", H100_MM2, work) == pytest.approx(80.0)


def test_every_part_by_hand():
    chip = load_chip("trainium2")
    process = chip.process.replace(
        mac_energy_j=2e-12,
        mac_overhead_ratio=3.0,
        leakage_w_per_mm2=0.1,
        clock_energy_j_per_mm2=1e-10,
        nominal_voltage_v=0.8,
    )
    chip = chip.replace(
        process=process,
        num_scratchpads=1.0,
        array=chip.array.replace(clock_hz=2e9),
        sram=chip.sram.replace(capacity_bytes=65536.0, energy_j_per_byte=1e-12),
        hbm=chip.hbm.replace(energy_j_per_byte=5e-11),
    )
    work = ChipWork(1e12, 1e11, 1e12, 0.0, 1e12, 0.0, 0.0, 4.0, 2.0, 1.5)
    # half the nominal voltage: a quarter of all that switches, HBM unchanged
    parts = energy_parts(work, chip, 0.5, 100.0, OperatingPoint(0.25, 0.4))
    assert parts.matrix == pytest.approx(0.25 * 3.0 * 0.5 * 2.0)
    assert parts.vector == pytest.approx(0.25 * 2e-12 * 1.4 * 1e11)
    assert parts.sram == pytest.approx(0.25)
    assert parts.hbm == pytest.approx(50.0)
    assert parts.fp64 == pytest.approx(1.0)
    assert parts.clock == pytest.approx(1e-10 * 100.0 * 5e8 * 0.25 * 1.5)
    assert parts.static == pytest.approx(0.1 * 100.0 * 0.25 * 2.0)


def test_clock_power_follows_clock_and_voltage():
    chip = load_chip("h100")
    points = operating_points(chip)
    shares = np.linspace(-3.0, 0.0, 20)
    watts = [float(clock_power_w(chip, 814.0, points(share))) for share in shares]
    assert np.all(np.diff(watts) > 0.0)


def test_operating_points_follow_the_voltage_law():
    chip = load_chip("h100")
    for share in (-2.0, -0.5, -0.01):
        point = operating_points(chip)(share)
        assert point.voltage_v == pytest.approx(
            float(supply_voltage_v(point.clock_ratio, chip.process)), rel=1e-9
        )


def test_greatest_voltage_bounds_the_clock_and_nothing_else():
    chip = load_chip("h100")
    fast = chip.replace(array=chip.array.replace(clock_hz=3.0 * chip.nominal_clock_hz))
    point = at_set_clock(fast)
    assert point.voltage_v == pytest.approx(chip.process.max_voltage_v)
    clock_hz = float(point.clock_ratio) * fast.array.clock_hz
    assert supply_voltage_v(clock_hz / chip.nominal_clock_hz, chip.process) == pytest.approx(
        chip.process.max_voltage_v, rel=1e-9
    )
    assert at_set_clock(chip).clock_ratio == pytest.approx(1.0, rel=1e-12)
    free = fast.replace(process=fast.process.replace(max_voltage_v=None))
    assert at_set_clock(free).clock_ratio == 1.0
    slope = jax.grad(
        lambda volts: (
            at_set_clock(
                fast.replace(process=fast.process.replace(max_voltage_v=volts))
            ).clock_ratio
        )
    )(0.9)
    assert slope > 0.0
    none = fast.replace(process=fast.process.replace(max_voltage_v=0.1))
    assert np.isfinite(at_set_clock(none).clock_ratio)
