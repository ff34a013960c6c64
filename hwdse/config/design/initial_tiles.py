"""Initial tiles of explicit mappings: simple tiles that fit, without optimization."""

import re

from hwdse.specs.design import TileExtents
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.mappings.tiles import roles
from hwdse.workload.loops.operators import Operators

SUMS_SHARE = 0.5
"""Fraction of a memory for partial sums if it also holds inputs and weights."""


def tile_names(operators: Operators) -> tuple[str, ...]:
    """Distinct operator names as words of a path: letters, digits, _ and -."""
    names: list[str] = []
    for number, name in enumerate(operators.names):
        word = re.sub(r"[^A-Za-z0-9_-]", "_", name)
        if not word or word.isdecimal() or word in names:
            word = f"{word or 'operator'}_at_{number}"
        names.append(word)
    return tuple(names)


def first_tiles(operators: Operators, accelerator: Accelerator) -> tuple[TileExtents, ...]:
    """One tile per operator: as many channels as array columns, then as many rows as fit.

    Blocks are single tiles, and the whole array may be used. The tile fits unless a memory is
    smaller than one of its rows.
    """
    part = roles(accelerator)
    sums, inputs = accelerator.levels[part.accumulator], accelerator.levels[part.scratchpad]
    share = SUMS_SHARE if part.is_unified else 1.0
    room = share * sums.capacity_bytes / sums.word_bytes.outputs
    inputs_room = share * inputs.capacity_bytes / inputs.word_bytes.inputs
    inputs_room -= (
        accelerator.rows * accelerator.cols * (inputs.word_bytes.weights / inputs.word_bytes.inputs)
    )

    def tile(index: int, name: str) -> TileExtents:
        def size(field: str) -> float:
            return float(getattr(operators, field)[index])

        def words(p: float, q: float) -> float:
            height = (p - 1.0) * size("stride_p") + (size("r") - 1.0) * size("dilation_r") + 1.0
            width = (q - 1.0) * size("stride_q") + (size("s") - 1.0) * size("dilation_s") + 1.0
            return min(float(accelerator.rows), size("c")) * height * width

        k = min(size("k"), float(accelerator.cols))
        q = max(min(size("q"), room // k), 1.0)
        p = max(min(size("p"), room // (k * q)), 1.0)
        while words(p, q) > inputs_room and p * q > 1.0:
            p, q = (max(p // 2.0, 1.0), q) if p > 1.0 else (p, max(q // 2.0, 1.0))
        return TileExtents(
            p=p, q=q, n=1.0, k=k, block_p=p, block_k=k, rows=size("c"), cols=size("k"), name=name
        )

    return tuple(tile(index, name) for index, name in enumerate(tile_names(operators)))
