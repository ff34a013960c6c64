"""Stacked bars add up, name every part with its percentage, and have one color per part."""

import dataclasses

import numpy as np
import pytest

from hwdse.plots.breakdown_bars import OTHERS, plot_breakdown
from hwdse.plots.figure_files import new_figure
from hwdse.report.breakdowns import part_label
from hwdse.report.evaluation_plots import SHARED_COLORS
from hwdse.specs.results.evaluation_result import TimeParts

PARTS = {
    "matrix": np.array([6.0, 3.0]),
    "vector": np.array([3.9, 0.2]),
    "launch": np.array([0.09, 0.0]),
    "host": np.array([0.01, 0.0]),
}
SUMS = (10.0, 3.2)


def drawn_axes(parts=PARTS, names=("base", "optimum")):
    _, (axes,) = new_figure()
    plot_breakdown(axes, list(names), parts, "Step time (s)")
    return axes


def test_bars_add_up():
    axes = drawn_axes()
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches if bar.get_height() > 0.5]
    assert max(ends) == pytest.approx(10.0)


def test_wide_parts_have_their_percentage_inside_and_narrow_ones_in_the_legend():
    axes = drawn_axes()
    inside = {text.get_text() for text in axes.texts}
    assert {"60 %", "39 %", "94 %"} <= inside
    assert "6 %" not in inside
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["matrix", "vector: 39.0 %, 6.2 %", "launch: 0.9 %, 0.0 %",
                      f"{OTHERS}: 0.1 %, 0.0 %"]  # fmt: skip


def test_percentage_inside_a_bar_fits_it():
    rng = np.random.default_rng(0)
    parts = {f"part {i}": rng.uniform(0.1, 2.0, 2) for i in range(8)}
    axes = drawn_axes(parts)
    axes.get_figure().draw_without_rendering()
    bars = [bar.get_window_extent() for bar in axes.patches]
    for text in axes.texts:
        if text.get_text().endswith(" %"):
            box = text.get_window_extent()
            assert any(bar.x0 <= box.x0 and box.x1 <= bar.x1 for bar in bars), text.get_text()


def test_parts_of_zero_are_left_out():
    axes = drawn_axes({"matrix": np.array([1.0]), "bubble": np.array([0.0])}, ["base"])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["matrix"]


def test_part_has_one_color_in_two_charts():
    _, pair = new_figure(2)
    shared = ("matrix", "hbm")
    for axes, names in zip(pair, (("matrix", "hbm", "bubble"), ("hbm", "matrix")), strict=True):
        parts = {name: np.array([1.0]) for name in names}
        plot_breakdown(axes, ["trn2"], parts, "Time (s)", color_order=shared)
    colors = [
        {c.get_label(): c.patches[0].get_facecolor() for c in axes.containers} for axes in pair
    ]
    assert colors[0]["hbm"] == colors[1]["hbm"]
    assert colors[0]["matrix"] == colors[1]["matrix"]


def test_parts_of_a_step_have_distinct_looks():
    _, (axes,) = new_figure()
    names = [part_label(field.name, "time") for field in dataclasses.fields(TimeParts)]
    parts = {name: np.array([1.0]) for name in names}
    plot_breakdown(axes, ["trn2"], parts, "Time (s)", color_order=SHARED_COLORS)
    looks = {
        (bars.patches[0].get_facecolor(), bars.patches[0].get_hatch()) for bars in axes.containers
    }
    assert len(looks) == len(parts)
