"""Names that a text field may hold: those of the mappings that the models keep."""

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
    """Names that the text field `field` may hold; a `ValueError` where it is set in a file only."""
    if field not in VARIANTS:
        raise ValueError(f"a number or a name such as dataflow; {field} is set where it is defined")
    return VARIANTS[field]()


def objective_names() -> tuple[str, ...]:
    """Names of what a search can minimize."""
    from hwdse.objectives import OBJECTIVES

    return tuple(OBJECTIVES)


def limit_names() -> tuple[str, ...]:
    """Names of what can be bounded from above."""
    from hwdse.objectives import CONSTRAINTS

    return tuple(CONSTRAINTS)


def cluster_mappings() -> tuple[str, ...]:
    """Where the HBM traffic of chips in a cluster may come from."""
    from hwdse.training.gemm_operator_costs import MAPPINGS

    return tuple(MAPPINGS)


def core_mappings() -> tuple[str, ...]:
    """Where the mappings of a core's operators may come from."""
    from hwdse.core.mapping_policies import MAPPINGS

    return tuple(MAPPINGS)
