"""Local search: batches of small moves among rounded designs, evaluated with the exact model."""

from collections.abc import Callable

import numpy as np

from hwdse.search.evaluation.search_result import EvaluatedPoints
from hwdse.search.space.dimension import Ranges
from hwdse.search.space.search_space import SearchSpace

ELITE_LIMITS = (8, 24)
"""Bounds of the number of parents, which otherwise equals the moves per round."""
WIDEST_MOVE_BITS = 2.0
FINEST_MOVE_BITS = 9.0
"""Moves are 2^-2 to 2^-9 of a range, log-uniform, and at least one step."""
CONTINUOUS_BITS_RATIO = 1.6
"""Without a step, moves go down to 2^-14."""
MOVED_COORDINATES = (0.4, 0.32, 0.18, 0.1)
"""Fractions of moves that change one, two, three and four coordinates."""
CROSSOVER_SHARE = 0.25
"""Fraction of moves that first take about half of their coordinates from another parent."""
DECAY_OVER_ALL = 3.6
"""Decay of selection over the ranked parents: the last is chosen about exp(-3.6) times as often as
the first."""
MAX_PARTS_BITS = 2.0
"""Half of the moves to another divisor change it by up to this power of two, the other half by
one."""
DIFFERENCE_SCALES = (0.2, 1.0)
DIFFERENT_COORDINATES = 0.7
"""Fraction of coordinates that take part in a difference."""
NUM_KINDS = 3
"""Kinds of moves: steps, divisors, differences.

Divisor moves divide the end of a range into equal parts: a tile that divides its operator has no
quantization loss. Difference moves add differences of parents (differential evolution, R. Storn
and K. Price, J. Global Optimization 11, 341 (1997)). They move along a limit where single steps
violate it.
"""
MIN_KIND_SHARE = 0.1
TALLY_DECAY = 0.9
"""Decay per round of the success counts of each kind of move."""


def local_search(
    exact: Callable[[np.ndarray], EvaluatedPoints],
    space: SearchSpace,
    elites: EvaluatedPoints,
    generator: np.random.Generator,
    *,
    num_rounds: int,
    num_moves: int,
    penalties: np.ndarray,
    patience: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> EvaluatedPoints:
    """Best designs after rounds of moves from them.

    Ends early after `patience` moves without improvement, or if `should_stop` returns True before
    a round. Parents are ranked by the exact penalty merit, so that a path may pass through
    infeasible designs. The best feasible design is always kept. No design is evaluated twice.
    """
    seen = {row.tobytes() for row in elites.units}
    num_elites = int(np.clip(num_moves, *ELITE_LIMITS))
    elites = elites.take(kept_parents(elites, penalties, num_elites))
    tally = np.ones((2, NUM_KINDS))
    moves_without_improvement = 0
    for _ in range(num_rounds):
        if should_stop():
            break
        candidates, kinds = _new_candidates(
            space, elites.units, seen, generator, num_moves, _kind_shares(tally)
        )
        if not len(candidates) or moves_without_improvement > patience:
            break
        evaluated = exact(candidates)
        before = elites.sort_key()
        elites = elites.joined(evaluated)
        elites = elites.take(kept_parents(elites, penalties, num_elites))
        tally = _updated_tally(tally, candidates, kinds, elites.units)
        moves_without_improvement += len(evaluated)
        if elites.sort_key() < before:
            moves_without_improvement = 0
    return elites


def _kind_shares(tally: np.ndarray) -> np.ndarray:
    """Fractions of the kinds of moves: proportional to their success rates, with a minimum for
    each."""
    rates = tally[0] / tally[1]
    return MIN_KIND_SHARE + (1.0 - NUM_KINDS * MIN_KIND_SHARE) * rates / rates.sum()


def _updated_tally(
    tally: np.ndarray, candidates: np.ndarray, kinds: np.ndarray, parents: np.ndarray
) -> np.ndarray:
    """Moves of each kind that became parents, and all moves, including decayed earlier rounds."""
    kept = {row.tobytes() for row in parents}
    is_kept = np.asarray([row.tobytes() in kept for row in candidates])
    num_kept = np.bincount(kinds, is_kept, NUM_KINDS)
    return TALLY_DECAY * tally + np.stack((num_kept, np.bincount(kinds, minlength=NUM_KINDS)))


def kept_parents(rows: EvaluatedPoints, penalties: np.ndarray, max_parents: int) -> np.ndarray:
    """Indices of the parents among some rows: first the best feasible one, then by merit."""
    merit = rows.merit(penalties)
    merit[rows.best_index()] = -np.inf
    return np.argsort(merit, kind="stable")[:max_parents]


def design_key(unit: np.ndarray, variant: int) -> bytes:
    """Key of a rounded point of a variant."""
    return unit.tobytes() + variant.to_bytes(2, "little")


def design_keys(units: np.ndarray, variants: np.ndarray) -> set[bytes]:
    """Keys of points of these variants."""
    return {design_key(unit, int(variant)) for unit, variant in zip(units, variants, strict=True)}


def _new_candidates(
    space: SearchSpace,
    parents: np.ndarray,
    seen: set[bytes],
    generator: np.random.Generator,
    num_points: int,
    shares: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct unseen rounded points near the parents, and their kinds of moves; adds them to
    `seen`."""
    found: list[np.ndarray] = []
    found_kinds: list[int] = []
    for _ in range(4):
        kinds = generator.choice(NUM_KINDS, num_points, p=shares)
        moved, _ = moved_by_kinds(space, parents, generator, kinds)
        for point, kind in zip(moved, kinds, strict=True):
            key = point.tobytes()
            if key not in seen and len(found) < num_points:
                seen.add(key)
                found.append(point)
                found_kinds.append(kind)
        if len(found) == num_points:
            break
    points = np.stack(found) if found else np.empty((0, space.num_dims))
    return points, np.asarray(found_kinds, int)


def moved_by_kinds(
    space: SearchSpace, parents: np.ndarray, generator: np.random.Generator, kinds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rounded points near parents by moves of these kinds, and the index of the parent of each.

    Earlier parents are chosen more often.
    """
    num_points = len(kinds)
    shares = np.exp(-DECAY_OVER_ALL * np.arange(len(parents)) / len(parents))
    first, second = generator.choice(len(parents), (2, num_points), p=shares / shares.sum())
    moved = moved_points(space, parents[first], parents[second], generator, kinds == 1)
    there, here = parents[generator.integers(len(parents), size=(2, num_points))]
    difference_moved = _difference_moves(space, parents[first], there - here, generator)
    return np.where((kinds == 2)[:, None], difference_moved, moved), first


def _difference_moves(
    space: SearchSpace, points: np.ndarray, differences: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Rounded points moved by a fraction of these differences, reflected at the bounds; choices
    are unchanged."""
    scales = generator.uniform(*DIFFERENCE_SCALES, (len(points), 1))
    is_part = generator.random(points.shape) < DIFFERENT_COORDINATES
    is_part[:, len(space.dimensions) :] = False
    target = np.abs(points + scales * differences * is_part)
    return space.snap_points(np.clip(np.where(target > 1.0, 2.0 - target, target), 0.0, 1.0))


def divisor_points(space: SearchSpace, units: np.ndarray) -> np.ndarray:
    """Rounded points whose stepped values divide the ends of their ranges into the nearest number
    of equal parts."""
    ranges, points = space.ranges, space.snap_points(units)
    here = points[:, : len(space.dimensions)]
    counts = ranges.value(np.clip(units[:, : here.shape[1]], 0.0, 1.0)) / ranges.step
    parts = np.round(ranges.last_count / np.maximum(counts, 1e-9))
    points[:, : here.shape[1]] = np.where(ranges.is_stepped, _divided_ends(ranges, parts), here)
    return points


def _divided_ends(ranges: Ranges, num_parts: np.ndarray) -> np.ndarray:
    """Unit coordinates of the range ends divided by these numbers, rounded up."""
    parts = ranges.last_count / np.maximum(num_parts, 1.0)
    counts = np.clip(np.ceil(parts - 1e-9), ranges.first_count, ranges.last_count)
    return ranges.unit_of_count(counts)


def _other_divisor(ranges: Ranges, units: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Coordinates moved to another number of parts, near or far."""
    num_parts = np.ceil(ranges.last_count / np.maximum(ranges.count(units), 1.0) - 1e-9)
    near = num_parts + generator.integers(-1, 2, units.shape)
    factors = 2.0 ** generator.uniform(-MAX_PARTS_BITS, MAX_PARTS_BITS, units.shape)
    is_near = generator.random(units.shape) < 0.5
    return _divided_ends(ranges, np.where(is_near, near, np.round(num_parts * factors)))


def moved_points(
    space: SearchSpace,
    first: np.ndarray,
    second: np.ndarray,
    generator: np.random.Generator,
    uses_divisors: np.ndarray | None = None,
) -> np.ndarray:
    """Rounded points: rows of `first`, or crossovers with `second`, with one to four coordinates
    moved.

    Rows with `uses_divisors` move their stepped coordinates to divisors of the range end.
    """
    num_points = len(first)
    is_crossed = generator.random(num_points) < CROSSOVER_SHARE
    from_second = (generator.random((num_points, space.num_dims)) < 0.5) & is_crossed[:, None]
    points = np.where(from_second, second, first)

    num_moved = 1 + generator.choice(len(MOVED_COORDINATES), num_points, p=MOVED_COORDINATES)
    rank = np.argsort(generator.random(points.shape), axis=1).argsort(axis=1)
    is_moved = rank < num_moved[:, None]
    bits = generator.uniform(WIDEST_MOVE_BITS, FINEST_MOVE_BITS, points.shape)
    signs = generator.choice((-1.0, 1.0), points.shape)
    draws = generator.random(points.shape)
    num_ranges = len(space.dimensions)
    here, signs = points[:, :num_ranges], signs[:, :num_ranges]
    there = _shifted(space.ranges, here, signs, bits[:, :num_ranges])
    if uses_divisors is not None:
        divided = _other_divisor(space.ranges, here, generator)
        there = np.where(uses_divisors[:, None] & space.ranges.is_stepped, divided, there)
    columns = [there]
    for i, choice in enumerate(space.choices, num_ranges):
        size = len(choice.table)
        jump = np.floor(draws[:, i] * max(size - 1, 1)) + 1.0
        columns.append((((choice.index(points[:, i]) + jump) % size + 0.5) / size)[:, None])
    return np.where(is_moved, np.concatenate(columns, axis=1), points)


def _shifted(ranges: Ranges, units: np.ndarray, signs: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Coordinates moved by 2^-bits of the range, at least one step; reflected at the bounds."""
    moves = signs * 2.0 ** -np.where(ranges.is_stepped, bits, CONTINUOUS_BITS_RATIO * bits)
    target = np.where(np.abs(units + moves - 0.5) > 0.5, units - moves, units + moves)
    here, there = ranges.count(units), ranges.count(target)
    stepped = np.where(there == here, here + signs, there)
    is_outside = (stepped < ranges.first_count) | (stepped > ranges.last_count)
    stepped = np.where(is_outside, here - signs, stepped)
    stepped = np.clip(stepped, ranges.first_count, ranges.last_count)
    unstepped = np.clip(target, 0.0, 1.0)
    return np.where(ranges.is_stepped, ranges.unit_of_count(stepped), unstepped)
