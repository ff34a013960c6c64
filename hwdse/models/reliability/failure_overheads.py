"""Failure overheads beside restarts: spare nodes, stragglers, silent corruption, kept
checkpoints."""

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaincc, gammaln, ndtr, ndtri

from hwdse.numerics.array_types import Scalar

SMALLEST_LOAD = 1e-12
"""Smallest mean number of nodes in repair, such that float32 holds the slope of its cube root."""
NUM_TRIED = 12
"""Number of counts tested around the smooth number of spares, which is within 2 for loads of 1e-6
to 1e6."""


def nodes_in_repair(num_nodes: Scalar, node_mtbf_s: Scalar, repair_time_s: Scalar) -> Scalar:
    """Mean number of nodes in repair, $L = N T / M$ (Little's law).

    N nodes, repair T (s), MTBF M (s). Poisson distributed if repairs do not queue. A node is the
    unit of replacement: a server or a chip.
    """
    return num_nodes * (repair_time_s / node_mtbf_s)


def num_spares(load: Scalar, service_level: Scalar = 0.99) -> Scalar:
    r"""Smallest integer s with $P(\mathrm{Poisson}(L) \le s)$ at least the service level; exact.

    The gradient is zero: searches use `smooth_num_spares`. For float64; in float32 a count may be
    off by one if the probability equals the level within rounding. ByteRobust also sizes warm
    standby by the 99th percentile (arXiv 2509.16293).
    """
    load = jnp.maximum(load, SMALLEST_LOAD)
    first = jnp.maximum(jnp.floor(smooth_num_spares(load, service_level)) - NUM_TRIED // 2, 0.0)
    tried = jax.lax.stop_gradient(first + jnp.arange(NUM_TRIED))
    is_enough = gammaincc(tried + 1.0, jax.lax.stop_gradient(load)) >= service_level
    return tried[jnp.argmax(is_enough)]


def smooth_num_spares(load: Scalar, service_level: Scalar = 0.99) -> Scalar:
    r"""Smooth number of spares, $L + z \sqrt{L} + (z^2 - 1)/6$ with the normal quantile z.

    About half a node above the exact count on average: L = 1.16 gives 4.4 (exact 4), 13.3 gives
    22.5 (22). Below L = 0.01, where no spare is needed, it stays at (z^2 - 1)/6 = 0.74. Source:
    Cornish and Fisher expansion.
    """
    z = ndtri(service_level)
    return load + z * jnp.sqrt(jnp.maximum(load, SMALLEST_LOAD)) + (z**2 - 1.0) / 6.0


def no_spare_fraction(load: Scalar, num_spare_nodes: Scalar) -> Scalar:
    r"""Fraction of failures without an available spare, $P(\mathrm{Poisson}(L) > s)$; smooth.

    For real s: the smaller of Wilson and Hilferty's $\Phi(3 \sqrt{a} ((L/a)^{1/3} - 1 + 1/(9 a)))$
    with a = s + 1 and the bound $L^a / \Gamma(a + 1)$. Within 0.006 of the exact probability.
    """
    load, shape = jnp.maximum(load, SMALLEST_LOAD), num_spare_nodes + 1.0
    root = jnp.exp((jnp.log(load) - jnp.log(shape)) / 3.0)
    near = ndtr(3.0 * jnp.sqrt(shape) * (root - 1.0 + 1.0 / (9.0 * shape)))
    log_bound = shape * jnp.log(load) - gammaln(shape + 1.0)
    return jnp.minimum(near, jnp.exp(jnp.minimum(log_bound, 0.0)))


def spare_wait_s(load: Scalar, num_spare_nodes: Scalar, repair_time_s: Scalar) -> Scalar:
    r"""Mean wait of a failed job for a node, $P(\mathrm{Poisson}(L) > s) \cdot T/(s + 1)$ (s).

    Without a spare, at least s + 1 nodes are in repair. The first returns after T/(s + 1) if
    repairs are memoryless. The caller adds the wait to the downtime.
    """
    wait_s = repair_time_s / (num_spare_nodes + 1.0)
    return no_spare_fraction(load, num_spare_nodes) * wait_s


def straggler_ratio(num_ranks: Scalar, variation_ratio: Scalar) -> Scalar:
    r"""Time of a synchronous step relative to a mean rank, $1 + c \sqrt{2 \ln N}$; 1 for one rank.

    Upper bound on the mean maximum of N Gaussian times with coefficient of variation c; its excess
    over 1 is 10 % too high at N = 1000. Assumes independent steps; a permanently slow rank counts
    as a failure. GREYHOUND found 16 of 27 jobs of 512 or more GPUs slowed down, 1.34 times on
    average (ATC 2025).
    """
    log_ranks = jnp.log(jnp.maximum(num_ranks, 1.0))
    # The root's slope is infinite at one rank, where it starts.
    return 1.0 + variation_ratio * jnp.sqrt(jnp.maximum(2.0 * log_ranks, SMALLEST_LOAD))


def silent_loss_s(detection_time_s: Scalar, silent_fraction: Scalar) -> Scalar:
    """Mean additional work lost per failure due to late detection of corruption, $f l$ (s).

    A fraction f of failures is detected $l$ later and rolls back $l$ further. First order in l/M.
    """
    return silent_fraction * detection_time_s


def num_kept_checkpoints(
    detection_time_s: Scalar, interval_s: Scalar, write_time_s: Scalar
) -> Scalar:
    r"""Checkpoints to keep, $\lceil l/(\tau + d) \rceil + 1$: one predates a corruption found after
    l."""
    return jnp.ceil(detection_time_s / (interval_s + write_time_s)) + 1.0
