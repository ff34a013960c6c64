"""Evaluation of a design under a workload, on a cluster or on one core."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.core.core_evaluation import evaluate_core
from hwdse.numerics.array_types import Leaf
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, Relaxation
from hwdse.serving.serving_evaluation import evaluate_serving
from hwdse.specs.all_designs import AnyDesign
from hwdse.specs.design import CoreDesign, Design
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.specs.serving.engine import ServingDesign
from hwdse.training.cluster_evaluation import evaluate_cluster
from hwdse.workload.gemms import LayerList
from hwdse.workload.loops.operators import Operators
from hwdse.workload.serving.serving_task import ServingTask
from hwdse.workload.transformer.model_config import TransformerTraining

Workload = TransformerTraining | LayerList | Operators | ServingTask


def evaluate(
    design: AnyDesign,
    workload: Workload,
    relaxation: Relaxation = EXACT,
) -> Evaluation:
    """Metrics of one design under one workload: times, energies, areas, costs.

    A `Design` (cluster) runs a transformer training or a layer list, a `CoreDesign` the operators
    of a network, a `ServingDesign` a serving task. Pure and differentiable in every leaf of
    `design`; batch with `jax.vmap`. `relaxation` is `EXACT` or a smooth relaxation
    (`numerics.relaxation`).

    >>> import jax
    >>> import hwdse
    >>> search = hwdse.load_search("gemmini_bert_explicit")
    >>> with jax.enable_x64(True):
    ...     found = jax.jit(hwdse.evaluate)(search.base, search.workload)
    >>> f"{found.die_area_mm2:.2f} mm²"
    '2.66 mm²'
    """
    workload = jax.tree.map(_own_copy, workload)
    if isinstance(design, CoreDesign) and isinstance(workload, Operators):
        return evaluate_core(design, workload, relaxation)
    if isinstance(design, ServingDesign) and isinstance(workload, ServingTask):
        return evaluate_serving(design, workload, relaxation)
    if not isinstance(design, Design) or not isinstance(workload, TransformerTraining | LayerList):
        raise ValueError(
            f"a {type(design).__name__} cannot run a {type(workload).__name__}: a CoreDesign runs "
            "Operators, a ServingDesign a ServingTask, a Design a TransformerTraining or LayerList"
        )
    return evaluate_cluster(design, workload, relaxation)


def evaluate_exact(design: AnyDesign, workload: Workload) -> Evaluation:
    """Evaluation by the exact model in float64, with Python floats as leaves.

    One compiled program serves all designs and workloads of the same structure.
    """
    with jax.enable_x64(True):
        leaves = jax.tree.map(float, design)
        return jax.tree.map(float, _compiled_evaluate()(leaves, workload))


@functools.cache
def _compiled_evaluate() -> Callable[[AnyDesign, Workload], Evaluation]:
    return quick_jit(lambda design, workload: evaluate(design, workload))


def _own_copy(leaf: Leaf) -> Leaf:
    """Copy of a NumPy array in the current default float type; other leaves unchanged.

    JAX caches the converted constant of a closed-over array across programs, and a sweep uses both
    float types.
    """
    return leaf.astype(jnp.result_type(float)) if isinstance(leaf, np.ndarray) else leaf
