r"""Inputs of a tile: the rows and columns that its filter covers, and those the last tile had too.

Output row p and filter row r meet input row $p s + r \delta$ (stride s, dilation $\delta$), so a
tile of P by R takes $(P - 1) s + (R - 1) \delta + 1$ rows from the first to the last; columns Q
and S alike. What lies between counts as taken. Channels C and images N are counted the same way,
one step for each. Source: Parashar et al., Timeloop, ISPASS 2019, and its code, github.com/NVlabs/
timeloop, src/loop-analysis/nest-analysis.cpp (BSD-3-Clause).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from hwdse.shapes import Leaf
from hwdse.workload.nest_loops import Loops, innermost, loads_in_steps, product
from hwdse.workload.operators import DIMS, Operators

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
_ALONG = np.array([[letter in pair for pair in DIRECTIONS] for letter in DIMS], float)


class Slide(NamedTuple):
    """How the tiles of a tier follow one another."""

    share: Leaf
    """Loads that find the tile one move further, of all loads."""
    move: Leaf
    """Rows, columns, channels and images of such a move, on the last axis."""
    heights: Leaf
    """Rows, columns, channels and images of a tile."""


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
    sizes: Leaf, operators: Operators, num_parts: Sequence[Leaf], slide: Slide | None
) -> Leaf:
    r"""Inputs of all the tiles that sizes are cut into, less what a tile before left there.

    In each direction $n \bar h$, with n parts of the mean height $\bar h$, ragged or not; for a
    load that slides $n (\bar h - (h - v)^+)$ along the move v, with the height h of a tile.
    Tiles that are loaded at the same time make one of the first `num_parts` and read what they
    share once, unless there are gaps between them; each is one of the last.
    """
    whole, strips = [], []
    for parts in num_parts:
        means = _heights(sizes / parts, operators)
        number = product(jnp.where(_ALONG > 0.0, parts[..., None], 1.0), -2)
        whole.append(number * means)
        if slide is not None:
            left = jnp.clip(slide.heights - slide.move, 0.0, means)
            strips.append(number * (means - jnp.where(slide.move > 0.0, left, 0.0)))
    words = product(functools.reduce(jnp.minimum, whole), -1)
    if slide is None:
        return words
    new = product(functools.reduce(jnp.minimum, strips), -1)
    moves = jnp.any(slide.move > 0.0, axis=-1)
    return words - slide.share * (words - jnp.where(moves, new, 0.0))


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
    return Slide(
        share=loads / product(num_loads, -1),
        move=move,
        heights=_heights(loops.tile[..., child, :], operators),
    )
