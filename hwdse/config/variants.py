"""Names that a text field may hold: those of the mappings that the models keep."""

from collections.abc import Callable, Mapping
from types import MappingProxyType


def _dataflows() -> tuple[str, ...]:
    from hwdse.models.systolic import DATAFLOWS

    return tuple(DATAFLOWS)


def _topologies() -> tuple[str, ...]:
    from hwdse.models.network import TOPOLOGIES

    return tuple(TOPOLOGIES)


VARIANTS: Mapping[str, Callable[[], tuple[str, ...]]] = MappingProxyType(
    {"dataflow": _dataflows, "topology": _topologies}
)


def allowed_names(field: str) -> tuple[str, ...]:
    """Names that the text field `field` may hold."""
    return VARIANTS[field]()


def objective_names() -> tuple[str, ...]:
    """Names of what a search can minimize."""
    from hwdse.objectives import OBJECTIVES

    return tuple(OBJECTIVES)


def limit_names() -> tuple[str, ...]:
    """Names of what can be bounded from above."""
    from hwdse.objectives import CONSTRAINTS

    return tuple(CONSTRAINTS)
