"""The clock of a chip whose power is limited: the highest at which a step keeps the limit."""

import math
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import Relaxation
from hwdse.specs.design import Design
from hwdse.training.step_time_and_energy import run_step, with_clock_ratio
from hwdse.workload.loops.layer_list import LayerList
from hwdse.workload.transformer.model_config import TransformerTraining

MIN_CLOCK_RATIO = 0.02
"""The slowest clock that a limit asks for; a chip that draws more even then exceeds its limit."""
MAX_STEPS = 40
SMALLEST_SLOPE = 1e-3
"""Of ln P by ln r. Where nothing waits for the clock power hardly follows it."""

Work = TransformerTraining | LayerList


@flax.struct.dataclass
class _Bracket:
    """State of the search for y = ln r; power is above the limit at `high`, not at `low`."""

    low: Leaf
    high: Leaf
    root: Leaf
    slope: Leaf
    num_steps: Leaf
    is_done: Leaf


def _newton_step(excess: Callable[[Scalar], Scalar], tolerance: float, state: _Bracket) -> _Bracket:
    """One step of Newton's method, or a halving where it leaves the bracket."""
    root = state.root
    value, slope = jax.jvp(excess, (root,), (jnp.ones_like(root),))
    slope = jnp.maximum(slope, SMALLEST_SLOPE)
    is_above = value > 0.0
    low = jnp.where(is_above, state.low, root)
    high = jnp.where(is_above, root, state.high)
    least = math.log(MIN_CLOCK_RATIO)
    wanted = root - value / slope
    # The search starts with a lower end out of reach; the least clock is tried before halving.
    below = jnp.where(low < least, least, 0.5 * (low + high))
    inside = jnp.where(wanted <= jnp.maximum(low, least), below, wanted)
    inside = jnp.where(wanted >= high, 0.5 * (low + high), inside)
    at_end = jnp.where(is_above, root <= least, root >= 0.0)
    is_close = jnp.abs(value) < tolerance
    following = jnp.where(is_close, jnp.clip(wanted, least, 0.0), inside)
    following = jnp.where(at_end, root, following)
    is_done = at_end | is_close | (high - low < tolerance)
    return _Bracket(low, high, following, slope, state.num_steps + 1, is_done)


@jax.custom_jvp
def _implicit(root: Scalar, _excess: Scalar, _slope: Scalar) -> Scalar:
    """`root`, whose derivative is that of the function which makes the excess zero."""
    return root


@_implicit.defjvp
def _implicit_jvp(primals, tangents):
    root, _, slope = primals
    return root, -tangents[1] / slope


def throttled_clock_ratio(design: Design, workload: Work, relaxation: Relaxation) -> Scalar:
    r"""Clock over the stated one, $r \le 1$, at which the mean power of a step is at the limit.

    $P(r) = E(r) / T(r)$ with energy and time of the whole model at the clock $r f$ and the
    voltage that it takes: switching energy falls as $V^2$, leakage power with V, the work that
    waits for the clock takes $1 / r$ as long and what waits for memory or links as long as
    before. r is 1 where P(1) keeps the limit, and `MIN_CLOCK_RATIO` where not even that clock
    does. P rises with r, so Newton's method inside a bracket finds it; the derivative is the
    implicit one, $d \ln r = -(\partial \ln P - d \ln P_{max}) / (\partial \ln P / \partial
    \ln r)$, and zero where the limit does not bind.

    Assumes one clock for a whole step and for all chips; a real chip's control loop changes it
    within milliseconds, so phases of low power would run faster than here.
    """
    limit_w = design.chip.power_limit_w
    if limit_w is None:
        return 1.0

    def excess_of(fixed: Design, job: Work, limit_w: Leaf) -> Callable[[Scalar], Scalar]:
        def excess(log_ratio: Scalar) -> Scalar:
            slowed = with_clock_ratio(fixed, jnp.exp(log_ratio))
            power_w = run_step(slowed, job, relaxation).chip_power_w(slowed)
            return jnp.log(power_w) - jnp.log(limit_w)

        return excess

    kind = jnp.result_type(float)
    found = _search(excess_of(*_constant((design, workload, limit_w))), kind)
    binds = (found.root < 0.0) & (found.root > math.log(MIN_CLOCK_RATIO))
    at_root = excess_of(design, workload, limit_w)(found.root)
    log_ratio = _implicit(found.root, at_root, found.slope)
    return jnp.exp(jnp.where(binds, log_ratio, found.root))


def _search(excess: Callable[[Scalar], Scalar], kind: jnp.dtype) -> _Bracket:
    """Root of an excess that rises, between the least clock and the stated one."""
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
        lambda state: _newton_step(excess, tolerance, state),
        start,
    )


def _constant(tree):
    """The same numbers without derivatives; what is known before tracing stays known."""
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if isinstance(leaf, jax.Array) else leaf, tree
    )
