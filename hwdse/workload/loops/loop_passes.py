"""Loops of a nest in order: tile extents, and passes of loops over each dimension."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.array_types import Leaf
from hwdse.numerics.relaxation import num_tiles
from hwdse.specs.mappings.loop_nest import LoopNest
from hwdse.workload.loops.operators import DIMS, RELEVANT

NO_LOOP = 1.0 + 1e-6
"""Largest bound that means no loop; bounds may be quotients of floats."""


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def product(factors: Leaf, axis: int) -> Leaf:
    """Product of positive factors along an axis, with a gradient that compiles faster than
    `prod`."""
    return jnp.prod(factors, axis=axis)


@product.defjvp
def _product_jvp(axis: int, primals: tuple[Leaf], tangents: tuple[Leaf]) -> tuple[Leaf, Leaf]:
    value = product(primals[0], axis)
    return value, value * jnp.sum(tangents[0] / primals[0], axis=axis)


class Loops(NamedTuple):
    """Loop nest as float arrays of shape `[..., tiers, 7]`, except `sizes`."""

    temporal: Leaf
    """Bounds of temporal loops."""
    spatial: Leaf
    """Bounds of spatial loops."""
    key: Leaf
    """Order of the temporal loops over all tiers, increasing inwards."""
    is_loop: Leaf
    """True if there is a temporal loop."""
    tile: Leaf
    """Extents of the tile of a tier, its own loops included."""
    below: Leaf
    """Extents inside the spatial loops of a tier."""
    inner: Leaf
    """Extents inside a temporal loop, along its dimension."""
    sizes: Leaf
    """Extents of the complete nest, of shape `[..., 7]`."""


def loops_of(nest: LoopNest) -> Loops:
    """Loops of a nest. Raises a one-line `ValueError` if the shapes of its arrays differ."""
    expected = (len(nest.tiers), len(DIMS))
    for name in ("temporal", "position", "spatial"):
        shape = jnp.shape(getattr(nest, name))
        if shape[-2:] != expected:
            raise ValueError(f"{name} of a nest has shape {shape}; expected {expected} at its end")
    temporal, spatial, position = jnp.broadcast_arrays(
        *(jnp.asarray(x, float) for x in (nest.temporal, nest.spatial, nest.position))
    )
    num_tiers, num_dims = expected
    tile, inner = [jnp.ones_like(temporal[..., 0, :])], []
    for tier in reversed(range(num_tiers)):
        inner.append(tile[-1] * spatial[..., tier, :])
        tile.append(inner[-1] * temporal[..., tier, :])
    extents = jnp.stack(tile[::-1], axis=-2)
    # Ties, expected only between loops with a bound of one, are broken by the dimension.
    first = np.arange(num_tiers)[:, None] * 4096.0 + np.arange(num_dims)
    return Loops(
        temporal=temporal,
        spatial=spatial,
        key=first + position * num_dims,
        is_loop=temporal > NO_LOOP,
        tile=extents[..., :-1, :],
        below=extents[..., 1:, :],
        inner=jnp.stack(inner[::-1], axis=-2),
        sizes=tile[-1],
    )


def passes(loops: Loops, is_counted: Leaf, fractional_edges: bool) -> Leaf:
    r"""Passes over each dimension by the counted temporal loops (`[..., 7]`).

    A ragged last pass counts as a full one: $\lceil E / (E / \prod b) \rceil$. With
    `fractional_edges` only the outermost loop of a dimension is rounded, as in AccelForge.
    """
    counted = product(jnp.where(is_counted, loops.temporal, 1.0), -2)
    if not fractional_edges:
        return num_tiles(loops.sizes, loops.sizes / counted)
    outermost = jnp.ones_like(counted)
    for tier in reversed(range(loops.temporal.shape[-2])):
        bound = loops.temporal[..., tier, :]
        outermost = jnp.where(loops.is_loop[..., tier, :], bound, outermost)
    rounded = num_tiles(loops.sizes, loops.sizes / outermost)
    return jnp.where(counted > NO_LOOP, counted * rounded / outermost, counted)


def loads_in_steps(loops: Loops, key: Leaf, fractional_edges: bool) -> Leaf:
    """Passes of the nest in which the loop with each key is the outermost loop to advance.

    Keys and passes are on the last axis.
    """
    each = Loops(*(jnp.expand_dims(x, -3) for x in loops[:-1]), sizes=loops.sizes[..., None, :])
    own = key[..., None, None]
    around, at = (passes(each, x, fractional_edges) for x in (each.key < own, each.key <= own))
    return product(at, -1) - product(around, -1)


def shares(loops: Loops, tier: int) -> Leaf:
    """Parts of each dimension over the spatial loops outside a tier (`[..., 7]`)."""
    return product(loops.spatial[..., :tier, :], -2)


def innermost(loops: Loops, operand: str, tier: int) -> Leaf:
    """Key of the innermost loop outside a tier that indexes the operand; -1 without such a loop."""
    keys = jnp.where(loops.is_loop & is_index(operand), loops.key, -1.0)
    return jnp.max(keys[..., :tier, :], axis=(-2, -1), initial=-1.0)


def is_index(operand: str) -> np.ndarray:
    """True for each dimension that indexes the operand."""
    return np.array([letter in RELEVANT[operand] for letter in DIMS])
