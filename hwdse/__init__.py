"""Differentiable design-space explorer of AI accelerators and the clusters made of them.

Names load on first use, so that `import hwdse` and `hwdse --help` cost nothing.
"""

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwdse.config import load_chip, load_search, load_system, load_workload
    from hwdse.evaluation import evaluate
    from hwdse.numerics.relaxation import EXACT, smooth
    from hwdse.search.answers.elasticity import elasticities
    from hwdse.search.descent.minimize import minimize
    from hwdse.search.pareto.pareto_set import hypervolume, non_dominated_mask
    from hwdse.search.sweeps.chunked_sweep import sweep
    from hwdse.specs.design import Design
    from hwdse.specs.hardware.chip import Chip
    from hwdse.specs.hardware.cluster import Cluster
    from hwdse.specs.results.evaluation_result import Evaluation

__all__ = [
    "EXACT",
    "Chip",
    "Cluster",
    "Design",
    "Evaluation",
    "elasticities",
    "evaluate",
    "hypervolume",
    "load_chip",
    "load_search",
    "load_system",
    "load_workload",
    "minimize",
    "non_dominated_mask",
    "smooth",
    "sweep",
]

_MODULES = MappingProxyType(
    {
        "hwdse.config": ("load_chip", "load_search", "load_system", "load_workload"),
        "hwdse.numerics.relaxation": ("EXACT", "smooth"),
        "hwdse.search.answers.elasticity": ("elasticities",),
        "hwdse.search.descent.minimize": ("minimize",),
        "hwdse.search.pareto.pareto_set": ("hypervolume", "non_dominated_mask"),
        "hwdse.search.sweeps.chunked_sweep": ("sweep",),
        "hwdse.specs.design": ("Design",),
        "hwdse.specs.results.evaluation_result": ("Evaluation",),
        "hwdse.specs.hardware.chip": ("Chip",),
        "hwdse.specs.hardware.cluster": ("Cluster",),
        "hwdse.evaluation": ("evaluate",),
    }
)


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("hwdse")
    raise AttributeError(f"module 'hwdse' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
