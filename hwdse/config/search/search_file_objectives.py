"""Objectives and limits of a search file as functions of a design, nominal or robust."""

from collections.abc import Mapping
from typing import Any

from hwdse.config.search.search_file import LoadedSearch
from hwdse.objectives import ObjectiveFn, ObjectivesFn, first_objective_fn, make_objectives_fn
from hwdse.search.uncertainty.robust import Robust, RobustObjectivesFn
from hwdse.search.uncertainty.uncertain_constants import UncertainConstant


def make_robust_objectives_fn(
    objectives: tuple[str, ...],
    limits: Mapping[str, float],
    workload: Any,
    uncertain_constants: tuple[UncertainConstant, ...],
    robust: Robust | None,
    seed: int,
) -> ObjectivesFn:
    """Function of a design with its log objectives and constraint values.

    They hold at the nominal constants or, with `robust`, over the sample of the uncertain constants
    of the seed of the search file.
    """
    objectives_fn = make_objectives_fn(objectives, limits, workload)
    if robust is None:
        return objectives_fn
    return RobustObjectivesFn(objectives_fn, uncertain_constants, robust, seed)


def front_objectives_fn(
    loaded: LoadedSearch, objectives: tuple[str, ...] | None = None
) -> ObjectivesFn:
    """Function of a design with its log objectives and constraint values.

    The objectives are those of the Pareto front by default. With `[objective] robust` the values
    are statistics over the sample of the uncertain constants.
    """
    return make_robust_objectives_fn(
        objectives or loaded.front_objectives,
        loaded.limits,
        loaded.workload,
        loaded.uncertain_constants,
        loaded.robust,
        loaded.seed,
    )


def objective_fn(loaded: LoadedSearch) -> ObjectiveFn:
    """Function of a design with the log of the minimized objective and the constraint values."""
    return first_objective_fn(front_objectives_fn(loaded, (loaded.objective,)))
