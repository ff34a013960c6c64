"""What a search file asks to be minimized, as functions of a design, robust where it says so."""

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
    """Logs of objectives and violations of a design, at the nominal constants or, with `robust`,
    over the sample of the uncertain ones that belongs to the seed of the search file."""
    costs = make_objectives_fn(objectives, limits, workload)
    return costs if robust is None else RobustObjectivesFn(costs, uncertain_constants, robust, seed)


def front_objectives_fn(
    loaded: LoadedSearch, objectives: tuple[str, ...] | None = None
) -> ObjectivesFn:
    """Logs of objectives (those of the front by default) and violations of a design; with
    `[objective] robust`, those over the sample of the uncertain constants."""
    return make_robust_objectives_fn(
        objectives or loaded.front_objectives,
        loaded.limits,
        loaded.workload,
        loaded.uncertain_constants,
        loaded.robust,
        loaded.seed,
    )


def objective_fn(loaded: LoadedSearch) -> ObjectiveFn:
    """Log of what the file minimizes, and violations, of a design."""
    return first_objective_fn(front_objectives_fn(loaded, (loaded.objective,)))
