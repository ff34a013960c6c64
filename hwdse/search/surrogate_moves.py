"""Moves that a model holds for promising: made in generations, judged by the model alone."""

import numpy as np

from hwdse.search.expected_gain import Gain
from hwdse.search.polish import NUM_KINDS, design_key, moved_by_kinds, parted_points
from hwdse.search.space import SearchSpace
from hwdse.search.surrogate import Surrogate, features

NUM_GENERATIONS = 3
"""Times that moves are made, each from the most promising of the earlier ones."""
GENERATION = 500
"""Moves of one generation: the model judges them, not the exact reading."""
KIND_SHARES = (0.5, 0.2, 0.3)
"""Of the kinds of moves of `search.polish`."""
PARTED_SHARE = 0.3
"""Moves of which every coordinate is then one that divides the end of its range."""
OTHER_VARIANT_SHARE = 0.1
MOST_CHOSEN_FROM = 300
"""Promising moves of all generations from which those to be judged are chosen together."""


def promising_moves(
    space: SearchSpace,
    units: np.ndarray,
    variants: np.ndarray,
    model: Surrogate,
    gain: Gain,
    seen: set[bytes],
    generator: np.random.Generator,
    num_moves: int,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Points and variants near these parents, best first, that are worth to be judged next; None
    if there are no new ones."""
    num_parents = len(units)
    taken, all_units, all_variants, promises = set(seen), [], [], []
    for _ in range(NUM_GENERATIONS):
        units, variants = _new_moves(space, units, variants, taken, generator)
        if not len(units):
            break
        all_units.append(units)
        all_variants.append(variants)
        promises.append(model.promise(features(space, units, variants), gain))
        units, variants = np.concatenate(all_units), np.concatenate(all_variants)
        best = np.argsort(-np.concatenate(promises), kind="stable")[:num_parents]
        units, variants = units[best], variants[best]
    if not promises:
        return None
    best = np.argsort(-np.concatenate(promises), kind="stable")[:MOST_CHOSEN_FROM]
    units, variants = np.concatenate(all_units)[best], np.concatenate(all_variants)[best]
    chosen = model.choose(features(space, units, variants), num_moves, gain)
    return units[chosen], variants[chosen]


def _new_moves(
    space: SearchSpace,
    parents: np.ndarray,
    variants: np.ndarray,
    taken: set[bytes],
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """A generation of moves, without those that were there before; marks them taken."""
    kinds = generator.choice(NUM_KINDS, GENERATION, p=KIND_SHARES)
    units, first = moved_by_kinds(space, parents, generator, kinds)
    is_parted = generator.random(GENERATION) < PARTED_SHARE
    units = np.where(is_parted[:, None], parted_points(space, units), units)
    places = variants[first]
    if space.num_variants > 1:
        is_other = generator.random(GENERATION) < OTHER_VARIANT_SHARE
        places = np.where(is_other, generator.integers(space.num_variants, size=GENERATION), places)
    kept = []
    for i, (unit, place) in enumerate(zip(units, places, strict=True)):
        key = design_key(unit, int(place))
        if key not in taken:
            taken.add(key)
            kept.append(i)
    return units[kept], places[kept]
