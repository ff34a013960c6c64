"""Elasticities of several metrics of one design to all its parameters."""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from hwdse.evaluation import Workload, evaluate
from hwdse.numerics.array_types import Scalar
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import safe_log
from hwdse.objectives import CONSTRAINTS, OBJECTIVES, Objective
from hwdse.search.space.pytree_path import readable
from hwdse.specs.all_designs import AnyDesign

METRICS: Mapping[str, Objective] = MappingProxyType({**CONSTRAINTS, **OBJECTIVES})
"""Metrics with elasticities, by name."""


def metric_elasticities(
    design: AnyDesign, workload: Workload, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    r"""$d \ln v / d \ln x$ of metrics of `METRICS` to every leaf of a design, by metric and path.

    Zero where the leaf is zero. One compiled program of the gradient, in float64, serves all
    metrics and all workloads of the same structure.
    """
    with jax.enable_x64(True):
        leaves = jax.tree.map(float, design)
        found = {}
        for name in names:
            weights = [float(one == name) for one in METRICS]
            slopes = _compiled_slopes()(leaves, workload, weights)
            found[name] = {
                readable(design, path): value * float(slope)
                for (path, slope), value in zip(
                    jax.tree_util.tree_flatten_with_path(slopes)[0],
                    jax.tree.leaves(leaves),
                    strict=True,
                )
            }
        return found


@functools.cache
def _compiled_slopes() -> Callable[..., Any]:
    return quick_jit(jax.grad(_weighted_log))


def _weighted_log(design: AnyDesign, workload: Workload, weights: Sequence[Scalar]) -> Scalar:
    """Sum of the logarithms of all metrics with weights; the weights choose a metric."""
    evaluation = evaluate(design, workload)
    logs = [safe_log(jnp.asarray(metric(evaluation))) for metric in METRICS.values()]
    return sum((w * log for w, log in zip(weights, logs, strict=True)), jnp.zeros(()))
