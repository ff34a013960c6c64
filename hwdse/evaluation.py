"""Evaluation of a design under a workload, on a cluster or on one core."""

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.core.core_evaluation import evaluate_core
from hwdse.numerics.array_types import Leaf
from hwdse.numerics.relaxation import EXACT, Relaxation
from hwdse.specs.design import CoreDesign, Design
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.training.cluster_evaluation import evaluate_cluster
from hwdse.workload.loops.layer_list import LayerList
from hwdse.workload.loops.operators import Operators
from hwdse.workload.transformer.model_config import TransformerTraining

Workload = TransformerTraining | LayerList | Operators


def evaluate(
    design: Design | CoreDesign,
    workload: Workload,
    relaxation: Relaxation = EXACT,
) -> Evaluation:
    """Times, energies, areas and money of one design running one workload.

    A cluster runs a training or a layer list, a core the operators of a network
    (`evaluate_core`). Pure and differentiable in every leaf of `design`; batch it with `vmap`.
    `relaxation` is exact or smooth (see `numerics`).
    """
    workload = jax.tree.map(_own_copy, workload)
    if isinstance(design, CoreDesign) and isinstance(workload, Operators):
        return evaluate_core(design, workload, relaxation)
    if isinstance(design, CoreDesign) or isinstance(workload, Operators):
        raise ValueError(
            f"a {type(design).__name__} cannot run a {type(workload).__name__}: a CoreDesign runs "
            "Operators, a Design a TransformerTraining or a LayerList"
        )
    return evaluate_cluster(design, workload, relaxation)


def _own_copy(leaf: Leaf) -> Leaf:
    """A NumPy array as a new one of the float type in scope, all else as it is.

    JAX keeps what it made of an array that a program closed over, for other programs as well,
    and a sweep runs in both float types.
    """
    return leaf.astype(jnp.result_type(float)) if isinstance(leaf, np.ndarray) else leaf
