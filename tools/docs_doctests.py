"""Griffe extension: examples in docstrings as fenced code on the pages of the Python API."""

from typing import Any

import griffe


def fenced(text: str) -> str:
    """A docstring with its blocks of `>>>` lines and outputs as fenced code."""
    lines: list[str] = []
    is_open = False
    for line in text.splitlines():
        if line.startswith(">>> ") and not is_open:
            lines += ["```pycon", line]
            is_open = True
        elif is_open and not line.strip():
            lines += ["```", line]
            is_open = False
        else:
            lines.append(line)
    return "\n".join([*lines, *(["```"] if is_open else [])])


class Doctests(griffe.Extension):
    """Fences around the examples of all documented objects."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
