"""Rounding, maxima and divisions of the exact model and of its relaxations.

Every formula is written once and takes a `Relaxation`. `EXACT` selects the true `ceil` and the true
maximum; all stored, printed and plotted numbers use it. Relaxations serve searches and bounds only.
The temperature is a traced value, so annealing does not recompile.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp, Scalar

SMALLEST = 1e-30
"""Guard of divisions and logarithms: normal in float32, far below any physical quantity here."""
SMALLEST_RATIO = 1e-6
"""Smallest ratio to the largest value in a smooth maximum."""
SMALLEST_DIVISOR = 1e-18
"""Guard of divisors whose square must be normal in float32, as in the derivative of a quotient."""


@struct.dataclass
class Relaxation:
    """Rounding and maxima of the model: exact, smooth or continuous.

    >>> import hwdse
    >>> hwdse.EXACT.is_exact, hwdse.smooth(0.5).is_exact
    (True, False)
    """

    temperature: Leaf
    """From 0 (exact values) to 1 (no rounding)."""
    is_exact: bool = struct.field(pytree_node=False)
    """True for the exact model, without blending."""
    sharpness: Leaf = 1.0
    """Factor on the power of smooth maxima."""
    has_exact_max: bool = struct.field(pytree_node=False, default=False)
    """True for true maxima beside relaxed rounding."""
    source_temperatures: tuple[Leaf, ...] = ()
    """Temperatures of rounding by source, in the order of `ROUNDING_SOURCES`; if empty,
    `temperature` applies to all."""


EXACT = Relaxation(temperature=0.0, is_exact=True)

RELAXED = Relaxation(temperature=1.0, is_exact=False, has_exact_max=True)
"""Continuous relaxation: no rounding, true maxima. Tile counts never exceed those of the exact
model, so a quantity that only grows with them is below its exact value."""


ROUNDING_SOURCES = ("rows", "cols", "arrays", "tiles")
"""Sources of rounding in `num_tiles`: folds over rows, columns and arrays of a matrix engine, and
all other tiles."""


def relaxed_by_source(source_temperatures: tuple[Leaf, ...]) -> Relaxation:
    """Relaxation with true maxima and one temperature per source of `ROUNDING_SOURCES`.

    All 0 equals `EXACT`, all 1 equals `RELAXED`. Temperatures may be traced, so one program
    evaluates every combination.
    """
    return Relaxation(
        source_temperatures[-1],
        is_exact=False,
        has_exact_max=True,
        source_temperatures=source_temperatures,
    )


def relaxed_smooth_max(sharpness: Leaf) -> Relaxation:
    """Relaxation without rounding, with maxima as p-norms of power p = 2 * `sharpness`.

    It is differentiable where maxima switch, and above `RELAXED` by at most the factor 2^(1/p) per
    maximum.
    """
    return Relaxation(temperature=1.0, is_exact=False, sharpness=sharpness)


def smooth(temperature: Leaf) -> Relaxation:
    """Smooth relaxation for searches: 1 without rounding and with p-norm maxima, 0 nearly exact.

    >>> import hwdse
    >>> from hwdse.numerics.relaxation import num_tiles
    >>> [round(float(num_tiles(100.0, 64.0, hwdse.smooth(t))), 2) for t in (1.0, 0.0)]
    [1.56, 2.0]
    """
    return Relaxation(temperature=temperature, is_exact=False)


@jax.custom_jvp
def _tile_count(a: PerOp, b: PerOp) -> PerOp:
    return jnp.maximum(jnp.ceil((a - 0.5) / b), 1.0)


@_tile_count.defjvp
def _tile_count_jvp(primals, tangents):
    a, b = primals
    a_dot, b_dot = tangents
    # The count is constant for extents below one tile.
    slope = jnp.where(a >= b, a_dot / b - (a / b) * (b_dot / b), 0.0)
    return _tile_count(a, b), slope


def num_tiles(
    extent: PerOp, tile: PerOp, relaxation: Relaxation = EXACT, source: str = "tiles"
) -> PerOp:
    r"""Number of tiles of size `tile` that cover `extent`, at least 1, with a gradient.

    Exact: $\lceil a / b \rceil$, computed as $\lceil (a - 1/2) / b \rceil$. Both are equal for
    integers, but the second stays correct if a compiler divides by multiplication with the
    reciprocal. In float32 the plain form is wrong for up to 80 % of exact multiples. The gradient
    is that of the quotient (straight-through), and zero if one tile covers more than the extent.

    Smooth: temperature $\theta$ blends towards the quotient,
    $(1 - \theta) \lceil a / b \rceil + \theta \max(a / b, 1)$. Assumes integer extents below 2^22
    in float32 and 2^50 in float64 where exactness matters. `source` names the rounding (`rows`,
    `cols`), for relaxations of one source alone.
    """
    exact = _tile_count(extent, tile)
    if relaxation.is_exact:
        return exact
    relaxed = jnp.maximum(extent / tile, 1.0)
    temperature = (
        relaxation.source_temperatures[ROUNDING_SOURCES.index(source)]
        if relaxation.source_temperatures
        else relaxation.temperature
    )
    return exact + temperature * (relaxed - exact)


@jax.custom_jvp
def floor_ste(x: PerOp) -> PerOp:
    """True floor; the gradient is 1 (straight-through)."""
    return jnp.floor(x)


@floor_ste.defjvp
def _floor_ste_jvp(primals, tangents):
    return jnp.floor(primals[0]), tangents[0]


def maximum(a: PerOp, b: PerOp, relaxation: Relaxation = EXACT) -> PerOp:
    """Larger of two non-negative values; smooth as in `largest`."""
    return largest((a, b), relaxation)


def largest(values: Sequence[PerOp], relaxation: Relaxation = EXACT) -> PerOp:
    r"""Largest of several non-negative values.

    Smooth: the scale-free p-norm $(\sum_i a_i^p)^{1/p}$ with $p = 2 + 30 (1 - \theta)$, computed
    from ratios to the largest value so that nothing overflows. It is never below the true maximum
    and at most the factor $n^{1/p}$ above it. A norm of norms is the norm of all values. One call
    for n values therefore equals nested calls of `maximum` up to rounding, with one logarithm and
    one exponential instead of n - 1.
    """
    top = functools.reduce(jnp.maximum, values)
    if relaxation.is_exact or relaxation.has_exact_max:
        return top
    power = 2.0 + 30.0 * (1.0 - relaxation.temperature)
    if not is_known(relaxation.sharpness, 1.0):
        power = power * relaxation.sharpness
    return _norm(top, tuple(jnp.broadcast_arrays(*_without_largest(values))), power)


@jax.custom_jvp
def _norm(top: PerOp, others: tuple[PerOp, ...], power: Scalar) -> PerOp:
    """p-norm of a largest value and others."""
    return top * jnp.exp(jnp.log1p(total(_powers(top, others, power))) / power)


def _ratios(top: PerOp, others: tuple[PerOp, ...]) -> list[PerOp]:
    """Others over the largest value, from a floor that keeps their logarithms finite."""
    divisor = jnp.where(top > SMALLEST_DIVISOR, top, 1.0)
    return [jnp.maximum(x / divisor, SMALLEST_RATIO) for x in others]


def _powers(top: PerOp, others: tuple[PerOp, ...], power: Scalar) -> list[PerOp]:
    return [ratio**power for ratio in _ratios(top, others)]


@_norm.defjvp
def _norm_jvp(primals: Any, tangents: Any) -> tuple[PerOp, PerOp]:
    r"""$\partial N / \partial a_i = (a_i / N)^{p - 1}$, from the powers of the value: automatic
    differentiation would compute them again. The power has no tangent."""
    top, others, power = primals
    ratios, powers = _ratios(top, others), _powers(top, others, power)
    log_sum = jnp.log1p(total(powers))
    slope = jnp.exp(log_sum / power - log_sum)
    tangent = tangents[0]
    for other, ratio, raised, moved in zip(others, ratios, powers, tangents[1], strict=True):
        is_free = other > SMALLEST_RATIO * top
        tangent = tangent + jnp.where(is_free, raised / ratio, 0.0) * moved
    return top * jnp.exp(log_sum / power), slope * tangent


def _without_largest(values: Sequence[PerOp]) -> list[PerOp]:
    """Values without the largest one, elementwise."""
    largest_yet, others = values[0], []
    for value in values[1:]:
        others.append(jnp.minimum(largest_yet, value))
        largest_yet = jnp.maximum(largest_yet, value)
    return others


def total(tree: Any) -> Leaf:
    """Sum of all leaves: operands of a level, parts of a breakdown."""
    return sum(jax.tree.leaves(tree), start=0.0)


def is_known(value: Leaf, number: float) -> bool:
    """True if `value` is a Python number equal to `number` before tracing."""
    return isinstance(value, int | float) and value == number


def scaled(number: Leaf, factor: Leaf) -> Leaf:
    """Product of a number and a factor; a plain zero stays a plain zero and is not traced."""
    return number if is_known(number, 0.0) else factor * number


def positive_part(x: PerOp) -> PerOp:
    """`max(x, 0)`: the excess of one quantity over another."""
    return jnp.maximum(x, 0.0)


def safe_log(x: PerOp) -> PerOp:
    """Logarithm of x, at least `SMALLEST`, so that value and gradient stay finite."""
    return jnp.log(jnp.maximum(x, SMALLEST))


IDENTITY_SIZE = 128
"""Largest identity of `materialize`; longer axes are cut into blocks of this size."""


def materialize(tree: Any) -> Any:
    """The same pytree of arrays over operators (last axis), computed once.

    XLA on CPU fuses a chain of elementwise operations into each of its uses and recomputes it
    there. Gradients of sums over operators then take many times as long. A product with the
    identity is never fused, forward or backward, and costs little for some tens of operators. More
    than `IDENTITY_SIZE` operators are multiplied in blocks, so that memory and time grow with
    their number and not with its square. Exact for finite values.
    """

    def same(x: PerOp) -> PerOp:
        if jnp.ndim(x) == 0:
            return x
        size = jnp.shape(x)[-1]
        if size <= IDENTITY_SIZE:
            return _times_identity(x)
        num_blocks = -(-size // IDENTITY_SIZE)
        before = jnp.shape(x)[:-1]
        padding = [(0, 0)] * len(before) + [(0, num_blocks * IDENTITY_SIZE - size)]
        blocks = jnp.pad(x, padding).reshape(*before, num_blocks, IDENTITY_SIZE)
        return jnp.reshape(_times_identity(blocks), (*before, -1))[..., :size]

    return jax.tree.map(same, tree)


@jax.custom_jvp
def materialize_in_gradients(x: PerOp) -> PerOp:
    """The same array over operators; `materialize` of it in programs that differentiate it.

    For values that the backward pass uses several times and the value alone once.
    """
    return x


@materialize_in_gradients.defjvp
def _materialize_in_gradients_jvp(primals: Any, tangents: Any) -> tuple[PerOp, PerOp]:
    return materialize(primals[0]), materialize(tangents[0])


def _times_identity(x: PerOp) -> PerOp:
    return jnp.dot(x, jnp.eye(jnp.shape(x)[-1], dtype=jnp.result_type(x)))
