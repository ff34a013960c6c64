"""A tile with its residency as a loop nest, which the model of given nests can evaluate again."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from hwdse.specs.accelerator import OPERANDS, Accelerator
from hwdse.specs.nest import LoopNest, Tier
from hwdse.specs.tiles import Tile, roles
from hwdse.workload.operators import DIMS, Operators

LOOPS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "stream": {"all": "KNQP", "outputs": "C", "inputs": "RSk", "weights": ""},
        "input_block": {"all": "NQP", "inputs": "K", "outputs": "CRS", "weights": ""},
        "weight_block": {"all": "K", "weights": "NQP", "outputs": "C", "inputs": "RSk"},
        "input_block_weight_blocks": {
            "all": "NQP",
            "inputs": "K",
            "weights": "p",
            "outputs": "CRS",
        },
        "weight_block_input_blocks": {
            "all": "K",
            "weights": "NQP",
            "inputs": "k",
            "outputs": "CRS",
        },
    }
)
"""By residency: what a tier keeps, and its loops in time, outermost first. Capital letters are
loops over blocks (`DIMS`), small ones loops inside them. Below stand the array, which unrolls C
and K, and its registers with the loops over the outputs of a tile."""


def tile_nest(
    tile: Tile, residency: str, operators: Operators, accelerator: Accelerator
) -> LoopNest:
    """Nests of operators that all have the same residency; concrete numbers, on any axes."""
    part = roles(accelerator)
    places = {"all": part.dram, "outputs": part.accumulator}
    bounds = {
        "C": operators.c / tile.rows,
        "R": operators.r,
        "S": operators.s,
        "N": operators.n / tile.n,
        "Q": operators.q / tile.q,
        "P": operators.p / tile.block_p,
        "K": operators.k / tile.block_k,
        "p": tile.block_p / tile.p,
        "k": tile.block_k / tile.cols,
    }
    tiers, temporal, position = [], [], []
    for keeps, loops in LOOPS[residency].items():
        level = accelerator.levels[places.get(keeps, part.scratchpad)]
        tiers.append(Tier(level.name, OPERANDS if keeps == "all" else (keeps,)))
        temporal.append({letter.upper(): bounds[letter] for letter in loops})
        position.append({letter.upper(): place for place, letter in enumerate(loops)})
    tiers.append(Tier(accelerator.levels[part.registers].name, ("weights",)))
    temporal.append({"N": tile.n, "Q": tile.q, "P": tile.p})
    position.append({"N": 0, "Q": 1, "P": 2})
    spatial = [{}] * (len(tiers) - 2) + [{"C": tile.rows, "K": tile.cols}, {}]
    return LoopNest(
        temporal=_table(temporal, 1.0),
        position=_table(position, float(len(DIMS))),
        spatial=_table(spatial, 1.0),
        tiers=tuple(tiers),
    )


def _table(rows: list[dict[str, Any]], otherwise: float) -> np.ndarray:
    """Bounds or places by tier and dimension, on the last two axes."""
    cells = [np.asarray(row.get(letter, otherwise), float) for row in rows for letter in DIMS]
    stacked = np.stack(np.broadcast_arrays(*cells), axis=-1)
    return stacked.reshape(*stacked.shape[:-1], len(rows), len(DIMS))
