"""Regret of a design over bands around constants, and the design of least regret.

A scenario has one constant at one end of its band. The regret of a design in a scenario is its
objective over the best one that a search finds there, minus 1: the loss of keeping the design.
The design of least regret minimizes the largest regret over all scenarios and the nominal values
(minimax regret: Savage, J. Am. Stat. Assoc. 46, 1951; relative form: Kouvelis and Yu, Robust
Discrete Optimization and Its Applications, 1997, section 1.2), and meets the limits in each of
them. A worst value, by contrast, is decided by the scenario that is bad for every design.

One compiled program evaluates all points in all scenarios: the constants are coordinates of the
space. The optimum of a scenario is the best point of a local search from the design, with all
points of the other scenarios tried as well; it bounds the regret from below.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hwdse.search.descent.screening import MIN_PENALTY
from hwdse.search.evaluation.batch_evaluation import LARGEST_BATCH, exact_evaluator
from hwdse.search.evaluation.search_result import EvaluatedPoints, ObjectiveFn
from hwdse.search.neighborhood.local_search import NUM_KINDS, moved_by_kinds
from hwdse.search.space.search_space import Choice, Dimension, SearchSpace, get_path, set_path

NUM_CONSTANTS = 10
"""Constants with scenarios: those with the largest effect on the optimum over their bands."""
MIN_EFFECT = 1e-3
"""Smallest effect of a constant with scenarios, ln of the objective."""
NUM_ROUNDS = 30
"""Rounds of local search in each scenario."""
NUM_MOVES = 24
"""Points per round and scenario."""
ROBUST_ROUNDS = 60
"""Rounds of the search of the design of least regret."""
NUM_ELITES = 8
"""Best points that moves start from."""


@dataclass(frozen=True)
class Band:
    """Range of a constant around its nominal value."""

    path: str
    nominal: float
    low: float
    high: float

    @property
    def ends(self) -> tuple[float, ...]:
        """Ends that differ from the nominal value."""
        return tuple(end for end in (self.low, self.high) if end != self.nominal)


@dataclass(frozen=True)
class Scenario:
    """A constant at an end of its band: the chosen design, and the best one there."""

    path: str
    """Path of the constant; empty for the nominal values."""
    value: float
    log_objective: float
    """Of the chosen design."""
    constraint_values: np.ndarray
    """ln(value / limit) of each constraint at the chosen design."""
    best_design: Any
    """Best design found; None if none meets the limits."""
    best_log_objective: float

    @property
    def is_feasible(self) -> bool:
        """True if the chosen design meets the limits."""
        return bool((self.constraint_values <= 0.0).all() and math.isfinite(self.log_objective))

    @property
    def regret(self) -> float:
        """Loss of keeping the chosen design, relative; infinite if it breaks a limit that another
        design meets, NaN if no design is known that meets the limits."""
        if self.best_design is None:
            return math.nan
        if not self.is_feasible:
            return math.inf
        return math.expm1(max(self.log_objective - self.best_log_objective, 0.0))


@dataclass(frozen=True)
class RobustDesign:
    """Design of least regret, and its values in the scenarios of a study."""

    design: Any
    log_objectives: np.ndarray
    regrets: np.ndarray
    """As `Scenario.regret`, one per scenario."""
    is_feasible: bool
    """True if it meets the limits in every scenario in which some design does."""


@dataclass(frozen=True)
class RegretStudy:
    """Scenarios of the most influential constants, the nominal values first."""

    scenarios: tuple[Scenario, ...]
    effects: Mapping[str, float]
    """Largest change of ln(objective) over the band, limits included by their prices, of each
    constant with scenarios; largest first."""
    num_bands: int
    """Constants with a band."""
    robust: RobustDesign | None
    num_evaluations: int

    @property
    def nominal(self) -> Scenario:
        """Scenario of the nominal values."""
        return self.scenarios[0]


def study_regret(
    objective_fn: ObjectiveFn,
    space: SearchSpace,
    design: Any,
    bands: Sequence[Band],
    prices: np.ndarray,
    *,
    seed: int,
    finds_robust: bool = False,
    num_constants: int = NUM_CONSTANTS,
    num_rounds: int = NUM_ROUNDS,
) -> RegretStudy:
    """Regret of a rounded design over bands around constants that are not searched.

    `prices` are its multipliers: an effect counts what a constant changes of the objective and,
    by these prices, of the limits, which is the change of the optimum (envelope theorem).
    Deterministic for a seed; runs in float64.
    """
    with jax.enable_x64(True):
        arena = _Arena(objective_fn, space, design, bands)
        generator = np.random.default_rng([seed, 0x4E6])
        names, effects = _most_influential(arena, bands, prices, num_constants)
        ends = [(b, end) for name in names for b in bands if b.path == name for end in b.ends]
        coordinates = arena.coordinates([None, *ends])
        penalties = np.maximum(2.0 * prices, MIN_PENALTY)
        chosen = arena.evaluated(np.repeat(arena.unit[None], len(coordinates), 0), coordinates)
        optima = _Optima(arena, coordinates, penalties, chosen)
        optima.improve(generator, num_rounds)
        best = None
        if finds_robust:
            best = optima.least_regret(generator, ROBUST_ROUNDS)
        scenarios = [
            Scenario(
                path="" if end is None else end[0].path,
                value=math.nan if end is None else end[1],
                log_objective=float(chosen.log_objectives[index]),
                constraint_values=chosen.constraint_values[index],
                best_design=arena.design_at(unit) if math.isfinite(log) else None,
                best_log_objective=float(log),
            )
            for index, (end, unit, log) in enumerate(
                zip([None, *ends], optima.units, optima.logs, strict=True)
            )
        ]
        robust = None if best is None else _robust_design(arena, optima, best)
    return RegretStudy(
        tuple(scenarios),
        dict(zip(names, effects, strict=True)),
        len(bands),
        robust,
        arena.num_evaluations,
    )


def _robust_design(arena: "_Arena", optima: "_Optima", unit: np.ndarray) -> RobustDesign:
    rows = arena.evaluated(np.repeat(unit[None], len(optima.logs), 0), optima.coordinates)
    is_known = np.isfinite(optima.logs)
    regrets = np.expm1(np.maximum(rows.log_objectives - np.where(is_known, optima.logs, 0.0), 0.0))
    regrets = np.where(rows.is_feasible, regrets, np.inf)
    return RobustDesign(
        arena.design_at(unit),
        rows.log_objectives,
        np.where(is_known, regrets, np.nan),
        bool(rows.is_feasible[is_known].all()),
    )


def _most_influential(
    arena: "_Arena", bands: Sequence[Band], prices: np.ndarray, num: int
) -> tuple[list[str], list[float]]:
    """Paths of the constants with the largest effects, and these. Ends at which the design has no
    finite value have none."""
    ends = [(band, end) for band in bands for end in band.ends]
    coordinates = arena.coordinates([None, *ends])
    rows = arena.evaluated(np.repeat(arena.unit[None], len(coordinates), 0), coordinates)
    merit = rows.log_objectives + np.where(prices > 0.0, rows.constraint_values, 0.0) @ prices
    changes = np.abs(merit[1:] - merit[0])
    largest: dict[str, float] = {}
    for (band, _), change in zip(ends, changes.tolist(), strict=True):
        if math.isfinite(change):
            largest[band.path] = max(largest.get(band.path, 0.0), change)
    order = sorted(largest, key=lambda path: -largest[path])[:num]
    kept = [path for path in order if largest[path] >= MIN_EFFECT]
    return kept, [largest[path] for path in kept]


class _Arena:
    """All points of a space in all scenarios, by one compiled program.

    The space has one more dimension for each constant, and one more choice for each variant whose
    values share a program; other variants keep the value of the design.
    """

    def __init__(
        self, objective_fn: ObjectiveFn, space: SearchSpace, design: Any, bands: Sequence[Band]
    ) -> None:
        shared = tuple(v for v in space.variants if _index_path(design, v.path) is not None)
        program_base = SearchSpace((), (), shared).program_bases(design)[0]
        names = tuple(
            Choice(
                variant.path,
                (f"{variant.path}_index",),
                tuple((float(index),) for index in range(len(variant.values))),
                variant.values,
            )
            for variant in shared
        )
        constants = tuple(Dimension(b.path, b.low, b.high, "linear", None) for b in bands)
        choices = (*space.choices, *names)
        self.space = SearchSpace(space.dimensions, choices)
        """Space of the designs, without constants."""
        wide = SearchSpace((*space.dimensions, *constants), choices)
        self._space, self._shared, self._design = space, shared, design
        self._nominal = np.array(
            [c.unit(np.float64(b.nominal)) for c, b in zip(constants, bands, strict=True)]
        )
        self._index_of = {band.path: index for index, band in enumerate(bands)}
        places = [v.values.index(get_path(design, v.path)) for v in shared]
        texts = [(p + 0.5) / len(v.values) for p, v in zip(places, shared, strict=True)]
        self.unit = self.space.snap_points(np.append(space.encode(design), texts)[None])[0]
        """Point of the design."""
        self._exact = exact_evaluator(objective_fn, wide, program_base, LARGEST_BATCH)
        self.num_evaluations = 0

    def coordinates(self, ends: Sequence[tuple[Band, float] | None]) -> np.ndarray:
        """Coordinates of the constants in each scenario; None for the nominal values."""
        rows = np.repeat(self._nominal[None], len(ends), axis=0)
        for row, end in zip(rows, ends, strict=True):
            if end is not None:
                band, value = end
                row[self._index_of[band.path]] = (value - band.low) / (band.high - band.low)
        return rows

    def evaluated(self, units: np.ndarray, coordinates: np.ndarray) -> EvaluatedPoints:
        """Exact values of points, each with its own constants; `units` remain as they are."""
        at = len(self.space.dimensions)
        wide = np.concatenate((units[:, :at], coordinates, units[:, at:]), axis=1)
        rows = self._exact(wide)
        self.num_evaluations += len(units)
        return dataclasses.replace(rows, units=units)

    def design_at(self, unit: np.ndarray) -> Any:
        """Rounded design of a point, with the nominal constants."""
        base, num = self._design, self._space.num_dims
        for variant, choice, place in zip(
            self._shared, self.space.choices[len(self._space.choices) :], unit[num:], strict=True
        ):
            base = set_path(base, variant.path, variant.values[int(choice.index(place))])
        return self._space.decode_rounded(unit[:num], base)


def _index_path(design: Any, path: str) -> str | None:
    """Path of the index of a variant whose values share a program, or None."""
    parent, _, field = path.rpartition(".")
    owner = get_path(design, parent) if parent else design
    return f"{path}_index" if hasattr(owner, f"{field}_index") else None


class _Optima:
    """Best points found in each scenario."""

    def __init__(
        self,
        arena: _Arena,
        coordinates: np.ndarray,
        penalties: np.ndarray,
        chosen: EvaluatedPoints,
    ) -> None:
        self._arena, self._penalties = arena, penalties
        self.coordinates = coordinates
        self._elites = [chosen.take(np.array([i])) for i in range(len(chosen))]
        self.units = np.array(chosen.units)
        self.logs = np.where(chosen.is_feasible, chosen.log_objectives, np.inf)
        """ln of the best feasible objective; infinite without one."""

    def improve(self, generator: np.random.Generator, num_rounds: int) -> None:
        """Local search in all scenarios at once; the points of all are tried in all in between."""
        for index in range(num_rounds):
            points = [self._moves(elites.units, generator, NUM_MOVES) for elites in self._elites]
            self._evaluate(points)
            if index % 10 == 9 or index == num_rounds - 1:
                every = np.unique(np.concatenate([e.units[:2] for e in self._elites]), axis=0)
                self._evaluate([every] * len(self._elites))

    def least_regret(self, generator: np.random.Generator, num_rounds: int) -> np.ndarray:
        """Point with the least largest regret among those that meet the limits in each scenario in
        which some point does."""
        units = np.unique(np.concatenate([e.units[:2] for e in self._elites]), axis=0)
        logs, violations = self._in_all(units)
        for _ in range(num_rounds):
            order = self._by_regret(logs, violations)[: 2 * NUM_ELITES]
            units, logs, violations = units[order], logs[order], violations[order]
            moved = self._moves(units, generator, NUM_MOVES)
            moved_logs, moved_violations = self._in_all(moved)
            units = np.concatenate((units, moved))
            logs = np.concatenate((logs, moved_logs))
            violations = np.concatenate((violations, moved_violations))
        return units[self._by_regret(logs, violations)[0]]

    def _by_regret(self, logs: np.ndarray, violations: np.ndarray) -> np.ndarray:
        """Order of points by violation, then by the largest regret, then by the mean."""
        is_known = np.isfinite(self.logs)
        regrets = (logs - np.where(is_known, self.logs, 0.0))[:, is_known]
        worst = violations[:, is_known].max(axis=1, initial=0.0)
        return np.lexsort((regrets.mean(axis=1), regrets.max(axis=1, initial=-np.inf), worst))

    def _in_all(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln(objective) and total violation of points in each scenario, of shape (points,
        scenarios). Better points of a scenario become its optima."""
        num = len(self.coordinates)
        rows = self._arena.evaluated(
            np.repeat(units, num, axis=0), np.tile(self.coordinates, (len(units), 1))
        )
        logs = rows.log_objectives.reshape(len(units), num)
        violations = rows.total_violation.reshape(len(units), num)
        feasible = np.where(violations <= 0.0, logs, np.inf)
        best = feasible.argmin(axis=0)
        lowest = feasible[best, np.arange(num)]
        is_better = lowest < self.logs
        self.units[is_better] = units[best[is_better]]
        self.logs = np.minimum(self.logs, lowest)
        return logs, violations

    def _evaluate(self, points: Sequence[np.ndarray]) -> None:
        """Evaluate the points of each scenario, and keep its best ones."""
        scenario = np.repeat(np.arange(len(points)), [len(part) for part in points])
        rows = self._arena.evaluated(np.concatenate(points), self.coordinates[scenario])
        for index in range(len(points)):
            found = self._elites[index].joined(rows.take(np.flatnonzero(scenario == index)))
            _, first = np.unique(found.units, axis=0, return_index=True)
            found = found.take(first)
            merit = np.where(
                np.isfinite(found.log_objectives), found.merit(self._penalties), np.inf
            )
            self._elites[index] = found.take(np.argsort(merit, kind="stable")[:NUM_ELITES])
            best = found.best_index()
            if found.is_feasible[best] and found.log_objectives[best] < self.logs[index]:
                self.logs[index] = found.log_objectives[best]
                self.units[index] = found.units[best]

    def _moves(self, parents: np.ndarray, generator: np.random.Generator, num: int) -> np.ndarray:
        kinds = generator.integers(NUM_KINDS, size=num)
        return moved_by_kinds(self._arena.space, parents, generator, kinds)[0]
