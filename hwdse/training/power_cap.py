"""Step of a chip with a power limit: at the highest clock at which its mean power meets it."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hwdse.models.energy.chip_energy import ChipWork
from hwdse.models.energy.voltage_and_leakage import OperatingPoint, operating_points
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import SMALLEST, Relaxation, total
from hwdse.specs.design import Design
from hwdse.training.step_time_and_energy import (
    StepRun,
    StepWork,
    chip_energy_parts,
    chip_work_by_clock,
    run_step,
)

MIN_OVERDRIVE_RATIO = 0.03
"""Lower end of the supply above the threshold, over that of the set clock: some 2 % of the clock.
A chip above its limit there violates the limit."""
LOWEST = math.log(MIN_OVERDRIVE_RATIO)
MAX_STEPS = 40
NUM_NEWTON_STEPS = 2
"""Newton steps on the energy of times that are linear in the clock period."""
SMALLEST_SLOPE = 1e-3
"""Lower bound of d ln P / dz. Power hardly depends on the clock of memory-bound steps."""


def run_within_limit(work: StepWork, design: Design, relaxation: Relaxation) -> StepRun:
    r"""Step at the highest operating point at which its mean power is within the power limit.

    Power $P(z) = E(z) / T(z)$ with energy and time of the full model at clock and voltage of
    `operating_points`, $z \le 0$. Switching energy scales with $V^2$. Work bound by engines or SRAM
    takes longer at a lower clock; memory-bound and communication-bound work does not. z is 0 if
    P(0) meets the limit and ln(`MIN_OVERDRIVE_RATIO`) if no point of the range does. The
    derivative is the implicit one, $dz = -(\partial \ln P - d \ln P_{max}) / (\partial \ln P /
    \partial z)$, and zero if the limit does not bind.

    Assumes one clock for the full step and for all chips. The control loop of a real chip changes
    the clock within milliseconds, so that phases of low power run faster than here.
    """
    points, limit_w = operating_points(design.chip), design.chip.power_limit_w
    if limit_w is None:
        return run_step(work, design, relaxation, points(0.0))
    fixed_work, fixed, fixed_limit_w = _constant((work, design, limit_w))
    root = _search(fixed_work, fixed, relaxation, jnp.log(fixed_limit_w))
    run = run_step(work, design, relaxation, points(root))
    fixed_points = operating_points(fixed.chip)
    slopes = jax.jvp(
        lambda z: run_step(fixed_work, fixed, relaxation, fixed_points(z)),
        (root,),
        (jnp.ones_like(root),),
    )[1]

    def log_power(run: StepRun) -> Scalar:
        return jnp.log(run.chip_power_w(design))

    slope = jax.jvp(log_power, (_constant(run),), (slopes,))[1]
    binds = (root < 0.0) & (root > LOWEST)
    shift_per_residual = jnp.where(binds, -1.0 / jnp.maximum(slope, SMALLEST_SLOPE), 0.0)
    moved = _moved(
        _clocked(run), _clocked(slopes), log_power(run) - jnp.log(limit_w), shift_per_residual
    )
    return dataclasses.replace(run, **moved)


def _clocked(run: StepRun) -> dict[str, Any]:
    """Fields of a run that depend on its operating point."""
    names = ("point", "layer", "head", "times", "step_time_s", "energy")
    return {name: getattr(run, name) for name in names}


@jax.custom_jvp
def _moved(values: Any, _slopes: Any, _residual: Scalar, _shift_per_residual: Scalar) -> Any:
    """`values` at a root, with the derivative of the root.

    The derivative of the residual at a fixed point, times `_shift_per_residual`, moves the root;
    `_slopes` are the derivatives of the values by the root. The model is differentiated once.
    """
    return values


@_moved.defjvp
def _moved_jvp(primals, tangents):
    values, slopes, _, shift_per_residual = primals
    shift = shift_per_residual * tangents[2]
    return values, jax.tree.map(lambda own, slope: own + slope * shift, tangents[0], slopes)


@struct.dataclass
class _Bracket:
    """State of the search for z; power exceeds the limit at `high` but not at `low`."""

    low: Leaf
    high: Leaf
    root: Leaf
    num_steps: Leaf
    is_done: Leaf


def _search(work: StepWork, design: Design, relaxation: Relaxation, log_limit: Scalar) -> Scalar:
    """Highest z of the range at which the power is within the limit, else the lowest one.

    Times are piecewise linear in the clock period but for host-paced layers, and the energy of
    given times is explicit in z. Each step takes times and their slopes of the full model at one
    clock and solves for z with them, so that the second or third step is nearly exact. A bracket,
    halved where the solution leaves it, keeps the search safe.
    """
    points = operating_points(design.chip)
    by_clock = chip_work_by_clock(work, design, relaxation)

    def power_w(one_chip: ChipWork, point: OperatingPoint) -> Scalar:
        return total(chip_energy_parts(one_chip, work, design, point)) / one_chip.elapsed_s

    kind = jnp.result_type(float)
    # A last step squares this error.
    tolerance = max(float(jnp.finfo(kind).eps) ** 0.5, 1e-6)

    def step(state: _Bracket) -> _Bracket:
        power = _local_log_power(by_clock, points, power_w, state.root)
        value, proposed = _solved(lambda z: power(z) - log_limit, state.root)
        is_above, root = value > 0.0, state.root
        low = jnp.where(is_above, state.low, root)
        high = jnp.where(is_above, root, state.high)
        inside = jnp.where((proposed <= low) | (proposed >= high), 0.5 * (low + high), proposed)
        at_end = jnp.where(is_above, root <= LOWEST, root >= 0.0)
        is_close = jnp.abs(value) < tolerance
        following = jnp.where(
            at_end, root, jnp.where(is_close, proposed, jnp.maximum(inside, LOWEST))
        )
        is_done = at_end | is_close | (high - low < tolerance)
        return _Bracket(low, high, following, state.num_steps + 1, is_done)

    zero = jnp.zeros((), kind)
    start = _Bracket(
        low=zero + LOWEST - 1.0,
        high=zero,
        root=zero,
        num_steps=jnp.zeros((), jnp.int32),
        is_done=jnp.zeros((), bool),
    )
    return jax.lax.while_loop(
        lambda state: ~state.is_done & (state.num_steps < MAX_STEPS), step, start
    ).root


def _local_log_power(
    by_clock: Callable[[Scalar], ChipWork],
    points: Callable[[Scalar], OperatingPoint],
    power_w: Callable[[ChipWork, OperatingPoint], Scalar],
    at: Scalar,
) -> Callable[[Scalar], Scalar]:
    """ln of the chip power by z, with times linear in the clock period around z = `at`."""
    period = 1.0 / points(at).clock_ratio

    def seconds(period: Scalar) -> tuple[tuple[Scalar, Scalar], ChipWork]:
        one_chip = by_clock(1.0 / period)
        return (one_chip.elapsed_s, one_chip.resident_s), one_chip

    (elapsed_s, resident_s), slopes, one_chip = jax.jvp(
        seconds, (period,), (jnp.ones_like(period),), has_aux=True
    )

    def log_power(z: Scalar) -> Scalar:
        point = points(z)
        longer = 1.0 / point.clock_ratio - period
        time_s = jnp.maximum(elapsed_s + slopes[0] * longer, SMALLEST)
        moved = dataclasses.replace(
            one_chip, elapsed_s=time_s, resident_s=resident_s + slopes[1] * longer
        )
        return jnp.log(power_w(moved, point))

    return log_power


def _solved(residual: Callable[[Scalar], Scalar], start: Scalar) -> tuple[Scalar, Scalar]:
    """Residual at the start, and its root by a few Newton steps within the range."""
    values, root = [], start
    for _ in range(NUM_NEWTON_STEPS):
        value, slope = jax.jvp(residual, (root,), (jnp.ones_like(root),))
        root = jnp.clip(root - value / jnp.maximum(slope, SMALLEST_SLOPE), LOWEST, 0.0)
        values.append(value)
    return values[0], root


def _constant(tree: Any) -> Any:
    """The same values without derivatives; plain Python numbers stay known before tracing."""
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if isinstance(leaf, jax.Array) else leaf, tree
    )
