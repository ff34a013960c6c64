"""The best strategy of a service: the highest throughput within limits."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import numpy as np

from hwdse.numerics.jit_compile import quick_jit
from hwdse.serving.serving_evaluation import evaluate_serving
from hwdse.serving.serving_strategies import enumerate_serving_strategies
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.specs.serving.engine import ServingDesign, ServingStrategy
from hwdse.workload.serving.serving_task import ServingTask

LIMIT_ROUNDING = 1.0 + 1e-12
"""Factor on limits: a value at its limit meets it."""


@functools.cache
def _compiled() -> Callable[[ServingDesign, ServingTask], Evaluation]:
    return quick_jit(evaluate_serving)


def serving_strategy_evaluations(
    design: ServingDesign, task: ServingTask, strategies: list[ServingStrategy]
) -> list[Evaluation]:
    """Evaluation of each strategy in float64, leaves as Python floats."""
    with jax.enable_x64(True):
        found = []
        for strategy in strategies:
            one = jax.tree.map(float, dataclasses.replace(design, strategy=strategy))
            found.append(jax.tree.map(float, _compiled()(one, task)))
        return found


def best_serving_strategy(
    design: ServingDesign, task: ServingTask, limits: Mapping[str, float]
) -> ServingStrategy | None:
    """Strategy with the highest throughput among those that fit, serve the load and meet the
    limits; None without a candidate.

    `limits` are upper limits by field of `Evaluation`. If none meets all limits, the one of those
    that fit; if none fits, the one with least memory.
    """
    strategies = enumerate_serving_strategies(task.model, float(design.cluster.num_chips))
    if not strategies:
        return None
    found = serving_strategy_evaluations(design, task, strategies)
    ratio = np.array([one.hbm_used_ratio for one in found])
    rows = np.flatnonzero(ratio <= LIMIT_ROUNDING)
    if not rows.size:
        return strategies[int(np.argmin(ratio))]
    for name, limit in {**limits, "load_ratio": 1.0}.items():
        values = np.array([float(getattr(one, name)) for one in found])
        is_met = values[rows] <= limit * LIMIT_ROUNDING
        rows = rows[is_met] if is_met.any() else rows
    throughput = np.array([one.effective_tokens_per_s for one in found])
    return strategies[int(rows[np.argmax(throughput[rows])])]
