"""Parameters at an end of their allowed range, where only one side has a derivative.

A fraction of 1 cannot grow, and an overhead ratio of 1 cannot shrink. Maxima and minima of the
model often meet there, and automatic differentiation returns a mean of both sides. The convention
is the derivative into the range: all elasticities are evaluated at `inside_ranges`.
"""

from typing import Any

from hwdse.config.schema.field_rules import LARGEST, rule_of
from hwdse.config.schema.user_paths import field_name, leaf_paths
from hwdse.search.space.pytree_path import set_path

INWARD = 1e-9
"""Relative distance from the end of a range at which its derivative is evaluated."""


def range_ends(design: Any) -> dict[str, str]:
    """Paths of the parameters at an end of their range, with "upper" or "lower".

    Counts are left out, since they vary in steps, and so is zero, whose elasticity is zero.
    """
    ends: dict[str, str] = {}
    for path, leaf in leaf_paths(design).items():
        if leaf is None or isinstance(leaf, str | tuple | bool):
            continue
        rule, value = rule_of(field_name(path)), float(leaf)
        if rule.is_whole or value == 0.0:
            continue
        if rule.high < LARGEST and value >= rule.high:
            ends[path] = "upper"
        elif rule.is_low_allowed and value <= rule.low:
            ends[path] = "lower"
    return ends


def inside_ranges(design: Any) -> Any:
    """The design with parameters at an end of their range moved into it by `INWARD`."""
    leaves = leaf_paths(design)
    for path, end in range_ends(design).items():
        factor = 1.0 - INWARD if end == "upper" else 1.0 + INWARD
        design = set_path(design, path, factor * float(leaves[path]))
    return design


def side_text(end: str | None) -> str:
    """Side of a derivative in words, or an empty text for both sides."""
    return f"one-sided: at its {end} end" if end else ""
