"""Counter-based Latin hypercubes: each of N equal cells per dimension contains one of N points.

In every dimension the cells are a permutation of the sequence indices. The permutation is a cipher
of the integers below N. The cell of a point thus follows from its index alone, and chunks of any
size, generated in any order, are parts of one hypercube.
"""

import math
from typing import Any

import numpy as np

MAX_LATIN_POINTS = 1 << 31
"""Maximum number of points that 32-bit words can permute."""
FRACTION_BITS = 23
"""Bits of a coordinate; float32 and float64 represent (word + 1/2) / 2^23 exactly."""
NUM_ROUNDS = 6
"""Rounds of the cipher. Four are pseudorandom (Luby and Rackoff 1988); six leave a margin for a
weak hash."""


def latin_column(num_points: int, generator: np.random.Generator) -> tuple[int, ...]:
    """Parameters of one dimension: N, the round keys, and the key of the positions within
    cells."""
    if not 1 <= num_points <= MAX_LATIN_POINTS:
        raise ValueError(f"a Latin hypercube has 1 to {MAX_LATIN_POINTS} points per variant")
    return (num_points, *(int(key) for key in generator.integers(0, 1 << 32, NUM_ROUNDS + 1)))


def latin_words(sequence_indices: Any, column: Any, xp: Any) -> Any:
    """23-bit coordinates $w$ of points, from a `latin_column`: $(w + 1/2) / 2^{23}$ lies in the
    cell of the point.

    Above $2^{23}$ points cells are narrower than a word, and the coordinate is the word that
    contains the start of the cell. Indices from N on, which pad a chunk, repeat the last point.
    """
    num_points, position_key = column[0], column[-1]
    sequence_indices = xp.minimum(sequence_indices, xp.uint32(num_points - 1))
    cells = _shuffled(sequence_indices, column, xp)
    if num_points > 1 << FRACTION_BITS:
        return _divided(cells, 0, num_points, FRACTION_BITS, xp)
    # The first word at or right of the start of a cell, c / N <= (w + 1/2) / 2^23.
    first = _divided(cells, num_points - 1, 2 * num_points, FRACTION_BITS + 1, xp)
    after = _divided(cells + xp.uint32(1), num_points - 1, 2 * num_points, FRACTION_BITS + 1, xp)
    low_bits = max(((1 << FRACTION_BITS) // num_points + 1).bit_length() - 16, 0)
    position_in_cell = hashed(sequence_indices ^ xp.uint32(position_key), xp)
    coarse = _scaled(position_in_cell, (after - first) >> xp.uint32(low_bits), xp) << xp.uint32(
        low_bits
    )
    return first + coarse + (position_in_cell & xp.uint32((1 << low_bits) - 1))


def hashed(word: Any, xp: Any) -> Any:
    """Finalizer lowbias32 of C. Wellons (public domain), a bijection of 32-bit words."""
    word = (word ^ (word >> xp.uint32(16))) * xp.uint32(0x7FEB352D)
    word = (word ^ (word >> xp.uint32(15))) * xp.uint32(0x846CA68B)
    return word ^ (word >> xp.uint32(16))


def _shuffled(sequence_indices: Any, column: Any, xp: Any) -> Any:
    """Permutation of the indices below N by an unbalanced Feistel cipher.

    The cipher permutes the integers below a b, the smallest such product not below N with a the
    square root of N. It is repeated for values that leave the range. Source: Black and Rogaway,
    CT-RSA 2002, methods "generalized Feistel" and "cycle walking".
    """
    num_points, keys = column[0], column[1:-1]
    num_low = math.isqrt(num_points - 1) + 1
    num_high = -(-num_points // num_low)

    def once(words: Any) -> Any:
        high = words // xp.uint32(num_low)
        low = words - high * xp.uint32(num_low)
        for round_index, key in enumerate(keys):
            if round_index % 2 == 0:
                low = _added(low, hashed(high ^ xp.uint32(key), xp), num_low, xp)
            else:
                high = _added(high, hashed(low ^ xp.uint32(key), xp), num_high, xp)
        return high * xp.uint32(num_low) + low

    def is_outside(words: Any) -> Any:
        return words >= xp.uint32(num_points)

    def again(words: Any) -> Any:
        return xp.where(is_outside(words), once(words), words)

    words = once(sequence_indices)
    if num_low * num_high == num_points:
        return words
    if xp is np:
        while is_outside(words).any():
            words = again(words)
        return words
    from jax.lax import while_loop

    return while_loop(lambda walked: is_outside(walked).any(), again, words)


def _added(part: Any, word: Any, size: int, xp: Any) -> Any:
    """Sum modulo `size` (at most 2^16) of a part and a word scaled to below `size`."""
    total = part + _scaled(word, xp.uint32(size), xp)
    return xp.where(total >= xp.uint32(size), total - xp.uint32(size), total)


def _scaled(word: Any, size: Any, xp: Any) -> Any:
    """Upper half of a word times size / 2^16, rounded down: below the size, at most 2^16."""
    return ((word >> xp.uint32(16)) * size) >> xp.uint32(16)


def _divided(high: Any, low: int, divisor: int, num_bits: int, xp: Any) -> Any:
    """Floor of (high 2^num_bits + low) / divisor by long division in 32-bit words. Requires high <
    divisor <= 2^31 and low < 2^num_bits."""
    remainder, quotient = high, xp.zeros_like(high)
    for bit in reversed(range(num_bits)):
        remainder = remainder * xp.uint32(2) + xp.uint32(low >> bit & 1)
        is_taken = remainder >= xp.uint32(divisor)
        quotient = quotient * xp.uint32(2) + is_taken.astype(xp.uint32)
        remainder = xp.where(is_taken, remainder - xp.uint32(divisor), remainder)
    return quotient
