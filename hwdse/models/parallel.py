"""Schedules: how micro-batches fill a pipeline, and what communication stays exposed."""

import jax.numpy as jnp

from hwdse.numerics import positive_part
from hwdse.shapes import Scalar

FORWARD_SHARE = 1.0 / 3.0
"""Share of a micro-batch's time in its forward pass: one product forward, two backward."""


def bubble_time_s(stage_time_s: Scalar, pipeline: Scalar) -> Scalar:
    r"""Idle time of a 1F1B pipeline, $(p - 1) T_{stage}$.

    Forward and backward of one micro-batch on one stage together. Uneven stages and
    interleaving are left out. Source: Narayanan et al., SC 2021, section 2.2.1.
    """
    return (pipeline - 1.0) * stage_time_s


def pipeline_send_time_s(
    point_to_point_s: Scalar, num_micro_batches: Scalar, pipeline: Scalar
) -> Scalar:
    r"""Exposed transfers between stages: $2 (m + p - 1) t$, zero without a pipeline.

    One activation forward and one gradient backward for each micro-batch, nothing hidden
    (Calculon v0.1.0 does the same).
    """
    sends = 2.0 * (num_micro_batches + pipeline - 1.0) * point_to_point_s
    return jnp.where(pipeline > 1.0, sends, 0.0)


def exposed_data_parallel_time_s(
    reduce_scatter_s: Scalar, all_gather_s: Scalar, pass_time_s: Scalar
) -> Scalar:
    """What does not fit behind compute of the gradient sum and of the gather of new weights.

    Gradients of the last micro-batch's backward pass leave layer by layer, and weights arrive
    layer by layer before the first micro-batch's forward pass; only the excess is exposed.
    `pass_time_s` is one micro-batch on one stage, forward and backward.
    """
    backward_s = (1.0 - FORWARD_SHARE) * pass_time_s
    forward_s = FORWARD_SHARE * pass_time_s
    return positive_part(reduce_scatter_s - backward_s) + positive_part(all_gather_s - forward_s)
