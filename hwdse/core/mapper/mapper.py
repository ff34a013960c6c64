"""Mapper: best mapping of each operator on a core, over tiles and residencies, as loop nests.

A loop over the numbered tiles of the mapspace finds the best tile without a gradient. This tile is
then evaluated again with one: by the envelope theorem, the derivative of the minimum equals the
derivative of the costs at the minimizer.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.core.mapper.mapspace import (
    NUM_COUNTS,
    Method,
    even_rows,
    methods,
    num_choices,
    numbered_tile,
)
from hwdse.models.memory.largest_tile import Grain
from hwdse.models.memory.memory_level_costs import (
    access_energy_j_per_byte,
    mapping_costs,
    port_bytes_per_s,
)
from hwdse.models.memory.tile_traffic import tile_traffic
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp, Scalar
from hwdse.numerics.relaxation import EXACT, Relaxation, materialize, safe_log
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator
from hwdse.specs.mappings.loop_nest import Accounting, LoopNest, MappingCosts, NestTier
from hwdse.specs.mappings.tiles import RESIDENCIES, Divisors, Tile, roles
from hwdse.workload.loops.operators import DIMS, Operators
from hwdse.workload.loops.tile_footprint import either

HARDWARE = Accounting(fractional_edges=False, elides_first_read=True, drains_outputs=True)
"""Accounting of hardware: partial array passes take as long as full ones, sums start without a read
and are read once more when they drain."""
OVERFLOW_PENALTY = 1e30
"""Score of a tile that does not fit, times required over available capacity. Such a tile is
selected only if none fits, and then the one with the smallest overflow."""
OVERFLOW_TOLERANCE = 1e-5
"""Relative overflow by rounding errors of a tile that exactly fills a capacity."""
SOFTNESS = 0.05
"""Relative score difference that is a factor e in the smooth minimum at temperature 1."""
MIN_SOFTNESS = 1e-3
"""`SOFTNESS` at temperature 0: far above rounding errors, which its inverse amplifies."""
MAX_MATERIALIZED = 256
"""Largest last axis for which a matmul to compute tiles once (`materialize`) pays off."""


@struct.dataclass
class BestMapping:
    """Best mapping of each operator with the costs of one execution.

    In the smooth relaxation the costs are a weighted mean over the best mapping of each residency;
    residency and tile are those of the best one.
    """

    costs: MappingCosts
    residency: Leaf
    """Index of the residency in `RESIDENCIES`."""
    tile: Tile


@struct.dataclass
class _MappingObjective:
    """Objective of the mapper: energy times delay, or energy plus priced time."""

    is_energy_delay: Leaf
    time_price_w: Leaf


_ENERGY_DELAY = _MappingObjective(is_energy_delay=True, time_price_w=0.0)


_Price = Callable[[MappingCosts], Scalar]


@struct.dataclass
class _Problem:
    """All inputs of a score except the tile."""

    operators: Operators
    accelerator: Accelerator
    objective: _MappingObjective
    divisors: Divisors | None
    accounting: Accounting = struct.field(pytree_node=False)


@struct.dataclass
class _Found:
    """Best tiles of several methods, on a first axis."""

    method: Leaf
    number: Leaf
    score: Leaf


def best_mapping(
    operators: Operators,
    accelerator: Accelerator,
    relaxation: Relaxation = EXACT,
    *,
    time_price_w: Scalar | _Price | None = None,
    accounting: Accounting = HARDWARE,
    divisors: Divisors | None = None,
) -> BestMapping:
    """Best tile and residency of each operator on a weight-stationary core.

    Minimizes the energy-delay product of one execution of each operator or, with `time_price_w`,
    its energy plus that power times its time. A function as `time_price_w` returns the power from
    the costs of the mappings with the best energy-delay product. If no mapping fits, the one with
    the smallest overflow is returned; `used_ratio` holds the overflow. With `divisors` of the
    operators (`models/memory/largest_tile.divisors_of`) all tiles divide their extents, for
    comparison with tools that have only such tiles. The mapspace is that of `mapspace`. Leaves may
    have several axes, which broadcast.
    """
    operators = jax.tree.map(lambda x: 1.0 * jnp.asarray(x), operators)
    objective, price_of = _ENERGY_DELAY, None
    if callable(time_price_w):
        price_of = time_price_w
    elif time_price_w is not None:
        objective = _MappingObjective(is_energy_delay=False, time_price_w=time_price_w)
    problem = _Problem(operators, accelerator, objective, divisors, accounting)
    frozen = jax.lax.stop_gradient(problem)
    found = _search(frozen) if price_of is None else _search_twice(frozen, price_of)
    best = _best_of(found)
    tile = jax.tree.map(lambda x: x[0], _tile(problem, best, EXACT))
    if relaxation.is_exact:
        costs = _costs(problem, tile, EXACT)
    else:
        costs = _blend(problem, found, relaxation)
    costs = jax.tree.map(lambda x: jnp.broadcast_to(x, jnp.shape(best.score)[1:]), costs)
    residency = jnp.asarray([index for index, _ in _methods(problem)])[best.method[0]]
    return BestMapping(costs=costs, residency=residency, tile=tile)


def _search_twice(problem: _Problem, price_of: _Price) -> _Found:
    """Search with the price of time from the costs of a first search for the energy-delay product.

    Both searches are one loop, since the program of a search takes seconds to compile.
    """

    def search(objective: _MappingObjective) -> tuple[_MappingObjective, _Found]:
        found = _search(replace(problem, objective=objective))
        tile = jax.tree.map(lambda x: x[0], _tile(problem, _best_of(found), EXACT))
        price = price_of(_costs(problem, tile, EXACT))
        return _MappingObjective(jnp.asarray(False), price), found

    first = _MappingObjective(jnp.asarray(True), jnp.sum(_zero_of(problem.accelerator)))
    return jax.tree.map(
        lambda x: x[-1], jax.lax.scan(lambda objective, _: search(objective), first, None, 2)[1]
    )


def _search(problem: _Problem) -> _Found:
    """Lowest score of each method and the number of its tile."""
    problem = replace(problem, accelerator=with_precomputed_ports(problem.accelerator))
    each = [method for _, method in _methods(problem)]
    table = jax.tree.map(lambda *flags: jnp.array(flags), *each)
    scores, numbers = jax.lax.map(lambda method: _best_of_method(problem, method), table)
    order = jnp.arange(len(each)).reshape(-1, *(1,) * (scores.ndim - 1))
    return _Found(method=order + 0 * numbers, number=numbers, score=scores)


def _best_of_method(problem: _Problem, method: Method) -> tuple[PerOp, Leaf]:
    """Lowest score over the tiles of a method, and the first number with this score."""
    num_counts, num_strips = num_choices(problem.operators, method)

    def score(step: Leaf) -> tuple[PerOp, Leaf]:
        strip, count = jax.lax.div(step, num_counts), jax.lax.rem(step, num_counts)
        number = count + NUM_COUNTS * strip
        tile = numbered_tile(
            problem.operators,
            problem.accelerator,
            method,
            number,
            problem.accounting,
            Grain(EXACT, problem.divisors),
        )
        return _score(problem, _costs(problem, tile, EXACT)), number

    def keep_lower(step: Leaf, state: tuple[Leaf, ...]) -> tuple[Leaf, ...]:
        # The score is compared one step late: with the comparison in the same step, XLA on CPU
        # computes the score once for each of the two results.
        lowest, first, last, number = state
        is_lower = last < lowest
        lowest, first = jnp.where(is_lower, last, lowest), jnp.where(is_lower, number, first)
        return lowest, first, *score(step)

    zero = _zero_of((problem.operators, problem.accelerator, problem.objective.time_price_w))
    high = zero + jnp.inf
    state = (high, zero.astype(jnp.int32), high, jnp.int32(0))
    lowest, first, last, number = jax.lax.fori_loop(
        jnp.int32(0), num_counts * num_strips, keep_lower, state
    )
    return jnp.minimum(lowest, last), jnp.where(last < lowest, number, first)


def _zero_of(tree: Any) -> Leaf:
    """Zero with the broadcast shape of all leaves, batched by `jax.vmap` if any leaf is.

    A loop with this initial value is traced once under `jax.vmap`. With a constant initial value
    the loop, and all loops inside it, are traced again as soon as a variable is batched.
    """
    return sum((jnp.minimum(jnp.abs(leaf), 0.0) for leaf in jax.tree.leaves(tree)), start=0.0)


def _methods(problem: _Problem) -> tuple[tuple[int, Method], ...]:
    return methods(problem.accounting, problem.divisors is not None)


def _tile(problem: _Problem, found: _Found, relaxation: Relaxation) -> Tile:
    """Tiles of `found`, on the same axes."""
    each = [method for _, method in _methods(problem)]
    table = jax.tree.map(lambda *flags: jnp.array(flags), *each)
    grain = Grain(relaxation, problem.divisors)
    method = jax.tree.map(lambda flags: flags[found.method], table)
    tile = numbered_tile(
        problem.operators, problem.accelerator, method, found.number, problem.accounting, grain
    )
    if relaxation.is_exact:
        tile = even_rows(problem.operators, tile, grain)
    extents = jax.tree.map(
        lambda x: jnp.broadcast_to(x, found.score.shape), replace(tile, residency=None)
    )
    if found.score.shape[-1] <= MAX_MATERIALIZED:
        extents = materialize(extents)
    return replace(extents, residency=tile.residency)


def _costs(problem: _Problem, tile: Tile, relaxation: Relaxation) -> MappingCosts:
    traffic = tile_traffic(
        problem.operators, tile, problem.accelerator, problem.accounting, relaxation
    )
    return mapping_costs(traffic, problem.accelerator, relaxation)


def _objective_value(problem: _Problem, costs: MappingCosts) -> PerOp:
    """Energy times delay, or energy plus priced time."""
    objective = problem.objective
    value = either(objective.is_energy_delay, costs.energy_j * costs.time_s, costs.energy_j)
    return value + objective.time_price_w * costs.time_s


def _score(problem: _Problem, costs: MappingCosts) -> PerOp:
    return penalize_overflow(_objective_value(problem, costs), costs, problem.accelerator)


def penalize_overflow(score: PerOp, costs: MappingCosts, accelerator: Accelerator) -> PerOp:
    """Score, or a far higher number that rises with the overflow if a memory overflows."""
    part = roles(accelerator)
    ratio = jnp.maximum(costs.used_ratio[part.scratchpad], costs.used_ratio[part.accumulator])
    return jnp.where(ratio > 1.0 + OVERFLOW_TOLERANCE, OVERFLOW_PENALTY * ratio, score)


def _best_of(found: _Found) -> _Found:
    """Best method, on a first axis of length 1."""
    best = jnp.argmin(found.score, axis=0, keepdims=True)
    return jax.tree.map(lambda x: jnp.take_along_axis(x, best, axis=0), found)


def _blend(problem: _Problem, found: _Found, relaxation: Relaxation) -> MappingCosts:
    r"""Smooth minimum over the best tile of each residency, weights $\propto score^{-1/\tau}$."""
    residencies = np.array([index for index, _ in _methods(problem)])
    rows = [np.flatnonzero(residencies == index) for index in range(len(RESIDENCIES))]
    parts = [_best_of(jax.tree.map(lambda x, row=row: x[row], found)) for row in rows]
    best = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    costs = _costs(problem, _tile(problem, best, relaxation), relaxation)
    # Relaxed tiles may overflow by a fraction of a row, so the exact tiles decide on overflow.
    fits = best.score < OVERFLOW_PENALTY
    score = jnp.where(fits, _objective_value(problem, costs), best.score)
    softness = MIN_SOFTNESS + SOFTNESS * relaxation.temperature
    weights = jax.nn.softmax(-safe_log(score) / softness, axis=0)
    return jax.tree.map(lambda x: jnp.sum(weights * x, axis=0), costs)


def with_precomputed_ports(accelerator: Accelerator) -> Accelerator:
    """The same core with energies and bandwidths of its levels computed once."""
    levels = []
    for level in accelerator.levels:
        read_j, write_j = access_energy_j_per_byte(level, accelerator)
        read_rate, write_rate = port_bytes_per_s(level, accelerator)
        levels.append(
            replace(
                level,
                read_bandwidth_bytes_per_s=read_rate,
                write_bandwidth_bytes_per_s=write_rate,
                read_energy_j_per_byte=read_j,
                write_energy_j_per_byte=write_j,
                energy_slope=0.0,
                energy_exponent=0.0,
                ports="one",
                banks="one",
                follows_clock=False,
            )
        )
    return replace(accelerator, levels=tuple(levels))


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
"""Operands of each tier and its temporal loops, outermost first, by residency. Capital letters are
loops over blocks (`DIMS`), small letters loops inside them. The array, which unrolls C and K, and
its registers with the loops over the outputs of a tile are below these tiers."""


def operator_nest(
    best: BestMapping, operators: Operators, accelerator: Accelerator, index: int
) -> LoopNest:
    """Loop nest of operator `index` under its best mapping; needs concrete values on one axis."""

    def pick(x: Leaf) -> float:
        values = np.asarray(x, dtype=float)
        return float(values if values.ndim == 0 else values[index])

    tile = jax.tree.map(pick, replace(best.tile, residency=None))
    operator = jax.tree.map(pick, replace(operators, names=()))
    residency = tuple(RESIDENCIES)[int(pick(best.residency))]
    return tile_to_loop_nest(tile, residency, operator, accelerator)


def tile_to_loop_nest(
    tile: Tile, residency: str, operators: Operators, accelerator: Accelerator
) -> LoopNest:
    """Loop nests of operators with equal residency; concrete numbers on any axes."""
    part = roles(accelerator)
    levels = {"all": part.dram, "outputs": part.accumulator}
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
        level = accelerator.levels[levels.get(keeps, part.scratchpad)]
        tiers.append(NestTier(level.name, OPERANDS if keeps == "all" else (keeps,)))
        temporal.append({letter.upper(): bounds[letter] for letter in loops})
        position.append({letter.upper(): index for index, letter in enumerate(loops)})
    tiers.append(NestTier(accelerator.levels[part.registers].name, ("weights",)))
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
    """Bounds or positions by tier and dimension, on the last two axes."""
    cells = [np.asarray(row.get(letter, otherwise), float) for row in rows for letter in DIMS]
    stacked = np.stack(np.broadcast_arrays(*cells), axis=-1)
    return stacked.reshape(*stacked.shape[:-1], len(rows), len(DIMS))
