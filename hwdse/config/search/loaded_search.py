"""A checked search file as specs, search space, objectives and limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hwdse.config.schema.user_paths import Roots
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.uncertainty.robust import Robust
from hwdse.search.uncertainty.uncertain_constants import UncertainConstant
from hwdse.specs.design import CoreDesign, Design
from hwdse.workload.loops.layer_list import LayerList
from hwdse.workload.loops.operators import Operators
from hwdse.workload.transformer.model_config import TransformerTraining


@dataclass(frozen=True)
class LoadedSearch:
    """A checked search file: the base design, the workload, and what may change."""

    title: str
    seed: int
    base: Design | CoreDesign
    workload: TransformerTraining | LayerList | Operators
    labels: Mapping[str, str]
    """Names for people: `system`, `chip`, `workload`."""
    space: SearchSpace
    objective: str
    front_objectives: tuple[str, ...]
    limits: Mapping[str, float]
    resolved: dict[str, Any]
    """Everything in SI base units, with the hashes of all files: JSON-able."""
    tables: dict[str, Any] = field(repr=False)
    """The file's tables after `--set`, without [overrides]; names of files made absolute."""
    plain: Roots = field(repr=False)
    """The specs as the tables give them, before [overrides]."""
    uncertain_constants: tuple[UncertainConstant, ...] = ()
    """What is known of constants that are uncertain."""
    robust: Robust | None = None
    """How objectives and limits are taken over a sample of these; None: at the nominal values."""
