"""Which mapping each operator of a network gets: the best one, or one with explicit tiles."""

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
"""A mapping for each operator; takes a core at its voltage, and the leakage in W."""


def network_sum(per_op: PerOp, operators: Operators) -> Scalar:
    """Sum over operators, each as often as it runs."""
    return jnp.dot(jnp.broadcast_to(per_op, jnp.shape(operators.count)), operators.count)


def best_mappings(
    design: CoreDesign, operators: Operators, static_w: Scalar, relaxation: Relaxation = EXACT
) -> BestMapping:
    r"""Every operator under the mapping that is best for the energy-delay product of the network.

    The product $T (E + P T)$ of sums over operators (P: leakage) does not fall apart into
    operators, but its first-order change does: $dE + \lambda dT$ with $\lambda = E/T + 2P$. So a
    first choice by each operator's own product gives $\lambda$, and the second choice minimizes
    $E + \lambda T$. That is never worse: the second point lies on or below the tangent at the
    first one of the curve of equal product, which is convex. For other objectives it is one
    sensible mapping among many: the price of time is the network's own mean power.

    A smooth reading only steers a search, and takes the first choice: on random cores the second
    changes the product by less than 1 % in nine of ten cases.
    """
    if not relaxation.is_exact:
        return best_mapping(operators, design.accelerator, relaxation)

    def price_w(first: MappingCosts) -> Scalar:
        return time_price_w(first, operators, jax.lax.stop_gradient(static_w))

    return best_mapping(operators, design.accelerator, relaxation, time_price_w=price_w)


def time_price_w(costs: MappingCosts, operators: Operators, static_w: Scalar) -> Scalar:
    r"""Joules that a second is worth at the margin of a network's energy-delay product, in W.

    $\lambda = E/T + 2P$ for dynamic energy E, time T, leakage P; without a gradient.
    """
    spent_j = network_sum(costs.energy_j, operators)
    price = spent_j / network_sum(costs.time_s, operators) + 2.0 * static_w
    return jax.lax.stop_gradient(price)


def tile_of(
    extents: TileExtents,
    operators: Operators,
    accelerator: Accelerator,
    residency: Residency,
    relaxation: Relaxation,
) -> Tile:
    """The tile that `extents` ask for: within the operator, blocks of whole tiles.

    What passes in slices comes again for each tile of outputs, so blocks are larger than tiles
    only where inputs and weights are both held whole. The array takes as many channels a pass as
    it may, in even passes.
    """
    p, q = jnp.minimum(extents.p, operators.p), jnp.minimum(extents.q, operators.q)
    n, k = jnp.minimum(extents.n, operators.n), jnp.minimum(extents.k, operators.k)

    has_blocks = residency.whole_inputs & residency.whole_weights

    def block(asked: PerOp, part: PerOp, extent: PerOp) -> PerOp:
        blocks = jnp.minimum(num_tiles(asked, part, relaxation) * part, extent)
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
    """The tiles of all operators as one, its leaves of shape `PerOp`."""

    bare = [dataclasses.replace(tile, name="") for tile in tiles]
    return jax.tree.map(lambda *sizes: jnp.stack([jnp.asarray(x, float) for x in sizes]), *bare)


def explicit_mappings(
    design: CoreDesign, operators: Operators, static_w: Scalar, relaxation: Relaxation = EXACT
) -> BestMapping:
    """Every operator under its own tile, with the residency that is best for the network.

    The residency is chosen without a gradient, and its costs computed again with one: that is
    all of the derivative there is, for a fifth of its work. Where none fits, the residency that
    overflows least is taken, and `used_ratio` says by how much.
    """
    extents, core = _stacked(design.tiles), design.accelerator
    frozen = jax.lax.stop_gradient((extents, core, static_w))
    choice = _best_residency(*frozen, operators, relaxation)
    residency = jax.tree.map(lambda flags: _taken(flags, choice), _all_residencies())
    tile = _once(tile_of(extents, operators, core, residency, relaxation))
    costs = _tile_costs(operators, tile, core, relaxation)
    shape = jnp.shape(operators.count)
    costs, tile = jax.tree.map(lambda x: jnp.broadcast_to(x, shape), (costs, tile))
    return BestMapping(costs, choice, tile)


def _tile_costs(
    operators: Operators, tile: Tile, accelerator: Accelerator, relaxation: Relaxation
) -> MappingCosts:
    moved = tile_traffic(operators, tile, accelerator, HARDWARE, relaxation)
    return mapping_costs(moved, accelerator, relaxation)


def _best_residency(
    extents: TileExtents,
    accelerator: Accelerator,
    static_w: Scalar,
    operators: Operators,
    relaxation: Relaxation,
) -> Leaf:
    """Number of the residency of each operator, found in two passes as in `best_mappings`."""
    tile = tile_of(extents, operators, accelerator, _all_residencies(), relaxation)
    costs = _tile_costs(operators, tile, accelerator, relaxation)
    first = _least(costs, costs.time_s * costs.energy_j, accelerator)
    time_s, energy_j = _taken(costs.time_s, first), _taken(costs.energy_j, first)
    firsts = dataclasses.replace(costs, time_s=time_s, energy_j=energy_j)
    price = time_price_w(firsts, operators, static_w)
    return _least(costs, costs.energy_j + price * costs.time_s, accelerator)


def _all_residencies() -> Residency:
    """`RESIDENCIES` on a first axis, before that of operators: one program for all of them."""
    return jax.tree.map(lambda *flags: np.array(flags)[:, None], *RESIDENCIES.values())


def _once(tile: Tile) -> Tile:
    """The tile, computed once for all that depends on it (see `materialize`)."""
    if jnp.shape(tile.k)[-1] > MAX_MATERIALIZED:
        return tile
    extents = materialize(dataclasses.replace(tile, residency=None))
    return dataclasses.replace(extents, residency=tile.residency)


def _least(costs: MappingCosts, score: Leaf, accelerator: Accelerator) -> Leaf:
    """Row with the lowest score of those that fit, else the one that overflows least."""
    return jnp.argmin(penalize_overflow(score, costs, accelerator), axis=0)


def _taken(rows: Leaf, choice: Leaf) -> Leaf:
    """The chosen row of each operator, from choices by operators (or by one for all)."""
    is_chosen = jnp.arange(len(RESIDENCIES))[:, None] == choice
    chosen = jnp.where(is_chosen, rows, jnp.zeros_like(rows))
    return jnp.any(chosen, axis=0) if chosen.dtype == bool else jnp.sum(chosen, axis=0)


MAPPINGS: Mapping[str, CoreMapping] = MappingProxyType(
    {"optimize": best_mappings, "explicit": explicit_mappings}
)
"""Where the mapping of each operator comes from, by `CoreDesign.mapping`."""
