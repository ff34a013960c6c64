"""Operating point of a chip with a power limit: highest clock at which a step meets it."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from hwdse.models.energy.voltage_and_leakage import OperatingPoint, operating_points
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import Relaxation
from hwdse.specs.design import Design
from hwdse.training.step_time_and_energy import StepWork, run_step

MIN_OVERDRIVE_RATIO = 0.03
"""Lower end of the supply above the threshold, over that of the set clock: some 2 % of the clock.
A chip above its limit there violates the limit."""
LOWEST = math.log(MIN_OVERDRIVE_RATIO)
MAX_STEPS = 40
SMALLEST_SLOPE = 1e-3
"""Lower bound of d ln P / dz. Power hardly depends on the clock of memory-bound steps."""


@struct.dataclass
class _Bracket:
    """State of the search for z; power exceeds the limit at `high` but not at `low`."""

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
    proposed = root - value / slope
    # The search starts with a lower end below the range; the lowest clock precedes bisection.
    below = jnp.where(low < LOWEST, LOWEST, 0.5 * (low + high))
    inside = jnp.where(proposed <= jnp.maximum(low, LOWEST), below, proposed)
    inside = jnp.where(proposed >= high, 0.5 * (low + high), inside)
    at_end = jnp.where(is_above, root <= LOWEST, root >= 0.0)
    is_close = jnp.abs(value) < tolerance
    following = jnp.where(is_close, jnp.clip(proposed, LOWEST, 0.0), inside)
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


def operating_point(work: StepWork, design: Design, relaxation: Relaxation) -> OperatingPoint:
    r"""Highest operating point at which the mean power of a step is within the power limit.

    Power $P(z) = E(z) / T(z)$ with energy and time of the full model at clock and voltage of
    `operating_points`, $z \le 0$. Switching energy scales with $V^2$. Work bound by engines or SRAM
    takes longer at a lower clock; memory-bound and communication-bound work does not. z is 0 if
    P(0) meets the limit and ln(`MIN_OVERDRIVE_RATIO`) if no point of the range does. P rises with
    z, so Newton's method in a bracket finds the root. Only `run_step` is repeated, on the finished
    `work`. The derivative is the implicit one, $dz = -(\partial \ln P - d \ln P_{max}) / (\partial
    \ln P / \partial z)$, and zero if the limit does not bind.

    Assumes one clock for the full step and for all chips. The control loop of a real chip changes
    the clock within milliseconds, so that phases of low power run faster than here.
    """
    limit_w = design.chip.power_limit_w
    if limit_w is None:
        return operating_points(design.chip)(0.0)

    def residual_of(work: StepWork, fixed: Design, limit_w: Leaf) -> Callable[[Scalar], Scalar]:
        points = operating_points(fixed.chip)

        def residual(log_share: Scalar) -> Scalar:
            run = run_step(work, fixed, relaxation, points(log_share))
            return jnp.log(run.chip_power_w(fixed)) - jnp.log(limit_w)

        return residual

    kind = jnp.result_type(float)
    found = _search(residual_of(*_constant((work, design, limit_w))), kind)
    binds = (found.root < 0.0) & (found.root > LOWEST)
    at_root = residual_of(work, design, limit_w)(found.root)
    log_share = _implicit(found.root, at_root, found.slope)
    return operating_points(design.chip)(jnp.where(binds, log_share, found.root))


def _search(residual: Callable[[Scalar], Scalar], kind: jnp.dtype) -> _Bracket:
    """Root of a rising residual between the lowest and the highest operating point."""
    # A last Newton step squares this error.
    tolerance = max(float(jnp.finfo(kind).eps) ** 0.5, 1e-6)
    zero = jnp.zeros((), kind)
    start = _Bracket(
        low=zero + LOWEST - 1.0,
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
