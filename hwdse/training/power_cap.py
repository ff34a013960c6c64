"""Throttled clock of a chip with a power limit: highest clock at which a step meets it."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import Relaxation
from hwdse.specs.design import Design
from hwdse.training.step_time_and_energy import run_step, with_clock_ratio
from hwdse.workload.gemms import LayerList
from hwdse.workload.transformer.model_config import TransformerTraining

MIN_CLOCK_RATIO = 0.02
"""Lower end of the clock range; a chip above its limit at this clock violates the limit."""
MAX_STEPS = 40
SMALLEST_SLOPE = 1e-3
"""Lower bound of d ln P / d ln r. Power hardly depends on the clock of memory-bound steps."""

Workload = TransformerTraining | LayerList


@struct.dataclass
class _Bracket:
    """State of the search for y = ln r; power exceeds the limit at `high` but not at `low`."""

    low: Leaf
    high: Leaf
    root: Leaf
    slope: Leaf
    num_steps: Leaf
    is_done: Leaf


def _newton_step(
    residual: Callable[[Scalar], Scalar], tolerance: float, state: _Bracket
) -> _Bracket:
    """One step of Newton's method, or a bisection step if it leaves the bracket."""
    root = state.root
    value, slope = jax.jvp(residual, (root,), (jnp.ones_like(root),))
    slope = jnp.maximum(slope, SMALLEST_SLOPE)
    is_above = value > 0.0
    low = jnp.where(is_above, state.low, root)
    high = jnp.where(is_above, root, state.high)
    lowest = math.log(MIN_CLOCK_RATIO)
    proposed = root - value / slope
    # The search starts with a lower end below the range; the lowest clock precedes bisection.
    below = jnp.where(low < lowest, lowest, 0.5 * (low + high))
    inside = jnp.where(proposed <= jnp.maximum(low, lowest), below, proposed)
    inside = jnp.where(proposed >= high, 0.5 * (low + high), inside)
    at_end = jnp.where(is_above, root <= lowest, root >= 0.0)
    is_close = jnp.abs(value) < tolerance
    following = jnp.where(is_close, jnp.clip(proposed, lowest, 0.0), inside)
    following = jnp.where(at_end, root, following)
    is_done = at_end | is_close | (high - low < tolerance)
    return _Bracket(low, high, following, slope, state.num_steps + 1, is_done)


@jax.custom_jvp
def _implicit(root: Scalar, _residual: Scalar, _slope: Scalar) -> Scalar:
    """`root` with the derivative of the implicit function that makes the residual zero."""
    return root


@_implicit.defjvp
def _implicit_jvp(primals, tangents):
    root, _, slope = primals
    return root, -tangents[1] / slope


def throttled_clock_ratio(design: Design, workload: Workload, relaxation: Relaxation) -> Scalar:
    r"""Clock over the set clock, $r \le 1$, at which the mean power of a step equals the limit.

    $P(r) = E(r) / T(r)$ with energy and time of the full model at clock $r f$ and the voltage of
    that clock. Switching energy scales with $V^2$ and leakage power with V. Engine-bound work takes
    $1 / r$ times as long; memory-bound and communication-bound work is unchanged. r is 1 if P(1)
    meets the limit and `MIN_CLOCK_RATIO` if no clock of the range does. P rises with r, so Newton's
    method in a bracket finds the root. The derivative is the implicit one, $d \ln r = -(\partial
    \ln P - d \ln P_{max}) / (\partial \ln P / \partial \ln r)$, and zero if the limit does not
    bind.

    Assumes one clock for the full step and for all chips. The control loop of a real chip changes
    the clock within milliseconds, so that phases of low power run faster than here.
    """
    limit_w = design.chip.power_limit_w
    if limit_w is None:
        return 1.0

    def residual_of(fixed: Design, job: Workload, limit_w: Leaf) -> Callable[[Scalar], Scalar]:
        def residual(log_ratio: Scalar) -> Scalar:
            slowed = with_clock_ratio(fixed, jnp.exp(log_ratio))
            power_w = run_step(slowed, job, relaxation).chip_power_w(slowed)
            return jnp.log(power_w) - jnp.log(limit_w)

        return residual

    kind = jnp.result_type(float)
    found = _search(residual_of(*_constant((design, workload, limit_w))), kind)
    binds = (found.root < 0.0) & (found.root > math.log(MIN_CLOCK_RATIO))
    at_root = residual_of(design, workload, limit_w)(found.root)
    log_ratio = _implicit(found.root, at_root, found.slope)
    return jnp.exp(jnp.where(binds, log_ratio, found.root))


def _search(residual: Callable[[Scalar], Scalar], kind: jnp.dtype) -> _Bracket:
    """Root of a rising residual between the lowest clock and the set clock."""
    tolerance = 30.0 * float(jnp.finfo(kind).eps) ** 0.75
    zero = jnp.zeros((), kind)
    start = _Bracket(
        low=zero + math.log(MIN_CLOCK_RATIO) - 1.0,
        high=zero,
        root=zero,
        slope=zero + 1.0,
        num_steps=jnp.zeros((), jnp.int32),
        is_done=jnp.zeros((), bool),
    )
    return jax.lax.while_loop(
        lambda state: ~state.is_done & (state.num_steps < MAX_STEPS),
        lambda state: _newton_step(residual, tolerance, state),
        start,
    )


def _constant(tree):
    """The same values without derivatives; plain Python numbers stay known before tracing."""
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if isinstance(leaf, jax.Array) else leaf, tree
    )
