"""Which points a sweep visits, and what its chunks leave behind."""

import math
from dataclasses import dataclass, replace

import numpy as np

from hwdse.search.front import Front, merge
from hwdse.search.points import PointSequence, make_sequence
from hwdse.search.space import SearchSpace


@dataclass(frozen=True)
class SweepPlan:
    """Which points a sweep visits: chunks are dealt to the variants in turn."""

    space: SearchSpace
    sequence: PointSequence
    chunk_points: int
    variant_points: tuple[int, ...]
    """Points of each variant."""

    @property
    def num_points(self) -> int:
        """Points in all."""
        return sum(self.variant_points)

    @property
    def num_chunks(self) -> int:
        """Chunks in all, empty ones of variants with fewer points among them."""
        return -(-max(self.variant_points) // self.chunk_points) * len(self.variant_points)

    def chunk(self, index: int) -> tuple[int, int, int]:
        """Variant, first point and number of points of a chunk."""
        variant = index % len(self.variant_points)
        start = index // len(self.variant_points) * self.chunk_points
        return variant, start, max(min(self.chunk_points, self.variant_points[variant] - start), 0)


def plan_sweep(
    space: SearchSpace,
    *,
    num_points: int,
    method: str = "sobol",
    seed: int = 0,
    chunk_points: int = 1 << 17,
) -> SweepPlan:
    """Plan of `num_points` points shared equally by the variants (a grid may have fewer).

    Chunks have the next power of two of `chunk_points`. Chunk size does not change the points.
    """
    num_variants = math.prod(len(variant.values) for variant in space.variants)
    share, rest = divmod(num_points, num_variants)
    sequence = make_sequence(method, space, seed=seed, num_points=share)
    each = [share + (variant < rest) for variant in range(num_variants)]
    if method == "grid":
        each = [sequence.num_grid_points] * num_variants
    size = 1 << (max(min(chunk_points, max(each)), 1) - 1).bit_length()
    return SweepPlan(space, sequence, size, tuple(each))


@dataclass(frozen=True)
class SweepChunk:
    """What a chunk leaves behind."""

    index: int
    num_points: int
    num_feasible: int
    num_not_finite: int
    num_changed_verdicts: int
    """Judged points that float64 calls feasible and the screen did not, or the reverse."""
    front: Front
    """Feasible points of the chunk that were not seen to be dominated; judged in float64."""
    least_violated: Front
    """The point with the smallest worst violation: one row, or none if nothing is finite."""


@dataclass(frozen=True)
class SweepResult:
    """A sweep as far as it has come; `merge_chunk` adds to it."""

    num_points: int
    num_feasible: int
    num_not_finite: int
    num_changed_verdicts: int
    front: Front
    least_violated: Front
    done: frozenset[int]
    """Indices of the chunks that are in it."""

    def best(self, objective: int) -> Front:
        """The one front member that is best in an objective; empty if nothing is feasible."""
        return self.front.take(np.argsort(self.front.costs[:, objective], kind="stable")[:1])


def merge_chunk(result: SweepResult | None, chunk: SweepChunk) -> SweepResult:
    """A result with one more chunk; None is the empty one. The order does not matter."""
    if result is None:
        return SweepResult(
            chunk.num_points,
            chunk.num_feasible,
            chunk.num_not_finite,
            chunk.num_changed_verdicts,
            chunk.front,
            chunk.least_violated,
            frozenset({chunk.index}),
        )
    return replace(
        result,
        num_points=result.num_points + chunk.num_points,
        num_feasible=result.num_feasible + chunk.num_feasible,
        num_not_finite=result.num_not_finite + chunk.num_not_finite,
        num_changed_verdicts=result.num_changed_verdicts + chunk.num_changed_verdicts,
        front=merge(result.front, chunk.front),
        least_violated=_least(result.least_violated, chunk.least_violated),
        done=result.done | {chunk.index},
    )


def _least(first: Front, second: Front) -> Front:
    if not len(first) or not len(second):
        return first if len(first) else second
    return first if first.violations.max() <= second.violations.max() else second
