"""Fronts of three and four objectives: pairs with the third as color, parallel coordinates."""

import numpy as np
import pytest

from hwdse.plots.figure_files import new_figure, new_keyed_figure
from hwdse.plots.fronts.front_projections import (
    plot_pairs,
    plot_parallel_coordinates,
    sequential_colors,
)
from hwdse.plots.fronts.pareto_plots import Marker
from hwdse.plots.plot_style import lightness

LABELS = ("Time (µs)", "Energy (mJ)", "Cost (USD/Mtoken)", "Die area per chip (mm²)")
RNG = np.random.default_rng(0)
FRONT = np.exp(RNG.normal(0.0, 0.3, (30, 4)))
BASE = Marker("base", (1.5, 1.5, 1.5, 1.5), "baseline")


def test_colors_become_lighter():
    shades = [
        lightness("#" + "".join(f"{round(255 * c):02x}" for c in rgba[:3]))
        for rgba in sequential_colors()(np.linspace(0.0, 1.0, 20))
    ]
    assert np.all(np.diff(shades) > 0.0)


def test_pairs_have_the_third_objective_as_color_and_no_line():
    figure, panels, key = new_keyed_figure(1, 3, width_in=12.0, height_in=5.0)
    plot_pairs(panels, key, FRONT[:, :3], LABELS[:3])
    figure.draw_without_rendering()
    for panel, (first, second, third) in zip(
        panels, ((0, 1, 2), (0, 2, 1), (1, 2, 0)), strict=True
    ):
        (dots,) = panel.collections
        np.testing.assert_array_equal(dots.get_offsets(), FRONT[:, [first, second]])
        np.testing.assert_array_equal(dots.get_array(), FRONT[:, third])
        assert len(panel.lines) == 0
        assert panel.get_xlabel() == LABELS[first]
        assert panel.get_ylabel().replace("\n", " ") == LABELS[second]
    bars = [axes.get_xlabel() for axes in figure.get_axes() if axes.get_label() == "<colorbar>"]
    assert [bar.replace("\n", " ") for bar in bars] == [
        "Color: cost (USD/Mtoken)", "Color: energy (mJ)", "Color: time (µs)"
    ]  # fmt: skip


def test_legend_of_the_pairs_names_front_and_base():
    _, panels, key = new_keyed_figure(1, 3, width_in=12.0, height_in=5.0)
    plot_pairs(panels, key, FRONT[:, :3], LABELS[:3], [Marker("base", (1.5, 1.5, 1.5), "baseline")])
    texts = [text.get_text() for text in key.get_legend().get_texts()]
    assert set(texts) == {"Pareto front (30 designs)", "base design"}


def parallel(front=FRONT, markers=()):
    figure, (axes,) = new_figure(width_in=10.0)
    plot_parallel_coordinates(axes, front, LABELS, markers)
    figure.draw_without_rendering()
    return axes


def test_parallel_coordinates_have_a_line_per_design_over_the_range_of_each_objective():
    lines = [line.get_ydata() for line in parallel().lines if len(line.get_ydata()) == 4]
    assert len(lines) == 30
    heights = np.array(lines)
    assert heights.min(axis=0) == pytest.approx(np.zeros(4), abs=1e-9)
    assert heights.max(axis=0) == pytest.approx(np.ones(4), abs=1e-9)
    np.testing.assert_array_equal(np.argsort(heights[:, 2]), np.argsort(FRONT[:, 2]))


def test_ticks_of_parallel_coordinates_are_at_their_values():
    axes = parallel()
    low, high = FRONT[:, 0].min(), FRONT[:, 0].max()
    ticks = {float(text.get_text()): text.xy[1] for text in axes.texts if text.xy[0] < 0.5}
    assert len(ticks) >= 2
    for value, height in ticks.items():
        assert height == pytest.approx(np.log(value / low) / np.log(high / low), abs=1e-6)


def test_base_is_a_line_of_its_own():
    axes = parallel(markers=[BASE])
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["Pareto front (30)", "base design: base"]


def test_front_of_one_design_is_drawn():
    parallel(FRONT[:1])
    _, panels, key = new_keyed_figure(1, 3, width_in=12.0, height_in=5.0)
    plot_pairs(panels, key, FRONT[:1, :3], LABELS[:3])
