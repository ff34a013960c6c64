"""Row-stationary mappings of convolutions (Eyeriss): their loop nests and what they cost.

An element makes a 1-D convolution of a filter row with an input row; the rows of a filter stand
along a column, where their sums are added, and output rows along a row of the array. Source: Chen,
Emer and Sze, ISCA 2016, sections V and VI; Chen et al., JSSC 2017, section IV (letters in
`specs.row_sets`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.models.memory.loop_nest_traffic import nest_traffic
from hwdse.models.memory.memory_level_costs import mapping_costs
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.numerics.relaxation import num_tiles
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator
from hwdse.specs.mappings.loop_nest import Accounting, LoopNest, MappingCosts, NestTier
from hwdse.specs.mappings.row_stationary_mapping import RowStationaryMapping
from hwdse.workload.loops.operators import DIMS, Operators

ACCOUNTING = Accounting(fractional_edges=False, elides_first_read=True, drains_outputs=True)
r"""Sums start from nothing and finished ones are read from the buffer to leave for DRAM. JSSC's
table V counts as many accesses of sums, $2 \lceil C / (q r) \rceil$ an output."""


class Memories(NamedTuple):
    """Names of the levels by their part in a row-stationary core."""

    dram: str
    buffer: str
    filters: str
    inputs: str
    sums: str


def row_stationary_memories(accelerator: Accelerator) -> Memories:
    """Who is who among the levels; a `ValueError` where the core is not built like Eyeriss."""
    parts = [set(OPERANDS), {"inputs", "outputs"}, {"weights"}, {"inputs"}, {"outputs"}]
    names = []
    for keeps in parts:
        found = [level.name for level in accelerator.levels if set(level.keeps) == keeps]
        if len(found) != 1:
            raise ValueError(
                "a row-stationary core has one level each of everything, inputs+outputs, weights, "
                f"inputs, outputs; {len(found)} of its levels keep {'+'.join(sorted(keeps))}"
            )
        names += found
    return Memories(*names)


def row_stationary_nest(
    operators: Operators, accelerator: Accelerator, sets: RowStationaryMapping
) -> LoopNest:
    """Loop nest of a mapping, batched over the axes that operators and sets have in common.

    DRAM: images, filters, strips, channels; global buffer: filters, images; array: a set's rows
    and columns, sets of channels and filters; element: output columns, then taps, channels,
    filters. Bounds may be fractions at ragged ends.
    """
    names = row_stationary_memories(accelerator)
    pass_filters = sets.filters * sets.filter_sets
    pass_channels = sets.channels * sets.channel_sets
    temporal = (
        {
            "N": operators.n / sets.buffered_images,
            "K": operators.k / sets.buffered_filters,
            "P": operators.p / sets.strip,
            "C": operators.c / pass_channels,
            "R": operators.r / sets.filter_rows,
        },
        {"K": sets.buffered_filters / pass_filters, "N": sets.buffered_images},
        {"Q": operators.q},
        {},
        {"S": operators.s, "C": sets.channels, "K": sets.filters},
    )
    array = {
        "R": sets.filter_rows,
        "P": sets.strip,
        "C": sets.channel_sets,
        "K": sets.filter_sets,
    }
    tiers = (
        NestTier(names.dram, OPERANDS),
        NestTier(names.buffer, ("inputs", "outputs")),
        NestTier(names.filters, ("weights",)),
        NestTier(names.inputs, ("inputs",)),
        NestTier(names.sums, ("outputs",)),
    )
    spatial = ({}, array, {}, {}, {})
    position = [[_place(letter, loops) for letter in DIMS] for loops in temporal]
    return LoopNest(
        temporal=_stack(temporal), position=np.array(position), spatial=_stack(spatial), tiers=tiers
    )


def _place(letter: str, loops: dict[str, Leaf]) -> float:
    """Place of a loop in its tier; dimensions without one come last."""
    return float(list(loops).index(letter)) if letter in loops else float(len(DIMS))


def _stack(tiers: tuple[dict[str, Leaf], ...]) -> jax.Array:
    """Bounds by tier and dimension on the last two axes, one where none is given."""
    bounds = [jnp.asarray(loops.get(letter, 1.0), float) for loops in tiers for letter in DIMS]
    flat = jnp.stack(jnp.broadcast_arrays(*bounds), axis=-1)
    return jnp.reshape(flat, (*flat.shape[:-1], len(tiers), len(DIMS)))


def row_stationary_costs(
    operators: Operators,
    accelerator: Accelerator,
    sets: RowStationaryMapping,
    accounting: Accounting = ACCOUNTING,
) -> MappingCosts:
    """Traffic, time and energy of given row-stationary mappings, without the array's wires."""
    nest = row_stationary_nest(operators, accelerator, sets)
    return mapping_costs(nest_traffic(nest, operators, accelerator, accounting), accelerator)


def hop_words(operators: Operators, sets: RowStationaryMapping) -> PerOp:
    """Words over the wires of the array: operands into the elements, sums from one to the next.

    What ISCA 2016 (equations 3 and 4) counts as an access to the array: each input and weight that
    an element takes in, and each sum that it hands to the element above.
    """
    rounds = num_tiles(operators.n, sets.buffered_images) * num_tiles(
        operators.k, sets.buffered_filters
    )
    rounds = rounds * num_tiles(operators.p, sets.strip)
    rounds = rounds * num_tiles(operators.c, sets.channels * sets.channel_sets)
    rounds = rounds * num_tiles(operators.r, sets.filter_rows)
    blocks = rounds * sets.buffered_filters / (sets.filters * sets.filter_sets)
    row_words = (operators.q - 1.0) * operators.stride_q + (operators.s - 1.0) * (
        operators.dilation_s
    )
    inputs = sets.buffered_images * sets.channels * (row_words + 1.0)
    weights = sets.filters * sets.channels * operators.s
    sums = sets.buffered_images * sets.filters * operators.q
    column = sets.filter_rows * sets.channel_sets
    return blocks * sets.num_active * (inputs + weights + sums * (column - 1.0) / column)
