"""Logic density by process node, and log-log interpolation between published nodes."""

import math

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar

DENSITY_ANCHORS = ((65.0, 3.3), (40.0, 7.7), (28.0, 15.3), (20.0, 22.1), (14.0, 28.9),
                   (10.0, 52.5), (7.0, 96.3), (5.0, 138.2), (3.0, 138.2 * 1.6))  # fmt: skip
"""Peak logic density (million transistors per mm²) by node (nm). Source: CSET 2020 (Khan and Mann),
as in ttm-cas; 3 nm by TSMC's factor over N5."""


def log_interpolated(node_nm: Scalar, anchors: tuple[tuple[float, float], ...]) -> Scalar:
    """Value at a node by log-log interpolation, extrapolated with the slopes of the end
    segments."""
    ordered = sorted(anchors)
    nodes = [math.log(node) for node, _ in ordered]
    values = [math.log(value) for _, value in ordered]
    x = jnp.log(jnp.maximum(node_nm, 0.1))
    inner = jnp.interp(x, jnp.asarray(nodes), jnp.asarray(values))
    first = (values[1] - values[0]) / (nodes[1] - nodes[0])
    last = (values[-1] - values[-2]) / (nodes[-1] - nodes[-2])
    below = first * jnp.minimum(x - nodes[0], 0.0)
    above = last * jnp.maximum(x - nodes[-1], 0.0)
    return jnp.exp(inner + below + above)


def logic_density_mtr_per_mm2(node_nm: Scalar) -> Scalar:
    """Peak logic density in million transistors per mm²."""
    return log_interpolated(node_nm, DENSITY_ANCHORS)
