"""Differentiable design-space exploration of AI accelerators and training clusters.

Names load on first use, so that `import hwdse` and `hwdse --help` cost nothing.

- `job`, `compare`, `Job`, `Comparison`: a question by names of presets and files, its answers as
  tables, jobs side by side.
- `load_search`, `load_chip`, `load_system`, `load_workload`: presets and TOML files as specs.
- `Chip`, `Cluster`, `Design`: specs, frozen pytrees with float leaves in SI base units.
- `evaluate`, `Evaluation`: metrics of a design under a workload; `jax.grad` and `jax.vmap` apply.
- `EXACT`, `smooth`, `Relaxation`: exact model and smooth relaxation of rounding and maxima.
- `elasticities`: d ln(metric) / d ln(leaf) of every leaf of a design.
- `minimize`, `sweep`: gradient search and sweep of a search space.
- `non_dominated_mask`, `hypervolume`: Pareto fronts.

More: `hwdse.search`, `hwdse.training`, `hwdse.core`, `hwdse.analysis`, `hwdse.config`.
"""

from typing import TYPE_CHECKING, Any

from hwdse.lazy_names import lazy_names

if TYPE_CHECKING:
    from hwdse.config import load_chip, load_search, load_system, load_workload
    from hwdse.evaluation import evaluate
    from hwdse.jobs import Comparison, Job, compare, job
    from hwdse.numerics.relaxation import EXACT, Relaxation, smooth
    from hwdse.search.answers.elasticity import elasticities
    from hwdse.search.descent.minimize import minimize
    from hwdse.search.pareto.dominance_and_hypervolume import hypervolume, non_dominated_mask
    from hwdse.search.sweeps.chunked_sweep import sweep
    from hwdse.specs.design import Design
    from hwdse.specs.hardware.chip import Chip
    from hwdse.specs.hardware.cluster import Cluster
    from hwdse.specs.results.evaluation_result import Evaluation

__all__ = [
    "EXACT",
    "Chip",
    "Cluster",
    "Comparison",
    "Design",
    "Evaluation",
    "Job",
    "Relaxation",
    "compare",
    "elasticities",
    "evaluate",
    "hypervolume",
    "job",
    "load_chip",
    "load_search",
    "load_system",
    "load_workload",
    "minimize",
    "non_dominated_mask",
    "smooth",
    "sweep",
]

_load, __dir__ = lazy_names(
    __name__,
    {
        "config": (
            "load_chip",
            "load_search",
            "load_system",
            "load_workload",
        ),
        "evaluation": ("evaluate",),
        "jobs": (
            "Comparison",
            "Job",
            "compare",
            "job",
        ),
        "numerics.relaxation": (
            "EXACT",
            "Relaxation",
            "smooth",
        ),
        "search.answers.elasticity": ("elasticities",),
        "search.descent.minimize": ("minimize",),
        "search.pareto.dominance_and_hypervolume": (
            "hypervolume",
            "non_dominated_mask",
        ),
        "search.sweeps.chunked_sweep": ("sweep",),
        "specs.design": ("Design",),
        "specs.hardware.chip": ("Chip",),
        "specs.hardware.cluster": ("Cluster",),
        "specs.results.evaluation_result": ("Evaluation",),
    },
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hwdse")
    return _load(name)
