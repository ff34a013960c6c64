"""Picture of hwdse's packages and their imports: `python tools/draw_rooms.py` -> docs/rooms.png.

One row per room in the order of `tests/test_layering.py`, the command line on top. A dot marks an
import: the room of the row imports the room of the column. Imports are read with `ast`; the text
of a row is the first sentence of the room's docstring.
"""

import ast
import textwrap
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hwdse"
TARGET = ROOT / "docs" / "rooms.png"
GROUPS = {  # color of the box by group of rooms
    "#d9d2e9": ("units", "numerics", "specs"),
    "#c9e2f3": ("workload", "models", "core", "training", "serving", "evaluation"),
    "#cfe8cf": ("search", "objectives", "analysis"),
    "#fbe3c0": ("config", "runs", "validation", "calibration", "jobs"),
    "#f6cccc": ("plots", "report", "cli"),
}
COLORS = {room: color for color, rooms in GROUPS.items() for room in rooms}
DOT = "#3b4a6b"
BOX, TEXT, MATRIX = 2.6, 8.6, 0.62
"""Widths of the box and of the text, and side of a matrix cell, in row heights."""


def room_order() -> list[str]:
    """Rooms from the lowest to the highest, as the layering test lists them."""
    tree = ast.parse((ROOT / "tests" / "test_layering.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ORDER":
            levels = ast.literal_eval(node.value)
            return [room for level in levels for room in level if files_of(room)]
    raise SystemExit("tests/test_layering.py: no ORDER")


def files_of(room: str) -> list[Path]:
    """Python files of a room, which is a folder or one module."""
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [*PACKAGE.glob(f"{room}.py")]


def imports_of(room: str) -> Counter[str]:
    """Number of files of a room that import each other room."""
    found: Counter[str] = Counter()
    for file in files_of(room):
        names = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        parts = [name.split(".") for name in names if name.startswith("hwdse.")]
        found.update({part[1] for part in parts if len(part) > 1 and part[1] != room})
    return found


def summary_of(room: str) -> str:
    """First sentence of the docstring of a room."""
    folder = PACKAGE / room
    file = folder / "__init__.py" if folder.is_dir() else PACKAGE / f"{room}.py"
    text = " ".join((ast.get_docstring(ast.parse(file.read_text())) or "").split())
    return text.split(". ")[0].rstrip(".").replace("`", "")


def draw(rooms: list[str]) -> None:
    """Write the picture."""
    num = len(rooms)
    width = BOX + TEXT + num * MATRIX + 0.6
    figure, axes = plt.subplots(figsize=(0.62 * width, 0.62 * (num + 2.3)))
    left = BOX + TEXT
    for row, room in enumerate(rooms):
        y = float(row)
        if row % 2 == 0:
            band = plt.Rectangle((0, y - 0.5), width - 0.6, 1, color="#f5f6f8", lw=0, zorder=0)
            axes.add_patch(band)
        axes.add_patch(
            FancyBboxPatch(
                (0.12, y - 0.36), BOX - 0.3, 0.72,
                boxstyle="round,pad=0,rounding_size=0.16",
                fc=COLORS.get(room, "#e6e6e6"), ec="none",
            )
        )  # fmt: skip
        axes.text(BOX / 2, y, room, ha="center", va="center", fontsize=10.5, weight="bold")
        lines = textwrap.wrap(summary_of(room), 62, max_lines=2, placeholder=" …")
        axes.text(BOX + 0.15, y, "\n".join(lines), va="center", fontsize=8.2, linespacing=1.15)
        counts = imports_of(room)
        for column, other in enumerate(rooms):
            x = left + (column + 0.5) * MATRIX
            if other == room:
                axes.add_patch(
                    plt.Rectangle((x - MATRIX / 2, y - 0.5), MATRIX, 1, color="#dfe3ea", lw=0)
                )
            elif counts[other]:
                axes.plot(x, y, "o", ms=4 + min(5.0, 1.1 * counts[other] ** 0.5), color=DOT)
    for column, other in enumerate(rooms):
        x = left + (column + 0.5) * MATRIX
        axes.text(x, num - 0.35, other, rotation=50, rotation_mode="anchor", ha="left", fontsize=9)
    axes.text(0.12, num - 0.25, "package and content", fontsize=9, color="#555", va="bottom")
    note = "Dot: the package of the row imports that of the column. Larger dot: from more files."
    axes.text(0.12, -0.95, note, fontsize=8.5, color="#555", va="center")
    axes.set_xlim(0, width - 0.5)
    axes.set_ylim(-1.2, num + 1.1)
    axes.axis("off")
    figure.savefig(TARGET, dpi=130, bbox_inches="tight", pad_inches=0.08)
    print(f"wrote {TARGET.relative_to(ROOT)}: {num} packages")


if __name__ == "__main__":
    draw(room_order())
