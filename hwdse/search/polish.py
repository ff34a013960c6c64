"""Polishing: batches of small moves among buildable designs, judged in the exact reading."""

from collections.abc import Callable

import numpy as np

from hwdse.search.result import Scored
from hwdse.search.space import Dimension, SearchSpace

NUM_ELITES = 12
"""Parents that are kept; the best has the largest share of the moves."""
PATIENCE_MOVES_PER_DIM = 100
"""Moves per dimension without a better design after which polishing ends."""
WIDEST_MOVE_BITS = 2.0
FINEST_MOVE_BITS = 9.0
"""Moves are of 2^-2 to 2^-9 of a range, log-uniformly; at least one step."""
CONTINUOUS_BITS_RATIO = 1.6
"""Without a step moves go down to 2^-14."""
MOVED_COORDINATES = (0.4, 0.32, 0.18, 0.1)
"""Shares of moves that change one, two, three and four coordinates."""
CROSSOVER_SHARE = 0.25
"""Moves that first take about half of their coordinates from another parent."""
ELITE_DECAY = 0.7
"""Each next parent is chosen this much more rarely."""


def polish(
    exact: Callable[[np.ndarray], Scored],
    space: SearchSpace,
    elites: Scored,
    generator: np.random.Generator,
    *,
    num_rounds: int,
    num_moves: int,
    penalties: np.ndarray,
    seen: set[bytes],
    report: Callable[[Scored], None],
    is_over: Callable[[], bool] = lambda: False,
) -> Scored:
    """Best designs after rounds of moves from them; ends early when nothing gets better, or when
    `is_over` says so before a round.

    Parents are ranked by the exact penalty merit, so that a path may lead along the outside of a
    constraint; the best feasible design is always kept as well. No design in `seen` is judged
    again, and the new ones are added to it.
    """
    seen.update(row.tobytes() for row in elites.units)
    elites = _ranked(elites, penalties)
    moves_without_gain = 0
    for _ in range(num_rounds):
        if is_over():
            break
        candidates = _new_points(space, elites.units, seen, generator, num_moves)
        if not len(candidates) or moves_without_gain > PATIENCE_MOVES_PER_DIM * space.num_dims:
            break
        judged = exact(candidates)
        report(judged)
        before = elites.standing()
        elites = _ranked(elites.joined(judged), penalties)
        moves_without_gain += len(judged)
        if elites.standing() < before:
            moves_without_gain = 0
    return elites


def _ranked(rows: Scored, penalties: np.ndarray) -> Scored:
    """The elites of some rows: first the best feasible one, then by merit."""
    merit = rows.merit(penalties)
    merit[rows.best_place()] = -np.inf
    return rows.take(np.argsort(merit, kind="stable")[:NUM_ELITES])


def _new_points(
    space: SearchSpace,
    parents: np.ndarray,
    seen: set[bytes],
    generator: np.random.Generator,
    num_points: int,
) -> np.ndarray:
    """Distinct buildable points near the parents that were not seen before; marks them seen."""
    found: list[np.ndarray] = []
    for _ in range(4):
        for point in _moved(space, parents, generator, num_points):
            key = point.tobytes()
            if key not in seen:
                seen.add(key)
                found.append(point)
                if len(found) == num_points:
                    return np.stack(found)
    return np.stack(found) if found else np.empty((0, space.num_dims))


def _moved(
    space: SearchSpace, parents: np.ndarray, generator: np.random.Generator, num_points: int
) -> np.ndarray:
    """Buildable points near parents, of which the first ones are taken most often."""
    shares = ELITE_DECAY ** np.arange(len(parents))
    first, second = generator.choice(len(parents), (2, num_points), p=shares / shares.sum())
    return moved_points(space, parents[first], parents[second], generator)


def moved_points(
    space: SearchSpace, first: np.ndarray, second: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Buildable points, each a row of `first` (or a cross of it with the one of `second`) with
    one to four coordinates moved."""
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
    columns = []
    for i, dimension in enumerate(space.dimensions):
        there = _shifted(dimension, points[:, i], signs[:, i], bits[:, i])
        columns.append(np.where(is_moved[:, i], there, points[:, i]))
    for i, choice in enumerate(space.choices, len(space.dimensions)):
        size = len(choice.table)
        jump = np.floor(draws[:, i] * max(size - 1, 1)) + 1.0
        there = ((choice.index(points[:, i]) + jump) % size + 0.5) / size
        columns.append(np.where(is_moved[:, i], there, points[:, i]))
    return np.stack(columns, axis=1) if columns else points


def _shifted(
    dimension: Dimension, unit: np.ndarray, sign: np.ndarray, bits: np.ndarray
) -> np.ndarray:
    """Coordinates moved by 2^-bits of the range, at least one step; reflected at the bounds."""
    move = sign * 2.0 ** -(bits if dimension.step else CONTINUOUS_BITS_RATIO * bits)
    target = np.where(np.abs(unit + move - 0.5) > 0.5, unit - move, unit + move)
    if dimension.step is None:
        return dimension.snap(target)
    here, there = dimension.count(unit), dimension.count(target)
    stepped = np.where(there == here, here + sign, there)
    outside = (stepped < dimension.first_count) | (stepped > dimension.last_count)
    stepped = np.where(outside, here - sign, stepped)
    stepped = np.clip(stepped, dimension.first_count, dimension.last_count)
    return dimension.unit(stepped * dimension.step)
