"""Differentiable design-space explorer of AI accelerators and the clusters made of them.

Names load on first use, so that `import hwdse` and `hwdse --help` cost nothing.
"""

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwdse.config import load_chip, load_search, load_system, load_workload
    from hwdse.numerics import EXACT, smooth
    from hwdse.search.elasticity import elasticities
    from hwdse.search.gradient import minimize
    from hwdse.search.pareto import hypervolume, non_dominated_mask
    from hwdse.search.sweep import sweep
    from hwdse.specs.design import Design
    from hwdse.specs.evaluation import Evaluation
    from hwdse.specs.hardware import Chip, Cluster
    from hwdse.system import evaluate

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
        "hwdse.numerics": ("EXACT", "smooth"),
        "hwdse.search.elasticity": ("elasticities",),
        "hwdse.search.gradient": ("minimize",),
        "hwdse.search.pareto": ("hypervolume", "non_dominated_mask"),
        "hwdse.search.sweep": ("sweep",),
        "hwdse.specs.design": ("Design",),
        "hwdse.specs.evaluation": ("Evaluation",),
        "hwdse.specs.hardware": ("Chip", "Cluster"),
        "hwdse.system": ("evaluate",),
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
