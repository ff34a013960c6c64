"""A power limit lowers the clock until the mean power of a step meets it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.designs import BASE as LIMITED
from support.designs import JOB, LAYERS, run_once

import hwdse
from hwdse.config import load_search
from hwdse.evaluation import evaluate
from hwdse.models.energy.voltage_and_leakage import (
    dynamic_energy_ratio,
    leakage_power_w,
    operating_points,
    supply_voltage_v,
)
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, total
from hwdse.specs.software import COMPILED
from hwdse.training.power_cap import LOWEST, run_within_limit
from hwdse.training.step_time_and_energy import step_work, with_clock_ratio

BASE = LIMITED.replace(chip=LIMITED.chip.replace(power_limit_w=None))
"""The main job without the power limit of its chip."""


def limited(numbers):
    """The main job's design with a limit, and three leaves that move power or time."""
    limit_w, hbm, leakage, link = numbers
    chip = BASE.chip
    chip = chip.replace(
        power_limit_w=limit_w,
        hbm=chip.hbm.replace(bandwidth_bytes_per_s=hbm),
        link=chip.link.replace(bandwidth_bytes_per_s=link),
        process=chip.process.replace(leakage_w_per_mm2=leakage),
    )
    return BASE.replace(chip=chip)


def numbers_at(limits_w):
    chip = BASE.chip
    fixed = [chip.hbm.bandwidth_bytes_per_s, chip.process.leakage_w_per_mm2]
    fixed.append(chip.link.bandwidth_bytes_per_s)
    return jnp.stack([jnp.asarray([limit, *fixed]) for limit in limits_w])


def log_time(numbers, products=LAYERS):
    """Of a short list of products unless told: small programs, the same throttle."""
    design = limited(numbers).replace(software=COMPILED)  # no host that products wait for
    return jnp.log(evaluate(design, products).step_time_s)


SHARES = (3.0, 1.0001, 0.9999, 0.8, 0.6, 0.5, 0.3)
SAME = SHARES.index(0.6)
UNREACHABLE_W = 1.0


@pytest.fixture(scope="module")
def free():
    with jax.enable_x64(True):
        return run_once(BASE)


@pytest.fixture(scope="module")
def capped(free):
    """The main job under shares of the power that it draws, then under a limit out of reach."""
    with jax.enable_x64(True):
        limits_w = [*(float(free.chip_power_w) * np.asarray(SHARES)), UNREACHABLE_W]
        return jax.vmap(lambda n: evaluate(limited(n), JOB))(numbers_at(limits_w))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def test_power_meets_the_limit_and_a_high_limit_changes_nothing(free, capped):
    num = len(SHARES)
    expected_w = float(free.chip_power_w) * np.minimum(SHARES, 1.0)
    assert np.asarray(capped.chip_power_w)[:num] == pytest.approx(expected_w, rel=1e-6)
    ratio, time_s = np.asarray(capped.throttled_clock_ratio), np.asarray(capped.step_time_s)
    assert np.all(ratio[:2] == 1.0)
    assert time_s[:2] == pytest.approx(float(free.step_time_s), rel=1e-13)
    assert np.all(np.diff(ratio[1:]) < 0.0)
    assert np.all(np.diff(time_s[1:]) > 0.0)
    assert ratio[2] == pytest.approx(1.0, abs=1e-3)  # continuous
    # what follows the step time follows the throttle, what the design states does not
    mfu = np.asarray(capped.mfu_fraction) * time_s / float(free.step_time_s)
    assert mfu == pytest.approx(float(free.mfu_fraction), rel=1e-9)
    for name in ("peak_flop_per_s", "die_area_mm2", "goodput_fraction"):
        assert getattr(capped, name) == pytest.approx(float(getattr(free, name)), rel=1e-12)


def test_throttled_design_equals_the_design_with_that_clock(capped):
    """A slower scratchpad is also smaller; the throttle leaves the silicon as it is."""
    slowed = with_clock_ratio(BASE, float(capped.throttled_clock_ratio[SAME]))
    work = step_work(slowed, JOB, EXACT).replace(die_area_mm2=float(capped.die_area_mm2[SAME]))
    scaled = run_within_limit(work, slowed, EXACT)
    assert scaled.step_time_s == pytest.approx(float(capped.step_time_s[SAME]), rel=1e-9)
    assert total(scaled.energy) == pytest.approx(float(capped.step_energy_j[SAME]), rel=1e-9)


def test_unreachable_limit_gives_the_lowest_clock_and_a_higher_power(capped):
    lowest = operating_points(BASE.chip)(LOWEST)
    assert capped.throttled_clock_ratio[-1] == pytest.approx(float(lowest.clock_ratio))
    assert capped.supply_voltage_v[-1] == pytest.approx(float(lowest.voltage_v))
    assert capped.chip_power_w[-1] > UNREACHABLE_W
    assert np.isfinite(capped.step_time_s[-1])


def test_implicit_derivative_matches_finite_differences():
    points = numbers_at([1000.0, 150.0, 100.0, 60.0])  # the products draw 250 W
    slopes = quick_jit(jax.vmap(jax.grad(log_time)))(points)
    step = 1e-4
    shifts = 1.0 + step * np.concatenate([np.eye(4), -np.eye(4)])
    moved = (points[:, None, :] * shifts[None]).reshape(-1, 4)
    values = quick_jit(jax.vmap(log_time))(moved).reshape(4, 8)
    differences = (values[:, :4] - values[:, 4:]) / (2.0 * step)  # by ln of each number
    by_log = np.asarray(slopes * points)
    assert by_log == pytest.approx(np.asarray(differences), abs=1e-6)
    assert np.all(by_log[0, [0, 2]] == 0.0)  # a limit that does not bind has no gradient
    assert np.all(by_log[1:, 0] < -0.05)  # a binding limit: more power, less time
    assert np.all(by_log[1:, 2] > 0.0)  # leakage lowers the clock


def test_gradients_are_finite_in_float32_and_at_the_edges():
    with jax.enable_x64(False):
        limits = [1.0, 50.0, 183.26, 1e6, 1e9]
        points = jnp.asarray(numbers_at(limits), jnp.float32)
        slopes = quick_jit(jax.vmap(jax.grad(lambda n: log_time(n, JOB))))(points)
        assert slopes.dtype == jnp.float32
        assert np.all(np.isfinite(slopes))


def test_no_limit_needs_no_computation():
    assert run_within_limit(step_work(BASE, LAYERS, EXACT), BASE, EXACT).point.clock_ratio == 1.0
    assert "power_limit_w" not in str(jax.tree_util.tree_flatten_with_path(BASE)[0])


def test_power_limit_is_set_and_searched_like_other_parameters(tmp_path):
    loaded = load_search("trn2_llama3_70b", ['chip.power_limit="150 W"'])
    assert loaded.base.chip.power_limit_w == 150.0
    searched = load_search("trn2_llama3_70b")
    text = (Path(hwdse.__file__).parents[1] / "configs/searches/trn2_llama3_70b.toml").read_text()
    more = '[[variables]]\npath = "chip.power_limit"\nlow = "100 W"\nhigh = "300 W"\n\n[[choices]]'
    file = tmp_path / "capped.toml"
    file.write_text(text.replace("[[choices]]", more, 1))
    assert searched.base.chip.power_limit_w is None
    found = load_search(file)
    assert "chip.power_limit_w" in {dim.path for dim in found.space.dimensions}
    process = ('min_voltage="0.6 V"', 'leakage_voltage="0.4 V"', "mac_overhead_ratio=1.2")
    base = load_search("trn2_llama3_70b", [f"chip.process.{text}" for text in process]).base
    assert base.chip.process.min_voltage_v == 0.6
    assert base.chip.process.mac_overhead_ratio == 1.2


@pytest.mark.parametrize("field", ["min_voltage_v", "max_voltage_v"])
def test_a_wider_voltage_range_never_slows_a_design(free, field):
    """A lower least voltage leaves more clock under a limit, a greater one more clock without."""
    volts = np.linspace(0.46, 0.74, 8) if field == "min_voltage_v" else np.linspace(0.5, 1.2, 8)
    limit_w = 0.5 * float(free.chip_power_w) if field == "min_voltage_v" else 1e6

    def time_s(volts):
        process = BASE.chip.process.replace(**{field: volts})
        chip = BASE.chip.replace(process=process, power_limit_w=limit_w)
        return evaluate(BASE.replace(chip=chip, software=COMPILED), LAYERS).step_time_s

    found = np.asarray(quick_jit(jax.vmap(time_s))(volts))
    widening = -found[::-1] if field == "min_voltage_v" else -found
    assert np.all(np.diff(widening) >= -1e-9 * found[0])
    assert found.max() > found.min()


def test_voltage_has_a_lower_bound():
    process = BASE.chip.process.replace(min_voltage_v=0.6)
    ratios = jnp.linspace(0.05, 1.2, 40)
    volts = jax.vmap(lambda r: supply_voltage_v(r, process))(ratios)
    free_volts = jax.vmap(lambda r: supply_voltage_v(r, BASE.chip.process))(ratios)
    assert volts == pytest.approx(np.maximum(free_volts, 0.6))
    assert jax.grad(lambda r: dynamic_energy_ratio(r, process))(0.1) == 0.0


def test_leakage_is_nominal_at_nominal_voltage_and_steeper_with_v0():
    process = BASE.chip.process
    steep = process.replace(leakage_voltage_v=0.3)
    assert leakage_power_w(100.0, 1.0, steep) == pytest.approx(
        leakage_power_w(100.0, 1.0, process), rel=1e-12
    )
    # V e^(V / V0) by hand: 0.9 x e^((0.675 - 0.75) / 0.3)
    low = leakage_power_w(100.0, 0.9, steep) / leakage_power_w(100.0, 1.0, steep)
    assert low == pytest.approx(0.9 * np.exp(-0.1 * process.nominal_voltage_v / 0.3))
    assert leakage_power_w(100.0, 0.9, process) == pytest.approx(
        0.81 * leakage_power_w(100.0, 1.0, process)
    )
    traced = jax.jit(lambda v0: leakage_power_w(100.0, 0.9, process.replace(leakage_voltage_v=v0)))
    assert traced(0.0) == pytest.approx(leakage_power_w(100.0, 0.9, process))
    assert np.isfinite(jax.grad(traced)(0.0))
    assert np.isfinite(jax.grad(traced)(1e-6))


def test_mac_overhead_scales_matrix_energy_only(free):
    process = BASE.chip.process.replace(mac_overhead_ratio=1.5)
    scaled = run_once(BASE.replace(chip=BASE.chip.replace(process=process)))
    assert scaled.energy.matrix == pytest.approx(1.5 * float(free.energy.matrix), rel=1e-12)
    assert scaled.energy.sram == pytest.approx(float(free.energy.sram), rel=1e-12)
