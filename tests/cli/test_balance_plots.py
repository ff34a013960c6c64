"""Curves of the balance plot: units of the panels, marks where meant, texts of the summaries."""

import numpy as np
import pytest

from hwdse.analysis.resource_balance import BALANCED_PARAMETERS, ParameterBalance
from hwdse.cli.balance.balance_plots import PANELS, _curve

LINK = "chip.link.bandwidth_bytes_per_s"
RATIO = "chip.fp64_per_fp16_ratio"


def balance(path, current, optimum, values, penalty=0.03):
    values = np.array(values, dtype=float)
    return ParameterBalance(
        parameter=BALANCED_PARAMETERS[path],
        current=current,
        optimum=optimum,
        near_optimal=(0.9 * optimum, 1.1 * optimum),
        penalty_fraction=penalty,
        elasticity=-0.3,
        values=values,
        metric_ratios=np.linspace(1.2, 0.97, len(values)),
    )


def test_every_balanced_parameter_has_a_panel():
    assert set(PANELS) == set(BALANCED_PARAMETERS)


def test_values_are_in_the_unit_of_the_panel_and_the_metric_is_absolute():
    curve = _curve(balance(LINK, 640e9, 540e9, [10e9, 100e9, 1000e9]), 1.6)
    assert curve.label == "Scale-up bandwidth per chip (GB/s)"
    np.testing.assert_allclose(curve.values, [10.0, 100.0, 1000.0])
    np.testing.assert_allclose(curve.metrics, 1.6 * np.linspace(1.2, 0.97, 3))
    assert (curve.current, curve.optimum) == pytest.approx((640.0, 540.0))
    assert curve.near_optimal == pytest.approx((486.0, 594.0))
    assert curve.summary == "now: 640 GB/s; optimum: 540 GB/s (penalty 3.0 %)"


def test_optimum_at_an_end_has_no_mark_and_says_so():
    curve = _curve(balance(LINK, 640e9, 1000e9, [10e9, 100e9, 1000e9], 0.005), 1.6)
    assert curve.optimum is None
    assert curve.near_optimal is None
    assert curve.summary == "now: 640 GB/s; no optimum in range (penalty 0.5 %)"


def test_design_without_fp64_work_and_units():
    """A current and an optimal value of zero have no place on a logarithmic axis."""
    curve = _curve(balance(RATIO, 0.0, 0.0, [0.0, 1e-6, 1e-3, 1.0], 0.0), 1.6)
    assert curve.current == 0.0
    assert curve.optimum is None
    assert np.all(curve.values > 0.0)
    assert curve.summary == "now: none; lowest without any"


def test_ratio_is_written_as_one_to_n():
    curve = _curve(balance(RATIO, 0.0, 1.0 / 574.0, [0.0, 1e-6, 1e-3, 1.0], 0.105), 1.6)
    assert curve.summary == "now: none; optimum: 1:574 (penalty 10.5 %)"
