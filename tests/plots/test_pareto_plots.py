"""Plots contain the given data, are readable and reproducible."""

import dataclasses
import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from hwdse.cli.shared.evaluation_plots import SHARED_COLORS
from hwdse.cli.shared.metric_tables import part_label
from hwdse.plots import pareto_plots, roofline_and_tornado
from hwdse.plots.pareto_plots import Marker, new_figure, save_figure
from hwdse.plots.plot_style import COLORS, plain_number
from hwdse.specs.results.evaluation_result import TimeParts

RNG = np.random.default_rng(0)
COSTS = np.exp(RNG.normal(0.0, 0.5, (500, 2)))
ORDER = np.argsort(COSTS[:, 0])
BEST_BEFORE = np.concatenate(([np.inf], np.minimum.accumulate(COSTS[ORDER, 1])[:-1]))
MASK = np.zeros(500, bool)
MASK[ORDER[COSTS[ORDER, 1] < BEST_BEFORE]] = True
MARKERS = [
    Marker("trn2", (1.0, 1.0), "baseline"),
    Marker("h100", (1.02, 1.01), "preset"),
    Marker("h200", (0.98, 0.99), "preset"),
    Marker("optimized", (0.4, 0.5), "best"),
]
PARTS = {
    name: np.array([1.0 / (i + 1.0), 0.5 / (i + 1.0)])
    for i, name in enumerate(("matrix", "vector", "hbm", "tensor network", "bubble"))
}


def draw_pareto(axes):
    pareto_plots.plot_pareto(axes, COSTS, MASK, ("Time (s)", "Energy (J)"), MARKERS)


def draw_breakdown(axes):
    pareto_plots.plot_breakdown(axes, ["trn2", "optimized"], PARTS, "Step time (s)")


def draw_roofline(axes):
    roofline_and_tornado.plot_roofline(
        axes,
        np.array([300.0, 90.0, 3.0]),
        np.array([6e14, 2.4e14, 6e12]),
        6.67e14,
        2.9e12,
        ["up", "scores", ""],
    )


def draw_tornado(axes):
    roofline_and_tornado.plot_tornado(
        axes, ["clock_hz", "num_chips"], np.array([-0.6, 0.2]), "time"
    )


def draw_convergence(axes):
    counts = np.array([10, 100, 1000])
    curves = {
        "gradient": (counts, np.array([np.nan, 2.0, 1.0])),
        "random": (counts, np.array([4.0, 3.0, 2.0])),
    }
    roofline_and_tornado.plot_convergence(axes, curves, "Time (s)")


DRAWINGS = {
    "pareto": draw_pareto,
    "breakdown": draw_breakdown,
    "roofline": draw_roofline,
    "tornado": draw_tornado,
    "convergence": draw_convergence,
}


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_same_arrays_give_the_same_files(name, tmp_path: Path):
    contents = []
    for attempt in ("a", "b"):
        figure, (axes,) = new_figure()
        DRAWINGS[name](axes)
        paths = save_figure(figure, tmp_path / attempt, name)
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    png, svg = contents[0]
    assert png.startswith(b"\x89PNG")
    assert b"<svg" in svg
    assert b"<dc:date>" not in svg


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_axes_are_labeled_and_nothing_is_cut_off(name):
    figure, (axes,) = new_figure()
    DRAWINGS[name](axes)
    figure.draw_without_rendering()
    assert axes.get_xlabel()
    assert axes.get_ylabel() or len(axes.get_yticklabels())
    frame = figure.bbox
    for text in (axes.xaxis.label, axes.yaxis.label, *axes.get_yticklabels()):
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert box.x0 >= frame.x0 - 1
            assert box.x1 <= frame.x1 + 1


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_labels_do_not_cover_each_other(name):
    figure, (axes,) = new_figure()
    DRAWINGS[name](axes)
    figure.draw_without_rendering()
    labels = [text for text in axes.texts if text.get_text()]
    # The extent of an annotation without the line to its point.
    boxes = [(text.get_text(), Text.get_window_extent(text).padded(-1.0)) for text in labels]
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        assert not a.overlaps(b), (first, second)


def test_front_is_drawn_in_order_and_markers_are_labeled():
    _, (axes,) = new_figure()
    draw_pareto(axes)
    steps = max((line.get_xydata() for line in axes.lines), key=len)
    np.testing.assert_allclose(np.sort(steps[:, 0]), steps[:, 0])
    assert len(steps) == MASK.sum()
    assert {text.get_text() for text in axes.texts} == {marker.label for marker in MARKERS}


def test_front_of_one_design_without_a_cloud_is_drawn(tmp_path: Path):
    figure, (axes,) = new_figure()
    pareto_plots.plot_pareto(
        axes, np.array([[1.0, 2.0]]), np.array([True]), ("Time (s)", "Energy (J)")
    )
    assert len(save_figure(figure, tmp_path, "one")) == 2


def test_bars_add_up_and_percentages_are_written():
    _, (axes,) = new_figure()
    draw_breakdown(axes)
    total = sum(part[0] for part in PARTS.values())
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    assert max(ends) == pytest.approx(total)
    assert f"{PARTS['matrix'][0] / total:.0%}".replace("%", " %") in {
        text.get_text() for text in axes.texts
    }


def test_part_has_one_color_in_two_charts():
    _, pair = new_figure(2)
    shared = ("matrix", "hbm")
    for axes, names in zip(pair, (("matrix", "hbm", "bubble"), ("hbm", "matrix")), strict=True):
        parts = {name: np.array([1.0]) for name in names}
        pareto_plots.plot_breakdown(axes, ["trn2"], parts, "Time (s)", color_order=shared)
    colors = [
        {c.get_label(): c.patches[0].get_facecolor() for c in axes.containers} for axes in pair
    ]
    assert colors[0]["hbm"] == colors[1]["hbm"]
    assert colors[0]["matrix"] == colors[1]["matrix"]
    assert len(set(COLORS)) == len(COLORS)


def test_parts_of_a_step_have_distinct_colors():
    _, (axes,) = new_figure()
    names = [part_label(field.name, "time") for field in dataclasses.fields(TimeParts)]
    parts = {name: np.array([1.0]) for name in names}
    pareto_plots.plot_breakdown(axes, ["trn2"], parts, "Time (s)", color_order=SHARED_COLORS)
    assert len({bars.patches[0].get_facecolor() for bars in axes.containers}) == len(parts)


def test_roofline_ends_at_ridge_point_and_peak_rate():
    _, (axes,) = new_figure()
    draw_roofline(axes)
    roof = axes.lines[0].get_xydata()
    assert roof[1] == pytest.approx((6.67e14 / 2.9e12, 667.0))
    assert roof[-1][1] == pytest.approx(667.0)


def test_names_are_escaped_text_and_not_formulas(tmp_path: Path):
    figure, (axes,) = new_figure()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pareto_plots.plot_breakdown(axes, ["<script>&\"'"], {"a_b": np.ones(1)}, "Time (s)")
        svg = save_figure(figure, tmp_path, "names")[1].read_text()
    assert "<script>" not in svg


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.05, "0.05"),
        (20.0, "20"),
        (3000.0, "3,000"),
        (1e7, "$10^{7}$"),
        (2e-6, r"$2 \times 10^{-6}$"),
    ],
)
def test_tick_labels_are_plain_numbers(value, text):
    assert plain_number(value) == text


def test_global_settings_are_unchanged():
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure, (axes,) = new_figure()
    draw_tornado(axes)
    figure.draw_without_rendering()
    assert dict(matplotlib.rcParams) == before
