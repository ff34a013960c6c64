"""The highest clock of a design, from the law of voltages without a program."""

import jax
import pytest

from hwdse.analysis.design_warnings import highest_clock_ratio
from hwdse.config import load_search
from hwdse.models.energy.voltage_and_leakage import operating_points


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5, 3.0])
def test_the_highest_clock_is_that_of_the_operating_points(factor):
    base = load_search("trn2_llama3_70b").base
    array = base.chip.array.replace(clock_hz=factor * base.chip.nominal_clock_hz)
    design = base.replace(chip=base.chip.replace(array=array))
    with jax.enable_x64(True):
        expected = float(operating_points(design.chip)(0.0).clock_ratio)
    assert highest_clock_ratio(design) == pytest.approx(expected, rel=1e-9)
