"""Explicit tiles: residency of each operator, and cost of the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.small_core import CORE, NETWORK

from hwdse.config.design.initial_tiles import first_tiles
from hwdse.core.mapper.mapper import HARDWARE, penalize_overflow
from hwdse.core.mapping_policies import explicit_mappings, network_sum, tile_of, time_price_w
from hwdse.models.memory.memory_level_costs import mapping_costs
from hwdse.models.memory.tile_traffic import tile_traffic
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, smooth
from hwdse.specs.design import CoreDesign, TileExtents
from hwdse.specs.mappings.tiles import RESIDENCIES

NAMES = tuple(tile.name for tile in first_tiles(NETWORK, CORE))
LEAK_W = 0.05


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def _design(sizes):
    """Tiles of all operators from an array of shape [8, operators]."""
    columns = [TileExtents(*sizes[:, i], name=name) for i, name in enumerate(NAMES)]
    return CoreDesign(CORE, tuple(columns), "explicit")


def _sizes(number):
    return np.exp(np.random.default_rng(5).uniform(0.0, np.log(256.0), (number, 8, 3))).round()


def _costs_of_each(sizes, relaxation):
    """Costs of one residency after another, each with static flags."""
    extents = TileExtents(*sizes, name="")
    each = []
    for residency in RESIDENCIES.values():
        tile = tile_of(extents, NETWORK, CORE, residency, relaxation)
        costs = mapping_costs(
            tile_traffic(NETWORK, tile, CORE, HARDWARE, relaxation), CORE, relaxation
        )
        each.append(jax.tree.map(lambda x: jnp.broadcast_to(x, (3,)), costs))
    return jax.tree.map(lambda *x: jnp.stack(x), *each)


def _chosen_one_by_one(sizes, relaxation):
    costs = _costs_of_each(sizes, relaxation)

    def lowest(score):
        return jnp.argmin(penalize_overflow(score, costs, CORE), axis=0)

    def selected(choice):
        return jax.tree.map(lambda x: x[choice, jnp.arange(3)], costs)

    first = selected(lowest(costs.time_s * costs.energy_j))
    choice = lowest(costs.energy_j + time_price_w(first, NETWORK, LEAK_W) * costs.time_s)
    return choice, selected(choice)


@pytest.mark.parametrize("relaxation", [EXACT, smooth(0.3)], ids=["exact", "smooth"])
def test_batched_residencies_equal_single_evaluations(relaxation):
    def both(sizes):
        found = explicit_mappings(_design(sizes), NETWORK, LEAK_W, relaxation)
        return (found.residency, found.costs), _chosen_one_by_one(sizes, relaxation)

    (choice, costs), (expected, reference) = quick_jit(jax.vmap(both))(jnp.asarray(_sizes(200)))
    assert len(np.unique(choice)) >= 4
    assert np.array_equal(choice, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), costs, reference)


@pytest.mark.parametrize("relaxation", [EXACT, smooth(0.3)], ids=["exact", "smooth"])
def test_only_the_selected_residency_is_differentiated(relaxation):
    """The backward pass has no residency axis and is not longer than the evaluation."""

    def product(sizes):
        costs = explicit_mappings(_design(sizes), NETWORK, LEAK_W, relaxation).costs
        return network_sum(costs.time_s, NETWORK) * network_sum(costs.energy_j, NETWORK)

    sizes = jnp.asarray(_sizes(1)[0])
    _, back = jax.vjp(product, sizes)
    forward, program = str(jax.make_jaxpr(product)(sizes)), str(jax.make_jaxpr(back)(1.0))
    axes = f"[{len(RESIDENCIES)},{len(NAMES)}]"
    assert axes in forward
    assert "mul" in program
    assert axes not in program
    assert program.count("\n") < forward.count("\n")
