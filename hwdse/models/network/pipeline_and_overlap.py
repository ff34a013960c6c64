"""Pipeline bubble and sends, host-paced kernels, and exposed data-parallel communication."""

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.numerics.relaxation import SMALLEST, positive_part

PACE_POWER = 2.6
"""Sharpness of the transition from host-bound to kernel-bound layers. Fitted with the dispatch time
on the iteration times of small models on one node (vTrain, 970 rows)."""


@jax.custom_jvp
def paced_time_s(kernels_s: Scalar, dispatch_s: Scalar) -> Scalar:
    """Time of a layer whose kernels the host issues one by one: $(a^p + b^p)^{1/p}$ (s).

    a is kernel time, b dispatch time. The host runs ahead of long kernels and behind short ones. A
    layer has both kinds, so the transition is gradual. Kernel time for zero dispatch time.
    """
    return _paced(kernels_s, dispatch_s)[0]


def _paced(kernels_s: Scalar, dispatch_s: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """The time, and its derivatives by both times without further powers."""
    larger = jnp.maximum(jnp.maximum(kernels_s, dispatch_s), SMALLEST)
    ratio = jnp.maximum(jnp.minimum(kernels_s, dispatch_s) / larger, 1e-6)
    # Cheaper than a power of a positive ratio.
    power = jnp.exp(PACE_POWER * jnp.log(ratio))
    relative = jnp.exp(jnp.log1p(power) / PACE_POWER)
    by_larger = relative / (1.0 + power)
    by_smaller = by_larger * power / ratio
    is_paced, is_longer = dispatch_s > 0.0, kernels_s >= dispatch_s
    return (
        jnp.where(is_paced, larger * relative, kernels_s),
        jnp.where(is_paced, jnp.where(is_longer, by_larger, by_smaller), 1.0),
        jnp.where(is_paced, jnp.where(is_longer, by_smaller, by_larger), 0.0),
    )


@paced_time_s.defjvp
def _paced_time_s_jvp(primals, tangents):
    time_s, by_kernels, by_dispatch = _paced(*primals)
    return time_s, by_kernels * tangents[0] + by_dispatch * tangents[1]


def exposed_time_s(collective_s: Scalar, compute_s: Scalar, overlap_fraction: Scalar) -> Scalar:
    r"""Time that a collective c adds to compute t that hides a fraction of it,
    $c - f \min(c, t)$ (s)."""
    return collective_s - overlap_fraction * jnp.minimum(collective_s, compute_s)


def sliced_overlap_fraction(num_slices: Scalar) -> Scalar:
    r"""Fraction of a collective that overlaps with the product before or after it, $1 - 1 / s$.

    The product runs in s slices, and the collective of each slice while the next one is computed.
    The first or last slice has no partner. One slice: no overlap. Source: Wang et al., ASPLOS 2023
    (decomposed collectives), section 4; Transformer Engine, userbuffers.
    """
    return 1.0 - 1.0 / num_slices


def free_overlap_fraction(overlap_fraction: Scalar, engine_fraction: Scalar) -> Scalar:
    """Fraction of a collective that costs no time, if it takes a share of the matrix engines.

    Products are slower by that share as long as the collective runs: of each hidden second,
    `engine_fraction` seconds are lost.
    """
    return overlap_fraction * (1.0 - engine_fraction)


def bubble_time_s(stage_time_s: Scalar, pipeline: Scalar, virtual_pipeline: Scalar) -> Scalar:
    """Idle time of a 1F1B pipeline, $(p - 1) T_{stage} / v$ with v virtual stages per stage (s).

    $T_{stage}$: forward and backward pass of one micro-batch on one stage. Assumes that all stages
    are as slow as the most loaded one, as do the other schedules. Source: Narayanan et al., SC
    2021, sections 2.2.1 and 2.2.2.
    """
    return (pipeline - 1.0) * stage_time_s / virtual_pipeline


def zero_bubble_time_s(times_s: tuple[Scalar, Scalar, Scalar], pipeline: Scalar) -> Scalar:
    r"""Idle time of the schedule ZB-H1, $(p - 1) (T_F + T_B - 2 T_W)^+$ (s).

    `times_s`: forward pass, backward pass, and the weight gradients among the latter, of one
    micro-batch on one stage. Input gradients go on to the stage before; weight gradients wait and
    fill the bubble. All stages have as many micro-batches in flight as the first one of 1F1B.
    Exact for weight gradients that take no longer than a forward pass and than input gradients.
    Source: Qi et al., arXiv 2401.10241, table 2, where $T_B$ is without $T_W$.
    """
    forward_s, backward_s, gradient_s = times_s
    return (pipeline - 1.0) * positive_part(forward_s + backward_s - 2.0 * gradient_s)


def dual_pipe_bubble_time_s(times_s: tuple[Scalar, Scalar, Scalar], pipeline: Scalar) -> Scalar:
    r"""Idle time of the schedule DualPipe, $(p / 2 - 1)^+ (T_F + 2 T_B - 3 T_W)^+$ (s).

    Micro-batches enter at both ends; each rank has two stages. Times as in `zero_bubble_time_s`. A
    forward pass that runs beside a backward pass takes as long as both: what it hides of the
    collectives is in the times already. Source: DeepSeek-V3, arXiv 2412.19437, table 2.
    """
    forward_s, backward_s, gradient_s = times_s
    each_s = positive_part(forward_s + 2.0 * backward_s - 3.0 * gradient_s)
    return positive_part(0.5 * pipeline - 1.0) * each_s


def pipeline_send_time_s(
    point_to_point_s: Scalar,
    num_micro_batches: Scalar,
    stages: tuple[Scalar, Scalar],
    pass_s: tuple[Scalar, Scalar],
    overlap_fraction: Scalar,
) -> Scalar:
    r"""Exposed transfers between stages (s), zero without a pipeline.

    One activation forward and one gradient backward per micro-batch and virtual stage, each of time
    t. The $p - 1$ sends that fill the pipeline, and those that drain it, are exposed. The others
    hide behind the work of a virtual stage as far as it takes as long: without overlap
    $2 (m v + p - 1) t$ as Calculon v0.1.0, with full overlap
    $2 (p - 1) t + m v ((t - T_f / v)^+ + (t - T_b / v)^+)$. `stages` holds p and v, `pass_s` the
    passes $T_f$ and $T_b$ of one micro-batch on one stage.
    """
    (pipeline, virtual_pipeline), t = stages, point_to_point_s
    num_sends = num_micro_batches * virtual_pipeline
    steady_s = sum(exposed_time_s(t, x / virtual_pipeline, overlap_fraction) for x in pass_s)
    sends_s = num_sends * steady_s + 2.0 * (pipeline - 1.0) * t
    return jnp.where(pipeline > 1.0, sends_s, 0.0)


def exposed_data_parallel_time_s(
    reduce_scatter_s: Scalar,
    all_gather_s: Scalar,
    pass_s: tuple[Scalar, Scalar],
    num_layers: Scalar,
    overlap_fraction: Scalar,
) -> Scalar:
    r"""Exposed time of the gradient reduce-scatter and the all-gather of new weights (s).

    $r - f \min(r (1 - 1/L), T_b)$ for the reduce-scatter r, and the same for the all-gather g with
    $T_f$: overlap fraction f, passes $T_f$ and $T_b$ of one micro-batch on one stage of L layers.
    Gradients of the last backward pass leave layer by layer, and those of the layer that ends it
    have nothing left to hide behind. Weights arrive layer by layer before the first forward pass,
    which waits for the first layer.
    """
    rest = positive_part(1.0 - 1.0 / jnp.maximum(num_layers, 1.0))

    def exposed_s(time_s: Scalar, compute_s: Scalar) -> Scalar:
        return time_s - overlap_fraction * jnp.minimum(rest * time_s, compute_s)

    forward_s, backward_s = pass_s
    return exposed_s(reduce_scatter_s, backward_s) + exposed_s(all_gather_s, forward_s)
