"""What a search file asks to be minimized, as functions of a design, robust where it says so."""

from hwdse.config.search_file import LoadedSearch
from hwdse.objectives import Costs, Score, make_costs, score_of_costs
from hwdse.search.robust import robust_costs


def costs_of(loaded: LoadedSearch, objectives: tuple[str, ...] | None = None) -> Costs:
    """Logs of objectives (those of the front by default) and violations of a design; with
    `[objective] robust`, those over the sample of the uncertain constants."""
    names = objectives or loaded.front_objectives
    costs = make_costs(names, loaded.limits, loaded.workload)
    if loaded.robust is None:
        return costs
    return robust_costs(costs, loaded.spreads, loaded.robust, loaded.seed)


def score_of(loaded: LoadedSearch) -> Score:
    """Log of what the file minimizes, and violations, of a design."""
    return score_of_costs(costs_of(loaded, (loaded.objective,)))
