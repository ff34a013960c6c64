"""Figures of every layout in a list, each exactly what `evaluate` gives for it."""

from typing import Any

import flax.struct
import jax

from hwdse.shapes import Leaf
from hwdse.specs.design import Design
from hwdse.specs.evaluation import Evaluation, HbmParts, TimeParts
from hwdse.system.evaluate import evaluate
from hwdse.system.staged import Columns, StagedProgram
from hwdse.workload.model_shape import TransformerTraining


@flax.struct.dataclass
class LayoutScores:
    """Of an `Evaluation` what layouts are compared by; arrays with one element a layout."""

    step_time_s: Leaf
    time_per_token_s: Leaf
    useful_tokens_per_s: Leaf
    cost_usd_per_token: Leaf
    energy_per_token_j: Leaf
    matrix_utilization_fraction: Leaf
    hbm_used_ratio: Leaf
    time: TimeParts
    hbm: HbmParts


def scores_of(evaluation: Evaluation) -> LayoutScores:
    """The figures of one layout."""
    names = LayoutScores.__dataclass_fields__
    return LayoutScores(**{name: getattr(evaluation, name) for name in names})


def layout_program(design: Design, job: TransformerTraining, layouts: Columns) -> StagedProgram:
    """The compiled scores of a list of layouts; its `run` gives `LayoutScores`.

    `design` gives all that the list does not set. The numbers are of the float type in scope
    (`jax.enable_x64`), which must be the same when it runs.
    """
    base, work = jax.tree.map(float, design), jax.tree.map(float, job)

    def scores(fields: dict[str, Any]) -> LayoutScores:
        layout = base.parallelism.replace(**fields)
        return scores_of(evaluate(base.replace(parallelism=layout), work))

    return StagedProgram(scores, layouts)


def score_layouts(design: Design, job: TransformerTraining, layouts: Columns) -> LayoutScores:
    """Scores of every layout, in float64."""
    with jax.enable_x64(True):
        return layout_program(design, job, layouts).run()
