"""Allowed values of text fields, from the mappings of the models."""

from collections.abc import Callable, Mapping
from types import MappingProxyType


def _dataflows() -> tuple[str, ...]:
    from hwdse.models.compute.systolic import DATAFLOWS

    return tuple(DATAFLOWS)


def _topologies() -> tuple[str, ...]:
    from hwdse.models.network.topology_collectives import TOPOLOGIES

    return tuple(TOPOLOGIES)


def _counts() -> tuple[str, ...]:
    return ("one", "rows", "cols", "pes")  # those of specs.accelerator.num_instances


def _schemes() -> tuple[str, ...]:
    from hwdse.training.job_goodput import SCHEMES

    return tuple(SCHEMES)


VARIANTS: Mapping[str, Callable[[], tuple[str, ...]]] = MappingProxyType(
    {
        "dataflow": _dataflows,
        "topology": _topologies,
        "ports": _counts,
        "banks": _counts,
        "scheme": _schemes,
    }
)


def allowed_names(field: str) -> tuple[str, ...]:
    """Allowed values of the text field `field`. Raises `ValueError` for fields of files only."""
    if field not in VARIANTS:
        raise ValueError(f"a number or a name such as dataflow; {field} is set in its own file")
    return VARIANTS[field]()


def objective_names() -> tuple[str, ...]:
    """Names of the objectives."""
    from hwdse.objectives import OBJECTIVES

    return tuple(OBJECTIVES)


def limit_names() -> tuple[str, ...]:
    """Names of the metrics with an upper limit."""
    from hwdse.objectives import CONSTRAINTS

    return tuple(CONSTRAINTS)


def cluster_mappings() -> tuple[str, ...]:
    """Names of the HBM traffic models of chips in a cluster."""
    from hwdse.training.gemm_operator_costs import MAPPINGS

    return tuple(MAPPINGS)


def core_mappings() -> tuple[str, ...]:
    """Names of the mapping policies of a core."""
    from hwdse.core.mapping_policies import MAPPINGS

    return tuple(MAPPINGS)
