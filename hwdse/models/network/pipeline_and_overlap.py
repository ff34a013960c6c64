"""Pipeline bubble and sends, host-paced kernels, and exposed data-parallel communication."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.numerics.relaxation import SMALLEST, positive_part

PACE_POWER = 2.6
"""Sharpness of the transition from host-bound to kernel-bound layers. Fitted with the dispatch time
on the iteration times of small models on one node (vTrain, 970 rows)."""


def paced_time_s(kernels_s: Scalar, dispatch_s: Scalar) -> Scalar:
    """Time of a layer whose kernels the host issues one by one: $(a^p + b^p)^{1/p}$ (s).

    a is kernel time, b dispatch time. The host runs ahead of long kernels and behind short ones. A
    layer has both kinds, so the transition is gradual. Kernel time for zero dispatch time.
    """
    larger = jnp.maximum(jnp.maximum(kernels_s, dispatch_s), SMALLEST)
    ratio = jnp.maximum(jnp.minimum(kernels_s, dispatch_s) / larger, 1e-6)
    both = larger * jnp.exp(jnp.log1p(ratio**PACE_POWER) / PACE_POWER)
    return jnp.where(dispatch_s > 0.0, both, kernels_s)


def overlapped_time_s(first_s: Scalar, second_s: Scalar, overlap_fraction: Scalar) -> Scalar:
    r"""Time of two partly overlapping activities, $a + b - f \min(a, b)$ (s)."""
    return first_s + second_s - overlap_fraction * jnp.minimum(first_s, second_s)


def bubble_time_s(stage_time_s: Scalar, pipeline: Scalar, virtual_pipeline: Scalar) -> Scalar:
    """Idle time of a 1F1B pipeline, $(p - 1) T_{stage} / v$ with v virtual stages per stage (s).

    $T_{stage}$: forward and backward pass of one micro-batch on one stage. Assumes that all stages
    are as slow as the most loaded one. Source: Narayanan et al., SC 2021, sections 2.2.1 and 2.2.2.
    """
    return (pipeline - 1.0) * stage_time_s / virtual_pipeline


def pipeline_send_time_s(
    point_to_point_s: Scalar, num_micro_batches: Scalar, pipeline: Scalar, virtual_pipeline: Scalar
) -> Scalar:
    """Exposed transfers between stages: $2 (m v + p - 1) t$ (s), zero without a pipeline.

    One activation forward and one gradient backward per micro-batch and virtual stage. Assumes no
    overlap, as Calculon v0.1.0.
    """
    sends = 2.0 * (num_micro_batches * virtual_pipeline + pipeline - 1.0) * point_to_point_s
    return jnp.where(pipeline > 1.0, sends, 0.0)


def exposed_data_parallel_time_s(
    reduce_scatter_s: Scalar,
    all_gather_s: Scalar,
    pass_s: tuple[Scalar, Scalar],
    overlap_fraction: Scalar,
) -> Scalar:
    """Exposed time of the gradient reduce-scatter and the all-gather of new weights (s).

    $(r - f T_b)^+ + (g - f T_f)^+$: reduce-scatter r and all-gather g (s), overlap fraction f,
    passes $T_f$ and $T_b$ of one micro-batch on one stage (`pass_s`). Gradients of the last
    backward pass leave layer by layer, and weights arrive layer by layer before the first forward
    pass.
    """
    forward_s, backward_s = pass_s
    reduce_s = positive_part(reduce_scatter_s - overlap_fraction * backward_s)
    return reduce_s + positive_part(all_gather_s - overlap_fraction * forward_s)
