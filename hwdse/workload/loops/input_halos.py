r"""Inputs of a tile: the rows and columns that its filter covers, and those the last tile had too.

Output row p and filter row r meet input row $p s + r \delta$ (stride s, dilation $\delta$), so a
tile of P by R takes $(P - 1) s + (R - 1) \delta + 1$ rows from the first to the last; columns Q
and S alike. What lies between counts as taken. Channels C and images N are counted the same way,
one step for each. Source: Parashar et al., Timeloop, ISPASS 2019, and its code, github.com/NVlabs/
timeloop, src/loop-analysis/nest-analysis.cpp (BSD-3-Clause).
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
"""What becomes of the inputs that a tile has in common with the one before it.

"reloaded": they are loaded again. "kept": they stay if the tile moves as it does in a step of the
innermost loop outside it, since address generators follow one stride. "extrapolated": the same as
Timeloop computes it, which runs two passes of a loop and multiplies, so that the loops inside one
that goes on start again from their second pass. The functions say how many steps they go back."""
SAME_MOVE = 1e-5
"""Moves that differ by less than this share of the greater one are equal."""
DIRECTIONS = ("PR", "QS", "C", "N")
"""Dimensions that index the rows, columns, channels and images of the inputs."""
_ALONG = np.array([[letter in dims for dims in DIRECTIONS] for letter in DIMS], float)
"""One where a dimension lies along a direction, by `DIMS` and `DIRECTIONS`."""
_OUTPUTS = _ALONG * np.array([[letter in "PQ"] for letter in DIMS])
"""The same for the dimensions of outputs only."""
_TAPS = _ALONG - _OUTPUTS
"""And for the others: filter taps, channels, images."""


class Slide(NamedTuple):
    """How the tiles of a tier follow one another."""

    share: Leaf
    """Loads that find the tile one move further, of all loads."""
    move: Leaf
    """Rows, columns, channels and images of such a move, on the last axis."""


def _steps(operators: Operators) -> Leaf:
    """How far apart the inputs of neighbors along each of DIMS are, on the last axis."""
    steps = {"R": "dilation_r", "S": "dilation_s", "P": "stride_p", "Q": "stride_q"}
    apart = [getattr(operators, steps[d]) if d in steps else float(d in "CN") for d in DIMS]
    return jnp.stack(jnp.broadcast_arrays(*(jnp.asarray(x, float) for x in apart)), axis=-1)


def _heights(tile: Leaf, operators: Operators) -> Leaf:
    """Rows, columns, channels and images of the inputs of a tile, on the last axis."""
    return ((tile - 1.0) * _steps(operators)) @ _ALONG + 1.0


def window_words(tile: Leaf, operators: Operators) -> Leaf:
    """Inputs of a tile."""
    return product(_heights(tile, operators), -1)


def new_words(
    loops: Loops, operators: Operators, places: range, num_parts: Leaf, slide: Slide | None
) -> tuple[Leaf, Leaf]:
    r"""Inputs of all tiles less what the one before left there, with shared reads and without.

    In each direction $n \bar h$, with n tiles (of `num_parts`, by dimension, those that are not
    beyond a ragged edge) of the mean height $\bar h$; a load that slides takes
    $n (\bar h - (h - v)^+)$ along its move v, with the height h of a whole tile. `places` are the
    tiers from the one that is read to the last one outside the tiles; elements unrolled there
    share their reads (`_shared`).
    """
    is_array = places.stop == loops.tile.shape[-2]
    tile = jnp.ones_like(loops.sizes) if is_array else loops.tile[..., places.stop, :]
    filled = jnp.minimum(num_parts, num_tiles(loops.sizes, tile))
    means = _heights(loops.sizes / filled, operators)
    number = _along(filled, _ALONG)
    heights = _heights(tile, operators)
    neighbors = _neighbors(loops, operators, places)

    def words(left: Leaf) -> tuple[Leaf, Leaf]:
        loaded = number * (means - jnp.minimum(left, means))
        shared = _shared(neighbors, num_parts, filled, heights - left)
        return product(loaded - shared, -1), product(loaded, -1)

    whole = words(0.0 * heights)
    if slide is None:
        return whole
    is_moved = slide.move > 0.0
    strips = words(jnp.where(is_moved, jnp.maximum(heights - slide.move, 0.0), 0.0))
    moves = jnp.any(is_moved, axis=-1)
    read, written = (
        all_new - slide.share * (all_new - jnp.where(moves, strip, 0.0))
        for all_new, strip in zip(whole, strips, strict=True)
    )
    return read, written


class _Row(NamedTuple):
    """Elements that stand side by side in each direction."""

    count: Leaf
    apart: Leaf
    """Rows between the inputs of one and the next."""
    is_outputs: Leaf
    """Whether they differ by outputs, else by filter taps (or channels, or images)."""


def _along(parts: Leaf, pick: np.ndarray) -> Leaf:
    """Parts in each direction, from those of the dimensions that `pick` takes."""
    return product(jnp.where(pick > 0.0, parts[..., None], 1.0), -2)


def _neighbors(loops: Loops, operators: Operators, places: range) -> list[_Row]:
    """Elements unrolled in each tier, inner ones first.

    In one tier those come first that are closer, be it by filter taps or by outputs.
    """
    steps = loops.below * _steps(operators)[..., None, :]
    taps, outputs = (
        (1.0 + (loops.spatial - 1.0) @ pick, steps @ pick) for pick in (_TAPS, _OUTPUTS)
    )
    is_first = taps[1] <= outputs[1]
    inner = [jnp.where(is_first, a, b) for a, b in zip(taps, outputs, strict=True)]
    outer = [jnp.where(is_first, b, a) for a, b in zip(taps, outputs, strict=True)]
    return [
        _Row(count[..., tier, :], apart[..., tier, :], is_outputs[..., tier, :])
        for tier in reversed(places)
        for (count, apart), is_outputs in ((inner, ~is_first), (outer, is_first))
    ]


def _shared(neighbors: list[_Row], num_parts: Leaf, filled: Leaf, heights: Leaf) -> Leaf:
    """Rows and columns that neighbors take at the same time, counted for all but one of them.

    Of n neighbors of height h that are d apart, all but one have h - d in common with the one
    before, if that is above zero; they then stand for one of height n h - (n - 1)(h - d). A group
    at a ragged edge is as large as there are elements left.
    """
    slots = [_along(num_parts, pick) for pick in (_TAPS, _OUTPUTS)]
    groups = [_along(filled, pick) for pick in (_TAPS, _OUTPUTS)]
    shared = jnp.zeros_like(heights * groups[0])
    for row in neighbors:
        before = groups[0] * groups[1]
        for kind, is_kind in enumerate((~row.is_outputs, row.is_outputs)):
            slots[kind] = jnp.where(is_kind, slots[kind] / row.count, slots[kind])
            groups[kind] = jnp.minimum(groups[kind], slots[kind])
        overlap = jnp.maximum(heights - row.apart, 0.0)
        shared = shared + (before - groups[0] * groups[1]) * overlap
        heights = row.count * heights - (row.count - 1.0) * overlap
    return shared


def sliding(
    loops: Loops, operators: Operators, child: int, num_loads: Leaf, halo: str, fractional: bool
) -> Slide | None:
    r"""How often, and how far, the tiles of tier `child` slide; None where that saves nothing.

    The share is $\sum_j N_j [v_j - \sum_{i > j} r_i v_i = v_n] / N$: loop j moves a tile by $v_j$
    in one step, loops i inside it go back $r_i$ steps (`HALO_RESETS`), loop n is the innermost;
    $N_j$ of all N loads (`num_loads`, by dimension) come when j is the outermost loop to go on.
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
    goes_back = jnp.where(is_loop, resets(bounds), 0.0)[..., None] * moves
    is_inside = (key[..., None, :] > key[..., :, None]).astype(moves.dtype)
    last = jnp.max(jnp.where(is_loop, key, -1.0), axis=-1, keepdims=True)
    move = jnp.sum(jnp.where((key == last)[..., None], moves, 0.0), axis=-2)
    difference = jnp.abs(moves - is_inside @ goes_back - move[..., None, :])
    scale = jnp.maximum(steps, jnp.max(move, axis=-1, keepdims=True))
    goes_on = is_loop & jnp.all(difference <= SAME_MOVE * scale[..., None], axis=-1)
    goes_on = goes_on & (key <= innermost(loops, "inputs", child)[..., None])
    loads = jnp.sum(jnp.where(goes_on, loads_in_steps(loops, key, fractional), 0.0), axis=-1)
    return Slide(share=loads / product(num_loads, -1), move=move)
