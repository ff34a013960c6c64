"""What would have to change: the least change that meets targets, made buildable and checked."""

import itertools
from dataclasses import dataclass
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
"""Solutions of targets moved by what rounding makes of the one before, at most."""
MAX_CANDIDATES = 4096
BATCH = 256
STRETCHES = (0.0, 1e-9, 1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 0.03, 0.1)
"""Parameters without steps go this much further, where stepped neighbors do not meet a target."""


@dataclass(frozen=True)
class SolveResult:
    """The buildable design of least change that meets the targets in the exact reading."""

    design: Any
    values: np.ndarray
    """Of the free parameters, buildable."""
    changes: np.ndarray
    """ln(value / base) of each."""
    size: float
    constraint_values: np.ndarray
    """ln(value / limit) of each target in the exact reading; above zero it is missed."""
    is_feasible: bool
    relaxed: RelaxedSolution
    """The least change where parameters need no steps, and its multipliers: without rounding, the
    targets moved by what rounding makes of them there."""
    num_evaluations: int


def solve(
    constraints_fn: ConstraintsFn,
    base: Any,
    free: tuple[FreeParameter, ...],
    *,
    norm: str = "l2",
    num_starts: int = 4,
    seed: int = 0,
) -> SolveResult:
    r"""Least weighted norm of $\ln(x_i / x_i^0)$ such that every target is met.

    Relaxed first (`solve_relaxed`), from the base and random points of the box; then the targets
    are moved by the difference of the exact reading until that meets them; then the neighbors in
    steps are tried, and the least change that meets all in the exact reading is taken. Where none
    does, the design that misses the worst target least. Runs in the float type in scope, which
    should be float64. Raises `ValueError` for an unknown norm or no parameter.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, not {norm!r}")
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
    found = [relaxed]
    if relaxed.is_feasible:
        found += _corrected(targets, exact, relaxed)
    points = [part.changes for part in found]
    return _best_rounded(exact, change, base, points, found[-1], bool((at_base <= 0.0).all()))


def _corrected(
    targets: RelaxedTargets, exact: "_ExactTargets", relaxed: RelaxedSolution
) -> list[RelaxedSolution]:
    """Solutions of targets that are moved by exact less relaxed, so that the exact reading meets
    them; the gap jumps with every tile, so this need not settle."""
    found, x = [], relaxed.changes
    for _ in range(CORRECTIONS):
        optimality_gap = exact(x[None])[0] - (targets(x)[0] - targets.offsets)
        # With a grain of safety, since a relaxed solution may miss by its tolerance.
        optimality_gap = np.where(np.isfinite(optimality_gap), optimality_gap, 0.0) + 2e-7
        if np.abs(optimality_gap - targets.offsets).max() < 1e-8:
            break
        targets.offsets = optimality_gap
        again = solve_relaxed(targets, x[None])
        if not again.is_feasible:
            break
        x = again.changes
        found.append(again)
    return found


class _ExactTargets:
    """Targets of many points in the exact reading, in batches of one compiled shape."""

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
        """Violations at parameter values, one row a point; what is not a number is infinite."""
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
) -> SolveResult:
    """The least change among the buildable neighbors of some points that meets every target."""
    free = change.free
    bases = np.asarray([part.base for part in free])
    values = np.unique(np.concatenate([_neighbors(change, point) for point in points]), axis=0)
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


def _neighbors(change: ChangeNorm, point: np.ndarray) -> np.ndarray:
    """Buildable values around a point: whole steps below and above it, or the value itself and a
    little further away from the base."""
    free = change.free
    num_stepped = sum(part.step is not None for part in free)
    reach = next(r for r in (3, 2, 1, 0) if (2 * r + 2) ** num_stepped <= MAX_CANDIDATES or r == 0)
    columns = []
    for part, x in zip(free, point, strict=True):
        value = part.base * np.exp(x)
        if part.step is None:
            columns.append((value,))
            continue
        counts = np.floor(value / part.step + 1e-9) + np.arange(-reach, reach + 2.0)
        # The base stays allowed, even between the steps.
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
