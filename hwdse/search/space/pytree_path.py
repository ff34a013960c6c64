"""Reading and replacing one leaf of a nested spec by its dotted path.

Named items of a tuple (memory levels, tiles of operators) are addressed by name, also directly
below the spec that contains the tuple: `accelerator.scratchpad.capacity_bytes`.
"""

import dataclasses
import difflib
from typing import Any

from hwdse.numerics.array_types import Leaf


def item_names(items: tuple[Any, ...]) -> tuple[str, ...]:
    """Names of the items of a tuple: the `name` of each, else its position."""
    names = (getattr(item, "name", str(index)) for index, item in enumerate(items))
    return tuple(str(name) for name in names)


def has_names(node: Any) -> bool:
    """True if a node is a non-empty tuple of items with names."""
    return isinstance(node, tuple) and bool(node) and all(hasattr(item, "name") for item in node)


def children(node: Any) -> dict[str, Any]:
    """Children of a node by name: fields of a dataclass, items of a tuple, else none.

    A field that contains named items is replaced by these items.
    """
    if isinstance(node, tuple):
        return dict(zip(item_names(node), node, strict=True))
    if not dataclasses.is_dataclass(node):
        return {}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        found.update(children(value) if has_names(value) else {field.name: value})
    return found


def _child(node: Any, segment: str, path: str) -> Any:
    """Child of that name, or a `KeyError` that lists the existing names and the closest one."""
    below = children(node)
    if segment in below:
        return below[segment]
    if isinstance(node, tuple) and segment.isdecimal() and int(segment) < len(node):
        return node[int(segment)]
    if dataclasses.is_dataclass(node) and segment in (f.name for f in dataclasses.fields(node)):
        return getattr(node, segment)  # the tuple of named items itself
    if not below:
        raise KeyError(f"{path}: a number has no field '{segment}'")
    near = difflib.get_close_matches(segment, below, n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise KeyError(f"{path}: no '{segment}'{hint}; expected one of {', '.join(below)}")


def get_path(obj: Any, path: str) -> Any:
    """Value at a dotted path: `get_path(design, "cluster.torus_sizes.0")`."""
    for segment in path.split("."):
        obj = _child(obj, segment, path)
    return obj


def set_path(obj: Any, path: str, value: Leaf) -> Any:
    """Copy of `obj` with the value at a dotted path replaced."""
    return _set(obj, path.split("."), value, path)


def _set(node: Any, segments: list[str], value: Leaf, path: str) -> Any:
    head, *rest = segments
    child = _child(node, head, path)
    return _replaced(node, head, _set(child, rest, value, path) if rest else value)


def _replaced(node: Any, head: str, new_child: Any) -> Any:
    """Copy of `node` with one existing child replaced."""
    if isinstance(node, tuple):
        names = item_names(node)
        index = names.index(head) if head in names else int(head)
        return (*node[:index], new_child, *node[index + 1 :])
    for field in dataclasses.fields(node):
        items = getattr(node, field.name)
        if has_names(items) and head in item_names(items) and field.name != head:
            return node.replace(**{field.name: _replaced(items, head, new_child)})
    return node.replace(**{head: new_child})


def readable(spec: Any, keys: tuple[Any, ...]) -> str:
    """Dotted path of a leaf from its jax tree keys."""
    words: list[str] = []
    node = spec
    for key in keys:
        name = str(getattr(key, "name", getattr(key, "idx", key)))
        inside = has_names(node)
        node = _child(node, name, ".".join([*words, name]))
        if inside:
            name = node.name
        if not (has_names(node) and words):  # such a tuple is omitted below a spec
            words.append(name)
    return ".".join(words)
