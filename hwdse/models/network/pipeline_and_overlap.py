"""Schedules: how micro-batches fill a pipeline, what waits for the host, what stays exposed."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.numerics.relaxation import SMALLEST, positive_part

PACE_POWER = 2.6
"""How sharply a layer goes from waiting for its host to waiting for its kernels. Fitted with the
dispatch time on the iteration times of small models on one node (vTrain, 970 rows)."""


def paced_time_s(kernels_s: Scalar, dispatch_s: Scalar) -> Scalar:
    r"""Time of a layer whose kernels the host issues one by one: $(a^p + b^p)^{1/p}$.

    The host runs ahead of long kernels and behind short ones; both kinds are in a layer, so the
    change from one to the other is gradual. The kernels' time where the host takes none.
    """
    larger = jnp.maximum(jnp.maximum(kernels_s, dispatch_s), SMALLEST)
    ratio = jnp.maximum(jnp.minimum(kernels_s, dispatch_s) / larger, 1e-6)
    both = larger * jnp.exp(jnp.log1p(ratio**PACE_POWER) / PACE_POWER)
    return jnp.where(dispatch_s > 0.0, both, kernels_s)


def overlapped_time_s(first_s: Scalar, second_s: Scalar, overlap_fraction: Scalar) -> Scalar:
    """Two things that need each other's end in part: $a + b - f \\min(a, b)$."""
    return first_s + second_s - overlap_fraction * jnp.minimum(first_s, second_s)


def bubble_time_s(stage_time_s: Scalar, pipeline: Scalar, virtual_pipeline: Scalar) -> Scalar:
    r"""Idle time of a 1F1B pipeline, $(p - 1) T_{stage} / v$ with v chunks a stage.

    Forward and backward of one micro-batch on one stage together, all stages as the fullest.
    Source: Narayanan et al., SC 2021, sections 2.2.1 and 2.2.2.
    """
    return (pipeline - 1.0) * stage_time_s / virtual_pipeline


def pipeline_send_time_s(
    point_to_point_s: Scalar, num_micro_batches: Scalar, pipeline: Scalar, virtual_pipeline: Scalar
) -> Scalar:
    r"""Exposed transfers between stages: $2 (m v + p - 1) t$, zero without a pipeline.

    One activation forward and one gradient backward for each micro-batch and chunk, nothing
    hidden (Calculon v0.1.0 does the same).
    """
    sends = 2.0 * (num_micro_batches * virtual_pipeline + pipeline - 1.0) * point_to_point_s
    return jnp.where(pipeline > 1.0, sends, 0.0)


def exposed_data_parallel_time_s(
    reduce_scatter_s: Scalar,
    all_gather_s: Scalar,
    pass_s: tuple[Scalar, Scalar],
    overlap_fraction: Scalar,
) -> Scalar:
    """What does not fit behind compute of the gradient sum and of the gather of new weights.

    Gradients of the last micro-batch's backward pass leave layer by layer, and weights arrive
    layer by layer before the first micro-batch's forward pass; only the excess is exposed, or
    all of it without overlap. `pass_s` is one micro-batch on one stage, forward and backward.
    """
    forward_s, backward_s = pass_s
    reduce_s = positive_part(reduce_scatter_s - overlap_fraction * backward_s)
    return reduce_s + positive_part(all_gather_s - overlap_fraction * forward_s)
