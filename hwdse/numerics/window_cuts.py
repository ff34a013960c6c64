"""Windows of one size cut by the boundaries of blocks of another size."""

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp

MAX_WHOLE = 2**30
"""Largest size that is counted exactly."""


def is_whole(x: PerOp) -> jax.Array:
    """True for whole numbers from 1 to `MAX_WHOLE`."""
    return (jnp.round(x) == x) & (x >= 1.0) & (x <= MAX_WHOLE)


def smallest_cut_part(window: PerOp, block: PerOp, total: PerOp) -> jax.Array:
    r"""Smallest part into which a boundary between blocks cuts a window; 0 if none is cut.

    Windows of w and blocks of b positions tile a line from its start. Boundary i of the B inside
    the last whole window, $i = 1 \dots B$, is $i b \bmod w$ behind the start of its window:
    $\min_i \min(i b \bmod w, -i b \bmod w)$ without zeros. With enough blocks that is the greatest
    common divisor of w and b. Fewer blocks stop the algorithm of Euclid early: its remainders are
    the successive minima over i (three-distance theorem, Sos 1958). Without gradient. Sizes that
    are not whole are not cut; a `total` below one window counts as one window.
    """
    sizes = jnp.broadcast_arrays(*(jnp.asarray(x) for x in (window, block, total)))
    counted = is_whole(sizes[0]) & is_whole(sizes[1])
    w, b, n = (
        jnp.clip(jnp.where(counted & (x >= 1.0), x, 1.0), 1.0, MAX_WHOLE).astype(jnp.int32)
        for x in jax.lax.stop_gradient(sizes)
    )
    num_boundaries = (jnp.maximum(n // w, 1) * w - 1) // b
    before = b % w
    is_cut = (before > 0) & (num_boundaries > 0)
    before, after = jnp.where(is_cut, before, 1), jnp.where(is_cut, w - before, 1)
    one = jnp.ones_like(w)

    def steps(state: tuple[jax.Array, ...]) -> jax.Array:
        """Steps until the larger remainder is the smaller one, as far as boundaries remain."""
        before, after, at_before, at_after = state
        larger, smaller = jnp.maximum(before, after), jnp.minimum(before, after)
        at_larger = jnp.where(before > after, at_before, at_after)
        at_smaller = jnp.where(before > after, at_after, at_before)
        return jnp.minimum((larger - 1) // smaller, (num_boundaries - at_larger) // at_smaller)

    def shrink(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        before, after, at_before, at_after = state
        num, is_before = steps(state), before > after
        num_before, num_after = jnp.where(is_before, num, 0), jnp.where(is_before, 0, num)
        return (
            before - num_before * after,
            after - num_after * before,
            at_before + num_before * at_after,
            at_after + num_after * at_before,
        )

    before, after, _, _ = jax.lax.while_loop(
        lambda state: jnp.any(steps(state) > 0), shrink, (before, after, one, one)
    )
    found = jnp.where(is_cut, jnp.minimum(before, after), 0)
    return found.astype(jnp.result_type(float))
