"""Loop nests from mappings in ZigZag's printed form.

The text contains, per operand and from its innermost memory outward, the loops of a tile of that
memory, innermost first: `{O: [[(D0, 16), (D2, 3)], [(D1, 2)]], I: [...], W: [...]}`. D0, D1, D2
are the M, N and K of C[M, N] = A[M, K] B[K, N]; O, I, W are C, A and B. All operands have the same
loops in the same order, divided among memories at different positions (uneven residency).
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
"""Memories from the array to DRAM, by operand."""
OPERAND = {"W": "weights", "I": "inputs", "O": "outputs"}
DIM = {"D0": "P", "D1": "K", "D2": "C"}
ROWS_DIM, COLS_DIM = "C", "K"
OUTER_FIRST = (("scratchpad", "I"), ("accumulator", "O"), ("scratchpad", "W"), ("registers", "W"))
"""Order of tiles with the same boundary; every order is equivalent."""

Loop = tuple[str, int]


@dataclass(frozen=True)
class ZigzagLoops:
    """Temporal loops, innermost first, and the number of loops inside each tile."""

    loops: tuple[Loop, ...]
    boundaries: dict[tuple[str, str], int]
    """Number of loops inside a tile, by memory and operand (O, I, W)."""

    def trips(self, name: str) -> int:
        """Product of the bounds of all loops over D0, D1 or D2."""
        return math.prod(bound for dim, bound in self.loops if dim == name)


def parse_loops(text: str) -> ZigzagLoops:
    """Loops of a mapping; a `ValueError` contains the expected form."""
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
    boundaries = {}
    for name, memories in MEMORIES.items():
        inside = 0
        for memory, loops in zip(memories, levels[name][:-1], strict=True):
            inside += len(loops)
            boundaries[memory, name] = inside
    return ZigzagLoops(orders.pop(), boundaries)


def _levels(value: object, num_levels: int) -> list[list[Loop]]:
    """Loops of one operand by level; any other structure raises an error."""
    if not isinstance(value, list) or len(value) != num_levels:
        raise ValueError
    return [[(str(dim), int(bound)) for dim, bound in level] for level in value]


def loop_nest(mapping: ZigzagLoops, rows: float, cols: float) -> LoopNest:
    """Loop nest of a mapping whose array unrolls K over `rows` and N over `cols`.

    A tier begins at each memory that keeps an operand. A second loop over a dimension that is not
    adjacent to the first also begins a tier, which keeps nothing.
    """
    opened: list[tuple[NestTier, int]] = [(NestTier("DRAM", OPERANDS), len(mapping.loops))]
    outer_first = sorted(
        OUTER_FIRST, key=lambda tile: (-mapping.boundaries[tile], OUTER_FIRST.index(tile))
    )
    for memory, name in outer_first:
        opened.append((NestTier(memory, (OPERAND[name],)), mapping.boundaries[memory, name]))
    tiers: list[NestTier] = []
    blocks: list[list[Loop]] = []
    ends = [inside for _, inside in opened[1:]] + [0]
    for (tier, start), end in zip(opened, ends, strict=True):
        for index, block in enumerate(_blocks(mapping.loops[end:start][::-1])):
            tiers.append(NestTier(tier.memory, tier.keeps if index == 0 else ()))
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
    """Loops, outermost first, in blocks with at most one loop per dimension; at least one block."""
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
