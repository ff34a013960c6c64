"""Reading and replacing one leaf of a nested spec by its dotted path."""

import dataclasses
import difflib
from typing import Any

from hwdse.shapes import Leaf


def _children(node: Any) -> tuple[str, ...]:
    """Names under a node: the fields of a dataclass, the positions of a tuple, else nothing."""
    if dataclasses.is_dataclass(node):
        return tuple(field.name for field in dataclasses.fields(node))
    if isinstance(node, tuple):
        return tuple(str(position) for position in range(len(node)))
    return ()


def _child(node: Any, segment: str, path: str) -> Any:
    """The child of that name, or a `KeyError` that says what exists and which name is nearest."""
    names = _children(node)
    if segment in names:
        return node[int(segment)] if isinstance(node, tuple) else getattr(node, segment)
    if not names:
        raise KeyError(f"{path}: nothing lies below a number, but '{segment}' was asked for")
    near = difflib.get_close_matches(segment, names, n=1, cutoff=0.4)
    hint = f"; nearest is '{near[0]}'" if near else ""
    raise KeyError(f"{path}: no '{segment}'{hint}; there are {', '.join(names)}")


def get_path(obj: Any, path: str) -> Any:
    """Value at a dotted path: `get_path(design, "cluster.torus_sizes.0")`."""
    for segment in path.split("."):
        obj = _child(obj, segment, path)
    return obj


def set_path(obj: Any, path: str, value: Leaf) -> Any:
    """A copy of `obj` with the value at a dotted path replaced; `obj` stays as it is."""
    return _set(obj, path.split("."), value, path)


def _set(node: Any, segments: list[str], value: Leaf, path: str) -> Any:
    head, *rest = segments
    child = _child(node, head, path)
    new_child = _set(child, rest, value, path) if rest else value
    if isinstance(node, tuple):
        items = list(node)
        items[int(head)] = new_child
        return tuple(items)
    return dataclasses.replace(node, **{head: new_child})
