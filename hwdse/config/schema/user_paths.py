"""Dotted paths into specs as users write them: `chip.hbm.bandwidth`, `cluster.torus_sizes.0`."""

import dataclasses
import functools
from typing import Any

from hwdse.config.files.errors import did_you_mean, listed
from hwdse.config.schema.allowed_names import allowed_names
from hwdse.config.schema.field_rules import field_of, rule_of
from hwdse.search.space.pytree_path import children, get_path, set_path
from hwdse.specs.hardware.accelerator import OPERANDS
from hwdse.units.format_units import format_field
from hwdse.units.parse_units import split_field

Roots = dict[str, Any]
"""Specs by the first word of a path: `chip`, `cluster`, ... of a design, and `workload`."""


def _is_static(spec: Any, name: str) -> bool:
    fields = {field.name: field for field in dataclasses.fields(spec)}
    return not fields[name].metadata.get("pytree_node", True)


def _children(node: Any) -> dict[str, Any]:
    """Children of a node by Python name; empty for a leaf or a tuple of texts."""
    if isinstance(node, dict):
        return node
    if isinstance(node, tuple) and any(isinstance(item, str) for item in node):
        return {}
    hidden = _internal(type(node))
    return {name: child for name, child in children(node).items() if name not in hidden}


@functools.cache
def _internal(spec: type) -> frozenset[str]:
    """Fields of a spec that code fills in and no path of a user names."""
    fields = dataclasses.fields(spec) if dataclasses.is_dataclass(spec) else ()
    return frozenset(f.name for f in fields if not f.metadata.get("in_files", True))


def _named_child(node: Any, word: str) -> str | None:
    """Name of the child that a word of a path refers to, or None."""
    below = list(_children(node))
    if isinstance(node, tuple) and word.isdecimal() and int(word) < len(below):
        return below[int(word)]  # items with names also have indices
    if getattr(node, "shares_port", False) and word in ("bandwidth", "bandwidth_bytes_per_s"):
        return "read_bandwidth_bytes_per_s"  # of reads and writes together
    return field_of(word, below)


def leaf_paths(node: Any, prefix: str = "") -> dict[str, Any]:
    """All leaves and static fields below `node` by their paths of Python names."""
    found: dict[str, Any] = {}
    for name, child in _children(node).items():
        below = leaf_paths(child, f"{prefix}{name}.")
        found.update(below or {f"{prefix}{name}": child})
    return found


def short_path(path: str) -> str:
    """The path without the unit of its last word."""
    head, _, last = path.rpartition(".")
    short = split_field(last)[0]
    return f"{head}.{short}" if head else short


def resolve(roots: Roots, text: str) -> str:
    """The path of Python names that `text` refers to.

    Raises `ValueError` with the allowed words and the nearest path.
    """
    names, node = _walk(roots, text)
    if len(names) < len(text.split(".")):
        raise ValueError(_unknown(roots, text, _children(node)))
    return ".".join(names)


def find_path(roots: Roots, text: str) -> str | None:
    """The path of Python names that `text` refers to, or None."""
    names, _ = _walk(roots, text)
    return ".".join(names) if len(names) == len(text.split(".")) else None


def _walk(roots: Roots, text: str) -> tuple[list[str], Any]:
    """Python names of the words of `text` up to the first unknown one, and the node there."""
    node: Any = roots
    names: list[str] = []
    for word in text.split("."):
        name = _named_child(node, word)
        if name is None:
            break
        names.append(name)
        node = _children(node)[name]
    return names, node


def resolve_all(roots: Roots, text: str) -> list[str]:
    """All paths that match `text`, in their order; a word `*` matches any child.

    Raises `ValueError` if no path matches.
    """
    words = text.split(".")
    if "*" not in words:
        return [resolve(roots, text)]
    index = words.index("*")
    head, tail = ".".join(words[:index]), words[index + 1 :]
    if not head:
        raise ValueError("a path whose first word is not *")
    below = _children(get_value(roots, resolve(roots, head)))
    found: list[str] = []
    for child in below:
        try:
            found += resolve_all(roots, ".".join([head, child, *tail]))
        except ValueError:
            continue
    if not found:
        raise ValueError(_unknown(roots, text.replace("*", next(iter(below), "*")), below))
    return found


def _unknown(roots: Roots, text: str, children: dict[str, Any]) -> str:
    paths = [short_path(path) for path in leaf_paths(roots)]
    last = text.rpartition(".")[2]
    hint = did_you_mean(text, paths)
    if not hint:
        ends = [path for path in paths if path.endswith(f".{last}")]
        hint = f"; did you mean '{ends[0]}'?" if ends else ""
    below = listed(split_field(name)[0] for name in children) or "nothing, a number has no parts"
    return f"a path of the design (here {below}){hint}"


def get_value(roots: Roots, path: str) -> Any:
    """Leaf, static field or spec at a path of Python names."""
    head, _, rest = path.partition(".")
    return get_path(roots[head], rest) if rest else roots[head]


def replace_value(roots: Roots, path: str, value: Any) -> Roots:
    """A copy of the specs with one leaf or static field changed."""
    head, _, rest = path.partition(".")
    return {**roots, head: set_path(roots[head], rest, value) if rest else value}


def is_static(roots: Roots, path: str) -> bool:
    """True if a path leads to a name that selects code (dataflow, topology) and not a number."""
    head, _, last = path.rpartition(".")
    node = get_value(roots, head) if head else roots
    if not dataclasses.is_dataclass(node):
        return isinstance(get_value(roots, path), str)
    names = [field.name for field in dataclasses.fields(node)]
    return last in names and _is_static(node, last)


def field_name(path: str) -> str:
    """Last field of a path; the enclosing field for an item of a tuple or an operand of a table
    with a unit (`word_bytes.weights`)."""
    *above, last = path.split(".")
    is_part = last.isdigit() or (last in OPERANDS and above and split_field(above[-1])[1] != "1")
    return above[-1] if above and is_part else last


def format_value(path: str, value: float, digits: int = 3) -> str:
    """Text of the leaf at a path, with its unit and a prefix."""
    return format_field(field_name(path), value, digits)


def check_value(roots: Roots, path: str, value: object) -> float | str:
    """`value` checked for the leaf or static field at `path`, in base units.

    Raises `ValueError` with the allowed values.
    """
    if _children(get_value(roots, path)):
        raise ValueError("a path that ends in a number; found a table")
    if not is_static(roots, path):
        return rule_of(field_name(path)).check(value)
    names = allowed_names(field_name(path))
    if value not in names:
        hint = did_you_mean(value, names) if isinstance(value, str) else ""
        raise ValueError(f"one of {listed(names)}{hint}")
    return str(value)
