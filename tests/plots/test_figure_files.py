"""Files of figures: formats, reproducible bytes, title and small print."""

import warnings

import matplotlib
import pytest
from support.drawings import tornado
from support.plot_checks import all_texts

from hwdse.plots.breakdown_bars import plot_breakdown
from hwdse.plots.figure_files import FORMATS, PlotFiles, new_figure, new_keyed_figure, save_figure

MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("form", FORMATS)
def test_same_figure_gives_the_same_bytes_without_a_date(form, tmp_path):
    contents = []
    for attempt in "ab":
        (path,) = save_figure(tornado(), tmp_path / attempt, "plot", formats=(form,), title="T")
        assert path.name == f"plot.{form}"
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith(MAGIC[form])
    assert b"<dc:date>" not in contents[0]
    assert b"CreationDate" not in contents[0]


def test_title_ends_with_the_job_and_small_print_with_the_provenance(tmp_path):
    figure = tornado()
    files = PlotFiles(tmp_path, ("svg",), "Llama 3 70B", "hwdse 9.9, base inputs ab12.")
    (path,) = files.save(figure, "tornado", "Sensitivity of cost", "One note.")
    assert path == tmp_path / "tornado.svg"
    texts = {text for text, _ in all_texts(figure)}
    assert "Sensitivity of cost: Llama 3 70B" in texts
    assert "One note.\nhwdse 9.9, base inputs ab12." in texts


def test_long_title_and_small_print_are_wrapped_inside_the_figure(tmp_path):
    figure, _ = new_figure(width_in=4.0)
    words = "word " * 60
    save_figure(figure, tmp_path, "wrapped", formats=("svg",), title=words, footer=words)
    boxes = [box for text, box in all_texts(figure) if "word" in text]
    assert len(boxes) == 2
    for box in boxes:
        assert box.x0 >= 0.0
        assert box.x1 <= figure.bbox.x1
    (axes,) = figure.get_axes()
    assert not any(box.overlaps(axes.get_window_extent()) for box in boxes)


def test_names_are_escaped_text_and_not_formulas(tmp_path):
    figure, (axes,) = new_figure()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_breakdown(axes, ["<script>&\"'"], {"a_b": [1.0]}, "Time (s)")
        (path,) = save_figure(figure, tmp_path, "names", formats=("svg",), title="5 $ and 6 $_x")
    assert "<script>" not in path.read_text()
    assert any(text == "5 $ and 6 $_x" for text, _ in all_texts(figure))


def test_axes_of_the_legend_are_below_all_panels():
    figure, panels, key = new_keyed_figure(2, 3, width_in=9.0, height_in=6.0)
    figure.draw_without_rendering()
    assert len(panels) == 6
    top = key.get_window_extent().y1
    assert all(panel.get_window_extent().y0 > top for panel in panels)
    assert not key.axison


def test_global_settings_are_unchanged():
    before = dict(matplotlib.rcParams)
    tornado().draw_without_rendering()
    assert dict(matplotlib.rcParams) == before
