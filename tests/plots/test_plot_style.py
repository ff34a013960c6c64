"""Palette readable in gray, ticks at 1, 2 and 5, tick labels of one kind."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plot_checks import drawn

from hwdse.plots.figure_files import new_figure
from hwdse.plots.plot_style import (
    COLORS,
    MARKERS,
    READABLE,
    DecadeLocator,
    curve_style,
    lightness,
    part_style,
    percent_text,
    plain_number,
    text_color,
    tidy_log_axis,
)

MIN_DIFFERENCE = 6.0
"""Difference of lightness that two areas of gray need to be told apart."""


def test_lightness_of_black_gray_and_white():
    assert lightness("#000000") == pytest.approx(0.0, abs=1e-6)
    assert lightness("#ffffff") == pytest.approx(100.0, abs=1e-3)
    assert lightness("#777777") == pytest.approx(50.03, abs=0.02)  # middle gray


def luma(color):
    """Gray of most printers, 0 to 100. Source: ITU-R BT.601-7, section 2.5.1."""
    red, green, blue = (int(color[i : i + 2], 16) / 2.55 for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


@pytest.mark.parametrize("gray", [lightness, luma])
def test_colors_differ_in_gray(gray):
    for first, second in itertools.combinations(COLORS, 2):
        assert abs(gray(first) - gray(second)) >= MIN_DIFFERENCE, (first, second)


def test_parts_of_bars_differ_in_gray_or_in_hatch():
    styles = [part_style(index) for index in range(20)]
    for first, second in itertools.combinations(styles, 2):
        difference = abs(lightness(first["color"]) - lightness(second["color"]))
        assert first["hatch"] != second["hatch"] or difference >= MIN_DIFFERENCE


def test_curves_differ_in_line_and_marker():
    styles = [curve_style(index) for index in range(len(MARKERS))]
    for first, second in itertools.combinations(styles, 2):
        assert first["marker"] != second["marker"]
        assert first["linestyle"] != second["linestyle"]


@pytest.mark.parametrize("color", COLORS)
def test_text_in_a_color_of_the_palette_is_dark_enough(color):
    assert lightness(text_color(color)) <= READABLE


def test_dark_color_of_a_text_is_unchanged():
    assert text_color(COLORS[0]) == COLORS[0]


def log_axes(low, high, width_in=7.2):
    figure, (axes,) = new_figure(width_in=width_in)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    tidy_log_axis(axes.xaxis)
    return drawn(figure), axes


def shown_ticks(axes):
    low, high = axes.get_xlim()
    return [tick for tick in axes.get_xticks() if low <= tick <= high]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.9, 110.0, [1, 2, 5, 10, 20, 50, 100]),
        (30.0, 700.0, [50, 100, 200, 500]),
        (1e-6, 2.0, [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1]),
        (1.05, 1.35, [1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.35]),
    ],
)
def test_ticks_of_a_logarithmic_axis(low, high, ticks):
    _, axes = log_axes(low, high)
    assert shown_ticks(axes) == pytest.approx(ticks)


@given(st.floats(-9.0, 9.0), st.floats(0.01, 12.0), st.sampled_from([2.0, 4.0, 7.2]))
def test_every_logarithmic_axis_has_a_few_ticks_inside(exponent, decades, width_in):
    _, (axes,) = new_figure(width_in=width_in)
    low, high = 10.0**exponent, 10.0 ** (exponent + decades)
    ticks = np.array(DecadeLocator(axes.xaxis).tick_values(low, high))
    assert 2 <= len(ticks) <= max(3, width_in / 0.5)
    assert np.all(np.diff(ticks) > 0.0)
    assert np.all((ticks >= low * (1.0 - 1e-6)) & (ticks <= high * (1.0 + 1e-6)))


def test_evenly_spaced_ticks_have_the_same_decimals():
    _, axes = log_axes(0.78, 1.13)
    texts = [label.get_text() for label in axes.get_xticklabels() if label.get_text()]
    assert {len(text.partition(".")[2]) for text in texts} == {1} or {
        len(text.partition(".")[2]) for text in texts
    } == {2}
    assert any(float(text) == 1.0 for text in texts)


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


def test_percentages_have_a_space():
    assert percent_text(0.456) == "46 %"
    assert percent_text(0.0047, 1) == "0.5 %"
