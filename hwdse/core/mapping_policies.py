"""Mapping policies of an operator network: best mappings, or explicit tiles."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.core.mapper.mapper import (
    HARDWARE,
    MAX_MATERIALIZED,
    BestMapping,
    best_mapping,
    penalize_overflow,
)
from hwdse.models.memory.memory_level_costs import mapping_costs
from hwdse.models.memory.tile_traffic import even_width, tile_traffic
from hwdse.numerics.array_types import Leaf, PerOp, Scalar
from hwdse.numerics.relaxation import EXACT, Relaxation, materialize, num_tiles
from hwdse.specs.design import CoreDesign, TileExtents
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.mappings.loop_nest import MappingCosts
from hwdse.specs.mappings.tiles import RESIDENCIES, Residency, Tile
from hwdse.workload.loops.operators import Operators
from hwdse.workload.loops.tile_footprint import either

CoreMapping = Callable[[CoreDesign, Operators, Scalar, Relaxation], BestMapping]
"""Function to a mapping per operator from a core at its supply voltage and its leakage in W."""


def network_sum(per_op: PerOp, operators: Operators) -> Scalar:
    """Sum over operators, weighted with their counts."""
    return jnp.dot(jnp.broadcast_to(per_op, jnp.shape(operators.count)), operators.count)


def best_mappings(
    design: CoreDesign, operators: Operators, static_w: Scalar, relaxation: Relaxation = EXACT
) -> BestMapping:
    r"""Mapping of each operator that minimizes the energy-delay product (EDP) of the network.

    The EDP $T (E + P T)$ of sums over operators (leakage P) is not separable, but its first-order
    change is: $dE + \lambda dT$ with $\lambda = E/T + 2P$. A first pass minimizes the EDP of each
    operator and gives $\lambda$; a second pass minimizes $E + \lambda T$. The second result is
    never worse: it lies on or below the tangent of the convex curve of equal EDP at the first one.
    For other objectives the mapping is a heuristic: time is priced at the mean network power.

    The smooth relaxation only guides a search and uses the first pass. On random cores the second
    pass changes the EDP by less than 1 % in nine of ten cases.
    """
    if not relaxation.is_exact:
        return best_mapping(operators, design.accelerator, relaxation)

    def price_w(first: MappingCosts) -> Scalar:
        return time_price_w(first, operators, jax.lax.stop_gradient(static_w))

    return best_mapping(operators, design.accelerator, relaxation, time_price_w=price_w)


def time_price_w(costs: MappingCosts, operators: Operators, static_w: Scalar) -> Scalar:
    r"""Marginal price of time at constant energy-delay product of a network, in W.

    $\lambda = E/T + 2P$ for dynamic energy E, time T, leakage P; without a gradient.
    """
    energy_j = network_sum(costs.energy_j, operators)
    price = energy_j / network_sum(costs.time_s, operators) + 2.0 * static_w
    return jax.lax.stop_gradient(price)


def tile_of(
    extents: TileExtents,
    operators: Operators,
    accelerator: Accelerator,
    residency: Residency,
    relaxation: Relaxation,
) -> Tile:
    """Tile with the given extents, clipped to the operator; blocks are multiples of tiles.

    Operands that stream in slices are read again for every output tile. Blocks are therefore larger
    than tiles only if inputs and weights are both fully resident. An array pass has as many
    channels as allowed, in equal passes.
    """
    p, q = jnp.minimum(extents.p, operators.p), jnp.minimum(extents.q, operators.q)
    n, k = jnp.minimum(extents.n, operators.n), jnp.minimum(extents.k, operators.k)

    has_blocks = residency.whole_inputs & residency.whole_weights

    def block(size: PerOp, part: PerOp, extent: PerOp) -> PerOp:
        blocks = jnp.minimum(num_tiles(size, part, relaxation) * part, extent)
        return either(has_blocks, blocks, part)

    return Tile(
        p=p,
        q=q,
        n=n,
        k=k,
        block_p=block(extents.block_p, p, operators.p),
        block_k=block(extents.block_k, k, operators.k),
        rows=even_width(operators.c, jnp.minimum(extents.rows, accelerator.rows), relaxation),
        cols=even_width(k, jnp.minimum(extents.cols, accelerator.cols), relaxation),
        residency=residency,
    )


def _stacked(tiles: tuple[TileExtents, ...]) -> TileExtents:
    """Tiles of all operators in one pytree with leaves of shape `PerOp`."""

    bare = [dataclasses.replace(tile, name="") for tile in tiles]
    return jax.tree.map(lambda *sizes: jnp.stack([jnp.asarray(x, float) for x in sizes]), *bare)


def explicit_mappings(
    design: CoreDesign, operators: Operators, static_w: Scalar, relaxation: Relaxation = EXACT
) -> BestMapping:
    """Mapping of each operator with its explicit tile and the best residency for the network.

    The residency is selected without a gradient and its costs are recomputed with one, which gives
    the full derivative at a fifth of the cost. If no residency fits, the one with the smallest
    overflow is selected; `used_ratio` holds the overflow.
    """
    extents, core = _stacked(design.tiles), design.accelerator
    frozen = jax.lax.stop_gradient((extents, core, static_w))
    choice = _best_residency(*frozen, operators, relaxation)
    residency = jax.tree.map(lambda flags: _selected(flags, choice), _all_residencies())
    tile = _materialized(tile_of(extents, operators, core, residency, relaxation))
    costs = _tile_costs(operators, tile, core, relaxation)
    shape = jnp.shape(operators.count)
    costs, tile = jax.tree.map(lambda x: jnp.broadcast_to(x, shape), (costs, tile))
    return BestMapping(costs, choice, tile)


def _tile_costs(
    operators: Operators, tile: Tile, accelerator: Accelerator, relaxation: Relaxation
) -> MappingCosts:
    traffic = tile_traffic(operators, tile, accelerator, HARDWARE, relaxation)
    return mapping_costs(traffic, accelerator, relaxation)


def _best_residency(
    extents: TileExtents,
    accelerator: Accelerator,
    static_w: Scalar,
    operators: Operators,
    relaxation: Relaxation,
) -> Leaf:
    """Index of the residency of each operator, from two passes as in `best_mappings`."""
    tile = tile_of(extents, operators, accelerator, _all_residencies(), relaxation)
    costs = _tile_costs(operators, tile, accelerator, relaxation)
    first = _best_fitting(costs, costs.time_s * costs.energy_j, accelerator)
    time_s, energy_j = _selected(costs.time_s, first), _selected(costs.energy_j, first)
    firsts = dataclasses.replace(costs, time_s=time_s, energy_j=energy_j)
    price = time_price_w(firsts, operators, static_w)
    return _best_fitting(costs, costs.energy_j + price * costs.time_s, accelerator)


def _all_residencies() -> Residency:
    """`RESIDENCIES` on an axis before that of operators, so that one program serves all."""
    return jax.tree.map(lambda *flags: np.array(flags)[:, None], *RESIDENCIES.values())


def _materialized(tile: Tile) -> Tile:
    """Tile that is computed once for all uses (see `materialize`)."""
    if jnp.shape(tile.k)[-1] > MAX_MATERIALIZED:
        return tile
    extents = materialize(dataclasses.replace(tile, residency=None))
    return dataclasses.replace(extents, residency=tile.residency)


def _best_fitting(costs: MappingCosts, score: Leaf, accelerator: Accelerator) -> Leaf:
    """Index of the fitting residency with the lowest score, else of the smallest overflow."""
    return jnp.argmin(penalize_overflow(score, costs, accelerator), axis=0)


def _selected(values: Leaf, choice: Leaf) -> Leaf:
    """Chosen element of each operator from an array of residencies by operators (or by 1)."""
    is_chosen = jnp.arange(len(RESIDENCIES))[:, None] == choice
    chosen = jnp.where(is_chosen, values, jnp.zeros_like(values))
    return jnp.any(chosen, axis=0) if chosen.dtype == bool else jnp.sum(chosen, axis=0)


MAPPINGS: Mapping[str, CoreMapping] = MappingProxyType(
    {"optimize": best_mappings, "explicit": explicit_mappings}
)
"""Mapping policies by `CoreDesign.mapping`."""
