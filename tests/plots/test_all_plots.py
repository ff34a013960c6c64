"""Laws of every plot: nothing overlaps or is cut off, axes have labels, files are reproducible."""

import functools

import matplotlib
import pytest
from matplotlib.colors import to_rgb
from support.drawings import DRAWINGS
from support.plot_checks import assert_labels_are_free, assert_texts_are_apart, drawn

from hwdse.plots.figure_files import add_footer, add_title, save_figure

TITLE = "Picture: Llama 3 70B pre-training on Trn2 UltraServers"
FOOTER = "Outside the axes: a system.\nhwdse 0.2.0, analytical model, base inputs 1168740c."


@functools.cache
def finished(name):
    figure = DRAWINGS[name]()
    add_title(figure, TITLE)
    add_footer(figure, FOOTER)
    return drawn(figure)


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_labels_meet_no_marker_line_or_other_text(name):
    assert_labels_are_free(finished(name))


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_texts_are_apart_and_inside_the_figure(name):
    assert_texts_are_apart(finished(name))


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_axes_have_labels(name):
    for axes in finished(name).get_axes():
        if axes.axison and axes.get_label() != "<colorbar>":
            assert axes.get_xlabel() or len(axes.get_xticklabels())
            assert axes.get_ylabel() or axes.get_yticklabels()


@pytest.mark.parametrize("name", ["breakdown", "mapping", "pareto", "roofline", "uncertainty"])
def test_same_arrays_give_the_same_file(name, tmp_path):
    contents = []
    for attempt in ("a", "b"):
        (path,) = save_figure(DRAWINGS[name](), tmp_path / attempt, name, formats=("svg",))
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_text_is_readable_on_white(name):
    """Contrast of at least 3 to 1. Source: WCAG 2.2, success criterion 1.4.3 for large text."""
    for text in finished(name).findobj(matplotlib.text.Text):
        on_bar = text.get_bbox_patch() is not None or text.get_color() == "white"
        if text.get_text() and not on_bar:
            channels = [
                c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
                for c in to_rgb(text.get_color())
            ]
            luminance = 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2]
            assert 1.05 / (luminance + 0.05) > 3.0, text.get_text()
