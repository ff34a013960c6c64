"""Roofline of a chip: ridge, labels of operators, legend of the bounds."""

import pytest
from support.plot_checks import drawn, label_boxes, layers_of

from hwdse.plots.figure_files import new_figure
from hwdse.plots.rooflines import OperatorPoint, plot_roofline, scaled_text

PEAK, BANDWIDTH = 6.67e14, 2.9e12
OPERATORS = [
    OperatorPoint("MLP up", 300.0, 6e14, "matrix"),
    OperatorPoint("MLP up dx", 303.0, 6.01e14, "matrix"),
    OperatorPoint("scores", 2000.0, 1.9e14, "vector"),
    OperatorPoint("", 90.0, 2.4e14, "hbm"),
]


def draw(operators=OPERATORS, **options):
    figure, (axes,) = new_figure()
    plot_roofline(axes, operators, PEAK, BANDWIDTH, **options)
    return drawn(figure), axes


def test_roof_bends_at_the_ridge_and_ends_at_the_peak():
    _, axes = draw()
    roof = axes.lines[0].get_xydata()
    assert roof[1] == pytest.approx((PEAK / BANDWIDTH, PEAK / 1e12))
    assert roof[-1][1] == pytest.approx(PEAK / 1e12)
    assert roof[0][1] / roof[0][0] == pytest.approx(BANDWIDTH / 1e12)


def test_operators_at_one_place_share_a_label_and_nameless_ones_have_none():
    figure, _ = draw()
    texts = [text for _, layer in layers_of(figure) for text, _ in label_boxes(layer)]
    assert sorted(texts) == ["MLP up, dx", "scores"]


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["QKV"], "QKV"),
        (["MLP down", "MLP down dx"], "MLP down, dx"),
        (["MLP up dx", "MLP up dw"], "MLP up dx, dw"),
        (["LM head", "MLP up", "MLP up dx"], "LM head, MLP up, dx"),
    ],
)
def test_names_of_operators_at_one_place_share_their_words(names, text):
    figure, _ = draw([OperatorPoint(name, 300.0, 6e14, "matrix") for name in names])
    ((_, layer),) = layers_of(figure)
    assert [found for found, _ in label_boxes(layer)] == [text]


def test_legend_has_the_bounds_that_occur_with_their_own_markers():
    _, axes = draw(memory="DRAM")
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["bound by matrix engines", "bound by DRAM", "bound by vector engines"]
    shapes = {str(dots.get_paths()[0].vertices.round(2).tolist()) for dots in axes.collections[1:]}
    assert len(shapes) == 3
    assert "DRAM" in axes.get_xlabel()


def test_bandwidth_is_written_along_the_slope():
    _, axes = draw()
    slope, peak = axes.texts[1], axes.texts[0]
    assert (slope.get_text(), peak.get_text()) == ("HBM 2.9 TB/s", "peak 667 TFLOP/s")
    roof = axes.transData.transform(axes.lines[0].get_xydata())
    (x0, y0), (x1, y1) = roof[0], roof[1]
    angle = slope.get_rotation()
    assert 0.0 < angle < 90.0
    assert (y1 - y0) / (x1 - x0) > 0.0


def test_chip_without_operators_is_drawn():
    draw([])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.128, "128 GB/s"), (2.9, "2.9 TB/s"), (1200.0, "1.2 PB/s"), (8e-5, "80 MB/s")],
)
def test_rates_have_the_prefix_of_their_size(value, text):
    assert scaled_text(value, "B/s") == text
