"""Points of a sweep and their division into chunks; results of chunks and their merging."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwdse.search.pareto.pareto_archive import DesignSet, merge
from hwdse.search.space.point_sequences import WORD_BITS, PointSequence, make_list, make_sequence
from hwdse.search.space.search_space import SearchSpace


@dataclass(frozen=True)
class SweepPlan:
    """Points of a sweep; chunks are assigned to the variants in turn."""

    space: SearchSpace
    sequence: PointSequence
    chunk_points: int
    variant_points: tuple[int, ...]
    """Points per variant."""
    listed: tuple[np.ndarray, ...] = ()
    """For a list: indices of the points of each variant."""

    @property
    def num_points(self) -> int:
        """Total number of points."""
        return sum(self.variant_points)

    @property
    def num_chunks(self) -> int:
        """Total number of chunks, including empty ones of variants with fewer points."""
        return -(-max(self.variant_points) // self.chunk_points) * len(self.variant_points)

    def chunk(self, index: int) -> tuple[int, int, int]:
        """Variant, first point and number of points of a chunk."""
        variant = index % len(self.variant_points)
        start = index // len(self.variant_points) * self.chunk_points
        return variant, start, max(min(self.chunk_points, self.variant_points[variant] - start), 0)

    def sequence_indices(self, index: int) -> np.ndarray:
        """Sequence indices of the points of a chunk."""
        variant, start, count = self.chunk(index)
        if self.listed:
            return self.listed[variant][start : start + count]
        return np.arange(start, start + count)

    def first_sequence_indices(self, variant: int, count: int) -> np.ndarray:
        """Sequence indices of the first points of a variant."""
        return self.listed[variant][:count] if self.listed else np.arange(count)

    def shard(self, number: int, num_shards: int) -> Sequence[int]:
        """Chunks of shard `number`, counted from 1, of `num_shards`: every chunk belongs to one
        shard."""
        full: Sequence[int] = range(self.num_chunks)
        if len({-(-points // self.chunk_points) for points in self.variant_points}) > 1:
            full = [index for index in full if self.chunk(index)[2]]
        return full[number - 1 :: num_shards]


def plan_sweep(
    space: SearchSpace,
    *,
    num_points: int,
    method: str = "sobol",
    seed: int = 0,
    chunk_points: int = 1 << 17,
) -> SweepPlan:
    """Plan of `num_points` points, divided equally among the variants.

    A grid may have fewer points, and a space without ranges and choices has one per variant. A
    Latin hypercube omits the remainder of the division, so that each variant has a complete one.
    Chunks have the next power of two of `chunk_points`. Chunk size does not change the points.
    Raises `ValueError` if there is no such grid.
    """
    num_variants = math.prod(len(variant.values) for variant in space.variants)
    share, rest = divmod(num_points, num_variants)
    sequence = make_sequence(method, space, seed=seed, num_points=share)
    each = [share + (variant < rest) for variant in range(num_variants)]
    if method == "grid":
        _check_grid(sequence, num_points, num_variants)
    if not space.num_dims:
        each = [1] * num_variants
    elif method in ("grid", "latin"):
        each = [sequence.num_grid_points if method == "grid" else share] * num_variants
    return SweepPlan(space, sequence, _power_of_two(chunk_points, max(each)), tuple(each))


def _check_grid(sequence: PointSequence, num_points: int, num_variants: int) -> None:
    size = sequence.num_grid_points
    if size * num_variants > num_points:
        raise ValueError(
            f"a grid has at least {size * num_variants:,} points here: one per combination of "
            "alternatives and variants"
        )
    if size > 1 << WORD_BITS:
        raise ValueError(f"a grid has at most 2^{WORD_BITS} points per variant")


def plan_list(
    space: SearchSpace, units: np.ndarray, variants: np.ndarray, *, chunk_points: int = 1 << 17
) -> SweepPlan:
    """Plan of given points; `variants` are indices in `SearchSpace.variant_bases`."""
    num_variants = math.prod(len(variant.values) for variant in space.variants)
    listed = tuple(np.flatnonzero(variants == variant) for variant in range(num_variants))
    each = tuple(len(sequence_indices) for sequence_indices in listed)
    size = _power_of_two(chunk_points, max(each))
    return SweepPlan(space, make_list(space.snap_points(units)), size, each, listed)


def _power_of_two(chunk_points: int, largest: int) -> int:
    return 1 << (max(min(chunk_points, largest), 1) - 1).bit_length()


@dataclass(frozen=True)
class SweepChunk:
    """Result of one chunk. It depends only on the plan and the chunk index."""

    index: int
    num_points: int
    num_feasible: int
    num_not_finite: int
    num_reclassified: int
    """Re-evaluated points whose feasibility in float64 differs from the screening pass."""
    front: DesignSet
    """Feasible points of the chunk, in float64, that no other point of the chunk was found to
    dominate."""
    least_violated: DesignSet
    """Point with the smallest largest violation: one row, or none if no point is finite."""
    top: DesignSet | None = None
    """Best feasible points in the first objective, if requested."""
    rows: DesignSet | None = None
    """All points, if all are kept; only until the chunk is written."""


@dataclass(frozen=True)
class SweepResult:
    """Result of the finished chunks of a sweep; `merge_chunk` adds a chunk."""

    num_points: int
    num_feasible: int
    num_not_finite: int
    num_reclassified: int
    front: DesignSet
    least_violated: DesignSet
    top: DesignSet
    done: frozenset[int]
    """Indices of the merged chunks."""

    def best(self, objective: int) -> DesignSet:
        """Front member that is best in an objective; empty without a feasible design."""
        return self.front.best(1, objective)


def merge_chunk(result: SweepResult | None, chunk: SweepChunk, *, top: int = 0) -> SweepResult:
    """Result with one more chunk; None is the empty result. The order does not matter.

    `top` is the number of best points kept.
    """
    chunk_top = chunk.front.take(np.arange(0)) if chunk.top is None else chunk.top
    if result is None:
        return SweepResult(
            chunk.num_points,
            chunk.num_feasible,
            chunk.num_not_finite,
            chunk.num_reclassified,
            chunk.front,
            chunk.least_violated,
            chunk_top.best(top),
            frozenset({chunk.index}),
        )
    return replace(
        result,
        num_points=result.num_points + chunk.num_points,
        num_feasible=result.num_feasible + chunk.num_feasible,
        num_not_finite=result.num_not_finite + chunk.num_not_finite,
        num_reclassified=result.num_reclassified + chunk.num_reclassified,
        front=merge(result.front, chunk.front),
        least_violated=_least(result.least_violated, chunk.least_violated),
        top=result.top.joined(chunk_top).best(top),
        done=result.done | {chunk.index},
    )


def _least(first: DesignSet, second: DesignSet) -> DesignSet:
    """Row whose largest constraint value is smaller; ties are broken by variant and sequence
    index."""
    both = first.joined(second)
    worst = both.constraint_values.max(axis=1, initial=-np.inf)
    return both.take(np.lexsort((both.sequence_indices, both.variants, worst))[:1])
