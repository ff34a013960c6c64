"""Points of the unit cube by sequence index: Sobol, random, grid, Latin hypercube and lists.

Point `i` of a sequence depends only on method, seed and index. Chunks of any size, generated in
any order, on device or host, are parts of one sequence. Coordinates, except on a grid, are 24-bit
fractions, which float32 and float64 represent equally.

A chunk is the exclusive-or of two parts: `shared_words`, equal for all chunks of a run, and
`chunk_words`, one word per dimension. A Sobol coordinate thus costs one instruction.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdse.search.space.latin_hypercube import hashed, latin_column, latin_words
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.space.sobol_directions import JOE_KUO

METHODS = ("sobol", "random", "grid", "latin")
WORD_BITS = 32
MASK = (1 << WORD_BITS) - 1


@dataclass(frozen=True)
class PointSequence:
    """Sequence of points of the unit cube.

    Columns hold, per dimension: scrambled direction numbers and a shift (sobol), nothing (random,
    and sobol beyond the table), unit coordinates of the levels (grid), keys (latin), or the
    coordinates of all points (list).
    """

    method: str
    columns: tuple[tuple[int | float, ...], ...]
    seed: int

    @property
    def program_key(self) -> tuple[Any, ...]:
        """All that `unit_rows` depends on: words contain the seed and the scrambling."""
        if self.method in ("sobol", "random"):
            return self.method, tuple(bool(column) for column in self.columns)
        return self.method, self.columns

    @property
    def num_grid_points(self) -> int:
        """Points of the full grid: the product of the level counts."""
        return math.prod(len(levels) for levels in self.columns)


def make_sequence(
    method: str, space: SearchSpace, *, seed: int, num_points: int = 0
) -> PointSequence:
    """Point sequence over a space. `num_points` is the maximum size of a grid and the exact size
    of a Latin hypercube.

    Sobol points are scrambled by a random linear matrix and a shift: J. Matousek, J. Complexity
    14, 527 (1998). A grid has all alternatives of each choice and about equally many values per
    dimension, all rounded to the parameter steps.
    """
    if method not in METHODS:
        raise ValueError(f"method = {method!r}: expected one of {', '.join(METHODS)}")
    if method == "grid":
        return PointSequence(method, _grid_columns(space, num_points), seed)
    generator = np.random.default_rng([seed, 0x50B01])
    if method == "latin":
        keyed = (latin_column(num_points, generator) for _ in range(space.num_dims))
        return PointSequence(method, tuple(keyed), seed)
    columns: list[tuple[int | float, ...]] = []
    for dim in range(space.num_dims):
        is_tabled = method == "sobol" and dim <= len(JOE_KUO)
        columns.append(_scrambled(direction_numbers(dim), generator) if is_tabled else ())
    return PointSequence(method, tuple(columns), seed)


def make_list(units: np.ndarray) -> PointSequence:
    """Sequence of given points, points by dims. Generated on the host only."""
    return PointSequence("list", tuple(tuple(map(float, column)) for column in units.T), 0)


def direction_numbers(dim: int) -> tuple[int, ...]:
    """The 32 direction numbers of a dimension: Bratley and Fox, ACM TOMS 14, 88 (1988)."""
    if dim == 0:
        return tuple(1 << (WORD_BITS - 1 - bit) for bit in range(WORD_BITS))
    polynomial, initial = JOE_KUO[dim - 1]
    degree = polynomial.bit_length() - 1
    odd = list(initial)
    for bit in range(degree, WORD_BITS):
        value = odd[bit - degree] ^ (odd[bit - degree] << degree)
        for term in range(1, degree):
            if polynomial >> (degree - term) & 1:
                value ^= odd[bit - term] << term
        odd.append(value)
    return tuple(value << (WORD_BITS - 1 - bit) for bit, value in enumerate(odd))


def _scrambled(words: tuple[int, ...], generator: np.random.Generator) -> tuple[int, ...]:
    """Direction numbers times a random lower-triangular bit matrix, followed by the random
    shift."""
    rows = []
    for bit in range(WORD_BITS):
        higher = (MASK << (WORD_BITS - bit)) & MASK
        rows.append(1 << (WORD_BITS - 1 - bit) | int(generator.integers(0, MASK + 1)) & higher)
    mixed = []
    for word in words:
        bits = [(row & word).bit_count() & 1 for row in rows]
        mixed.append(sum(bit << (WORD_BITS - 1 - position) for position, bit in enumerate(bits)))
    return (*mixed, int(generator.integers(0, MASK + 1)))


def _grid_columns(space: SearchSpace, num_points: int) -> tuple[tuple[float, ...], ...]:
    """Unit coordinates of the levels: the largest even grid of at most `num_points` points."""
    alternatives = [len(choice.table) for choice in space.choices]
    room = num_points / math.prod(alternatives)
    columns: dict[int, tuple[float, ...]] = {}
    # Dimensions with few values first: the unused factor goes to the others.
    order = sorted(range(len(space.dimensions)), key=lambda i: _num_values(space, i))
    for done, i in enumerate(order):
        even = max(math.floor(room ** (1.0 / (len(order) - done)) + 1e-9), 1)
        columns[i] = _levels(space, i, min(even, _num_values(space, i)))
        room /= len(columns[i])
    units = [tuple((k + 0.5) / n for k in range(n)) for n in alternatives]
    return (*(columns[i] for i in range(len(order))), *units)


def _num_values(space: SearchSpace, dim: int) -> int:
    dimension = space.dimensions[dim]
    if dimension.step is None:
        return 1 if dimension.low == dimension.high else MASK
    return int(dimension.last_count - dimension.first_count) + 1


def _levels(space: SearchSpace, dim: int, num_levels: int) -> tuple[float, ...]:
    """Evenly spaced unit coordinates, both ends included, rounded to the parameter steps without
    repeats."""
    dimension = space.dimensions[dim]
    if dimension.step is not None and num_levels == _num_values(space, dim):
        counts = np.arange(dimension.first_count, dimension.last_count + 1.0)
        return tuple(float(dimension.unit(np.float64(n * dimension.step))) for n in counts)
    even = np.linspace(0.0, 1.0, num_levels) if num_levels > 1 else np.asarray([0.5])
    return tuple(sorted({float(dimension.snap(unit)) for unit in even}))


def shared_words(sequence: PointSequence, num_points: int, xp: Any = np) -> Any:
    """Words of points 0 to `num_points` - 1, dims by points, without the shift of their chunk.

    `num_points` is a power of two, so that the indices of a chunk are its start with low bits set.
    """
    counter = xp.arange(num_points, dtype=xp.uint32)
    rows = []
    for column in sequence.columns:
        if sequence.method != "sobol" or not column:
            rows.append(counter)
            continue
        row = xp.zeros(num_points, xp.uint32)
        for bit in range((num_points - 1).bit_length()):
            is_set = (counter >> xp.uint32(bit)) & xp.uint32(1)
            row = row ^ (is_set * xp.uint32(column[bit]))
        rows.append(row)
    return xp.stack(rows) if rows else xp.zeros((0, num_points), xp.uint32)


def chunk_words(sequence: PointSequence, start: int) -> np.ndarray:
    """Words that turn the shared ones into the chunk that begins at point `start`.

    The low 32 bits of `start` are the counter; the high bits select another random shift.
    """
    generator = np.random.default_rng([sequence.seed, start >> WORD_BITS, 0x5EED])
    words = []
    for column in sequence.columns:
        key = int(generator.integers(0, MASK + 1))
        if sequence.method in ("grid", "latin"):
            key = start & MASK
        elif not column:
            key ^= start & MASK
        else:
            key = int(column[-1]) ^ (key if start >> WORD_BITS else 0)
            for bit in range(WORD_BITS):
                key ^= int(column[bit]) if start >> bit & 1 else 0
        words.append(key)
    return np.asarray(words, np.uint32)


def unit_rows(sequence: PointSequence, shared: Any, chunk: Any, dtype: Any, xp: Any) -> list[Any]:
    """Coordinates of a chunk in [0, 1], one array per dimension."""
    rows = []
    stride = 1
    for dim, column in enumerate(sequence.columns):
        word = shared[dim] ^ chunk[dim]
        if sequence.method == "grid":
            digit = (word // xp.uint32(min(stride, MASK))) % xp.uint32(len(column))
            rows.append(xp.asarray(column, dtype)[digit.astype(xp.int32)])
            stride *= len(column)
            continue
        if sequence.method == "latin":
            fraction = latin_words(word, column, xp)
        elif not column:
            word = hashed(hashed(word, xp) + xp.uint32(dim * 0x9E3779B9 & MASK), xp)
            fraction = word >> xp.uint32(9)
        else:
            fraction = word >> xp.uint32(9)
        rows.append((fraction.astype(dtype) + dtype(0.5)) * dtype(2.0**-23))
    return rows


def host_points(sequence: PointSequence, sequence_indices: np.ndarray) -> np.ndarray:
    """Points of the given indices in float64, points by dims, equal to those generated on a
    device."""
    if sequence.method == "list":
        listed = [np.asarray(column)[sequence_indices] for column in sequence.columns]
        return np.stack(listed, axis=1) if listed else np.empty((len(sequence_indices), 0))
    points = np.empty((len(sequence_indices), len(sequence.columns)))
    if not sequence.columns:  # nothing but variants is searched
        return points
    high = sequence_indices >> WORD_BITS
    for wrap in np.unique(high):
        chosen = high == wrap
        shared = _words_of(sequence, (sequence_indices[chosen] & MASK).astype(np.uint32))
        chunk = chunk_words(sequence, int(wrap) << WORD_BITS)
        points[chosen] = np.stack(unit_rows(sequence, shared, chunk, np.float64, np), axis=1)
    return points


def _words_of(sequence: PointSequence, counter: np.ndarray) -> list[np.ndarray]:
    rows = []
    for column in sequence.columns:
        if sequence.method != "sobol" or not column:
            rows.append(counter)
            continue
        row = np.zeros(len(counter), np.uint32)
        for bit in range(WORD_BITS):
            is_set = (counter >> np.uint32(bit)) & np.uint32(1)
            row ^= is_set * np.uint32(column[bit])
        rows.append(row)
    return rows
