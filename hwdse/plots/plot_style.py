"""Shared style of the plots: colors, fonts, ticks of logarithmic axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axis import Axis, XAxis
from matplotlib.patheffects import withStroke
from matplotlib.ticker import Formatter, Locator, LogLocator, MaxNLocator, NullFormatter

COLORS = (
    "#00458f", "#c94f00", "#22ab80", "#f5bd3c", "#2e0a5e", "#63b6e6", "#9a2a66", "#d3d8de",
)  # fmt: skip
"""Blue, vermilion, green, amber, purple, sky blue, magenta, light gray.

Hues for every type of color vision, after Okabe and Ito, Color Universal Design, 2008. Their
lightness is changed so that no two have the same gray when printed; `lightness` states it."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
LINES = ("-", "--", "-.", ":", (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (6, 1, 1, 1)))
"""Markers and line styles of curves in one plot; together with `COLORS` readable in gray."""
HATCHES = ("", "////", "....")
"""Patterns of bars with more parts than colors."""
INK, PALE_INK, RULE, GRID = "#1f2933", "#52606d", "#7b8794", "#e4e7eb"
"""Text, small print, helper lines, grid."""
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.labelsize": 10.0,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": PALE_INK,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.7,
    "xtick.color": "#323f4b",
    "ytick.color": "#323f4b",
}
HALO = withStroke(linewidth=2.4, foreground="white", alpha=0.85)
"""White outline of text on top of points and lines."""
READABLE = 48.0
"""Largest lightness of a color of text on white."""
TICK_ROOM_IN = {"x": 0.55, "y": 0.3}
"""Room of a tick label along its axis (inches)."""
FEW_TICKS = 3
"""An axis with fewer ticks at 1, 2 and 5 times a power of ten gets evenly spaced ones."""
MAX_TICKS = 12
"""Number of intervals of evenly spaced ticks that are tried."""


def curve_style(index: int) -> dict[str, Any]:
    """Color, line style and marker of curve `index`, distinct in color and in gray."""
    size = len(COLORS) - 1  # the light gray is too pale for a line
    return {
        "color": COLORS[index % size],
        "linestyle": LINES[index % len(LINES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def part_style(index: int) -> dict[str, Any]:
    """Color and hatch of part `index` of stacked bars, distinct in color and in gray."""
    row, column = divmod(index, len(COLORS))
    return {"color": COLORS[column], "hatch": HATCHES[row % len(HATCHES)], "edgecolor": "white"}


def lightness(color: str) -> float:
    """Lightness L* of a color `#rrggbb`, 0 (black) to 100 (white). Source: CIE 15:2004, eq. 8.3;
    luminance of IEC 61966-2-1 (sRGB)."""
    channels = np.array([int(color[i : i + 2], 16) / 255.0 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    root = (
        np.cbrt(luminance) if luminance > (6.0 / 29.0) ** 3 else luminance / 0.128419 + 4.0 / 29.0
    )
    return float(116.0 * root - 16.0)


def text_color(color: str) -> str:
    """The color, darkened until text in it is readable on white."""
    channels = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    while lightness(color) > READABLE:
        channels = [int(0.96 * channel) for channel in channels]
        color = "#" + "".join(f"{channel:02x}" for channel in channels)
    return color


def color_on(background: str) -> str:
    """White or ink, whichever is readable on a background."""
    return "white" if lightness(background) < 60.0 else INK


def tidy_log_axis(axis: Axis) -> None:
    """Set ticks at 1, 2 and 5 times powers of ten, with plain labels, on a logarithmic axis.

    A long axis has ticks at powers of ten only; a short one has evenly spaced ticks.
    """
    locator = DecadeLocator(axis)
    axis.set_major_locator(locator)
    axis.set_major_formatter(DecadeFormatter(locator))
    axis.set_minor_locator(
        LogLocator(base=10.0, subs=[float(step) for step in range(2, 10)], numticks=60)
    )
    axis.set_minor_formatter(NullFormatter())


class DecadeLocator(Locator):
    """Ticks of a logarithmic axis, as dense as its length on the page allows."""

    def __init__(self, owner: Axis) -> None:
        self._owner = owner
        self.is_even = False
        """True if the last ticks are evenly spaced instead of at 1, 2, 5."""
        self.ticks = np.zeros(0)
        """The last ticks."""

    def __call__(self) -> Sequence[float]:
        self.ticks = np.array(self.tick_values(*sorted(self._owner.get_view_interval())))
        return self.ticks.tolist()

    def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
        """Ticks from `vmin` to `vmax`."""
        self.is_even = False
        if not 0.0 < vmin < vmax < np.inf:
            return []
        room = self._room()
        first, last = int(np.floor(np.log10(vmin))), int(np.ceil(np.log10(vmax)))
        ticks = np.outer(10.0 ** np.arange(first, last + 1), (1.0, 2.0, 5.0)).ravel()
        ticks = ticks[(ticks >= vmin * (1.0 - 1e-9)) & (ticks <= vmax * (1.0 + 1e-9))]
        if len(ticks) < FEW_TICKS:
            self.is_even = True
            return self._even(vmin, vmax, room)
        if len(ticks) > room:
            is_power = np.abs(np.log10(ticks) - np.round(np.log10(ticks))) < 1e-9
            ticks = ticks[is_power] if is_power.sum() > 1 else ticks
        return ticks[:: int(np.ceil(len(ticks) / room))].tolist()

    def _room(self) -> int:
        """Number of tick labels for which the axis has room."""
        axes = self._owner.axes
        is_x = isinstance(self._owner, XAxis)
        figure = axes.get_figure(root=True)
        box = axes.get_window_extent()
        length_in = (box.width if is_x else box.height) / (figure.dpi if figure else 100.0)
        return max(2, int(length_in / TICK_ROOM_IN["x" if is_x else "y"]))

    def _even(self, vmin: float, vmax: float, room: int) -> Sequence[float]:
        ticks: list[float] = []
        for count in range(min(room, 7), MAX_TICKS):  # the ends of the range may hold most ticks
            found = MaxNLocator(nbins=count, steps=[1, 2, 5, 10]).tick_values(vmin, vmax)
            ticks = [float(tick) for tick in found if vmin <= tick <= vmax]
            if len(ticks) > 1:
                break
        return ticks[:: max(1, int(np.ceil(len(ticks) / room)))]


class DecadeFormatter(Formatter):
    """Plain labels of the ticks of a `DecadeLocator`, all with the same decimals if even."""

    def __init__(self, locator: DecadeLocator) -> None:
        self._locator = locator

    def __call__(self, x: float, pos: int | None = None) -> str:
        locs = self._locator.ticks if len(self._locator.ticks) else np.array([x])
        if self._locator.is_even and len(locs) > 1:
            step = float(np.min(np.diff(locs)))
            decimals = max(0, -int(np.floor(np.log10(step) + 1e-9)))
            return f"{x:,.{decimals}f}" if x < 1e6 and decimals < 5 else plain_number(x)
        is_wide = bool(np.all(np.abs(np.log10(locs) - np.round(np.log10(locs))) < 1e-9))
        return plain_number(x, is_wide and (locs.max() >= 1e5 or locs.min() < 1e-3))


def plain_number(value: float, as_power: bool = False) -> str:
    """Tick label of a number: 0.05, 20, 3,000; a power of ten outside 0.001 to 10^6."""
    if value == 0.0 or (not as_power and 1e-3 <= abs(value) < 1e6):
        return f"{value:,.6g}"
    exponent = int(np.floor(np.log10(abs(value)) + 1e-9))
    mantissa = value / 10.0**exponent
    factor = "" if abs(mantissa - 1.0) < 1e-6 else rf"{mantissa:.3g} \times "
    return rf"${factor}10^{{{exponent}}}$"


def percent_text(fraction: float, decimals: int = 0) -> str:
    """A fraction as `46 %`."""
    return f"{100.0 * fraction:.{decimals}f} %"
