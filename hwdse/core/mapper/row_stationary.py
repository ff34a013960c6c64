"""Loop nests and costs of row-stationary mappings of convolutions (Eyeriss).

A PE computes a 1-D convolution of a filter row with an input row. Filter rows are along an array
column, where partial sums are added; output rows are along an array row. Source: Chen, Emer and
Sze, ISCA 2016, sections V and VI; Chen et al., JSSC 2017, section IV (symbols in
`specs/mappings/row_stationary_mapping`).
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
r"""Sums start without a read; finished sums are read from the buffer to go to DRAM. Table V of JSSC
2017 has the same number of accesses of sums, $2 \lceil C / (q r) \rceil$ per output."""


class Memories(NamedTuple):
    """Names of the levels by their role in a row-stationary core."""

    dram: str
    buffer: str
    filters: str
    inputs: str
    sums: str


def row_stationary_memories(accelerator: Accelerator) -> Memories:
    """Names of the levels by role; `ValueError` if the core is not structured like Eyeriss."""
    roles = [set(OPERANDS), {"inputs", "outputs"}, {"weights"}, {"inputs"}, {"outputs"}]
    names = []
    for keeps in roles:
        found = [level.name for level in accelerator.levels if set(level.keeps) == keeps]
        if len(found) != 1:
            raise ValueError(
                "a row-stationary core has one level each for all operands, inputs+outputs, "
                f"weights, inputs, outputs; found {len(found)} levels for {'+'.join(sorted(keeps))}"
            )
        names += found
    return Memories(*names)


def row_stationary_nest(
    operators: Operators, accelerator: Accelerator, mapping: RowStationaryMapping
) -> LoopNest:
    """Loop nest of a mapping, batched over the common axes of operators and mapping.

    DRAM: images, filters, strips, channels. Global buffer: filters, images. Array: rows and columns
    of a set, sets of channels and filters. PE: output columns, then taps, channels, filters.
    Partial last tiles give fractional bounds.
    """
    names = row_stationary_memories(accelerator)
    pass_filters = mapping.filters * mapping.filter_sets
    pass_channels = mapping.channels * mapping.channel_sets
    temporal = (
        {
            "N": operators.n / mapping.buffered_images,
            "K": operators.k / mapping.buffered_filters,
            "P": operators.p / mapping.strip,
            "C": operators.c / pass_channels,
            "R": operators.r / mapping.filter_rows,
        },
        {"K": mapping.buffered_filters / pass_filters, "N": mapping.buffered_images},
        {"Q": operators.q},
        {},
        {"S": operators.s, "C": mapping.channels, "K": mapping.filters},
    )
    array = {
        "R": mapping.filter_rows,
        "P": mapping.strip,
        "C": mapping.channel_sets,
        "K": mapping.filter_sets,
    }
    tiers = (
        NestTier(names.dram, OPERANDS),
        NestTier(names.buffer, ("inputs", "outputs")),
        NestTier(names.filters, ("weights",)),
        NestTier(names.inputs, ("inputs",)),
        NestTier(names.sums, ("outputs",)),
    )
    spatial = ({}, array, {}, {}, {})
    position = [[_position(letter, loops) for letter in DIMS] for loops in temporal]
    return LoopNest(
        temporal=_stack(temporal), position=np.array(position), spatial=_stack(spatial), tiers=tiers
    )


def _position(letter: str, loops: dict[str, Leaf]) -> float:
    """Position of a loop in its tier; dimensions without a loop come last."""
    return float(list(loops).index(letter)) if letter in loops else float(len(DIMS))


def _stack(tiers: tuple[dict[str, Leaf], ...]) -> jax.Array:
    """Bounds by tier and dimension on the last two axes; 1 where none is given."""
    bounds = [jnp.asarray(loops.get(letter, 1.0), float) for loops in tiers for letter in DIMS]
    flat = jnp.stack(jnp.broadcast_arrays(*bounds), axis=-1)
    return jnp.reshape(flat, (*flat.shape[:-1], len(tiers), len(DIMS)))


def row_stationary_costs(
    operators: Operators,
    accelerator: Accelerator,
    mapping: RowStationaryMapping,
    accounting: Accounting = ACCOUNTING,
) -> MappingCosts:
    """Traffic, time and energy of given row-stationary mappings, without array wires."""
    nest = row_stationary_nest(operators, accelerator, mapping)
    return mapping_costs(nest_traffic(nest, operators, accelerator, accounting), accelerator)


def hop_words(operators: Operators, mapping: RowStationaryMapping) -> PerOp:
    """Words over the array wires: operands into the PEs and sums between PEs.

    Array accesses of ISCA 2016 (equations 3 and 4): every input and weight that enters a PE, and
    every sum that a PE forwards to the PE above.
    """
    rounds = num_tiles(operators.n, mapping.buffered_images) * num_tiles(
        operators.k, mapping.buffered_filters
    )
    rounds = rounds * num_tiles(operators.p, mapping.strip)
    rounds = rounds * num_tiles(operators.c, mapping.channels * mapping.channel_sets)
    rounds = rounds * num_tiles(operators.r, mapping.filter_rows)
    blocks = rounds * mapping.buffered_filters / (mapping.filters * mapping.filter_sets)
    row_words = (operators.q - 1.0) * operators.stride_q + (operators.s - 1.0) * (
        operators.dilation_s
    )
    inputs = mapping.buffered_images * mapping.channels * (row_words + 1.0)
    weights = mapping.filters * mapping.channels * operators.s
    sums = mapping.buffered_images * mapping.filters * operators.q
    column = mapping.filter_rows * mapping.channel_sets
    return blocks * mapping.num_active * (inputs + weights + sums * (column - 1.0) / column)
