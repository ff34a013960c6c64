"""Mappings as ZigZag prints them, as loop nests in which each memory keeps each operand.

The text holds, for each operand and from its innermost memory out, the loops of a tile of that
memory, innermost first: `{O: [[(D0, 16), (D2, 3)], [(D1, 2)]], I: [...], W: [...]}`. D0, D1, D2
are the M, N and K of C[M, N] = A[M, K] B[K, N]; O, I, W are C, A and B. All operands have the same
loops in the same order, cut at other places (uneven residency).
"""

import json
import math
import re
from dataclasses import dataclass

import numpy as np

from hwdse.specs.hardware.accelerator import OPERANDS
from hwdse.specs.mappings.loop_nest import LoopNest, NestTier
from hwdse.workload.loops.operators import DIMS

MEMORIES = {"O": ("accumulator",), "I": ("scratchpad",), "W": ("registers", "scratchpad")}
"""Memories on the way out of the array to DRAM, by operand."""
OPERAND = {"W": "weights", "I": "inputs", "O": "outputs"}
DIM = {"D0": "P", "D1": "K", "D2": "C"}
ROWS_DIM, COLS_DIM = "C", "K"
OUTER_FIRST = (("scratchpad", "I"), ("accumulator", "O"), ("scratchpad", "W"), ("registers", "W"))
"""Order of tiles that are cut at the same place, where any order means the same."""

Loop = tuple[str, int]


@dataclass(frozen=True)
class ZigzagLoops:
    """Loops in time, innermost first, and how many of them run inside each tile."""

    loops: tuple[Loop, ...]
    cuts: dict[tuple[str, str], int]
    """By memory and operand (O, I, W)."""

    def trips(self, name: str) -> int:
        """Steps of all loops over D0, D1 or D2."""
        return math.prod(bound for dim, bound in self.loops if dim == name)


def parse_loops(text: str) -> ZigzagLoops:
    """Read a mapping; a `ValueError` says what was expected."""
    pairs = re.sub(r"\(\s*(D[012])\s*,\s*([1-9]\d*)\s*\)", r'["\1", \2]', text)
    try:
        mapping = json.loads(re.sub(r"\b([OIW])\s*:", r'"\1":', pairs))
        levels = {name: _levels(mapping[name], len(MEMORIES[name]) + 1) for name in MEMORIES}
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            "{O: [[(D0, 16), ...], [...]], I: [[...], [...]], W: [[...], [...], [...]]}"
        ) from None
    orders = {tuple(loop for level in each for loop in level) for each in levels.values()}
    if len(orders) != 1:
        raise ValueError("the same loops in the same order for O, I and W")
    cuts = {}
    for name, memories in MEMORIES.items():
        inside = 0
        for memory, loops in zip(memories, levels[name][:-1], strict=True):
            inside += len(loops)
            cuts[memory, name] = inside
    return ZigzagLoops(orders.pop(), cuts)


def _levels(value: object, num_levels: int) -> list[list[Loop]]:
    """Loops of one operand by level; any other shape is an error."""
    if not isinstance(value, list) or len(value) != num_levels:
        raise ValueError
    return [[(str(dim), int(bound)) for dim, bound in level] for level in value]


def loop_nest(mapping: ZigzagLoops, rows: float, cols: float) -> LoopNest:
    """The nest of a mapping whose array unrolls K over `rows` and N over `cols`.

    A memory that keeps an operand opens a tier; so does, keeping nothing, a second loop over a
    dimension that is not next to the first.
    """
    opened: list[tuple[NestTier, int]] = [(NestTier("DRAM", OPERANDS), len(mapping.loops))]
    by_place = sorted(OUTER_FIRST, key=lambda who: (-mapping.cuts[who], OUTER_FIRST.index(who)))
    for memory, name in by_place:
        opened.append((NestTier(memory, (OPERAND[name],)), mapping.cuts[memory, name]))
    tiers: list[NestTier] = []
    blocks: list[list[Loop]] = []
    ends = [inside for _, inside in opened[1:]] + [0]
    for (tier, start), end in zip(opened, ends, strict=True):
        for number, block in enumerate(_blocks(mapping.loops[end:start][::-1])):
            tiers.append(NestTier(tier.memory, tier.keeps if number == 0 else ()))
            blocks.append(block)
    temporal = np.ones((len(tiers), len(DIMS)))
    position = np.tile(np.arange(float(len(DIMS))), (len(tiers), 1))
    for tier, block in enumerate(blocks):
        dims = [DIMS.index(DIM[name]) for name, _ in block]
        rest = [dim for dim in range(len(DIMS)) if dim not in dims]
        position[tier, [*dims, *rest]] = np.arange(float(len(DIMS)))
        temporal[tier, dims] = [bound for _, bound in block]
    spatial = np.ones_like(temporal)
    last = tiers.index(NestTier("registers", ("weights",))) - 1
    spatial[last, DIMS.index(ROWS_DIM)] = rows
    spatial[last, DIMS.index(COLS_DIM)] = cols
    return LoopNest(temporal, position, spatial, tuple(tiers))


def _blocks(loops: tuple[Loop, ...]) -> list[list[Loop]]:
    """Loops, outermost first, in blocks that loop over each dimension once; at least one block."""
    blocks: list[list[Loop]] = [[]]
    for dim, bound in loops:
        block = blocks[-1]
        if block and block[-1][0] == dim:
            block[-1] = (dim, block[-1][1] * bound)
        elif dim in [name for name, _ in block]:
            blocks.append([(dim, bound)])
        else:
            block.append((dim, bound))
    return blocks
