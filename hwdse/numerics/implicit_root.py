"""Roots of smooth equations in a bracket, with implicit derivatives."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar

NUM_BISECTIONS = 30
"""Bisection steps before Newton's method: a bracket of width 40 shrinks below 1e-7."""
NUM_NEWTON_STEPS = 4
SMALLEST_SLOPE = 1e-30


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def bracketed_root(
    residual: Callable[[Any, Any], Any], low: Scalar, high: Scalar, parameters: tuple[Any, ...]
) -> Scalar:
    """Root t of `residual(t, parameters)`, which is negative at `low` and positive at `high`.

    Bisection, then Newton steps clipped to the bracket. The derivative is that of the implicit
    function, $dt/dp = -f_p / f_t$, independent of the iteration; the bracket has no derivative. If
    the signs differ from the assumption, the result is the end of the bracket with the closer sign.
    """

    def halved(_: Any, ends: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        middle = 0.5 * (ends[0] + ends[1])
        is_below = residual(middle, parameters) < 0.0
        return jnp.where(is_below, middle, ends[0]), jnp.where(is_below, ends[1], middle)

    kind = jnp.result_type(low, high, *jax.tree.leaves(parameters))
    ends = (jnp.asarray(low, kind), jnp.asarray(high, kind))
    ends = jax.lax.fori_loop(0, NUM_BISECTIONS, halved, ends)

    def refined(_: Any, root: Scalar) -> Scalar:
        value, slope = _with_slope(residual, root, parameters)
        return jnp.clip(root - value / slope, *ends)

    return jax.lax.fori_loop(0, NUM_NEWTON_STEPS, refined, 0.5 * (ends[0] + ends[1]))


def _with_slope(
    residual: Callable[[Any, Any], Any], root: Scalar, parameters: tuple[Any, ...]
) -> tuple[Scalar, Scalar]:
    value, slope = jax.jvp(lambda t: residual(t, parameters), (root,), (jnp.ones_like(root),))
    return value, jnp.where(jnp.abs(slope) > SMALLEST_SLOPE, slope, SMALLEST_SLOPE)


@bracketed_root.defjvp
def _bracketed_root_jvp(residual, primals, tangents):
    low, high, parameters = primals
    root = bracketed_root(residual, low, high, parameters)
    slope = _with_slope(residual, root, parameters)[1]
    shift = jax.jvp(lambda p: residual(root, p), (parameters,), (tangents[2],))[1]
    return root, -shift / slope
