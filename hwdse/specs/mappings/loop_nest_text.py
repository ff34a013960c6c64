"""Text format of loop nests: `L3[WIO] C2 K8 R3 - L2[WI] N1 K4X - L1[O] K16 C2X - L0[W] P7`.

Tiers are listed from outside to inside, separated by ` - `. A tier consists of the name of its
memory, the operands that it keeps in brackets (W weights, I inputs, O outputs), and its loops
from outside to inside. A loop is the letter of a dimension, the bound, and X (or Y) if spatial.
A bound of one, such as `N1`, means no loop.
"""

import math
import re

import numpy as np

from hwdse.specs.hardware.accelerator import OPERANDS
from hwdse.specs.mappings.loop_nest import LoopNest, NestTier

LETTERS = {"W": "weights", "I": "inputs", "O": "outputs"}
_DIMS = "RSPQCKN"  # as in workload.loops.operators, which specs may not import
_HEAD = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)\[([A-Za-z]*)\]")
_LOOP = re.compile(r"([A-Za-z])([0-9.]+)([A-Za-z]?)")
_EXAMPLE = "L3[WIO] C2 K8 - L1[O] N1 K4X - L0[W] P7"


def parse_nest(text: str) -> LoopNest:
    """Loop nest of a text, as float64 arrays of shape `[tiers, 7]`.

    Raises a one-line `ValueError` if the text is malformed. Bounds may be fractions (`K1.5625`). A
    tier has at most one temporal and one spatial loop per dimension.
    """
    parts = re.split(r"\s+-\s+", text.strip())
    shape = (len(parts), len(_DIMS))
    temporal, spatial, position = np.ones(shape), np.ones(shape), np.zeros(shape)
    tiers = []
    for tier_index, part in enumerate(parts):
        head, *words = part.split() or [""]
        tiers.append(_tier(head, text))
        seen: set[tuple[str, bool]] = set()
        for order, word in enumerate(words):
            letter, bound, is_spatial = _loop(word, text)
            if bound == 1.0:
                continue
            if (letter, is_spatial) in seen:
                raise _error(text, word, f"one loop over {letter} in {head}")
            seen.add((letter, is_spatial))
            dim = _DIMS.index(letter)
            if is_spatial:
                spatial[tier_index, dim] = bound
            else:
                temporal[tier_index, dim], position[tier_index, dim] = bound, order
    return LoopNest(temporal=temporal, position=position, spatial=spatial, tiers=tuple(tiers))


def format_nest(nest: LoopNest) -> str:
    """Text of one nest with concrete bounds, the inverse of `parse_nest`."""
    temporal, spatial, position = (
        np.asarray(values, dtype=float) for values in (nest.temporal, nest.spatial, nest.position)
    )
    parts = []
    for tier_index, tier in enumerate(nest.tiers):
        keeps = "".join(letter for letter, name in LETTERS.items() if name in tier.keeps)
        order = np.argsort(position[tier_index], kind="stable").tolist()
        temporal_bounds, spatial_bounds = (
            temporal[tier_index].tolist(),
            spatial[tier_index].tolist(),
        )
        loops = [_word(dim, temporal_bounds[dim]) for dim in order if temporal_bounds[dim] > 1.0]
        spatial_loops = [
            _word(dim, bound) + "X" for dim, bound in enumerate(spatial_bounds) if bound > 1.0
        ]
        parts.append(" ".join([f"{tier.memory}[{keeps}]", *(loops or ["N1"]), *spatial_loops]))
    return " - ".join(parts)


def _tier(head: str, text: str) -> NestTier:
    """Tier of a text such as `L3[WIO]`."""
    match = _HEAD.fullmatch(head)
    if match is None:
        raise _error(text, head, "a memory with its operands such as L2[WI]")
    letters = match[2]
    if len(set(letters)) != len(letters) or not set(letters) <= set(LETTERS):
        raise _error(text, head, "each of W, I and O at most once in brackets")
    kept = {LETTERS[letter] for letter in letters}
    return NestTier(match[1], tuple(name for name in OPERANDS if name in kept))


def _loop(word: str, text: str) -> tuple[str, float, bool]:
    """Dimension, bound and spatial flag of a text such as `K4X`."""
    expected = "a loop such as C2 or K4X: one of R S P Q C K N, a bound of at least 1, X or Y"
    match = _LOOP.fullmatch(word)
    if match is None or match[1] not in _DIMS or match[3] not in ("", "X", "Y"):
        raise _error(text, word, expected)
    try:
        bound = float(match[2])
    except ValueError:
        raise _error(text, word, expected) from None
    if not 1.0 <= bound < math.inf:
        raise _error(text, word, expected)
    return match[1], bound, bool(match[3])


def _word(dim: int, bound: float) -> str:
    number = str(int(bound)) if bound.is_integer() else np.format_float_positional(bound)
    return f"{_DIMS[dim]}{number}"


def _error(text: str, word: str, expected: str) -> ValueError:
    shown = " ".join(text.split())
    shown = shown if len(shown) <= 120 else shown[:117] + "..."
    return ValueError(f"mapping '{shown}': got '{word}', expected {expected}; as in {_EXAMPLE}")
