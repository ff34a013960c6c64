"""Plots of a mapping contain the given data and are readable."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text
from support.plot_checks import assert_labels_are_free, layers_of

from hwdse.plots.figure_files import save_figure
from hwdse.plots.loop_nest_plots import (
    OPERAND_COLORS,
    RED,
    ArrayBox,
    NestBox,
    new_mapping_figure,
    plot_nest,
)
from hwdse.plots.plot_style import lightness, text_color
from hwdse.plots.rooflines import LEVEL_COLORS, level_color, plot_level_rooflines

BOXES = [
    NestBox("DRAM", 0, "1.38 MB of 16 GiB", {"weights": 0.01, "inputs": 0.02}, ["for n in 12"]),
    NestBox("scratchpad", 1, "442 kB of 512 KiB", {"inputs": 0.75}, ["for k in 12", "for m in 2"]),
    NestBox("accumulator", 2, "340 kB of 256 KiB", {"outputs": 1.3}, []),
    NestBox("registers", 3, "3 kB of 4 KiB", {"weights": 0.75}, ["for m in 256 (tile 1)"]),
]
ARRAY = ArrayBox("64 x 64 PEs\n64 rows and 48 columns used", 1.0, 0.75)
NAMES = [box.title for box in BOXES]
INTENSITY = np.array([219.4, 48.0, 8.0, 1.0])
BANDWIDTH = np.array([3.2e10, 1.28e11, 5.12e11, 1e16])
PEAK, REACHED = 4.096e12, 2.9e12
NOTES = [f"{name} {share} % busy" for name, share in zip(NAMES, (58, 67, 100, 1), strict=True)]


def draw(boxes=BOXES, intensity=INTENSITY, bandwidth=BANDWIDTH, reached=REACHED, used=PEAK):
    figure, nest, roofs = new_mapping_figure(boxes)
    plot_nest(nest, boxes, ARRAY)
    plot_level_rooflines(roofs, NAMES, intensity, bandwidth, PEAK, used, reached, NOTES)
    return figure, nest, roofs


@pytest.mark.parametrize("num_boxes", [1, 4, 12])
def test_texts_of_the_nest_do_not_overlap_and_stay_in_the_frame(num_boxes):
    boxes = [BOXES[i % len(BOXES)] for i in range(num_boxes)]
    figure, nest, _ = draw(boxes)
    figure.draw_without_rendering()
    frame = nest.get_window_extent()
    extents = [Text.get_window_extent(text) for text in nest.texts]
    assert len(extents) == sum(2 + len(box.lines) for box in boxes) + 2
    for a, b in itertools.combinations(extents, 2):
        assert not a.overlaps(b)
    for extent in extents:
        assert frame.x0 <= extent.x0
        assert extent.x1 <= frame.x1
        assert frame.y0 <= extent.y0


def test_legend_and_labels_of_the_rooflines_stay_in_their_half():
    figure, nest, roofs = draw(used=PEAK / 2.0, reached=4e9)
    figure.draw_without_rendering()
    legend = roofs.get_legend()
    assert legend is not None
    texts = [*legend.get_texts(), roofs.xaxis.label, roofs.yaxis.label]
    boxes = [*(text.get_window_extent() for text in texts), legend.get_window_extent()]
    for box in boxes:
        assert nest.get_window_extent().x1 < box.x0
        assert box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
    assert not any(box.overlaps(roofs.get_window_extent()) for box in boxes)
    assert roofs.get_window_extent().width > 0.4 * figure.bbox.width


@pytest.mark.parametrize("reached", [REACHED, 4e9, PEAK])
@pytest.mark.parametrize("used", [PEAK, PEAK / 2.0])
def test_labels_of_the_rooflines_cross_no_line_and_no_other_label(reached, used):
    figure, _, roofs = draw(reached=min(reached, used), used=used)
    assert_labels_are_free(figure)
    ((axes, layer),) = layers_of(figure)
    assert axes is roofs
    assert {text.get_text() for text in layer.texts} == set(NOTES)


def test_levels_differ_in_gray_or_in_line_and_marker():
    _, _, roofs = draw()
    lines = [line for line in roofs.lines if line.get_label().split()[0] in NAMES]
    looks = {(line.get_linestyle(), str(line._dash_pattern)) for line in lines}
    assert len(looks) == len(lines) == 4
    marks = [len(dots.get_paths()[0].vertices) for dots in roofs.collections]
    assert len(marks) == 4
    assert all(lightness(color) < 75.0 for color in LEVEL_COLORS)


def test_bars_have_the_length_of_the_shares_and_are_red_above_capacity():
    _, nest, _ = draw()
    bars = {}
    for patch in nest.patches:
        bars.setdefault(to_hex(patch.get_facecolor()), []).append(patch.get_width())
    weights = bars[OPERAND_COLORS["weights"]]
    widths = [1.0 - 2.0 * 0.022 * depth - 0.03 for depth in (0, 3)]
    assert weights == pytest.approx([0.01 * widths[0], 0.75 * widths[1]])
    red = [patch for patch in nest.patches if to_hex(patch.get_edgecolor()) == RED]
    assert len(red) == 1
    assert red[0].get_width() == pytest.approx(bars[OPERAND_COLORS["outputs"]][0])
    assert [text.get_text() for text in nest.texts if text.get_color() == RED] == [BOXES[2].note]


def test_level_has_one_color_in_both_panels_distinct_from_operands():
    _, nest, roofs = draw()
    titles = {text.get_text(): text.get_color() for text in nest.texts}
    lines = {line.get_label().split()[0]: line.get_color() for line in roofs.lines}
    for index, name in enumerate(NAMES):
        assert lines[name] == level_color(index)
        assert titles[name] == text_color(lines[name])
    assert not set(LEVEL_COLORS) & set(OPERAND_COLORS.values())


def test_operands_at_other_tiers_are_pale_and_included():
    full = NestBox("scratchpad", 1, "", {"inputs": 0.7}, [], {"weights": 0.4})
    assert full.is_overfull
    assert not NestBox("scratchpad", 1, "", {"inputs": 0.7}, [], {"weights": 0.3}).is_overfull
    _, nest, _ = draw([full])
    parts = {to_hex(x.get_facecolor()): x for x in nest.patches if x.get_linewidth() == 0.0}
    weights, inputs = (parts[OPERAND_COLORS[name]] for name in ("weights", "inputs"))
    assert weights.get_alpha() < inputs.get_alpha()
    assert weights.get_width() / inputs.get_width() == pytest.approx(4.0 / 7.0)
    assert weights.get_x() + weights.get_width() == pytest.approx(inputs.get_x())


def test_idle_part_of_the_array_lowers_the_ceiling():
    _, _, roofs = draw(used=PEAK / 2.0)
    dashed = [line for line in roofs.lines if line.get_label() == "used PEs 2.048 TMAC/s"]
    assert len(dashed) == 1
    np.testing.assert_allclose(dashed[0].get_ydata(), 2.048)
    _, _, roofs = draw()
    assert not any("used PEs" in str(line.get_label()) for line in roofs.lines)


def test_rooflines_rise_with_the_bandwidth_to_the_peak_rate():
    _, _, roofs = draw()
    roof = next(line for line in roofs.lines if line.get_label().startswith("accumulator"))
    (x0, y0), (x1, y1) = roof.get_xydata()
    assert y0 / x0 == pytest.approx(0.512)
    assert (x1, y1) == pytest.approx((8.0, 4.096))
    assert "accumulator 512 GB/s" in roof.get_label()


def test_point_of_a_level_is_below_its_roofline():
    _, _, roofs = draw()
    lines = [line.get_xydata() for line in roofs.lines]
    hanging = [line for line in lines if line[0][0] == line[1][0] and line[0][1] < line[1][1]]
    assert len(hanging) == 4
    for (x0, y0), (x1, y1) in hanging:
        index = int(np.argmin(abs(INTENSITY - x0)))
        assert x0 == x1
        assert y0 == pytest.approx(2.9)
        assert y1 == pytest.approx(min(4.096, BANDWIDTH[index] / 1e12 * INTENSITY[index]))


def test_levels_without_traffic_or_timing_are_left_out():
    intensity = np.array([219.4, np.inf, 8.0, 1.0])
    bandwidth = np.array([3.2e10, np.inf, 5.12e11, np.inf])
    _, _, roofs = draw(intensity=intensity, bandwidth=bandwidth)
    names = [str(text.get_text()).split()[0] for text in roofs.get_legend().get_texts()]
    assert names == ["array", "DRAM", "accumulator"]


def test_plot_without_any_level_is_drawn(tmp_path: Path):
    figure, _, _ = draw(intensity=np.full(4, np.inf), bandwidth=np.full(4, np.inf))
    png, _ = save_figure(figure, tmp_path, "empty")
    assert png.stat().st_size > 1000
