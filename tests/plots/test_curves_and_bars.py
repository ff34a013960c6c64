"""Convergence, sensitivity and balance plots contain the given data and no more."""

import numpy as np
import pytest
from support.drawings import balance_curve
from support.plot_checks import drawn

from hwdse.plots.balance_curves import HIGHEST_RATIO, plot_balance, set_common_range
from hwdse.plots.convergence_curves import plot_convergence
from hwdse.plots.figure_files import new_figure
from hwdse.plots.tornado_bars import plot_tornado

COUNTS = np.array([97.0, 500.0, 1600.0, 2900.0])
BEST = np.array([np.nan, 0.63, 0.13, 0.11])


def convergence(levels=None, best=BEST):
    figure, (axes,) = new_figure()
    plot_convergence(axes, {"gradient search": (COUNTS, best)}, "Energy-delay (µJ·s)", levels)
    return drawn(figure), axes


def test_convergence_begins_at_the_first_finite_value_and_uses_the_width():
    _, axes = convergence()
    stairs = axes.lines[0].get_xydata()
    assert stairs[0] == pytest.approx((500.0, 0.63))
    low, high = axes.get_xlim()
    assert (2900.0 - 500.0) / (high - low) > 0.9


def test_last_value_has_a_label_with_its_ratio_to_the_base():
    _, axes = convergence({"base (Trn2)": 0.487})
    texts = [text.get_text() for child in axes.get_children() if hasattr(child, "left_out")
             for text in child.texts]  # fmt: skip
    assert texts == ["0.11, 4.43x lower than base (Trn2)"]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [
        "gradient search", "base (Trn2)"
    ]  # fmt: skip


def test_axis_of_a_wide_range_has_at_least_three_ticks():
    _, axes = convergence({"base": 0.487})
    low, high = axes.get_ylim()
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert axes.get_yscale() == "log"
    assert ticks == pytest.approx([0.1, 0.2, 0.5])


def test_search_without_a_finite_value_is_drawn():
    convergence(best=np.full(4, np.nan))


GROUPS = {"Design": {"rows": -0.4, "TP degree": 0.3}, "Operation": {"lifetime": -0.9}}


def test_groups_of_parameters_follow_each_other_with_headings():
    figure, (axes,) = new_figure()
    plot_tornado(axes, GROUPS, "cost")
    drawn(figure)
    rows = {text.get_text(): at for text, at in zip(axes.get_yticklabels(), axes.get_yticks(),
                                                     strict=True)}  # fmt: skip
    assert rows["rows"] > rows["TP degree"] > rows["lifetime"]
    headings = {text.get_text(): text.xy[1] for text in axes.texts if text.get_text() in GROUPS}
    assert headings["Design"] > rows["rows"]
    assert rows["TP degree"] > headings["Operation"] > rows["lifetime"]
    widths = sorted(bar.get_width() for bar in axes.patches if bar.get_width())
    assert widths == pytest.approx([-0.9, -0.4, 0.3])


def test_values_at_the_bars_have_their_sign():
    _, (axes,) = new_figure()
    plot_tornado(axes, GROUPS, "cost")
    texts = {text.get_text() for text in axes.texts}
    assert {"−0.400", "+0.300", "−0.900"} <= texts  # noqa: RUF001


def balance(curve, now=1.61):
    figure, (axes,) = new_figure(width_in=3.6, height_in=3.0)
    plot_balance(axes, curve, now, "Time (µs)")
    set_common_range([axes], [curve], now, 1)
    return drawn(figure), axes


def points_of(axes):
    return [tuple(dots.get_offsets()[0]) for dots in axes.collections if hasattr(dots, "get_sizes")
            and len(dots.get_sizes())]  # fmt: skip


def test_balance_has_absolute_values_and_marks_where_meant():
    curve = balance_curve()
    _, axes = balance(curve)
    assert axes.get_ylim()[1] == pytest.approx(HIGHEST_RATIO * 1.61)
    optimum, current = points_of(axes)
    assert current == pytest.approx((640.0, 1.61))
    assert optimum[0] == pytest.approx(540.0)
    assert optimum[1] == pytest.approx(
        np.interp(np.log(540.0), np.log(curve.values), curve.metrics)
    )


def test_optimum_at_the_end_of_the_range_has_no_mark():
    _, axes = balance(balance_curve(optimum=None))
    assert points_of(axes) == [pytest.approx((640.0, 1.61))]


def test_value_of_zero_is_drawn_at_the_left_end_without_a_warning():
    _, axes = balance(balance_curve(current=0.0, optimum=None))
    assert points_of(axes) == [pytest.approx((axes.get_xlim()[0], 1.61))]
    assert "0" in {text.get_text() for text in axes.texts}


def test_triangles_mark_where_the_curve_leaves_the_axes():
    curve = balance_curve()
    _, axes = balance(curve)
    exits = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "^"]
    assert len(exits) == 2
    for x, y in exits:
        assert y == pytest.approx(HIGHEST_RATIO * 1.61)
        assert np.interp(np.log(x), np.log(curve.values), curve.metrics) == pytest.approx(y)


def test_axis_ends_where_the_curve_leaves():
    curve = balance_curve()
    _, axes = balance(curve)
    inside = curve.values[curve.metrics <= HIGHEST_RATIO * 1.61]
    low, high = axes.get_xlim()
    assert np.log(inside[-1] / inside[0]) / np.log(high / low) > 0.75
    assert low < inside[0]
    assert inside[-1] < high


def test_curve_with_infinite_metrics_is_drawn():
    curve = balance_curve()
    curve.metrics[-5:] = 1e9
    balance(curve)
