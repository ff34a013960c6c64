"""A checked search file as specs, search space, objectives and limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hwdse.config.files.toml_files import TomlFile
from hwdse.config.schema.user_paths import Roots
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.uncertainty.robust import Robust
from hwdse.search.uncertainty.uncertain_constants import UncertainConstant
from hwdse.specs.design import CoreDesign, Design
from hwdse.workload.gemms import LayerList
from hwdse.workload.loops.operators import Operators
from hwdse.workload.transformer.model_config import TransformerTraining


@dataclass(frozen=True)
class LoadedSearch:
    """A checked search file: base design, workload, search space, objectives and limits."""

    title: str
    seed: int
    base: Design | CoreDesign
    workload: TransformerTraining | LayerList | Operators
    labels: Mapping[str, str]
    """Titles of `system`, `chip`, `workload` and `software`."""
    space: SearchSpace
    objective: str
    front_objectives: tuple[str, ...]
    """Objectives of the Pareto front; the minimized one alone if the file has none."""
    limits: Mapping[str, float]
    resolved: dict[str, Any]
    """All inputs in SI base units, with the hashes of all files; can be written as JSON."""
    tables: dict[str, Any] = field(repr=False)
    """Tables of the file after `--set`, without [overrides], with absolute file paths."""
    plain: Roots = field(repr=False)
    """Specs of the tables, before [overrides]."""
    uncertain_constants: tuple[UncertainConstant, ...] = ()
    """Distributions of the uncertain constants."""
    robust: Robust | None = None
    """Statistic of objectives and limits over a sample of these constants; None for nominal
    values."""
    notes: tuple[str, ...] = ()
    """Parts of imported files that are not modeled."""
    files: tuple[tuple[str, TomlFile], ...] = field(default=(), repr=False)
    """All files that were read, with their kinds."""
    overrides: tuple[str, ...] = ()
    """Overrides as texts of `--set`."""
