"""Target solve: the minimum-norm change that meets targets, rounded to the steps and evaluated
exactly."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT
from hwdse.search.answers.minimum_change import (
    ChangeNorm,
    ConstraintsFn,
    FreeParameter,
    RelaxedSolution,
    RelaxedTargets,
    solve_relaxed,
)
from hwdse.search.evaluation.search_result import without_rounding
from hwdse.search.space.search_space import set_path

NORMS = ("l2", "l1")
CORRECTIONS = 6
"""Maximum corrections of the targets by the difference between exact and relaxed values."""
MAX_CANDIDATES = 4096
"""Maximum rounded candidates per point."""
BATCH = 256
STRETCHES = (0.0, 1e-9, 1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 0.03, 0.1)
"""Relative extensions of the change of parameters without steps, for rounded neighbors that miss a
target."""

NUM_COMBINATIONS = 8
"""Combinations of coupled parameters for which the relaxed problem is solved again."""


@dataclass(frozen=True)
class Coupled:
    """Free parameters in steps that are possible in some combinations only."""

    paths: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    """Possible combinations, one value per path."""


@dataclass(frozen=True)
class SolveResult:
    """Rounded design of minimum-norm change that meets the targets in the exact model."""

    design: Any
    values: np.ndarray
    """Rounded values of the free parameters."""
    changes: np.ndarray
    """ln(value / base) of each parameter."""
    size: float
    constraint_values: np.ndarray
    """ln(value / limit) of each target in the exact model; above zero where missed."""
    is_feasible: bool
    relaxed: RelaxedSolution
    """Minimum-norm change without rounding, and its multipliers. The targets are corrected by the
    difference between exact and relaxed values."""
    num_evaluations: int


def solve(
    constraints_fn: ConstraintsFn,
    base: Any,
    free: tuple[FreeParameter, ...],
    *,
    norm: str = "l2",
    num_starts: int = 4,
    seed: int = 0,
    coupled: Coupled | None = None,
) -> SolveResult:
    r"""Smallest weighted norm of $\ln(x_i / x_i^0)$ that meets every target.

    First the relaxed problem (`solve_relaxed`), from the base and random points within the bounds.
    Then the targets are corrected by exact less relaxed values until the exact model meets them.
    Then rounded neighbors are evaluated, and the smallest change that meets all targets exactly is
    returned. If none does, the result is the design with the smallest largest violation.

    Parameters of `coupled` take the listed combinations only: the relaxed problem is solved again
    for each of those nearest to its solution. Runs in the float type in scope, which should be
    float64. Raises `ValueError` for an unknown norm or no parameter.
    """
    if norm not in NORMS:
        raise ValueError(f"norm = {norm!r}: expected one of {', '.join(NORMS)}")
    if not free:
        raise ValueError("needs at least one free parameter")
    change = ChangeNorm(free, norm)
    exact = _ExactTargets(constraints_fn, base, free)
    targets = RelaxedTargets(constraints_fn, base, change)
    at_base = exact(change.low[None] * 0.0)[0]
    targets.offsets = np.zeros(len(at_base))
    generator = np.random.default_rng(seed)
    draws = generator.uniform(size=(max(num_starts - 1, 0), len(free)))
    starts = np.vstack((np.zeros(len(free)), change.low + draws * (change.high - change.low)))
    relaxed = solve_relaxed(targets, starts)
    if coupled is None:
        found = [relaxed, *_corrected(targets, exact, relaxed)]
        relaxed = found[-1]
    else:
        found = _at_combinations(targets, exact, relaxed, coupled)
    points = [part.changes for part in found]
    is_met = bool((at_base <= 0.0).all())
    return _best_rounded(exact, change, base, points, relaxed, is_met, coupled)


def _at_combinations(
    targets: RelaxedTargets,
    exact: "_ExactTargets",
    relaxed: RelaxedSolution,
    coupled: Coupled,
) -> list[RelaxedSolution]:
    """Solutions with the coupled parameters at the combinations nearest to the relaxed solution."""
    change = targets.change
    found: list[RelaxedSolution] = []
    indices = [[part.path for part in change.free].index(path) for path in coupled.paths]
    bases = np.asarray([change.free[index].base for index in indices])
    changes = np.log(np.asarray(coupled.values) / bases)
    distance = np.abs(changes - relaxed.changes[indices]).sum(axis=1)
    for row in np.argsort(distance, kind="stable")[:NUM_COMBINATIONS]:
        fixed = tuple(zip(indices, map(float, changes[row]), strict=True))
        targets.change = replace(change, fixed=fixed)
        targets.offsets = np.zeros_like(targets.offsets)
        start = np.clip(relaxed.changes, targets.change.low, targets.change.high)
        first = solve_relaxed(targets, start[None])
        found += [first, *_corrected(targets, exact, first)]
    return found


def _corrected(
    targets: RelaxedTargets, exact: "_ExactTargets", relaxed: RelaxedSolution
) -> list[RelaxedSolution]:
    """Solutions of targets corrected by exact less relaxed values, so that the exact model meets
    them. The difference jumps with every tile, so the iteration need not converge."""
    found, x = [], relaxed.changes
    for _ in range(CORRECTIONS if relaxed.is_feasible else 0):
        rounding_difference = exact(x[None])[0] - (targets(x)[0] - targets.offsets)
        # Safety margin: a relaxed solution may miss a target by its tolerance.
        rounding_difference = (
            np.where(np.isfinite(rounding_difference), rounding_difference, 0.0) + 2e-7
        )
        if np.abs(rounding_difference - targets.offsets).max() < 1e-8:
            break
        targets.offsets = rounding_difference
        again = solve_relaxed(targets, x[None])
        if not again.is_feasible:
            break
        x = again.changes
        found.append(again)
    return found


class _ExactTargets:
    """Targets of many points in the exact model, in batches of one compiled shape."""

    def __init__(
        self, constraints_fn: ConstraintsFn, base: Any, free: tuple[FreeParameter, ...]
    ) -> None:
        def evaluate(values: Any) -> Any:
            design = base
            for i, part in enumerate(free):
                design = set_path(design, part.path, values[i])
            return constraints_fn(design, EXACT)

        self._program = quick_jit(jax.vmap(evaluate))
        self._bases = np.asarray([part.base for part in free])
        self.num_evaluations = 0

    def __call__(self, changes: np.ndarray) -> np.ndarray:
        return self.at(self._bases * np.exp(changes))

    def at(self, values: np.ndarray) -> np.ndarray:
        """Constraint values at parameter values, one row per point; NaN becomes infinite."""
        rows = []
        for start in range(0, len(values), BATCH):
            part = values[start : start + BATCH]
            padded = np.concatenate((part, np.repeat(part[-1:], BATCH - len(part), axis=0)))
            rows.append(np.asarray(self._program(jnp.asarray(padded)), float)[: len(part)])
        self.num_evaluations += len(values)
        found = without_rounding(np.concatenate(rows))
        return np.where(np.isnan(found), np.inf, found)


def _best_rounded(
    exact: _ExactTargets,
    change: ChangeNorm,
    base: Any,
    points: list[np.ndarray],
    relaxed: RelaxedSolution,
    is_met_already: bool,
    coupled: Coupled | None,
) -> SolveResult:
    """Smallest change among the rounded neighbors of some points that meets every target."""
    free = change.free
    bases = np.asarray([part.base for part in free])
    values = np.unique(
        np.concatenate([_neighbors(change, point, coupled) for point in points]), axis=0
    )
    if is_met_already:
        values = np.concatenate((bases[None], values))
    broken = exact.at(values)
    sizes = change.size(np.log(values / bases))
    worst = broken.max(axis=1, initial=-np.inf)
    is_met = worst <= 0.0
    keys = np.where(is_met, sizes, np.inf) if is_met.any() else worst
    index = int(np.argmin(keys))
    design = base
    for part, value in zip(free, values[index], strict=True):
        design = set_path(design, part.path, float(value))
    return SolveResult(
        design=design,
        values=values[index],
        changes=np.log(values[index] / bases),
        size=float(sizes[index]),
        constraint_values=broken[index],
        is_feasible=bool(is_met[index]),
        relaxed=relaxed,
        num_evaluations=exact.num_evaluations,
    )


def _neighbors(change: ChangeNorm, point: np.ndarray, coupled: Coupled | None) -> np.ndarray:
    """Rounded values around a point: steps below and above it; without steps the value, and values
    slightly farther from the base. Coupled parameters keep their values."""
    free = change.free
    paths = () if coupled is None else coupled.paths
    num_stepped = sum(part.step is not None and part.path not in paths for part in free)
    reach = next(r for r in (3, 2, 1, 0) if (2 * r + 2) ** num_stepped <= MAX_CANDIDATES or r == 0)
    columns = []
    for part, x in zip(free, point, strict=True):
        value = part.base * np.exp(x)
        if part.step is not None and part.path in paths:
            columns.append((float(np.round(value / part.step) * part.step),))
            continue
        if part.step is None:
            columns.append((value,))
            continue
        counts = np.floor(value / part.step + 1e-9) + np.arange(-reach, reach + 2.0)
        # The base value remains allowed, even between steps.
        steps = [n * part.step for n in counts if part.low <= n * part.step <= part.high]
        columns.append(tuple(dict.fromkeys((*steps, part.base))) or (part.base,))
    grid = itertools.islice(itertools.product(*columns), MAX_CANDIDATES)
    rows = np.asarray(list(grid), float)
    is_smooth = np.asarray([part.step is None for part in free])
    if not is_smooth.any():
        return rows
    low, high = (np.asarray([getattr(p, name) for p in free]) for name in ("low", "high"))
    bases = np.asarray([part.base for part in free])
    stretched = [
        np.where(is_smooth, bases * (rows / bases) ** (1.0 + stretch), rows)
        for stretch in STRETCHES
    ]
    return np.clip(np.concatenate(stretched), low, high)
