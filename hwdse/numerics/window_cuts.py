"""Windows of one size cut by the boundaries of blocks of another size."""

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp

MAX_WHOLE = 2.0**22
"""Largest size that is counted exactly, in float32 as well."""


def is_whole(x: PerOp) -> jax.Array:
    """True for whole numbers from 1 to `MAX_WHOLE`."""
    return (jnp.round(x) == x) & (x >= 1.0) & (x <= MAX_WHOLE)


def _remainder(a: jax.Array, b: jax.Array) -> jax.Array:
    """Rest of a / b of whole numbers; correct if a compiler multiplies with the reciprocal of b."""
    return a - jnp.floor((a + 0.5) / b) * b


def _greatest_common_divisor(a: jax.Array, b: jax.Array) -> jax.Array:
    """Greatest common divisor of whole numbers, elementwise, by Euclid's algorithm."""

    def step(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        larger, smaller = state
        divisor = jnp.where(smaller > 0.0, smaller, larger)
        return divisor, jnp.where(smaller > 0.0, _remainder(larger, divisor), 0.0)

    return jax.lax.while_loop(lambda state: jnp.any(state[1] > 0.0), step, (a, b))[0]


def smallest_cut_part(window: PerOp, block: PerOp, total: PerOp) -> jax.Array:
    r"""Smallest part into which a boundary between blocks cuts a window; 0 if none is cut.

    Windows of w and blocks of b positions tile a line from its start, up to the last whole window
    of `total`. Boundary i is $i b \bmod w$ behind the start of its window. A single boundary cuts
    a window into $b \bmod w$ and the rest. Over a whole period of $\mathrm{lcm}(w, b)$ the
    smallest part is the greatest common divisor of w and b, which bounds that of a few boundaries.
    Without gradient. Sizes that are not whole are not cut; a `total` below one window counts as
    one window.
    """
    sizes = jax.lax.stop_gradient([jnp.asarray(x, float) for x in (window, block, total)])
    counted = is_whole(sizes[0]) & is_whole(sizes[1])
    w, b = (jnp.where(counted, x, 1.0) for x in sizes[:2])
    num_windows = jnp.floor((jnp.clip(sizes[2], 1.0, MAX_WHOLE) + 0.5) / w)
    end = jnp.maximum(num_windows, 1.0) * w
    behind = _remainder(b, w)
    is_single = end <= 2.0 * b
    divisor = _greatest_common_divisor(w, jnp.where(is_single, 0.0, behind))
    smallest = jnp.where(is_single, jnp.minimum(behind, w - behind), divisor)
    return jnp.where((behind > 0.0) & (end > b), smallest, 0.0)
