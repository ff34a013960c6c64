"""What a search file asks to be minimized, as functions of a design, robust where it says so."""

from collections.abc import Mapping
from typing import Any

from hwdse.config.search.search_file import LoadedSearch
from hwdse.objectives import Costs, Score, make_costs, score_of_costs
from hwdse.search.uncertainty.robust import Robust, RobustCosts
from hwdse.search.uncertainty.uncertain_constants import Spread


def asked_costs(
    objectives: tuple[str, ...],
    limits: Mapping[str, float],
    workload: Any,
    spreads: tuple[Spread, ...],
    robust: Robust | None,
    seed: int,
) -> Costs:
    """Logs of objectives and violations of a design, at the nominal constants or, with `robust`,
    over the sample of the uncertain ones that belongs to the seed of the search file."""
    costs = make_costs(objectives, limits, workload)
    return costs if robust is None else RobustCosts(costs, spreads, robust, seed)


def costs_of(loaded: LoadedSearch, objectives: tuple[str, ...] | None = None) -> Costs:
    """Logs of objectives (those of the front by default) and violations of a design; with
    `[objective] robust`, those over the sample of the uncertain constants."""
    return asked_costs(
        objectives or loaded.front_objectives,
        loaded.limits,
        loaded.workload,
        loaded.spreads,
        loaded.robust,
        loaded.seed,
    )


def score_of(loaded: LoadedSearch) -> Score:
    """Log of what the file minimizes, and violations, of a design."""
    return score_of_costs(costs_of(loaded, (loaded.objective,)))
