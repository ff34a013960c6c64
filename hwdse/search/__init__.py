"""Design-space exploration of any objective function of a pytree, independent of hardware.

Names load on first use. Objective functions map a design and a `Relaxation` to logs of objectives
and to constraint values ln(value / limit). Below `search`, modules import numerics only.

- `SearchSpace`, `Dimension`, `Choice`, `Variant`: searched parameters as a unit cube.
- `minimize`, `allocate_evaluations`, `SearchResult`: gradient search for one objective.
- `search_front`, `FrontResult`: gradient search for a Pareto front.
- `sweep`, `plan_sweep`, `SweepPlan`, `SweepResult`: sweeps of many points (Sobol,
  random, grid, Latin hypercube).
- `report_optimality`, `OptimalityReport`: local optimality, optimality gap, binding constraints and
  shadow prices.
- `solve`, `FreeParameter`, `SolveResult`: minimum-norm change that meets targets.
- `elasticities`: d ln(value) / d ln(leaf) of every leaf of a design.
- `non_dominated_mask`, `hypervolume`, `merge_fronts`, `DesignSet`: Pareto fronts.
- `UncertainConstant`, `relative_uncertainty`, `sample_metrics`, `percentiles`, `variance_budget`:
  propagation of uncertain constants.
- `RobustObjectivesFn`, `parse_robust`: robust objectives under uncertain constants.
- `sample_designs`, `SampledDesigns`: designs of a front under uncertain constants.
- `get_path`, `set_path`: leaves of a nested design by dotted path.
"""

from typing import TYPE_CHECKING

from hwdse.lazy_names import lazy_names

if TYPE_CHECKING:
    from hwdse.search.answers.elasticity import elasticities
    from hwdse.search.answers.minimum_change import FreeParameter
    from hwdse.search.answers.optimality import OptimalityReport, report_optimality
    from hwdse.search.answers.solve_targets import SolveResult, solve
    from hwdse.search.descent.minimize import allocate_evaluations, minimize
    from hwdse.search.evaluation.search_result import SearchResult
    from hwdse.search.front.front_search import FrontResult, search_front
    from hwdse.search.front.front_uncertainty import SampledDesigns, sample_designs
    from hwdse.search.pareto.dominance_and_hypervolume import (
        hypervolume,
        merge_fronts,
        non_dominated_mask,
    )
    from hwdse.search.pareto.pareto_archive import DesignSet
    from hwdse.search.space.dimension import Dimension
    from hwdse.search.space.pytree_path import get_path, set_path
    from hwdse.search.space.search_space import Choice, SearchSpace, Variant
    from hwdse.search.sweeps.chunked_sweep import sweep
    from hwdse.search.sweeps.sweep_plan import SweepPlan, SweepResult, plan_sweep
    from hwdse.search.uncertainty.robust import RobustObjectivesFn, parse_robust
    from hwdse.search.uncertainty.uncertain_constants import (
        UncertainConstant,
        relative_uncertainty,
    )
    from hwdse.search.uncertainty.uncertainty_propagation import (
        percentiles,
        sample_metrics,
        variance_budget,
    )

__all__ = [
    "Choice",
    "DesignSet",
    "Dimension",
    "FreeParameter",
    "FrontResult",
    "OptimalityReport",
    "RobustObjectivesFn",
    "SampledDesigns",
    "SearchResult",
    "SearchSpace",
    "SolveResult",
    "SweepPlan",
    "SweepResult",
    "UncertainConstant",
    "Variant",
    "allocate_evaluations",
    "elasticities",
    "get_path",
    "hypervolume",
    "merge_fronts",
    "minimize",
    "non_dominated_mask",
    "parse_robust",
    "percentiles",
    "plan_sweep",
    "relative_uncertainty",
    "report_optimality",
    "sample_designs",
    "sample_metrics",
    "search_front",
    "set_path",
    "solve",
    "sweep",
    "variance_budget",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "answers.elasticity": ("elasticities",),
        "answers.minimum_change": ("FreeParameter",),
        "answers.optimality": (
            "OptimalityReport",
            "report_optimality",
        ),
        "answers.solve_targets": (
            "SolveResult",
            "solve",
        ),
        "descent.minimize": (
            "allocate_evaluations",
            "minimize",
        ),
        "evaluation.search_result": ("SearchResult",),
        "front.front_search": (
            "FrontResult",
            "search_front",
        ),
        "front.front_uncertainty": (
            "SampledDesigns",
            "sample_designs",
        ),
        "pareto.pareto_archive": ("DesignSet",),
        "pareto.dominance_and_hypervolume": (
            "hypervolume",
            "merge_fronts",
            "non_dominated_mask",
        ),
        "space.dimension": ("Dimension",),
        "space.pytree_path": (
            "get_path",
            "set_path",
        ),
        "space.search_space": (
            "Choice",
            "SearchSpace",
            "Variant",
        ),
        "sweeps.chunked_sweep": ("sweep",),
        "sweeps.sweep_plan": (
            "SweepPlan",
            "SweepResult",
            "plan_sweep",
        ),
        "uncertainty.robust": (
            "RobustObjectivesFn",
            "parse_robust",
        ),
        "uncertainty.uncertain_constants": (
            "UncertainConstant",
            "relative_uncertainty",
        ),
        "uncertainty.uncertainty_propagation": (
            "percentiles",
            "sample_metrics",
            "variance_budget",
        ),
    },
)
