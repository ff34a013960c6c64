"""Designs that cannot run: too little memory, failures that outrun the work, power out of reach."""

import jax
import pytest

from hwdse.analysis.design_warnings import MIN_GOODPUT_FRACTION, design_warnings
from hwdse.config import load_search
from hwdse.evaluation import evaluate
from hwdse.numerics.relaxation import total
from hwdse.specs.software import Software


@pytest.fixture(scope="module")
def run():
    """Evaluation of the reference job with other values, one compiled program for all."""
    loaded = load_search("trn2_llama3_70b")
    base = loaded.base.replace(chip=loaded.base.chip.replace(power_limit_w=1e6))
    program = jax.jit(lambda design: evaluate(design, loaded.workload))

    def one(change):
        with jax.enable_x64(True):
            design = jax.tree.map(float, change(base))
            return design, jax.tree.map(float, program(design))

    return one


def kinds(design, evaluation):
    return [warning.kind for warning in design_warnings(design, evaluation)]


def with_capacity(design, capacity_bytes):
    hbm = design.chip.hbm.replace(capacity_bytes=capacity_bytes)
    return design.replace(chip=design.chip.replace(hbm=hbm))


def test_a_design_that_can_run_has_no_warning(run):
    assert kinds(*run(lambda design: design)) == []


def test_the_footprint_is_the_limit_of_the_memory(run):
    """A capacity of exactly the footprint, runtime included, fits; one byte in a million less does
    not."""
    design, evaluation = run(lambda design: design)
    needed = total(evaluation.hbm)
    assert evaluation.hbm.runtime == Software().runtime_memory_bytes == 2.0 * 2**30
    assert evaluation.hbm_used_ratio == pytest.approx(needed / design.chip.hbm.capacity_bytes)
    assert kinds(*run(lambda design: with_capacity(design, needed))) == []
    design, evaluation = run(lambda design: with_capacity(design, needed * (1.0 - 1e-6)))
    (warning,) = design_warnings(design, evaluation)
    gigabytes = f"{needed / 1e9:,.1f} GB"
    assert warning.kind == "memory"
    assert warning.text.startswith(f"DOES NOT FIT: needs {gigabytes} of {gigabytes} of HBM per ")


def test_the_runtime_takes_memory_and_nothing_else(run):
    _, without = run(
        lambda design: design.replace(software=design.software.replace(runtime_memory_bytes=0.0))
    )
    _, evaluation = run(lambda design: design)
    assert total(evaluation.hbm) - total(without.hbm) == pytest.approx(2.0 * 2**30)
    assert evaluation.step_time_s == without.step_time_s
    assert evaluation.checkpoint_write_time_s == without.checkpoint_write_time_s


def test_failures_that_outrun_the_work(run):
    def with_mtbf(design, chip_mtbf_s):
        return design.replace(cluster=design.cluster.replace(chip_mtbf_s=chip_mtbf_s))

    design, evaluation = run(lambda design: with_mtbf(design, 0.2 * 86400.0))
    (warning,) = design_warnings(design, evaluation)
    assert evaluation.goodput_fraction < MIN_GOODPUT_FRACTION
    assert warning.kind == "progress"
    # 0.2 days over 1024 chips
    assert (
        "MAKES NO PROGRESS: failures outrun the work, with one failure per 16.9 s" in warning.text
    )
    assert kinds(*run(lambda design: with_mtbf(design, 365.0 * 86400.0))) == []


def test_a_clock_above_the_greatest_voltage_runs_slower(run):
    def at(factor):
        def changed(design):
            array = design.chip.array
            array = array.replace(clock_hz=factor * array.clock_hz)
            return design.replace(chip=design.chip.replace(array=array))

        return changed

    design, evaluation = run(at(2.0))
    (warning,) = design_warnings(design, evaluation)
    assert warning.kind == "clock"
    assert warning.text.startswith("CLOCK NOT REACHED: 4.8 GHz needs more than the greatest")
    assert evaluation.supply_voltage_v <= design.chip.process.max_voltage_v * (1.0 + 1e-9)
    # beyond the greatest voltage a higher set clock brings nothing
    assert run(at(2.5))[1].step_time_s == pytest.approx(float(evaluation.step_time_s), rel=1e-9)


def test_a_power_limit_out_of_reach(run):
    def with_limit(design, power_w):
        return design.replace(chip=design.chip.replace(power_limit_w=power_w))

    design, evaluation = run(lambda design: with_limit(design, 10.0))
    (warning,) = design_warnings(design, evaluation)
    assert evaluation.chip_power_w > 10.0
    assert warning.kind == "power"
    assert warning.text.startswith("POWER LIMIT NOT REACHED: ")
    assert "W at the lowest clock, " in warning.text
    assert warning.text.endswith(" % of the set one; limit 10 W")
    within, evaluation = run(lambda design: with_limit(design, 150.0))
    assert evaluation.throttled_clock_ratio < 1.0
    assert kinds(within, evaluation) == []


def test_a_tile_larger_than_its_memory():
    from hwdse.evaluation import evaluate_exact

    loaded = load_search("gemmini_bert_explicit")
    evaluation = evaluate_exact(loaded.base, loaded.workload)
    assert kinds(loaded.base, evaluation) == []
    (warning,) = design_warnings(loaded.base, evaluation.replace(hbm_used_ratio=1.25))
    assert warning.text == "DOES NOT FIT: a tile needs 1.25 times the capacity of a memory"
