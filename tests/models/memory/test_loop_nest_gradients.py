"""Gradients of a given nest: correct for constant loop order, finite everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from support.mapping_examples import CORE

from hwdse.models.memory.loop_nest_traffic import TIMELOOP, nest_traffic
from hwdse.models.memory.memory_level_costs import mapping_costs
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.mappings.loop_nest import Accounting
from hwdse.specs.mappings.loop_nest_text import parse_nest
from hwdse.workload.loops.operators import DIMS, Operators

KEPT = Accounting(False, True, True)
RELOADED = Accounting(False, True, True, halo="reloaded")
TEXT = "DRAM[WIO] K2 Q3 C2 P4 - scratchpad[WI] K4X - accumulator[O] R3 P2 C2X - registers[W] P2"


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def costs(temporal, spatial, core, accounting=KEPT, text=TEXT):
    """Costs of the convolution covered by a nest with these bounds; stride 2 along P."""
    nest = parse_nest(text).replace(temporal=temporal, spatial=spatial)
    sizes = jnp.prod(jnp.asarray(temporal) * spatial, axis=-2)
    sizes = {letter.lower(): sizes[..., i] for i, letter in enumerate(DIMS)}
    steps = {"stride_p": 2.0, "stride_q": 1.0, "dilation_r": 1.0, "dilation_s": 1.0}
    operators = Operators(**sizes, **steps, count=1.0, names=())
    return mapping_costs(nest_traffic(nest, operators, core, accounting), core)


def moved(temporal, spatial, accounting=KEPT, text=TEXT):
    """Bytes read and written in all levels, as one vector."""
    levels = costs(temporal, spatial, CORE, accounting, text).traffic.levels
    return jnp.stack([x for level in levels for x in jax.tree.leaves((level.reads, level.writes))])


count = quick_jit(moved)


@pytest.fixture(scope="module")
def slopes():
    """Derivatives of all bytes in the bounds in time and in space."""
    with jax.enable_x64(True):
        nest = parse_nest(TEXT)
        return quick_jit(jax.jacobian(moved, argnums=(0, 1)))(nest.temporal, nest.spatial)


@pytest.mark.parametrize("kind", [0, 1])
def test_one_more_iteration_costs_the_gradient(slopes, kind):
    """Traffic is linear in each bound above one if neighbors have no gaps."""
    nest = parse_nest(TEXT)
    bounds = (nest.temporal, nest.spatial)
    for tier, dim in zip(*np.nonzero(bounds[kind] > 1.0), strict=True):
        more = [array.copy() for array in bounds]
        more[kind][tier, dim] += 1.0
        found = slopes[kind][:, tier, dim]
        np.testing.assert_allclose(found, count(*more) - count(*bounds), rtol=1e-9, atol=1e-6)


def test_a_bound_of_one_has_a_gradient(slopes):
    """At constant order, 1 + e adds the gradient times e."""
    nest = parse_nest(TEXT)
    before = count(nest.temporal, nest.spatial)
    step = 5e-7  # still not a loop
    assert jnp.all(jnp.isfinite(slopes[0]))
    for letter in "CKPQ":
        dim = DIMS.index(letter)
        for tier in np.flatnonzero(nest.temporal[:, dim] == 1.0):
            assert jnp.any(slopes[0][:, tier, dim] > 0.0)
            # Weights of DRAM are indexed by C and K: twice the channels, twice the words.
            if letter in "CK":
                more = nest.temporal.copy()
                more[tier, dim] += step
                difference = float(count(more, nest.spatial)[0] - before[0])
                assert slopes[0][0, tier, dim] == pytest.approx(difference / step, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "accounting"),
    [(TEXT, TIMELOOP), ("DRAM[WIO] N1 - registers[W] N1", KEPT), ("DRAM[WIO] P2", RELOADED)],
)
def test_gradients_are_finite(text, accounting):
    nest = parse_nest(text)

    def score(temporal, spatial, core):
        found = costs(temporal, spatial, core, accounting, text)
        return jnp.log(found.energy_j) + jnp.log(found.time_s)

    slopes = quick_jit(jax.grad(score, argnums=(0, 1, 2)))(nest.temporal, nest.spatial, CORE)
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(slopes))
    assert jnp.all(slopes[0] >= 0.0)


@pytest.mark.parametrize("field", ["time_s", "energy_j"])
def test_gradients_in_hardware_parameters(field):
    """Widths, capacities, bandwidths, clock, rows and columns, each around its value."""
    nest = parse_nest(TEXT)
    scratchpad, accumulator = CORE.levels[1:3]
    names = ("capacity_bytes", "read_bandwidth_bytes_per_s", "energy_slope")

    def score(factor):
        changed = {name: getattr(accumulator, name) * factor[i] for i, name in enumerate(names)}
        width = accumulator.word_bytes.replace(outputs=4.0 * factor[3])
        levels = list(CORE.levels)
        levels[2] = accumulator.replace(
            **changed, word_bytes=width, energy_exponent=1.0, banks="cols", ports="cols"
        ).replace(energy_slope=1e-18 * factor[2])
        levels[1] = scratchpad.replace(
            word_bytes=scratchpad.word_bytes.replace(weights=factor[4], inputs=factor[5])
        )
        core = CORE.replace(
            levels=tuple(levels),
            clock_hz=1e9 * factor[6],
            rows=64.0 * factor[7],
            cols=64.0 * factor[8],
        )
        found = costs(nest.temporal, nest.spatial, core)
        # All ports, not only the slowest.
        return (
            sum(jnp.log(x) for x in found.level_s) if field == "time_s" else jnp.log(found.energy_j)
        )

    check_grads(jax.jit(score), (jnp.ones(9),), order=1, modes=["rev"], rtol=1e-6, atol=1e-6)


def test_float32_agrees_with_float64():
    nest = parse_nest(TEXT)
    wide = count(nest.temporal, nest.spatial)
    with jax.enable_x64(False):
        narrow = quick_jit(moved)(nest.temporal.astype(np.float32), nest.spatial.astype(np.float32))
        assert narrow.dtype == jnp.float32
    np.testing.assert_allclose(narrow, wide, rtol=1e-5)
