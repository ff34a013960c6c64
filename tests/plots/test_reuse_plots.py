"""Plots that compare compute engines contain the given data."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from hwdse.plots.reuse_plots import plot_over_array_size, plot_stacked_bars


@pytest.fixture
def axes():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_curves_have_names_and_values_and_may_have_gaps(axes):
    curves = {"array": [4.0, 2.0, 1.0], "vector unit": [1.0, np.nan, 1.0]}
    plot_over_array_size(axes, [4.0, 8.0, 16.0], curves, "Words")
    assert [line.get_label() for line in axes.lines] == list(curves)
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), curves["vector unit"])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["4", "8", "16"]
    assert axes.get_yscale() == "log"


def test_linear_axis_starts_at_zero(axes):
    plot_over_array_size(axes, [4.0, 8.0], {"array": [0.5, 1.0]}, "Share", is_log=False)
    assert axes.get_ylim()[0] == 0.0
    assert axes.get_yscale() == "linear"


def test_bars_add_up_and_show_their_sums(axes):
    plot_stacked_bars(axes, ["a", "b"], {"one": [1.0, 2.0], "two": [0.5, 0.25]}, "Energy")
    ends = {(bar.get_y(), round(bar.get_x() + bar.get_width(), 6)) for bar in axes.patches}
    assert {x for _, x in ends} == {1.0, 1.5, 2.0, 2.25}
    assert [text.get_text() for text in axes.texts] == ["1.50", "2.25"]
    assert axes.get_xlim()[1] > 2.25
