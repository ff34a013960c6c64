"""Fronts under uncertainty: intervals at the given values, and what one design cannot show."""

import numpy as np
import pytest
from support.drawings import FRONT, uncertainty, uncertainty_one_design
from support.plot_checks import drawn

from hwdse.plots.fronts.uncertainty_plots import ONE_DESIGN


def test_designs_and_intervals_are_at_their_values():
    axes = drawn(uncertainty()).get_axes()[0]
    dots = next(one for one in axes.collections if len(one.get_offsets()) == len(FRONT))
    np.testing.assert_array_equal(dots.get_offsets(), FRONT)
    (bars,) = axes.containers
    across = bars.lines[2][0].get_segments()
    assert across[1][:, 0] == pytest.approx([0.93 * FRONT[7, 0], 1.08 * FRONT[7, 0]])


def test_axis_has_several_ticks_and_the_color_bar_percentages_with_a_space():
    axes, bar = drawn(uncertainty()).get_axes()
    for ticks, (low, high) in ((axes.get_xticks(), axes.get_xlim()),
                               (axes.get_yticks(), axes.get_ylim())):  # fmt: skip
        assert sum(low <= tick <= high for tick in ticks) >= 3
    assert "40 %" in {text.get_text() for text in bar.get_yticklabels()}


def test_front_of_one_design_says_so_and_has_no_interval_of_a_front():
    figure = drawn(uncertainty_one_design())
    (axes,) = figure.get_axes()
    assert ONE_DESIGN in {text.get_text() for text in axes.texts}
    legend = {text.get_text() for text in axes.get_legend().get_texts()}
    assert legend == {"design, nominal constants", "design, p5 to p95"}
    labels = [text.get_text() for text in axes.get_xticklabels() if text.get_text()]
    assert all(len(label) <= 6 for label in labels)
