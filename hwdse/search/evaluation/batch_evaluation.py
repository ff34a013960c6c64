"""Exact evaluation of many rounded points in batches of one shape, so that one program is
compiled."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.jit_compile import search_jit
from hwdse.numerics.relaxation import EXACT
from hwdse.search.evaluation.search_result import EvaluatedPoints, ObjectiveFn, evaluated_points
from hwdse.search.space.search_space import SearchSpace

LARGEST_BATCH = 128
"""Maximum points per batch."""


@functools.partial(search_jit, static_argnames=("objectives_fn", "space"))
def evaluate_batch(
    units: Any, base: Any, *, objectives_fn: Callable[..., Any], space: SearchSpace
) -> tuple[Any, Any]:
    """Exact objectives of each point (one or several), and the constraint values."""
    return jax.vmap(lambda unit: objectives_fn(space.decode_rounded(unit, base), EXACT))(units)


def padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows (at least one), with the last one repeated up to `size`: programs have one input
    shape."""
    return np.concatenate((rows, np.repeat(rows[-1:], size - len(rows), axis=0)))


def by_variant(
    run: Callable[[Any, int], tuple[Any, ...]],
    units: np.ndarray,
    variants: np.ndarray,
    sizes: tuple[int, ...],
    on_batch: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, ...]:
    """Results of `run(points, variant)` for each point, in the order of the points.

    Each call receives points of one variant, padded to the first of `sizes` that fits, or in parts
    of the last size. `on_batch` receives the number of finished points.
    """
    indices, results = [], []
    for variant in np.unique(variants):
        of_variant = np.flatnonzero(variants == variant)
        size = next((n for n in sizes if n >= len(of_variant)), sizes[-1])
        for start in range(0, len(of_variant), size):
            part = of_variant[start : start + size]
            result = run(jnp.asarray(padded(units[part], size), float), int(variant))
            results.append([np.asarray(x)[: len(part)] for x in result])
            indices.append(part)
            if on_batch is not None:
                on_batch(sum(map(len, indices)))
    order = np.argsort(np.concatenate(indices))
    return tuple(np.concatenate(column)[order] for column in zip(*results, strict=True))


def exact_evaluator(
    objective_fn: ObjectiveFn, space: SearchSpace, base: Any, num_moves: int
) -> Callable[[np.ndarray], EvaluatedPoints]:
    """Function that evaluates rounded points exactly, in batches padded to one shape.

    Most calls are rounds of local search with `num_moves` points, so the shape is the next power
    of two.
    """
    size = min(1 << (num_moves - 1).bit_length(), LARGEST_BATCH)

    def run(points: Any, _: int) -> tuple[Any, Any]:
        return evaluate_batch(points, base, objectives_fn=objective_fn, space=space)

    def exact(units: np.ndarray) -> EvaluatedPoints:
        return evaluated_points(units, *by_variant(run, units, np.zeros(len(units), int), (size,)))

    return exact
