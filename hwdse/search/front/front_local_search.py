"""Local search of a front: small moves from its members, evaluated with the exact model."""

import numpy as np

from hwdse.search.evaluation.evaluator import Archive
from hwdse.search.neighborhood.local_search import design_key, design_keys, moved_points
from hwdse.search.pareto.non_dominated_sorting import best_rows
from hwdse.search.pareto.pareto_archive import DesignSet
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.surrogate.candidate_generation import CandidateGenerator, Observations
from hwdse.search.surrogate.expected_improvement import ExpectedHypervolumeImprovement
from hwdse.search.surrogate.surrogate_model import MAX_TRAINING_POINTS

NUM_KEPT = 1024
"""Points kept for training and as parents: the front, thinned by crowding, then the next ranks."""
NUM_PARENTS = 150
"""Parents of random moves, the best of the kept points."""
MODEL_PARENTS = 60
"""Parents of moves chosen by a model."""
MODEL_SHARE = 0.75
"""Fraction of rounds whose moves a model chooses. A smooth model does not resolve differences
between steps."""
BLENDED_SHARE = 0.4
"""Fraction of moves between two parents, rather than from one."""
CROSSOVER_INDEX = 5.0
"""Below the 15 of pymoo, thus wider: parents of a front are far apart."""
EXTREME_SHARE = 0.2
"""Fraction of moves from the extremes of the front, which have neighbors on one side only."""
OTHER_VARIANT_SHARE = 0.05
"""Fraction of moves that also change the variant."""


def local_search_front(
    archive: Archive,
    space: SearchSpace,
    generator: np.random.Generator,
    num_evaluations: int,
    num_moves: int,
) -> None:
    """Run rounds of moves until `num_evaluations` are spent, or no new point is found.

    Moves have the largest expected improvement of a model, or are random. Parents are selected by
    tournaments of two: better rank first, then larger crowding distance. No design is evaluated
    twice.
    """
    best = best_rows(archive.rows, NUM_KEPT)
    seen = design_keys(archive.rows.units, archive.rows.variants)
    candidate_generator = CandidateGenerator(space, generator)
    while archive.evaluator.num_evaluations < num_evaluations:
        count = min(num_moves, num_evaluations - archive.evaluator.num_evaluations)
        found = None
        if generator.random() < MODEL_SHARE:
            training = _training_rows(best, generator)
            parents = best.take(np.arange(min(MODEL_PARENTS, len(best))))
            found = candidate_generator.propose(
                Observations(
                    (training.units, training.variants),
                    training.log_objectives,
                    training.constraint_values,
                ),
                (parents.units, parents.variants),
                ExpectedHypervolumeImprovement.over(archive.front.log_objectives, generator),
                seen,
                count,
            )
        if found is None:
            parents = best.take(np.arange(min(NUM_PARENTS, len(best))))
            found = _random_candidates(space, parents, seen, generator, count)
        if not len(found[0]):
            return
        seen |= design_keys(*found)
        best = best_rows(best.joined(archive.add(*found)), NUM_KEPT)


def _training_rows(best: DesignSet, generator: np.random.Generator) -> DesignSet:
    """Training rows of the model: the best rows, alternating with random others. With the front
    alone the model would not learn the directions away from it."""
    count = min(MAX_TRAINING_POINTS, len(best))
    num_best = (count + 1) // 2
    others = generator.choice(np.arange(num_best, len(best)), count - num_best, replace=False)
    indices = np.arange(count)
    indices[0::2], indices[1::2] = np.arange(num_best), np.sort(others)
    return best.take(indices)


def _random_candidates(
    space: SearchSpace,
    parents: DesignSet,
    seen: set[bytes],
    generator: np.random.Generator,
    count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct unseen points near the parents."""
    found: dict[bytes, tuple[np.ndarray, int]] = {}
    num_variants = space.num_variants
    # Feasible rows first: the best of each objective is an extreme of the front.
    feasible_logs = np.where(parents.is_feasible[:, None], parents.log_objectives, np.inf)
    extremes = np.argmin(feasible_logs, axis=0)
    for _ in range(4):
        # Rows are sorted by rank: the smaller of two indices wins a tournament.
        first, second = np.min(generator.integers(0, len(parents), (2, 2, count)), axis=0)
        is_extreme = generator.random(count) < EXTREME_SHARE
        first = np.where(is_extreme, generator.choice(extremes, count), first)
        units = moved_points(space, parents.units[first], parents.units[second], generator)
        blends = _blended(space, parents.units[first], parents.units[second], generator)
        is_blend = generator.random(count) < BLENDED_SHARE
        units = np.where(is_blend[:, None], blends, units)
        variants = parents.variants[first]
        if num_variants > 1:
            is_other = generator.random(count) < OTHER_VARIANT_SHARE
            jump = generator.integers(1, num_variants, count)
            variants = np.where(is_other, (variants + jump) % num_variants, variants)
        for unit, variant in zip(units, variants, strict=True):
            key = design_key(unit, int(variant))
            if key not in seen and key not in found and len(found) < count:
                found[key] = unit, int(variant)
        if len(found) == count:
            break
    if not found:
        return np.empty((0, space.num_dims)), np.empty(0, int)
    units, variants = zip(*found.values(), strict=True)
    return np.stack(units), np.asarray(variants)


def _blended(
    space: SearchSpace, first: np.ndarray, second: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Rounded points between and around two parents, by simulated binary crossover of half of the
    coordinates. Alternatives of choices are inherited from either parent.

    Source: Deb and Agrawal, Complex Systems 9, 1995.
    """
    draws = generator.random(first.shape)
    power = 1.0 / (1.0 + CROSSOVER_INDEX)
    ratio = np.where(draws < 0.5, 2.0 * draws, 0.5 / np.maximum(1.0 - draws, 1e-12)) ** power
    blends = 0.5 * ((1.0 + ratio) * first + (1.0 - ratio) * second)
    num_reals = len(space.dimensions)
    blends[:, num_reals:] = second[:, num_reals:]
    is_mixed = generator.random(first.shape) < 0.5
    return space.snap_points(np.clip(np.where(is_mixed, blends, first), 0.0, 1.0))
