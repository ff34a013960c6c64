"""Figures in the style of hwdse, their titles and small print, and their files.

Neither pyplot nor the global settings of matplotlib are used, so a notebook keeps its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from hwdse.plots.plot_style import INK, PALE_INK, STYLE

FORMATS = ("png", "svg", "pdf")
"""File formats of plots."""
DEFAULT_FORMATS = ("png", "svg")
_METADATA = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""Metadata without dates, so that the same figure gives the same bytes."""
_FILE_STYLE: dict[Any, Any] = {"svg.hashsalt": "hwdse", "svg.fonttype": "path", "pdf.fonttype": 42}
DOTS_PER_INCH = 200
"""Resolution of PNG files: 1440 pixels for the usual width."""
_TITLE = {"fontsize": 10.5, "fontweight": "bold", "color": INK, "parse_math": False}
_SMALL = {"fontsize": 6.5, "color": PALE_INK, "parse_math": False}
_KEY_HEIGHT_IN = 0.25
_EDGE = 0.012
"""Distance of title and small print from the left edge, as a fraction of the width."""


@dataclass(frozen=True)
class PlotFiles:
    """Folder, formats and small print of the plots of one command."""

    folder: Path
    formats: tuple[str, ...] = DEFAULT_FORMATS
    job: str = ""
    """Title of the job, the last part of the title of each plot."""
    footer: str = ""
    """Small print: program, version, config, assumptions."""

    def save(self, figure: Figure, name: str, title: str = "", note: str = "") -> list[Path]:
        """Write a figure with the title `title: job` and with `note` before the small print."""
        full = ": ".join(part for part in (title, self.job) if part)
        footer = "\n".join(part for part in (note, self.footer) if part)
        return save_figure(
            figure, self.folder, name, formats=self.formats, title=full, footer=footer
        )


def new_figure(
    num_rows: int = 1, num_columns: int = 1, *, width_in: float = 7.2, height_in: float = 4.8
) -> tuple[Figure, list[Axes]]:
    """Figure in the style of hwdse and its axes, row by row."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(num_rows, num_columns, squeeze=False)
    return figure, list(axes.ravel())


def new_keyed_figure(
    num_rows: int, num_columns: int, *, width_in: float, height_in: float
) -> tuple[Figure, list[Axes], Axes]:
    """Figure as of `new_figure`, and empty axes below all others for a common legend."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasAgg(figure)
        share = _KEY_HEIGHT_IN / (height_in - _KEY_HEIGHT_IN) * num_rows
        grid = figure.add_gridspec(
            num_rows + 1, num_columns, height_ratios=[*([1.0] * num_rows), share]
        )
        axes = [figure.add_subplot(grid[i, j]) for i in range(num_rows) for j in range(num_columns)]
        key = figure.add_subplot(grid[num_rows, :])
        key.axis("off")
    return figure, axes, key


def save_figure(
    figure: Figure,
    folder: Path,
    name: str,
    *,
    formats: Sequence[str] = DEFAULT_FORMATS,
    title: str = "",
    footer: str = "",
) -> list[Path]:
    """Write `name` in each format; the same figure gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    add_title(figure, title)
    add_footer(figure, footer)
    paths = [folder / f"{name}.{form}" for form in formats]
    with matplotlib.rc_context({**STYLE, **_FILE_STYLE}):
        for form, path in zip(formats, paths, strict=True):
            figure.savefig(path, format=form, dpi=DOTS_PER_INCH, metadata=_METADATA[form])
            figure.set_layout_engine("none")  # the layout of the first file serves all
    return paths


def add_title(figure: Figure, text: str) -> None:
    """Write a title at the upper left, wrapped at the width of the figure."""
    if text:
        figure.suptitle(_wrapped(figure, text, _TITLE), x=_EDGE, ha="left", **_TITLE)


def add_footer(figure: Figure, text: str) -> None:
    """Write small print at the lower left, wrapped at the width of the figure."""
    if text:
        figure.supxlabel(_wrapped(figure, text, _SMALL), x=_EDGE, ha="left", **_SMALL)


def _wrapped(figure: Figure, text: str, style: dict) -> str:
    """Lines of at most the width of a figure, broken between words."""
    room = (1.0 - 2.0 * _EDGE) * figure.bbox.width
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}".strip()
            if line and _width(figure, longer, style) > room:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return "\n".join(lines)


def _width(figure: Figure, text: str, style: dict) -> float:
    """Width of one line of text (pixels)."""
    sample = Text(0.0, 0.0, text, figure=figure, **style)
    with matplotlib.rc_context(STYLE):
        return float(sample.get_window_extent().width)
