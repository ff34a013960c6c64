"""Origin of every constant of a job: file, line, kind and note, from the comments of its files.

A comment beside a key, above it, or beside the head of its table says where the value is from.
Its first word gives the kind: `assumed`, `class`, `derived`, `fitted` or `measured`; every other
comment names a source, and the value is published. A value that no file gives is a default of the
code. The band for a kind is a convention; a class (`configs/classes`) gives the ends of its own.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hwdse.config.files.toml_files import TomlFile
from hwdse.config.schema.field_rules import rule_of
from hwdse.config.schema.user_paths import Roots, field_name, find_path, leaf_paths
from hwdse.config.search.loaded_search import LoadedSearch

KINDS: Mapping[str, float] = MappingProxyType(
    {
        "given": 0.0,
        "published": 0.02,
        "measured": 0.05,
        "fitted": 0.1,
        "derived": 0.15,
        "class": 0.3,
        "unmarked": 0.3,
        "default": 0.3,
        "assumed": 0.5,
    }
)
"""Kinds of constants with the relative half-width of their band. The widths are conventions of
hwdse, not measured; a value with its own (`"0.9 pJ/bit +- 30 %"`) has that."""
UNSURE = ("assumed", "class", "default", "unmarked")
"""Kinds without a source for the value."""
NOT_MEASURED = (*UNSURE, "derived", "fitted")
"""Kinds whose band an answer is tested over: all but given, published and measured values."""
_FIRST_WORD = re.compile(r"(assumed|class|derived|fitted|measured|default)\b", re.IGNORECASE)
_HEAD = re.compile(r"\s*\[\[?\s*([\w.\-]+)\s*\]\]?\s*(?:#\s*(.*))?$")
_KEY = re.compile(r"\s*([\w.\-]+)\s*=(.*)$")
_CHOICES = (
    "parallelism",
    "checkpointing",
    "mix",
    "tiles",
    "strategy",
    "formats",
    "workload.requests",
    "software.matrix_efficiency_fraction",  # relative to the chip's own
    "software.attention_efficiency_fraction",
    "chip.spare_unit_ratio",  # structure of a chip: none of it by default
    "chip.spare_sram_ratio",
    "chip.dot_product_length",
    "cluster.schedule_availability_fraction",
)
"""Paths whose values are choices of the user; their defaults are not constants."""
_ROOTS: Mapping[str, str] = MappingProxyType(
    {
        "chip": "chip",
        "class": "chip",
        "process": "chip.process",
        "task": "workload",
        "software": "software",
        "engine": "engine",
        "requests": "workload.requests",
        "accelerator": "accelerator",
        "system": "",
        "reliability": "",
        "model": "",
        "search": "",
    }
)
"""Path of the top-level keys of a file, by its kind."""
_TABLES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "model": {"model": "workload.model", "pretraining": "workload"},
        "system": {"overrides": ""},
        "search": {
            "overrides": "",
            "design": "",
            "design.mix": "mix",
            "design.parallelism": "parallelism",
            "design.checkpointing": "checkpointing",
            "design.formats": "formats",
        },
    }
)
"""Paths of the tables of a file that differ from their name, by kind of file."""


@dataclass(frozen=True)
class Origin:
    """Origin of one value."""

    kind: str
    """Entry of `KINDS`."""
    note: str
    """Comment of the file or docstring of the field; may be empty."""
    place: str
    """`FILE line N`, `--set`, or `default of hwdse`."""
    band: float
    """Relative half-width of the band around the value."""
    ends: tuple[float, float] | None = None
    """Ends of the band in base units, of a value of a class."""

    def interval(self, path: str, value: float) -> tuple[float, float]:
        """Ends of the band around a value, inside the range of its field."""
        rule = rule_of(field_name(path))
        low, high = self.ends or (value * (1.0 - self.band), value * (1.0 + self.band))
        return max(min(low, value), rule.low), min(max(high, value), rule.high)


@dataclass(frozen=True)
class CommentedKey:
    """Key of a TOML text with the comment that belongs to it."""

    table: str
    key: str
    value: str
    """Text of the value, without quotes."""
    comment: str
    line: int


def commented_keys(text: str) -> list[CommentedKey]:
    """Keys of a TOML text in order, with their comments and line numbers."""
    found: list[CommentedKey] = []
    table, of_table, above = "", "", []
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        if depth > 0:  # inside a list of several lines
            depth += _balance(line)
            continue
        if head := _HEAD.match(line):
            table, of_table, above = head[1], head[2] or "", []
        elif match := _KEY.match(line):
            value, comment = _split_comment(match[2])
            depth = max(_balance(value), 0)
            comment = comment or " ".join(above) or of_table
            found.append(
                CommentedKey(table, match[1], value.strip().strip("\"'"), comment.strip(), number)
            )
            above = []
        elif line.strip().startswith("#"):
            above.append(line.strip().lstrip("# "))
        else:
            above = []
    return found


def _split_comment(text: str) -> tuple[str, str]:
    """Value and comment of the text behind `=`; a # in quotes is part of the value."""
    quote = ""
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "#":
            return text[:index], text[index + 1 :]
    return text, ""


def _balance(text: str) -> int:
    """Opening minus closing square brackets outside comments."""
    value = _split_comment(text)[0]
    return value.count("[") - value.count("]")


def kind_of(comment: str) -> str:
    """Kind of a value by its comment."""
    match = _FIRST_WORD.match(comment)
    if match is not None:
        return match[1].lower()
    return "published" if comment else "unmarked"


def origins(loaded: LoadedSearch) -> dict[str, Origin]:
    """Origin of every leaf of the design and the workload of a job, by path of Python names."""
    roots = job_roots(loaded)
    found = {path: _default(roots, path) for path in leaf_paths(roots)}
    for kind, file in _in_order(loaded.files):
        for entry, path in _paths(kind, file, roots):
            leaves = [leaf for leaf in found if leaf == path or _is_item(leaf, path)]
            origin_kind, band = kind_of(entry.comment), _band(file, entry)
            if kind == "search" and origin_kind in ("published", "unmarked"):
                origin_kind = "given"
            width = _usual_band(origin_kind, path) if band is None else band
            place = f"{file.label} line {entry.line}"
            ends = None
            if kind == "class":
                origin_kind = kind
                ends, width = _class_band(file, entry.key)
            found |= dict.fromkeys(leaves, Origin(origin_kind, entry.comment, place, width, ends))
    for text in loaded.overrides:
        path = find_path(roots, _changed_path(text))
        if path is None:
            continue
        leaves = [leaf for leaf in found if leaf == path or _is_item(leaf, path)]
        found |= dict.fromkeys(leaves, Origin("given", "", "--set", 0.0))
    return found


def _usual_band(kind: str, path: str) -> float:
    """Usual half-width of the band by kind; none for a count that a file gives, unless assumed."""
    is_known = kind not in ("assumed", "default") and rule_of(field_name(path)).is_whole
    return 0.0 if is_known else KINDS[kind]


def _changed_path(text: str) -> str:
    """Path of an override; the batch and the length of `[design]` are values of the workload."""
    path = text.partition("=")[0].strip().removeprefix("design.")
    return f"workload.{path}" if path in ("global_batch", "seq_len") else path


def _is_item(leaf: str, path: str) -> bool:
    """True if a leaf is an item of the list or table at a path below a root."""
    return "." in path and leaf.startswith(f"{path}.")


def job_roots(loaded: LoadedSearch) -> Roots:
    """Design and workload of a job by the first words of paths."""
    base: Any = loaded.base
    names = [name for name in base.__dataclass_fields__ if name != "mapping"]
    return {**{name: getattr(base, name) for name in names}, "workload": loaded.workload}


def _in_order(files: Iterable[tuple[str, TomlFile]]) -> list[tuple[str, TomlFile]]:
    """Files with the weaker first: classes and processes, chips, systems, others, search."""
    order = list(_ROOTS)
    ranks = {"class": 0, "process": 0, "chip": 1, "accelerator": 1, "system": 2, "search": 9}
    each = [(kind, one) for kind, file in files for one in (*reversed(file.bases), file)]
    known = [(kind, file) for kind, file in each if kind in order]
    return sorted(known, key=lambda item: ranks.get(item[0], 3))


def _paths(kind: str, file: TomlFile, roots: Roots) -> Iterable[tuple[CommentedKey, str]]:
    """Keys of a file that are leaves or tables of the job, with their paths."""
    if file.path.suffix != ".toml" or not file.path.is_file():
        return
    text = file.path.read_text(encoding="utf-8", errors="replace")
    special = dict(_TABLES.get(kind, {}))
    root = _ROOTS[kind]
    if kind == "process" and "accelerator" in roots:
        root = "accelerator.process"
    for entry in commented_keys(text):
        if entry.table == "levels" and entry.key == "name":
            special["levels"] = f"accelerator.{entry.value}"
        head = special.get(entry.table)
        if head is None:
            head = ".".join(part for part in (root, entry.table) if part)
        for key in (entry.key, f"read_{entry.key}", f"write_{entry.key}"):  # short forms of levels
            path = f"{head}.{key}" if head else key
            if (known := find_path(roots, path)) is not None:  # not name, sources, published, ...
                yield entry, known


def _band(file: TomlFile, entry: CommentedKey) -> float | None:
    """Band that a value gives itself."""
    path = f"{entry.table}.{entry.key}" if entry.table else entry.key
    text = file.uncertain_constants.get(path)
    return None if text is None else float(text.rstrip(" %")) / 100.0


def _class_band(file: TomlFile, key: str) -> tuple[tuple[float, float], float]:
    """Ends of the band for a constant of a class, and its larger relative half."""
    value, (low, high) = float(file.tables[key]), map(float, file.tables["bands"][key])
    return (low, high), max(value - low, high - value) / value


def _default(roots: Roots, path: str) -> Origin:
    from hwdse.config.key_reference import field_docs

    *above, last = path.split(".")
    node: Any = roots
    for name in above:
        node = node[name] if isinstance(node, dict) else _child(node, name)
    note = "" if isinstance(node, dict | tuple) else field_docs(type(node)).get(last, "")
    if path.startswith(_CHOICES):
        return Origin("given", note, "default of hwdse", 0.0)
    if above == ["kernels"]:
        return _of_library(roots["kernels"], last, note)
    return Origin("default", note, "default of hwdse", KINDS["default"])


def _of_library(kernels: Any, name: str, note: str) -> Origin:
    """Origin of a constant of kernels: fitted for the chip, or the common one of all chips."""
    from hwdse.config.hardware.kernel_library import ANY, kernel_library

    place = "configs/libraries/kernels.csv"
    if name == "units_per_array":
        return Origin("given", note, place, 0.0)
    common = getattr(kernel_library()[ANY], name)
    kind = "class" if getattr(kernels, name) == common else "fitted"
    return Origin(kind, note, place, KINDS[kind])


def _child(node: Any, name: str) -> Any:
    return node[int(name)] if isinstance(node, tuple) and name.isdecimal() else getattr(
        node, name, ()
    )  # fmt: skip
