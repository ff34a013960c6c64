"""Stacked bars of the parts of a quantity, one bar per design."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from hwdse.plots.plot_style import GRID, color_on, part_style, percent_text

LABELED_SHARE = 0.085
"""Smallest part, relative to the longest bar, with its percentage inside; smaller parts have it in
the legend."""
SHOWN_SHARE = 0.002
"""Parts smaller than this in every bar are summed in one part."""
NAMED_SHARE = 5e-4
"""Sums of small parts below this are left out; they would be 0.0 %."""
OTHERS = "other parts"


def plot_breakdown(
    axes: Axes,
    names: Sequence[str],
    parts: Mapping[str, np.ndarray],
    label: str,
    totals: Sequence[str] = (),
    color_order: Sequence[str] = (),
) -> None:
    """Draw stacked horizontal bars, one per design, with the percentage of each part.

    `parts` maps the name of a part to one value per design. `label` is the quantity with its
    unit. `totals` are the texts behind the bars, by default the sums. Colors follow
    `color_order`, so that a part has one color in adjacent charts. The legend has the percentages
    of parts that are too narrow for a text, in the order of the bars.
    """
    values = {name: np.asarray(part, dtype=float) for name, part in parts.items()}
    sums = np.sum(list(values.values()), axis=0)
    shown = _shown(values, sums)
    order = [*color_order, *(name for name in shown if name not in color_order)]
    rows = np.arange(len(names))[::-1]
    left = np.zeros(len(names))
    for name, part in shown.items():
        style = part_style(order.index(name))
        is_wide = part / max(sums.max(), 1e-300) > LABELED_SHARE
        key = _key(name, part, sums, is_wide)
        bars = axes.barh(rows, part, left=left, height=0.62, linewidth=0.8, label=key, **style)
        shares = [percent_text(x / s) if s else "" for x, s in zip(part, sums, strict=True)]
        texts = [share if wide else "" for share, wide in zip(shares, is_wide, strict=True)]
        axes.bar_label(
            bars, texts, label_type="center", fontsize=7.5, color=color_on(style["color"]),
            bbox=_patch_behind_text(style) if any(texts) else None,
        )  # fmt: skip
        left = left + part
    for row, total, text in zip(rows, sums, totals or [f"{s:.4g}" for s in sums], strict=True):
        axes.annotate(text, (total, row), (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(rows, names)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.2 * max(sums.max(), 1e-300))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(label)
    axes.grid(True, axis="x", color=GRID, linewidth=0.7)
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, handlelength=1.3,
        handleheight=1.1, borderaxespad=0.2, labelspacing=0.35,
    )  # fmt: skip


def _shown(values: Mapping[str, np.ndarray], sums: np.ndarray) -> dict[str, np.ndarray]:
    """Parts with a visible size; the sum of the others follows as one part."""
    safe = np.where(sums > 0.0, sums, 1.0)
    largest = {name: float(np.max(part / safe, initial=0.0)) for name, part in values.items()}
    shown = {name: part for name, part in values.items() if largest[name] >= SHOWN_SHARE}
    rest = [part for name, part in values.items() if 0.0 < largest[name] < SHOWN_SHARE]
    if np.max(np.sum(rest, axis=0) / safe, initial=0.0) >= NAMED_SHARE:
        shown[OTHERS] = np.sum(rest, axis=0)
    return shown


def _key(name: str, part: np.ndarray, sums: np.ndarray, is_wide: np.ndarray) -> str:
    """Entry of the legend; percentages of the part if one of its bars is too narrow for a text."""
    if is_wide.all():
        return name
    shares = [x / s if s > 0.0 else 0.0 for x, s in zip(part, sums, strict=True)]
    return f"{name}: {', '.join(percent_text(share, 1) for share in shares)}"


def _patch_behind_text(style: Mapping[str, str]) -> dict[str, object] | None:
    """Plain patch behind a text on a hatched bar."""
    if not style["hatch"]:
        return None
    return {"facecolor": style["color"], "edgecolor": "none", "pad": 1.0}
