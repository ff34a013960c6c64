"""Strategies: looks by limit, the region beyond the capacity is shaded, counts are shown."""

import numpy as np

from hwdse.plots.figure_files import new_figure
from hwdse.plots.strategy_scatter import MAX_TIME_RATIO, plot_strategies

USED_GB = np.array([10.0, 50.0, 90.0, 150.0, 60.0])
TIME_S = np.array([30.0, 20.0, 12.0, 9.0, 900.0])
FRONT = np.array([0, 1, 2])
MET = np.ones(5, bool)


def drawn_axes(best=2, is_met=MET):
    _, (axes,) = new_figure()
    plot_strategies(axes, USED_GB, TIME_S, 100.0, is_met, FRONT, best, "TP8 PP4")
    return axes


def test_front_is_a_staircase_of_its_strategies():
    stairs = max((line.get_xydata() for line in drawn_axes().lines), key=len)
    np.testing.assert_array_equal(stairs, [[10.0, 30.0], [50.0, 20.0], [90.0, 12.0]])


def test_region_beyond_the_capacity_is_shaded_to_the_edge():
    axes = drawn_axes()
    (shade,) = axes.patches
    assert shade.get_x() == 100.0
    assert shade.get_x() + shade.get_width() == axes.get_xlim()[1]


def test_legend_counts_the_strategies_inside_the_axes():
    axes = drawn_axes()
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "fits HBM (3 of 4 shown)" in texts
    assert "exceeds HBM (1)" in texts
    assert "Pareto front (3)" in texts
    assert "best of these" in texts
    assert axes.get_ylim()[1] <= MAX_TIME_RATIO * TIME_S.min()


def test_plot_without_a_strategy_that_fits_has_no_star():
    axes = drawn_axes(best=None)
    assert not any("best" in text.get_text() for text in axes.get_legend().get_texts())


def test_strategies_over_another_limit_have_their_own_look():
    axes = drawn_axes(is_met=np.array([True, True, True, True, False]))
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "meets all limits (3)" in texts
    assert "fits HBM, over another limit (0 of 1 shown)" in texts
