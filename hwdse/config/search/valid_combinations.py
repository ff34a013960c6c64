"""Search spaces restricted to designs that `hwdse evaluate` accepts.

Some parameters are allowed alone and impossible together: degrees of a parallelism strategy, chips
and scale-up domains, dies and arrays, voltages. Searched parameters that depend on one another are
combined before a search begins. Whole numbers and rows of choices become one choice of all possible
combinations. Continuous ranges must be possible at all their ends, which suffices for the linear
conditions of `consistency_checks`.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdse.config.design.cluster_design_table import CLUSTER
from hwdse.config.design.core_design_table import CORE
from hwdse.config.design.serving_design_table import SERVING
from hwdse.config.files.errors import ConfigError, ConfigLocation
from hwdse.config.hardware.load_specs import DesignKind
from hwdse.config.schema.field_rules import rule_of
from hwdse.config.schema.user_paths import field_name, short_path
from hwdse.config.search.loaded_search import LoadedSearch
from hwdse.search.space.dimension import Dimension
from hwdse.search.space.pytree_path import set_path
from hwdse.search.space.search_space import Choice, SearchSpace
from hwdse.specs.all_designs import AnyDesign
from hwdse.specs.design import CoreDesign, Design
from hwdse.specs.serving.engine import ServingDesign
from hwdse.training.strategy_rules import strategy_problem
from hwdse.units.format_units import format_field
from hwdse.units.parse_units import split_field
from hwdse.workload.transformer.model_config import TransformerTraining

COUPLED = (
    (
        "parallelism.",
        "cluster.num_chips",
        "cluster.torus_sizes.",
        "cluster.pod_chips",
    ),
    ("cluster.torus_bandwidth_fractions.",),
    ("chip.num_dies", "chip.array.num_arrays"),
    ("chip.process.threshold_voltage_v", "chip.process.nominal_voltage_v",
     "chip.process.min_voltage_v", "chip.process.leakage_voltage_v"),
    ("chip.link.",),
    ("chip.network.",),
    ("accelerator.process.",),
)  # fmt: skip
"""Beginnings of the paths of parameters that depend on one another, by group."""
MAX_COMBINATIONS = 100_000
"""Largest number of combinations that are checked, about 20 us each."""
MAX_ROWS = 4096
"""Largest number of possible combinations; local search visits each."""
MAX_CORNERS = 6
"""Largest number of continuous parameters of a group whose ends are combined."""
NUM_RANDOM = 400
"""Random combinations that are checked if there are more than `MAX_COMBINATIONS`."""
NUM_SAMPLES = 8
"""Random designs of the whole space that are checked in the end."""
ADVICE = "values that change together belong to [[choices]], one row each"
_DATA_DEGREE = re.compile(r"\bDP[\d.]+")

Values = Mapping[str, float]
"""Values by path."""


@dataclass(frozen=True)
class SearchTables:
    """Searched parameters by table of the file."""

    dimensions: tuple[tuple[Dimension, ...], ...]
    choices: tuple[Choice, ...]
    is_listed: tuple[bool, ...]
    """True for each choice whose rows are listed in the file: none may be dropped."""


class DesignChecker:
    """Check of the base design of every variant with some values replaced."""

    def __init__(self, bases: Sequence[AnyDesign], workload: Any, kind: DesignKind):
        self._bases = bases
        self._workload = workload
        self._kind = kind

    def problem(self, values: Values) -> str | None:
        """Message of the check that refuses these values, or None."""
        for base in self._bases:
            problem = self.problem_of(with_values(base, values))
            if problem is not None:
                return problem
        return None

    def problem_of(self, design: Any) -> str | None:
        """Message of the check that refuses a design, or None."""
        try:
            self._kind.check(design, self._workload, ConfigLocation(""))
        except ConfigError as error:
            return str(error)
        return None

    def has_possible_hardware(self, values: Values) -> bool:
        """True unless the checks of the hardware alone refuse these values."""
        try:
            for base in self._bases:
                self._kind.check_variant(with_values(base, values), ConfigLocation(""))
        except ConfigError:
            return False
        return True

    def data_degree(self, values: Values) -> float | None:
        """Data-parallel degree with these values; None for a core."""
        design = with_values(self._bases[0], values)
        if not isinstance(design, Design):
            return None
        strategy = design.parallelism
        ranks = strategy.tensor * strategy.pipeline * strategy.context
        return float(design.cluster.num_chips / ranks)

    def is_possible(self, values: Values) -> bool:
        """True if no check refuses these values; the strategy, which fails most, comes first."""
        base = self._bases[0]
        if isinstance(base, Design) and isinstance(self._workload, TransformerTraining):
            design = with_values(base, values)
            chips = design.cluster.num_chips
            if strategy_problem(design.parallelism, chips, self._workload) is not None:
                return False
        return self.problem(values) is None


def kind_of_design(design: Any) -> DesignKind:
    """Kind of a design by its type."""
    if isinstance(design, CoreDesign):
        return CORE
    return SERVING if isinstance(design, ServingDesign) else CLUSTER


def checker_of(loaded: LoadedSearch) -> DesignChecker:
    """Check of the base design of a loaded search with some values replaced."""
    return DesignChecker((loaded.base,), loaded.workload, kind_of_design(loaded.base))


def is_coupled(path: str) -> bool:
    """True if the allowed values of a parameter may depend on other parameters."""
    return any(path.startswith(prefixes) for prefixes in COUPLED)


def with_values(design: Any, values: Values) -> Any:
    """Design with these values; fields of one spec are replaced at once, which is faster."""
    fields: dict[str, dict[str, float]] = {}
    for path, value in values.items():
        root, _, rest = path.partition(".")
        if rest and "." not in rest and hasattr(getattr(design, root), rest):
            fields.setdefault(root, {})[rest] = value
        else:
            design = set_path(design, path, value)
    specs = {
        root: dataclasses.replace(getattr(design, root), **found) for root, found in fields.items()
    }
    return dataclasses.replace(design, **specs)


def valid_space(
    tables: SearchTables, space: SearchSpace, checker: DesignChecker, where: ConfigLocation
) -> SearchSpace:
    """The space without the points that `checker` refuses.

    Whole-number ranges and choices of a group of `COUPLED` that have impossible combinations are
    replaced by one choice of the possible ones. Raises `ConfigError` for a range or a listed row
    without any possible value, for continuous ranges with impossible ends and for too many
    combinations.
    """
    for prefixes in COUPLED:
        space = _Group(prefixes, tables, space, checker, where).restricted()
    _check_samples(space, checker, where)
    return space


@dataclass(frozen=True)
class _Axis:
    """Alternatives of one table: a range in steps, or the rows of a choice."""

    name: str
    paths: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    labels: tuple[str, ...]
    place: ConfigLocation
    is_listed: bool = False
    word: str = ""
    """Name of the number that the labels of a range give."""

    def label(self, index: int) -> str:
        """Label of one alternative, with the name of its number."""
        return f"{self.word} {self.labels[index]}".strip()

    def values(self, index: int) -> dict[str, float]:
        """Values of one alternative."""
        return dict(zip(self.paths, self.rows[index], strict=True))


class _Group:
    """Searched parameters that depend on one another."""

    def __init__(
        self,
        prefixes: tuple[str, ...],
        tables: SearchTables,
        space: SearchSpace,
        checker: DesignChecker,
        where: ConfigLocation,
    ):
        self._space, self._checker, self._where = space, checker, where
        self._places = {
            dim.path: where.table(f"variables {number}")
            for number, table in enumerate(tables.dimensions, 1)
            for dim in table
        }
        self._dims = [dim for dim in space.dimensions if dim.path.startswith(prefixes)]
        origins = {
            choice.name: (where.table(f"choices {number}"), is_listed)
            for number, (choice, is_listed) in enumerate(
                zip(tables.choices, tables.is_listed, strict=True), 1
            )
        }
        self._choices = [
            _Axis(choice.name, choice.paths, choice.table, choice.labels,
                  *origins.get(choice.name, (where.table("choices"), False)))
            for choice in space.choices
            if any(path.startswith(prefixes) for path in choice.paths)
        ]  # fmt: skip

    def restricted(self) -> SearchSpace:
        """The space with the possible combinations of this group."""
        whole = [dim for dim in self._dims if rule_of(field_name(dim.path)).is_whole]
        if not self._dims and not self._choices:
            return self._space
        corners = self._corners([dim for dim in self._dims if dim not in whole])
        axes, found, num_all = self._combinations(whole, corners)
        if len(found) < num_all and len(whole) < len(self._dims):
            # Ranges in steps of a continuous parameter can be enumerated as well.
            whole = [dim for dim in self._dims if dim.step is not None]
            corners = self._corners([dim for dim in self._dims if dim.step is None])
            axes, found, num_all = self._combinations(whole, corners)
        if len(found) == num_all:
            return self._space
        self._check_found(axes, found, corners)
        if len(axes) == len(whole) == 1:
            (dim,) = whole
            narrower = _narrower(dim, [axes[0].rows[index][0] for (index,) in found])
            if narrower is not None:
                dims = tuple(narrower if one is dim else one for one in self._space.dimensions)
                return dataclasses.replace(self._space, dimensions=dims)
        return self._replaced(axes, found, whole)

    def _combinations(
        self, whole: list[Dimension], corners: list[dict[str, float]]
    ) -> tuple[list[_Axis], list[tuple[int, ...]], int]:
        """Axes, indices of the possible combinations, and the number of all combinations."""
        axes = [*self._choices, *(_axis_of(dim, self._places[dim.path]) for dim in whole)]
        # Hardware first: its own checks shorten the lists before strategies are combined with it.
        axes.sort(key=_is_strategy)
        num_all = math.prod(len(axis.rows) for axis in axes)
        if num_all > MAX_COMBINATIONS and self._seems_independent(axes, corners):
            return axes, [], 0
        return axes, list(self._possible(axes, corners)), num_all

    def _seems_independent(self, axes: list[_Axis], corners: list[dict[str, float]]) -> bool:
        """True if a sample of the combinations, too many to check all, is possible."""
        generator = np.random.default_rng(0)
        sizes = [len(axis.rows) for axis in axes]
        sample = generator.integers(sizes, size=(NUM_RANDOM, len(sizes)))
        return all(
            self._checker.is_possible({**_values(axes, indices), **corner})
            for indices in sample
            for corner in corners
        )

    def _possible(
        self, axes: list[_Axis], corners: list[dict[str, float]]
    ) -> Iterator[tuple[int, ...]]:
        """Indices of the combinations that are possible at all corners."""
        split = sum(not _is_strategy(axis) for axis in axes)
        hardware = [
            indices
            for indices in self._limited(axes[:split], 1)
            if self._checker.has_possible_hardware(_values(axes[:split], indices))
        ]
        for first in hardware:
            for second in self._limited(axes[split:], len(hardware)):
                values = _values(axes, (*first, *second))
                if all(self._checker.is_possible({**values, **corner}) for corner in corners):
                    yield (*first, *second)

    def _limited(self, axes: list[_Axis], num_others: int) -> Iterable[tuple[int, ...]]:
        """All combinations of indices; `ConfigError` if they are too many."""
        count = num_others * math.prod(len(axis.rows) for axis in axes)
        if count > MAX_COMBINATIONS:
            raise _too_many(axes, count, MAX_COMBINATIONS)
        return itertools.product(*(range(len(axis.rows)) for axis in axes))

    def _corners(self, dimensions: list[Dimension]) -> list[dict[str, float]]:
        """Combinations of the ends of continuous ranges; of their ends together if too many."""
        if len(dimensions) > MAX_CORNERS:
            both = [{dim.path: _ends(dim)[end] for dim in dimensions} for end in (0, 1)]
            return [*both, *({dim.path: end} for dim in dimensions for end in _ends(dim))]
        return [
            dict(zip((dim.path for dim in dimensions), ends, strict=True))
            for ends in itertools.product(*map(_ends, dimensions))
        ]

    def _check_found(
        self, axes: list[_Axis], found: list[tuple[int, ...]], corners: list[dict[str, float]]
    ) -> None:
        """Raise `ConfigError` if nothing is possible, a listed row is not, or too much is."""
        for number, axis in enumerate(axes):
            used = {indices[number] for indices in found}
            for index in range(len(axis.rows)):
                if axis.is_listed and index not in used:
                    reason = self._reason(axis.values(index), corners)
                    raise axis.place.error(
                        "values", axis.labels[index], f"a possible row; {reason}"
                    )
        if not found:
            raise self._impossible(axes, corners)
        if len(found) > MAX_ROWS:
            raise _too_many(axes, len(found), MAX_ROWS)

    def _reason(self, values: Values, corners: list[dict[str, float]]) -> str:
        """Why these values are impossible with the rest of the base design."""
        found = (self._checker.problem({**values, **corner}) for corner in corners)
        problem = next((text for text in found if text is not None), None)
        return problem or "it is impossible with every value of the other searched parameters"

    def _impossible(self, axes: list[_Axis], corners: list[dict[str, float]]) -> ConfigError:
        """Error of a group without a possible combination."""
        if axes:
            axis = axes[-1]
            reason = self._reason(axis.values(0), corners)
            expected = f"a range with a possible value; at {axis.label(0)}: {reason}"
            return axis.place.error("path", short_path(axis.paths[0]), expected)
        corner = next(corner for corner in corners if not self._checker.is_possible(corner))
        path = next(iter(corner))
        for one in corner:  # the first parameter that is impossible alone, if any
            if self._checker.problem({one: corner[one]}) is not None:
                path = one
                break
        at = ", ".join(f"{short_path(one)} = {corner[one]:g}" for one in corner)
        expected = f"ranges that are possible at their ends; at {at}: "
        expected += f"{self._checker.problem(corner)}; {ADVICE}"
        return self._places[path].error("path", short_path(path), expected)

    def _replaced(
        self, axes: list[_Axis], found: list[tuple[int, ...]], whole: list[Dimension]
    ) -> SearchSpace:
        """The space with one choice of the possible combinations in place of the axes."""
        names = {axis.name for axis in self._choices}
        merged = Choice(
            axes[0].name if len(axes) == 1 else " x ".join(short_path(a.name) for a in axes),
            tuple(path for axis in axes for path in axis.paths),
            tuple(tuple(_values(axes, one).values()) for one in found),
            tuple(self._label(axes, one) for one in found),
        )
        return SearchSpace(
            tuple(dim for dim in self._space.dimensions if dim not in whole),
            (*(choice for choice in self._space.choices if choice.name not in names), merged),
            self._space.variants,
        )

    def _label(self, axes: list[_Axis], indices: tuple[int, ...]) -> str:
        """Labels of the alternatives of one combination, with its data-parallel degree."""
        if len(axes) == 1:
            return axes[0].labels[indices[0]]
        parts = [axis.label(i) for axis, i in zip(axes, indices, strict=True)]
        data = self._checker.data_degree(_values(axes, indices))
        if data is not None:
            generated = [not axis.is_listed and _is_strategy(axis) for axis in axes]
            parts = [
                _DATA_DEGREE.sub(f"DP{data:g}", part) if is_generated else part
                for part, is_generated in zip(parts, generated, strict=True)
            ]
        return ", ".join(parts)


def _is_strategy(axis: _Axis) -> bool:
    """True if an axis changes the parallelism strategy."""
    return any(path.startswith("parallelism.") for path in axis.paths)


def _axis_of(dim: Dimension, place: ConfigLocation) -> _Axis:
    """Axis of a range in steps."""
    step = dim.step or 1.0
    counts = np.arange(dim.first_count, dim.last_count + 1.0)
    rows = tuple((float(count * step),) for count in counts)
    name = field_name(dim.path)
    word = short_path(dim.path) if dim.path[-1].isdigit() else split_field(name)[0]
    labels = tuple(format_field(name, value, 6) for (value,) in rows)
    return _Axis(dim.path, (dim.path,), rows, labels, place, word=word)


def _narrower(dim: Dimension, values: Sequence[float]) -> Dimension | None:
    """Range of exactly these values: consecutive multiples of a larger step; None if they are
    not."""
    step = dim.step or 1.0
    counts = np.round(np.asarray(values) / step)
    if len(counts) < 2:
        return None
    factor = counts[1] - counts[0]
    if (np.diff(counts) != factor).any() or counts[0] % factor != 0.0:
        return None
    return dataclasses.replace(dim, low=values[0], high=values[-1], step=step * float(factor))


def _ends(dim: Dimension) -> tuple[float, float]:
    """Smallest and largest value of a range."""
    return float(dim.rounded(np.float64(0.0))), float(dim.rounded(np.float64(1.0)))


def _values(axes: Sequence[_Axis], indices: Sequence[int]) -> dict[str, float]:
    """Values of one combination."""
    values: dict[str, float] = {}
    for axis, index in zip(axes, indices, strict=True):
        values.update(axis.values(index))
    return values


def _too_many(axes: Sequence[_Axis], count: int, most: int) -> ConfigError:
    names = " x ".join(f"{short_path(axis.name)} ({len(axis.rows):,})" for axis in axes)
    expected = (
        f"at most {most:,} combinations of parameters that depend on one another; found {count:,} "
        f"of {names}: a narrower range, a larger step, or a list of rows in [[choices]]"
    )
    return axes[-1].place.error("path", short_path(axes[-1].name), expected)


def _check_samples(space: SearchSpace, checker: DesignChecker, where: ConfigLocation) -> None:
    """Check the ends of the whole space and some random designs of it.

    Raises `ConfigError` for a dependence that `COUPLED` does not contain.
    """
    generator = np.random.default_rng(0)
    points = generator.random((NUM_SAMPLES, space.num_dims))
    points[0], points[1] = 0.0, 1.0
    num_ranges = len(space.dimensions)
    for point in points:
        values = {dim.path: float(dim.rounded(point[i])) for i, dim in enumerate(space.dimensions)}
        for i, choice in enumerate(space.choices, num_ranges):
            values.update(zip(choice.paths, choice.table[int(choice.index(point[i]))], strict=True))
        problem = checker.problem(values)
        if problem is not None:
            given = ", ".join(f"{short_path(path)} = {value:g}" for path, value in values.items())
            expected = f"ranges of possible designs; {problem}; {ADVICE}"
            raise where.table("variables").error("values", given, expected)
