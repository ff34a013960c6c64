"""Fronts of two objectives: limits of the axes, named designs, several runs, legends."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from support.drawings import AXES, CLOUD, FRONT, MARKERS, one_run
from support.plot_checks import drawn, label_boxes, layers_of

from hwdse.plots.figure_files import new_figure
from hwdse.plots.fronts.pareto_plots import (
    MIN_FRONT_SHARE,
    FrontPoints,
    Marker,
    PointBand,
    front_limits,
    plot_pareto,
)

BASE, BEST = MARKERS[0], MARKERS[-1]


def draw(runs=None, markers=(), cloud=None):
    figure, (axes,) = new_figure(width_in=7.6, height_in=5.4)
    note = plot_pareto(axes, runs or one_run(), AXES, markers, cloud, "sampled designs")
    return drawn(figure), axes, note


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def labels_of(figure):
    return [text for _, layer in layers_of(figure) for text, _ in label_boxes(layer)]


def filled_shares(points, axes):
    """Share of each logarithmic axis that points span."""
    ends = np.log([axes.get_xlim(), axes.get_ylim()])
    return np.ptp(np.log(points), axis=0) / (ends[:, 1] - ends[:, 0])


def test_front_is_drawn_in_order():
    _, axes, _ = draw(one_run(FRONT[::-1]))
    stairs = max((line.get_xydata() for line in axes.lines), key=len)
    np.testing.assert_array_equal(stairs, FRONT)


def test_front_and_base_fill_the_axes():
    _, axes, _ = draw(markers=MARKERS, cloud=CLOUD)
    points = np.concatenate([FRONT, [BASE.objectives]])
    assert np.all(filled_shares(points, axes) > 0.6)
    assert np.sqrt(np.prod(filled_shares(FRONT, axes))) > 0.8 * MIN_FRONT_SHARE


def test_front_alone_fills_the_axes():
    _, axes, _ = draw(cloud=CLOUD)
    assert np.all(filled_shares(FRONT, axes) > 0.8)


@pytest.mark.parametrize("factor", [3.0, 30.0, 1e3])
def test_far_base_has_an_arrow_with_its_values_and_leaves_the_axes_to_the_front(factor):
    far = Marker("old chip", (factor * 1.6, factor * 300.0), "baseline")
    figure, axes, _ = draw(markers=[far])
    assert np.all(filled_shares(FRONT, axes) > 0.7)
    (label,) = labels_of(figure)
    first, second = (float(f"{value:.3g}") for value in far.objectives)
    space = "\N{NO-BREAK SPACE}"
    assert label == f"old chip\n({first:,.6g}{space}µs, {second:,.6g}{space}mJ)"
    assert "base design, outside the axes" in legend_of(axes)


def test_far_presets_are_left_out_and_named_with_values_and_limits():
    figure, _, note = draw(markers=MARKERS)
    assert "SW26010-Pro" not in " ".join(labels_of(figure))
    assert "SW26010-Pro (19\N{NO-BREAK SPACE}µs, 3,500\N{NO-BREAK SPACE}mJ)" in note
    assert "Outside the axes, over area and power limits: DGX H100, p5.48xlarge (" in note


def test_note_counts_the_presets_that_it_does_not_name():
    far = [Marker(f"system {i}", (50.0 + 9.0 * i, 9e3), "preset") for i in range(9)]
    note = draw(markers=far)[2]
    assert "3 more systems lie farther away." in note
    assert "system 0 (" in note
    assert "system 8" not in note


def test_no_note_without_presets_outside():
    assert draw(markers=[BASE])[2] == ""


def test_designs_over_a_limit_are_hollow_and_say_so():
    near = Marker("GH200", (1.2, 250.0), "preset", "over area limit")
    figure, axes, _ = draw(markers=[BASE, near, replace(near, label="H100", note="",
                                                        objectives=(1.3, 260.0))])  # fmt: skip
    assert {"preset systems", "preset systems over a limit", "base design"} <= set(legend_of(axes))
    assert "GH200\nover area limit" in labels_of(figure)
    faces = {
        tuple(np.round(dots.get_offsets()[0], 3)): to_hex(dots.get_facecolor()[0])
        for dots in axes.collections
    }
    assert faces[1.2, 250.0] == "#ffffff"
    assert faces[1.3, 260.0] != "#ffffff"


def test_equal_designs_share_one_label():
    pair = [
        Marker(name, (1.2, 250.0 * scale), "preset") for name, scale in (("a", 1), ("b", 1.001))
    ]
    figure, _, _ = draw(markers=[BASE, *pair])
    assert "a, b" in labels_of(figure)


def test_legend_names_everything_and_counts_what_is_inside():
    _, axes, _ = draw(markers=[BASE, BEST], cloud=CLOUD)
    low = (axes.get_xlim()[0], axes.get_ylim()[0])
    high = (axes.get_xlim()[1], axes.get_ylim()[1])
    shown = int(np.all((low <= CLOUD) & (high >= CLOUD), axis=1).sum())
    assert 0 < shown < len(CLOUD)
    assert set(legend_of(axes)) == {
        f"sampled designs ({shown} of {len(CLOUD)} shown)", "Pareto front (14 designs)",
        "base design", "optimum",
    }  # fmt: skip


def test_single_design_is_a_visible_dot_in_the_middle():
    _, axes, _ = draw(one_run(FRONT[:1]))
    assert "Pareto front (1 design)" in legend_of(axes)
    (dots,) = [dots for dots in axes.collections if len(dots.get_offsets()) == 1]
    assert np.sqrt(dots.get_sizes()[0]) >= 5.0
    x, y = axes.transAxes.inverted().transform(axes.transData.transform(FRONT[0]))
    assert (x, y) == pytest.approx((0.5, 0.5), abs=0.01)


def runs_of_three():
    return [
        FrontPoints("wide", FRONT[:5] * 1.05, np.zeros(5, bool)),
        FrontPoints("narrow", FRONT[:8], np.ones(8, bool)),
        FrontPoints("gradient", FRONT[8:], np.ones(6, bool)),
    ]


def test_runs_have_their_own_color_and_marker():
    _, axes, _ = draw(runs_of_three())
    texts = legend_of(axes)
    assert "wide (0 of 5 on the merged front)" in texts
    assert "gradient (6 of 6 on the merged front)" in texts
    assert "merged front (14 designs)" in texts
    looks = [
        (to_hex(line.get_color()), line.get_marker())
        for line in axes.lines
        if "on the merged front" in str(line.get_label())
    ]
    assert len({color for color, _ in looks}) == len({marker for _, marker in looks}) == 3


def test_dominated_designs_of_a_run_are_hollow():
    _, axes, _ = draw(runs_of_three())
    faces = {len(dots.get_offsets()): to_hex(dots.get_facecolor()[0]) for dots in axes.collections}
    assert faces[5] == "#ffffff"
    assert faces[8] != "#ffffff"
    assert "hollow: dominated by another run" in legend_of(axes)


def test_values_that_are_not_finite_do_not_set_the_limits():
    bad = np.concatenate([FRONT, [[np.inf, 1.0]]])
    low, high = front_limits(bad, [])
    assert np.all(np.isfinite([low, high]))
    draw([FrontPoints("front", bad, np.ones(len(bad), bool))],
         [Marker("no time", (np.inf, 3.0), "preset")])  # fmt: skip


def bars_of(axes):
    return [c for c in axes.collections if isinstance(c, LineCollection)]


def test_bands_are_bars_between_their_ends():
    point, base = tuple(FRONT[3]), tuple(BASE.objectives)
    run = replace(
        one_run()[0], bands=(PointBand(point, (0.9 * point[0], 0.8 * point[1]), (2.0, 200.0)),)
    )
    named = replace(BASE, band=PointBand(base, (1.5, 280.0), (1.8, 330.0)))
    _, axes, _ = draw([run], [named])
    across, up = bars_of(axes)
    ends = [segment[:, 0] for segment in across.get_segments()]
    np.testing.assert_allclose(ends, [(0.9 * point[0], 2.0), (1.5, 1.8)])
    ends = [segment[:, 1] for segment in up.get_segments()]
    np.testing.assert_allclose(ends, [(0.8 * point[1], 200.0), (280.0, 330.0)])
    assert "band from the kinds of constants" in legend_of(axes)


def test_bands_of_designs_outside_the_axes_are_left_out():
    far = PointBand((1e3, 1e6), (9e2, 9e5), (2e3, 2e6))
    _, axes, _ = draw([replace(one_run()[0], bands=(far,))])
    assert not bars_of(axes)


def test_bands_have_the_unit_of_the_axes():
    band = PointBand((1.0, 2.0), (0.5, 1.0), (3.0, 4.0)).scaled(np.array([10.0, 100.0]))
    assert band == PointBand((10.0, 200.0), (5.0, 100.0), (30.0, 400.0))
