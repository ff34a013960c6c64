r"""Input footprint of tiles, and the halo shared by consecutive tiles.

Output row p and filter row r read input row $p s + r \delta$ (stride s, dilation $\delta$). A tile
of P by R therefore spans $(P - 1) s + (R - 1) \delta + 1$ rows; columns Q and S correspondingly.
Skipped rows count as part of the tile. Channels C and images N are counted the same way, with step
1. Source: Parashar et al., Timeloop, ISPASS 2019, and its code, github.com/NVlabs/timeloop,
src/loop-analysis/nest-analysis.cpp (BSD-3-Clause).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from hwdse.numerics.array_types import Leaf
from hwdse.numerics.relaxation import num_tiles
from hwdse.workload.loops.loop_passes import Loops, innermost, loads_in_steps, product
from hwdse.workload.loops.operators import DIMS, Operators

HALO_RESETS: Mapping[str, Callable[[Leaf], Leaf] | None] = MappingProxyType(
    {
        "reloaded": None,
        "kept": lambda bounds: bounds - 1.0,
        "extrapolated": lambda bounds: jnp.minimum(bounds - 1.0, 1.0),
    }
)
"""Steps by which inner loops return when an outer loop advances, by treatment of shared inputs.

"reloaded": inputs shared with the previous tile are loaded again. "kept": they stay if the tile
moves as in a step of the innermost loop outside it, since address generators follow one stride.
"extrapolated": "kept" as computed by Timeloop, which evaluates two passes of a loop and multiplies,
so that inner loops return to their second pass.
"""
SAME_MOVE = 1e-5
"""Relative tolerance below which two moves are equal."""
DIRECTIONS = ("PR", "QS", "C", "N")
"""Dimensions that index the rows, columns, channels and images of the inputs."""
_ALONG = np.array([[letter in dims for dims in DIRECTIONS] for letter in DIMS], float)
"""1 if a dimension (of `DIMS`) is along a direction (of `DIRECTIONS`)."""
_OUTPUTS = _ALONG * np.array([[letter in "PQ"] for letter in DIMS])
"""`_ALONG` for output dimensions only."""
_TAPS = _ALONG - _OUTPUTS
"""`_ALONG` for the other dimensions: filter taps, channels, images."""


class Slide(NamedTuple):
    """Sliding of consecutive tiles of a tier."""

    share: Leaf
    """Share of loads for which the tile advances by one move."""
    move: Leaf
    """Rows, columns, channels and images per move, on the last axis."""


def _steps(operators: Operators) -> Leaf:
    """Distance between the inputs of neighbors along each of `DIMS`, on the last axis."""
    steps = {"R": "dilation_r", "S": "dilation_s", "P": "stride_p", "Q": "stride_q"}
    apart = [getattr(operators, steps[d]) if d in steps else float(d in "CN") for d in DIMS]
    return jnp.stack(jnp.broadcast_arrays(*(jnp.asarray(x, float) for x in apart)), axis=-1)


def _heights(tile: Leaf, operators: Operators) -> Leaf:
    """Extents of the inputs of a tile: rows, columns, channels, images, on the last axis."""
    return ((tile - 1.0) * _steps(operators)) @ _ALONG + 1.0


def window_words(tile: Leaf, operators: Operators) -> Leaf:
    """Input words of a tile."""
    return product(_heights(tile, operators), -1)


def new_words(
    loops: Loops, operators: Operators, tiers: range, num_parts: Leaf, slide: Slide | None
) -> tuple[Leaf, Leaf]:
    r"""Input words of all tiles minus those left by the previous tile, with and without shared
    reads.

    In each direction $n \bar h$, with n tiles of mean height $\bar h$: the tiles of `num_parts`, by
    dimension, that are not beyond a ragged edge. A sliding load takes $n (\bar h - (h - v)^+)$
    along its move v, with the height h of a full tile. `tiers` are the tiers from the one read to
    the last one outside the tiles; PEs unrolled there share their reads (`_shared`).
    """
    is_array = tiers.stop == loops.tile.shape[-2]
    tile = jnp.ones_like(loops.sizes) if is_array else loops.tile[..., tiers.stop, :]
    filled = jnp.minimum(num_parts, num_tiles(loops.sizes, tile))
    means = _heights(loops.sizes / filled, operators)
    number = _along(filled, _ALONG)
    heights = _heights(tile, operators)
    neighbors = _neighbors(loops, operators, tiers)

    def words(left: Leaf) -> tuple[Leaf, Leaf]:
        loaded = number * (means - jnp.minimum(left, means))
        shared = _shared(neighbors, num_parts, filled, heights - left)
        return product(loaded - shared, -1), product(loaded, -1)

    reloaded = words(0.0 * heights)
    if slide is None:
        return reloaded
    is_moved = slide.move > 0.0
    strips = words(jnp.where(is_moved, jnp.maximum(heights - slide.move, 0.0), 0.0))
    moves = jnp.any(is_moved, axis=-1)
    read, written = (
        all_new - slide.share * (all_new - jnp.where(moves, strip, 0.0))
        for all_new, strip in zip(reloaded, strips, strict=True)
    )
    return read, written


class _Neighbors(NamedTuple):
    """Neighboring PEs in each direction."""

    count: Leaf
    """Neighbors."""
    apart: Leaf
    """Rows between the inputs of one PE and the next."""
    is_outputs: Leaf
    """True if the PEs differ by outputs, false if by filter taps, channels or images."""


def _along(parts: Leaf, pick: np.ndarray) -> Leaf:
    """Parts in each direction, from the parts of the dimensions selected by `pick`."""
    return product(jnp.where(pick > 0.0, parts[..., None], 1.0), -2)


def _neighbors(loops: Loops, operators: Operators, tiers: range) -> list[_Neighbors]:
    """Neighboring PEs unrolled in each tier, inner tiers first.

    Within a tier, the closer neighbors come first, by filter taps or by outputs.
    """
    steps = loops.below * _steps(operators)[..., None, :]
    taps, outputs = (
        (1.0 + (loops.spatial - 1.0) @ pick, steps @ pick) for pick in (_TAPS, _OUTPUTS)
    )
    is_first = taps[1] <= outputs[1]
    inner = [jnp.where(is_first, a, b) for a, b in zip(taps, outputs, strict=True)]
    outer = [jnp.where(is_first, b, a) for a, b in zip(taps, outputs, strict=True)]
    return [
        _Neighbors(count[..., tier, :], apart[..., tier, :], is_outputs[..., tier, :])
        for tier in reversed(tiers)
        for (count, apart), is_outputs in ((inner, ~is_first), (outer, is_first))
    ]


def _shared(neighbors: list[_Neighbors], num_parts: Leaf, filled: Leaf, heights: Leaf) -> Leaf:
    """Rows and columns read by several neighbors at the same time, counted for all but one of them.

    Of n neighbors of height h at distance d, all but the first share h - d with the previous one,
    if positive. Together they have the height n h - (n - 1)(h - d). A group at a ragged edge has
    the remaining PEs.
    """
    slots = [_along(num_parts, pick) for pick in (_TAPS, _OUTPUTS)]
    groups = [_along(filled, pick) for pick in (_TAPS, _OUTPUTS)]
    shared = jnp.zeros_like(heights * groups[0])
    for group in neighbors:
        before = groups[0] * groups[1]
        for kind, is_kind in enumerate((~group.is_outputs, group.is_outputs)):
            slots[kind] = jnp.where(is_kind, slots[kind] / group.count, slots[kind])
            groups[kind] = jnp.minimum(groups[kind], slots[kind])
        overlap = jnp.maximum(heights - group.apart, 0.0)
        shared = shared + (before - groups[0] * groups[1]) * overlap
        heights = group.count * heights - (group.count - 1.0) * overlap
    return shared


def sliding(
    loops: Loops, operators: Operators, child: int, num_loads: Leaf, halo: str, fractional: bool
) -> Slide | None:
    r"""Frequency and distance of sliding of the tiles of tier `child`; None if inputs are reloaded.

    The share is $\sum_j N_j [v_j - \sum_{i > j} r_i v_i = v_n] / N$. Loop j moves a tile by $v_j$
    per step, loops i inside it return by $r_i$ steps (`HALO_RESETS`), and loop n is the innermost.
    $N_j$ of all N loads (`num_loads`, by dimension) occur when j is the outermost loop to advance.
    """
    resets = HALO_RESETS[halo]
    if resets is None:
        return None
    steps = loops.inner[..., :child, :] * _steps(operators)[..., None, :]
    key, is_loop, bounds, steps = (
        jnp.reshape(x[..., :child, :], (*x.shape[:-2], child * len(DIMS)))
        for x in (loops.key, loops.is_loop, loops.temporal, steps)
    )
    moves = steps[..., None] * np.tile(_ALONG, (child, 1))
    returned = jnp.where(is_loop, resets(bounds), 0.0)[..., None] * moves
    is_inside = (key[..., None, :] > key[..., :, None]).astype(moves.dtype)
    last = jnp.max(jnp.where(is_loop, key, -1.0), axis=-1, keepdims=True)
    move = jnp.sum(jnp.where((key == last)[..., None], moves, 0.0), axis=-2)
    difference = jnp.abs(moves - is_inside @ returned - move[..., None, :])
    scale = jnp.maximum(steps, jnp.max(move, axis=-1, keepdims=True))
    slides = is_loop & jnp.all(difference <= SAME_MOVE * scale[..., None], axis=-1)
    slides = slides & (key <= innermost(loops, "inputs", child)[..., None])
    loads = jnp.sum(jnp.where(slides, loads_in_steps(loops, key, fractional), 0.0), axis=-1)
    return Slide(share=loads / product(num_loads, -1), move=move)
