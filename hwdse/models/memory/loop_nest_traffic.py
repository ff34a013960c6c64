"""Traffic of a given loop nest: words of each operand between the tiers that keep it.

The tile that a tier keeps of an operand changes with the innermost loop outside the tier that
indexes the operand, and with all loops around that one; loops inside it reuse the tile. A tile
comes from the next outer tier that keeps the operand, with bypass of tiers between, and returns
there if it is outputs. From the innermost tier that keeps an operand, the array takes a word per
step of all loops. PEs that need the same word at the same time share one read. Their sums of the
same output are added on the way and written once.

Source of the scheme: Parashar et al., Timeloop, ISPASS 2019, section V-B; `TIMELOOP` follows its
code, github.com/NVlabs/timeloop, src/loop-analysis (BSD-3-Clause).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from hwdse.numerics.array_types import Leaf
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator, Operands
from hwdse.specs.mappings.loop_nest import Accounting, LevelTraffic, LoopNest, NestTraffic
from hwdse.workload.loops.input_halos import HALO_RESETS, new_words, sliding, window_words
from hwdse.workload.loops.loop_passes import (
    Loops,
    innermost,
    is_index,
    loops_of,
    passes,
    product,
    shares,
)
from hwdse.workload.loops.operators import Operators

TIMELOOP = Accounting(
    fractional_edges=False,
    elides_first_read=True,
    drains_outputs=True,
    halo="extrapolated",
    writes_returning_sums=False,
)
"""Timeloop of 2022, first reads elided. Timeloop counts one access beside the additions per word
and stay of an unfinished sum; it calls this access the fill, here it is the drain."""


class _Edge(NamedTuple):
    """Path of an operand: between two tiers, or (`child` None) between a tier and the array."""

    operand: str
    parent: int
    child: int | None


def nest_traffic(
    nest: LoopNest, operators: Operators, accelerator: Accelerator, accounting: Accounting
) -> NestTraffic:
    r"""Bytes by level and cycles of operators run as a loop nest, batched over leading axes.

    Words sent into the tiles of a tier: $\prod_{d \in O} E_d \prod_{d \notin O} n_d$, with the
    sizes $E_d$ of the dimensions that index the operand, and the passes $n_d$ over the others in
    loops at and around the innermost loop that changes the tile. Inputs are the windows of all
    tiles minus the words left by the previous tile (`new_words`). Outputs leave with every stay of
    a tile and return for each stay but the first. Partial last tiles count by their size, passes
    over them as full passes. Bytes have the width of the level at which they are counted.

    The order of loops has no gradient. Bounds have a gradient, also at a bound of 1, for the given
    order. Assumes that only the outermost loop of a dimension has a partial last tile.
    """
    _check(nest, accelerator, accounting)
    loops = loops_of(nest)
    zero = jnp.zeros(jnp.shape(loops.sizes)[:-1], loops.sizes.dtype)
    words: dict[tuple[str, str], dict[str, Leaf]] = {
        (level.name, kind): dict.fromkeys(OPERANDS, zero)
        for level in accelerator.levels
        for kind in ("reads", "writes", "used")
    }
    for edge in _edges(nest):
        used = _tile_words(loops, operators, edge) * product(shares(loops, edge.parent), -1)
        counts = [(edge.parent, "used", used), *_counts(loops, operators, edge, accounting)]
        for index, kind, amount in counts:
            by_operand = words[nest.tiers[index].memory, kind]
            by_operand[edge.operand] = by_operand[edge.operand] + amount
    levels = tuple(
        LevelTraffic(
            reads=_bytes(words[level.name, "reads"], level.word_bytes),
            writes=_bytes(words[level.name, "writes"], level.word_bytes),
            used=_bytes(words[level.name, "used"], level.word_bytes),
        )
        for level in accelerator.levels
    )
    return NestTraffic(levels, _cycles(loops, accounting), operators.num_macs)


def _check(nest: LoopNest, accelerator: Accelerator, accounting: Accounting) -> None:
    """Raise `ValueError` for unknown levels, operands without a tier and unknown halo rules."""
    names = [level.name for level in accelerator.levels]
    for tier in nest.tiers:
        if tier.memory not in names:
            raise ValueError(f"tier {tier.memory}: expected one of the levels {', '.join(names)}")
    for operand in OPERANDS:
        if not any(operand in tier.keeps for tier in nest.tiers):
            raise ValueError(f"no tier keeps {operand}; expected at least the outermost")
    if accounting.halo not in HALO_RESETS:
        raise ValueError(f"halo {accounting.halo}: expected one of {', '.join(HALO_RESETS)}")


def _edges(nest: LoopNest) -> list[_Edge]:
    """Edges from each tier that keeps an operand to the next inner tier, and finally to the
    array."""
    edges = []
    for operand in OPERANDS:
        holders = [index for index, tier in enumerate(nest.tiers) if operand in tier.keeps]
        children = [*holders[1:], None]
        edges += [_Edge(operand, *pair) for pair in zip(holders, children, strict=True)]
    return edges


def _cycles(loops: Loops, accounting: Accounting) -> Leaf:
    """Steps of all temporal loops; with fractional edges, MACs over the PEs used."""
    if accounting.fractional_edges:
        return product(product(loops.temporal, -1), -1)
    return product(passes(loops, True, False), -1)


def _counts(
    loops: Loops, operators: Operators, edge: _Edge, accounting: Accounting
) -> list[tuple[int, str, Leaf]]:
    """Words read and written at the ends of an edge, with the tier of each."""
    at_parent, at_child = _sent(loops, operators, edge, accounting)
    if edge.operand != "outputs":
        counts = [(edge.parent, "reads", at_parent)]
        return counts if edge.child is None else [*counts, (edge.child, "writes", at_child)]
    returning = at_parent
    if accounting.elides_first_read:
        first = jnp.where(is_index("outputs"), loops.sizes, shares(loops, edge.parent))
        returning = at_parent - product(first, -1)
    counts = [(edge.parent, "reads", returning), (edge.parent, "writes", at_parent)]
    if edge.child is not None and accounting.drains_outputs:
        counts.append((edge.child, "reads", at_child))
    if edge.child is not None and accounting.writes_returning_sums:
        counts.append((edge.child, "writes", returning))
    return counts


def _sent(
    loops: Loops, operators: Operators, edge: _Edge, accounting: Accounting
) -> tuple[Leaf, Leaf]:
    """Words over an edge, as counted at all its parents and at all its children."""
    indexes, num_tiers = is_index(edge.operand), loops.temporal.shape[-2]
    child = num_tiers if edge.child is None else edge.child
    is_counted = np.arange(num_tiers)[:, None] < child
    if edge.child is not None:
        last = innermost(loops, edge.operand, child)[..., None, None]
        is_counted = is_counted & (loops.key <= last)
    num_loads = passes(loops, is_counted, accounting.fractional_edges)
    num_parts = [num_loads * shares(loops, tier) for tier in (edge.parent, child)]
    at_parent, at_child = (product(jnp.where(indexes, 1.0, x), -1) for x in num_parts)
    if edge.operand != "inputs":
        words = product(jnp.where(indexes, loops.sizes, 1.0), -1)
        return words * at_parent, words * at_child
    slide, parts = None, loops.sizes
    if edge.child is not None:
        halo, is_fractional = accounting.halo, accounting.fractional_edges
        slide = sliding(loops, operators, child, num_loads, halo, is_fractional)
        parts = num_parts[1]
    read, written = new_words(loops, operators, range(edge.parent, child), parts, slide)
    return read * at_parent, written * at_child


def _tile_words(loops: Loops, operators: Operators, edge: _Edge) -> Leaf:
    """Words of the tile that the parent of an edge keeps."""
    tile = loops.tile[..., edge.parent, :]
    if edge.operand == "inputs":
        return window_words(tile, operators)
    return product(jnp.where(is_index(edge.operand), tile, 1.0), -1)


def _bytes(words: dict[str, Leaf], width: Operands) -> Operands:
    return Operands(**{name: amount * getattr(width, name) for name, amount in words.items()})
