"""Rounding, maxima and divisions that serve the exact and the smooth reading of the model.

Every formula is written once and takes a `Relaxation`. `EXACT` gives the true `ceil` and the true
maximum: whatever is stored, printed or plotted comes from it. A smooth reading is for search
only; its temperature is a traced value, so annealing it does not recompile.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, PerOp

SMALLEST = 1e-30
"""Guard of divisions and logarithms; normal in float32, far below any physical quantity here."""
SMALLEST_DIVISOR = 1e-18
"""Guard of divisors whose square must be normal in float32, as in the derivative of a quotient."""


@flax.struct.dataclass
class Relaxation:
    """How rounding and maxima are read; `temperature` in [0, 1], zero being the exact values."""

    temperature: Leaf
    is_exact: bool = flax.struct.field(pytree_node=False)
    sharpness: Leaf = 1.0
    """Factor of the power of soft maxima."""
    has_exact_max: bool = flax.struct.field(pytree_node=False, default=False)
    source_temperatures: tuple[Leaf, ...] = ()
    """Temperatures of the roundings by source, in the order of `ROUNDING_SOURCES`; none: `temperature`."""


EXACT = Relaxation(temperature=0.0, is_exact=True)

RELAXED = Relaxation(temperature=1.0, is_exact=False, has_exact_max=True)
"""No rounding, true maxima: tiles are never more than in the exact reading, so that what only
grows with them lies below its exact value."""


ROUNDING_SOURCES = ("rows", "cols", "arrays", "tiles")
"""What `num_tiles` may be told that it rounds: folds over a matrix engine, or anything else."""


def relaxed_by_source(source_temperatures: tuple[Leaf, ...]) -> Relaxation:
    """True maxima, and the roundings of each of `ROUNDING_SOURCES` relaxed by a share: all zero is exact,
    all one `RELAXED`. The shares may be traced, so that one program reads all ways."""
    return Relaxation(
        source_temperatures[-1],
        is_exact=False,
        has_exact_max=True,
        source_temperatures=source_temperatures,
    )


def relaxed_smooth_max(sharpness: Leaf) -> Relaxation:
    """No rounding, maxima as p-norms of power 2 * `sharpness`: has slopes where maxima change
    hands, and lies at most the factor 2^(1/p) above `RELAXED` for each maximum."""
    return Relaxation(temperature=1.0, is_exact=False, sharpness=sharpness)


def smooth(temperature: Leaf) -> Relaxation:
    """Reading of a search: 1 is fully relaxed (no rounding, soft maxima), 0 is nearly exact."""
    return Relaxation(temperature=temperature, is_exact=False)


@jax.custom_jvp
def _whole_tiles(a: PerOp, b: PerOp) -> PerOp:
    return jnp.maximum(jnp.ceil((a - 0.5) / b), 1.0)


@_whole_tiles.defjvp
def _whole_tiles_jvp(primals, tangents):
    a, b = primals
    a_dot, b_dot = tangents
    # Inside one tile nothing changes; at its edge the next tile begins.
    slope = jnp.where(a >= b, a_dot / b - (a / b) * (b_dot / b), 0.0)
    return _whole_tiles(a, b), slope


def num_tiles(
    extent: PerOp, tile: PerOp, relaxation: Relaxation = EXACT, source: str = "tiles"
) -> PerOp:
    r"""Tiles of size `tile` that cover `extent`; at least one, and with a gradient.

    Exact: $\lceil a / b \rceil$ computed as $\lceil (a - 1/2) / b \rceil$, which is the same for
    integers and stays right where a compiler divides by multiplying with the reciprocal (in
    float32 the plain form is wrong for up to 80 % of exact multiples). The gradient is that of
    the quotient (straight-through), and zero where one tile covers more than all. Smooth:
    temperature $\theta$ blends towards the quotient,
    $(1 - \theta) \lceil a / b \rceil + \theta \max(a / b, 1)$.
    Assumes whole extents below 2^22 in float32 and 2^50 in float64 where exactness matters.
    `source` says what is rounded (`rows`, `cols`), for readings that relax one source alone.
    """
    exact = _whole_tiles(extent, tile)
    if relaxation.is_exact:
        return exact
    relaxed = jnp.maximum(extent / tile, 1.0)
    share = (
        relaxation.source_temperatures[ROUNDING_SOURCES.index(source)]
        if relaxation.source_temperatures
        else relaxation.temperature
    )
    return exact + share * (relaxed - exact)


@jax.custom_jvp
def floor_ste(x: PerOp) -> PerOp:
    """True floor; the gradient is one (straight-through)."""
    return jnp.floor(x)


@floor_ste.defjvp
def _floor_ste_jvp(primals, tangents):
    return jnp.floor(primals[0]), tangents[0]


def maximum(a: PerOp, b: PerOp, relaxation: Relaxation = EXACT) -> PerOp:
    """Larger of two non-negative values; smooth: see `largest`."""
    return largest((a, b), relaxation)


def largest(values: Sequence[PerOp], relaxation: Relaxation = EXACT) -> PerOp:
    r"""Largest of some non-negative values.

    Smooth: the scale-free p-norm $(\sum_i a_i^p)^{1/p}$ with $p = 2 + 30 (1 - \theta)$, written
    with the ratios of the others to the largest so that nothing overflows. It never lies below
    the true maximum, and by at most the factor $n^{1/p}$ above it. Norms of norms are the norm of
    all, so that one call for n values gives what `maximum` of one after the other does, to
    rounding, with one logarithm and one exponential instead of n - 1.
    """
    top = functools.reduce(jnp.maximum, values)
    if relaxation.is_exact or relaxation.has_exact_max:
        return top
    power = 2.0 + 30.0 * (1.0 - relaxation.temperature)
    if not is_known(relaxation.sharpness, 1.0):
        power = power * relaxation.sharpness
    # The derivative of a quotient squares its denominator: nothing tiny may stand there.
    divisor = jnp.where(top > SMALLEST_DIVISOR, top, 1.0)
    # The floor keeps the gradient of ratio ** power finite at zero.
    powers = total([jnp.maximum(x / divisor, 1e-6) ** power for x in _all_but_largest(values)])
    return top * jnp.exp(jnp.log1p(powers) / power)


def _all_but_largest(values: Sequence[PerOp]) -> list[PerOp]:
    """The values without the largest of them, element by element."""
    largest_yet, others = values[0], []
    for value in values[1:]:
        others.append(jnp.minimum(largest_yet, value))
        largest_yet = jnp.maximum(largest_yet, value)
    return others


def total(tree: Any) -> Leaf:
    """Sum of all leaves: operands of a level, parts of a breakdown."""
    return sum(jax.tree.leaves(tree), start=0.0)


def is_known(value: Leaf, number: float) -> bool:
    """Whether a leaf is that number already before tracing."""
    return isinstance(value, int | float) and value == number


def scaled(number: Leaf, factor: Leaf) -> Leaf:
    """Their product; a plain zero stays one, so that nothing is traced for it."""
    return number if is_known(number, 0.0) else factor * number


def positive_part(x: PerOp) -> PerOp:
    """`max(x, 0)`: what does not fit behind something else."""
    return jnp.maximum(x, 0.0)


def safe_log(x: PerOp) -> PerOp:
    """Logarithm with its argument kept above `SMALLEST`, so value and gradient stay finite."""
    return jnp.log(jnp.maximum(x, SMALLEST))


def materialize(rows: Any) -> Any:
    """A pytree of arrays whose last axis are rows, itself, computed once.

    XLA on CPU fuses a chain of elementwise operations into every one of its uses and computes it
    again in each, which makes gradients of sums over rows many times as slow as they need be. A
    product with the identity is never fused, forward or backward, and costs next to nothing for
    some tens of rows. Exact for finite values.
    """

    def same(x: PerOp) -> PerOp:
        if jnp.ndim(x) == 0:
            return x
        return jnp.dot(x, jnp.eye(jnp.shape(x)[-1], dtype=jnp.result_type(x)))

    return jax.tree.map(same, rows)
