"""What failures cost beside restarts: noticing them, spare nodes, slow ranks, old checkpoints."""

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaincc, gammaln, ndtr, ndtri

from hwdse.numerics.array_types import Scalar

SMALLEST_LOAD = 1e-12
"""Least mean number of nodes in repair; its cube root has a slope that float32 holds."""
NUM_TRIED = 12
"""Counts tried around the smooth number of spares; it is off by less than two from 1e-6 to 1e6."""


def nodes_in_repair(num_nodes: Scalar, node_mtbf_s: Scalar, repair_time_s: Scalar) -> Scalar:
    """Mean number of nodes that are away, $L = N T / M$ (Little's law); Poisson where repairs do
    not wait for each other. A node is whatever is replaced as one: a server, or a chip."""
    return num_nodes * (repair_time_s / node_mtbf_s)


def num_spares(load: Scalar, service_level: Scalar = 0.99) -> Scalar:
    r"""Smallest whole s with $P(\mathrm{Poisson}(L) \le s)$ at least the service level; exact.

    Its gradient is zero: `smooth_num_spares` is for searches. For float64; in float32 a count may
    be off by one where the probability meets the level within rounding. ByteRobust sizes warm
    standby by the 99th percentile as well (arXiv 2509.16293).
    """
    load = jnp.maximum(load, SMALLEST_LOAD)
    first = jnp.maximum(jnp.floor(smooth_num_spares(load, service_level)) - NUM_TRIED // 2, 0.0)
    tried = jax.lax.stop_gradient(first + jnp.arange(NUM_TRIED))
    is_enough = gammaincc(tried + 1.0, jax.lax.stop_gradient(load)) >= service_level
    return tried[jnp.argmax(is_enough)]


def smooth_num_spares(load: Scalar, service_level: Scalar = 0.99) -> Scalar:
    r"""$L + z \sqrt{L} + (z^2 - 1)/6$ with the normal quantile z (Cornish and Fisher).

    About half a node above the exact count on average: L = 1.16 gives 4.4 (exact 4), 13.3 gives
    22.5 (22). Below L = 0.01, where no spare is needed, it stays at (z^2 - 1)/6 = 0.74.
    """
    z = ndtri(service_level)
    return load + z * jnp.sqrt(jnp.maximum(load, SMALLEST_LOAD)) + (z**2 - 1.0) / 6.0


def no_spare_fraction(load: Scalar, num_spare_nodes: Scalar) -> Scalar:
    r"""Share of failures that find no spare, $P(\mathrm{Poisson}(L) > s)$; smooth, s real.

    The smaller of Wilson and Hilferty's $\Phi(3 \sqrt{a} ((L/a)^{1/3} - 1 + 1/(9 a)))$ with
    a = s + 1 and the bound $L^a / \Gamma(a + 1)$. Within 0.006 of the exact probability.
    """
    load, shape = jnp.maximum(load, SMALLEST_LOAD), num_spare_nodes + 1.0
    root = jnp.exp((jnp.log(load) - jnp.log(shape)) / 3.0)
    near = ndtr(3.0 * jnp.sqrt(shape) * (root - 1.0 + 1.0 / (9.0 * shape)))
    log_bound = shape * jnp.log(load) - gammaln(shape + 1.0)
    return jnp.minimum(near, jnp.exp(jnp.minimum(log_bound, 0.0)))


def spare_wait_s(load: Scalar, num_spare_nodes: Scalar, repair_time_s: Scalar) -> Scalar:
    r"""Mean wait of a failed job for a node: $P(\mathrm{Poisson}(L) > s) \cdot T/(s + 1)$.

    Without a spare, at least s + 1 nodes are in repair, and the first is back after T/(s + 1) where
    repairs are memoryless. Add it to the downtime.
    """
    wait_s = repair_time_s / (num_spare_nodes + 1.0)
    return no_spare_fraction(load, num_spare_nodes) * wait_s


def straggler_ratio(num_ranks: Scalar, variation_ratio: Scalar) -> Scalar:
    r"""Time of a synchronous step over that of a mean rank, $1 + c \sqrt{2 \ln N}$; 1 for one rank.

    Upper bound on the mean maximum of N Gaussian times with coefficient of variation c, 10 % above
    it (its excess over one) at N = 1000. Independent of step to step; a rank that is slow for good
    is a failure. GREYHOUND saw 16 of 27 jobs of 512 and more GPUs slowed down, 1.34 times in the
    mean (ATC 2025).
    """
    log_ranks = jnp.log(jnp.maximum(num_ranks, 1.0))
    # The root's slope is infinite at one rank, where it starts.
    return 1.0 + variation_ratio * jnp.sqrt(jnp.maximum(2.0 * log_ranks, SMALLEST_LOAD))


def silent_loss_s(detection_time_s: Scalar, silent_fraction: Scalar) -> Scalar:
    """Mean work lost per failure to corruption that is found late, on top of a fail-stop's loss.

    A share of failures is found $l$ later and goes back $l$ further: $f l$. First order in l/M.
    """
    return silent_fraction * detection_time_s


def num_kept_checkpoints(
    detection_time_s: Scalar, interval_s: Scalar, write_time_s: Scalar
) -> Scalar:
    r"""Checkpoints to keep, $\lceil l/(\tau + d) \rceil + 1$: one is older than a corruption."""
    return jnp.ceil(detection_time_s / (interval_s + write_time_s)) + 1.0
