"""The best mapping of each operator on a core: a minimum over tiles and residencies.

A loop over numbered tiles keeps the best so far, without a gradient. The tile found is then
evaluated again with one: by the envelope theorem, the derivative of the minimum is that of the
winner's costs.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import flax.struct
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
from hwdse.numerics.array_types import Leaf, PerOp, Scalar
from hwdse.numerics.relaxation import EXACT, Relaxation, materialize, safe_log
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator
from hwdse.specs.mappings.loop_nest import Accounting, LoopNest, MappingCosts, NestTier
from hwdse.specs.mappings.tiles import RESIDENCIES, Divisors, Tile, roles
from hwdse.workload.loops.operators import DIMS, Operators
from hwdse.workload.loops.tile_footprint import either

HARDWARE = Accounting(fractional_edges=False, elides_first_read=True, drains_outputs=True)
"""Ragged passes of the array take as long as full ones; sums begin without a read, and are read
once more where they leave."""
OVERFLOW_PENALTY = 1e30
"""Score of a tile that does not fit, times what it uses over what there is: chosen only where
none fits, and then the one that overflows least."""
OVERFLOW_TOLERANCE = 1e-5
"""Share by which rounding may take a tile over a capacity that it just fills."""
SOFTNESS = 0.05
"""Relative difference of scores that is a factor e in a smooth minimum at temperature one."""
MIN_SOFTNESS = 1e-3
"""The same at temperature zero: far above rounding errors, which its inverse multiplies."""
MAX_MATERIALIZED = 256
"""Length of the last axis up to which computing tiles once is worth a product of matrices."""


@flax.struct.dataclass
class BestMapping:
    """The mapping found for each operator, and what one run of it costs.

    In a smooth reading the costs are blends of the best of each residency; residency and tile are
    those of the best.
    """

    costs: MappingCosts
    residency: Leaf
    """Number of the residency, in the order of `RESIDENCIES`."""
    tile: Tile


@flax.struct.dataclass
class _Goal:
    """What is minimized: energy times delay, or energy with time at its price."""

    is_product: Leaf
    time_price_w: Leaf


_PRODUCT = _Goal(is_product=True, time_price_w=0.0)
_Price = Callable[[MappingCosts], Scalar]


@flax.struct.dataclass
class _Problem:
    """What a score depends on besides the tile."""

    operators: Operators
    accelerator: Accelerator
    goal: "_Goal"
    divisors: Divisors | None
    accounting: Accounting = flax.struct.field(pytree_node=False)


def best_mapping(
    operators: Operators,
    accelerator: Accelerator,
    relaxation: Relaxation = EXACT,
    *,
    time_price_w: Scalar | _Price | None = None,
    accounting: Accounting = HARDWARE,
    divisors: Divisors | None = None,
) -> BestMapping:
    """The best tile and residency of each operator on a weight-stationary core.

    Minimizes the energy-delay product of one run of each operator or, with `time_price_w`, its
    energy plus that power times its time; a function gives the power from the costs of the mappings
    that are best for the product. Where nothing fits, the mapping that overflows least is taken,
    and `used_ratio` tells by how much. With `divisors` of the operators (see
    `models.tile_fit.divisors_of`) all tiles divide what they are cut from, for comparison with
    tools that know no others. The tiles tried are those of `system.tile_choices`. Leaves may have
    several axes, that broadcast.
    """
    operators = jax.tree.map(lambda x: 1.0 * jnp.asarray(x), operators)
    goal, price_of = _PRODUCT, None
    if callable(time_price_w):
        price_of = time_price_w
    elif time_price_w is not None:
        goal = _Goal(is_product=False, time_price_w=time_price_w)
    problem = _Problem(operators, accelerator, goal, divisors, accounting)
    frozen = jax.lax.stop_gradient(problem)
    found = _search(frozen) if price_of is None else _search_twice(frozen, price_of)
    best = _best_of(found)
    tile = jax.tree.map(lambda x: x[0], _tile(problem, best, EXACT))
    if relaxation.is_exact:
        costs = _costs(problem, tile, EXACT)
    else:
        costs = _blend(problem, found, relaxation)
    costs = jax.tree.map(lambda x: jnp.broadcast_to(x, jnp.shape(best.score)[1:]), costs)
    residency = jnp.asarray([number for number, _ in _methods(problem)])[best.method[0]]
    return BestMapping(costs=costs, residency=residency, tile=tile)


def operator_nest(
    best: BestMapping, operators: Operators, accelerator: Accelerator, index: int
) -> LoopNest:
    """The mapping of operator number `index` as a loop nest; concrete values, on one axis."""

    def pick(x: Leaf) -> float:
        values = np.asarray(x, dtype=float)
        return float(values if values.ndim == 0 else values[index])

    tile = jax.tree.map(pick, replace(best.tile, residency=None))
    operator = jax.tree.map(pick, replace(operators, names=()))
    residency = tuple(RESIDENCIES)[int(pick(best.residency))]
    return tile_to_loop_nest(tile, residency, operator, accelerator)


@flax.struct.dataclass
class _Found:
    """The best tiles of some methods, on a first axis."""

    method: Leaf
    number: Leaf
    score: Leaf


def _methods(problem: _Problem) -> tuple[tuple[int, Method], ...]:
    return methods(problem.accounting, problem.divisors is not None)


def _search(problem: _Problem) -> _Found:
    """Lowest score of each method and the number of its tile."""
    problem = replace(problem, accelerator=with_precomputed_ports(problem.accelerator))
    each = [method for _, method in _methods(problem)]
    table = jax.tree.map(lambda *flags: jnp.array(flags), *each)
    scores, numbers = jax.lax.map(lambda method: _best_of_method(problem, method), table)
    order = jnp.arange(len(each)).reshape(-1, *(1,) * (scores.ndim - 1))
    return _Found(method=order + 0 * numbers, number=numbers, score=scores)


def _search_twice(problem: _Problem, price_of: _Price) -> _Found:
    """The search at the price of time that the costs of a first search for the product give.

    Both are one loop, since the program of a search takes seconds to compile.
    """

    def search(goal: _Goal) -> tuple[_Goal, _Found]:
        found = _search(replace(problem, goal=goal))
        tile = jax.tree.map(lambda x: x[0], _tile(problem, _best_of(found), EXACT))
        price = price_of(_costs(problem, tile, EXACT))
        return _Goal(jnp.asarray(False), price), found

    first = _Goal(jnp.asarray(True), jnp.sum(_zero_of(problem.accelerator)))
    return jax.tree.map(lambda x: x[-1], jax.lax.scan(lambda g, _: search(g), first, None, 2)[1])


def _zero_of(tree: Any) -> Leaf:
    """Zero with the shape of all leaves together, and mapped wherever a leaf is.

    A loop that begins with it is traced once under `jax.vmap`. One that begins with a constant
    is traced again where a variable turns out to be mapped, and so are the loops inside it.
    """
    return sum((jnp.minimum(jnp.abs(leaf), 0.0) for leaf in jax.tree.leaves(tree)), start=0.0)


def _best_of_method(problem: _Problem, method: Method) -> tuple[PerOp, Leaf]:
    """Lowest score over the tiles of a method, and the first number that has it."""
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
        # computes it once for each of the two results.
        lowest, first, last, number = state
        is_lower = last < lowest
        lowest, first = jnp.where(is_lower, last, lowest), jnp.where(is_lower, number, first)
        return lowest, first, *score(step)

    zero = _zero_of((problem.operators, problem.accelerator, problem.goal.time_price_w))
    high = zero + jnp.inf
    state = (high, zero.astype(jnp.int32), high, jnp.int32(0))
    lowest, first, last, number = jax.lax.fori_loop(
        jnp.int32(0), num_counts * num_strips, keep_lower, state
    )
    return jnp.minimum(lowest, last), jnp.where(last < lowest, number, first)


def _tile(problem: _Problem, found: _Found, relaxation: Relaxation) -> Tile:
    """Tiles of some methods, on the same axes."""
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


def _product_or_sum(problem: _Problem, costs: MappingCosts) -> PerOp:
    """Energy times delay, or energy plus time at its price."""
    goal = problem.goal
    each_j = either(goal.is_product, costs.energy_j * costs.time_s, costs.energy_j)
    return each_j + goal.time_price_w * costs.time_s


def _score(problem: _Problem, costs: MappingCosts) -> PerOp:
    return penalize_overflow(_product_or_sum(problem, costs), costs, problem.accelerator)


def penalize_overflow(score: PerOp, costs: MappingCosts, accelerator: Accelerator) -> PerOp:
    """A score, or a far higher number where memories overflow, the higher the more they do."""
    part = roles(accelerator)
    ratio = jnp.maximum(costs.used_ratio[part.scratchpad], costs.used_ratio[part.accumulator])
    return jnp.where(ratio > 1.0 + OVERFLOW_TOLERANCE, OVERFLOW_PENALTY * ratio, score)


def _best_of(found: _Found) -> _Found:
    """The best method, on a first axis of one."""
    best = jnp.argmin(found.score, axis=0, keepdims=True)
    return jax.tree.map(lambda x: jnp.take_along_axis(x, best, axis=0), found)


def _blend(problem: _Problem, found: _Found, relaxation: Relaxation) -> MappingCosts:
    r"""Soft minimum over the best of each residency, with weights $\propto score^{-1/\tau}$."""
    numbers = np.array([number for number, _ in _methods(problem)])
    rows = [np.flatnonzero(numbers == number) for number in range(len(RESIDENCIES))]
    parts = [_best_of(jax.tree.map(lambda x, row=row: x[row], found)) for row in rows]
    finalists = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    costs = _costs(problem, _tile(problem, finalists, relaxation), relaxation)
    # Relaxed tiles may overflow by a fraction of a row: whole ones decide about that.
    fits = finalists.score < OVERFLOW_PENALTY
    score = jnp.where(fits, _product_or_sum(problem, costs), finalists.score)
    softness = MIN_SOFTNESS + SOFTNESS * relaxation.temperature
    weights = jax.nn.softmax(-safe_log(score) / softness, axis=0)
    return jax.tree.map(lambda x: jnp.sum(weights * x, axis=0), costs)


def with_precomputed_ports(accelerator: Accelerator) -> Accelerator:
    """The same core with the energies and bandwidths of its levels worked out once."""
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
"""By residency: what a tier keeps, and its loops in time, outermost first. Capital letters are
loops over blocks (`DIMS`), small ones loops inside them. Below stand the array, which unrolls C
and K, and its registers with the loops over the outputs of a tile."""


def tile_to_loop_nest(
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
        tiers.append(NestTier(level.name, OPERANDS if keeps == "all" else (keeps,)))
        temporal.append({letter.upper(): bounds[letter] for letter in loops})
        position.append({letter.upper(): place for place, letter in enumerate(loops)})
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
    """Bounds or places by tier and dimension, on the last two axes."""
    cells = [np.asarray(row.get(letter, otherwise), float) for row in rows for letter in DIMS]
    stacked = np.stack(np.broadcast_arrays(*cells), axis=-1)
    return stacked.reshape(*stacked.shape[:-1], len(rows), len(DIMS))
