"""Stalls at memory ports: conflicts while the array runs, first loads and last stores.

A port serves one access per cycle, of any width. Data moves in one burst per tile. A burst is
hidden only while its tile's space in the lower memory is free: always if a second tile fits,
otherwise from the last sweep through the old tile. The array waits for the remainder. These cycles
add to a roofline, which assumes that ports are never idle while data is pending.

Source of the scheme: Mei, Liu, Wu, Sumbul, Verhelst and Beigne, A Uniform Latency Model for DNN
Accelerators with Diverse Architectures and Dataflows, DATE 2022 (the model of ZigZag).
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from hwdse.numerics.array_types import Leaf
from hwdse.numerics.relaxation import EXACT, Relaxation, floor_ste, positive_part
from hwdse.specs.mappings.loop_nest import LoopNest
from hwdse.specs.mappings.port_traffic import LoopOrder, Stream, TileReplacements
from hwdse.workload.loops.operators import DIMS, RELEVANT

NO_LOOP = 1.0 + 1e-6
"""Largest bound that is not a loop: bounds may be quotients of floats."""


def holders(nest: LoopNest, operand: str) -> tuple[int, ...]:
    """Indices of the nest's tiers that keep an operand, outermost first."""
    return tuple(index for index, tier in enumerate(nest.tiers) if operand in tier.keeps)


def loop_order(nest: LoopNest) -> LoopOrder:
    """Temporal loops of a nest in the order of execution, with bounds rounded up."""
    # A partial last tile counts as a full one.
    rounded = _rounded_up(jnp.asarray(nest.temporal, float))
    position = jnp.broadcast_to(jnp.asarray(nest.position, float), rounded.shape)
    dims = jnp.argsort(position, axis=-1, stable=True)
    bounds = jnp.take_along_axis(rounded, dims, axis=-1)
    flat = (*rounded.shape[:-2], rounded.shape[-2] * rounded.shape[-1])
    return LoopOrder(bounds.reshape(flat), dims.reshape(flat), rounded.shape[-2])


def tile_replacements(
    loops: LoopOrder, operand: str, tier: int, next_tier: int | None = None
) -> TileReplacements:
    """Replacements of the tile of an operand in `tier`.

    A tile changes with each step of the innermost outer loop that indexes the operand, and of the
    loops around that one; loops inside it reuse the tile. `next_tier` is the tier of the operand's
    next smaller tile. Data that the smaller tile does not index is used up when that tile is
    loaded. If `tier` is the number of tiers, the tile is the data that the array takes.
    """
    number = np.arange(loops.num_tiers * len(DIMS))
    is_index = jnp.array([letter in RELEVANT[operand] for letter in DIMS])[loops.dims]
    is_loop = loops.bounds > NO_LOOP

    def changes_tile(which: int) -> Leaf:
        outside = is_loop & is_index & (number < which * len(DIMS))
        return number <= jnp.max(jnp.where(outside, number, -1), axis=-1, keepdims=True)

    def leading(within: Leaf, stops: Leaf) -> Leaf:
        """Product of bounds of loops within, as far as the first one that stops."""
        first = jnp.min(jnp.where(stops, number, number.size), axis=-1, keepdims=True)
        return _product(loops.bounds, within & (number < first))

    changes = changes_tile(tier)
    within, end = ~changes, number.size
    if next_tier is not None:
        within, end = within & changes_tile(next_tier), next_tier * len(DIMS)
    reuses = within & is_loop & ~is_index
    indexes = within & is_loop & is_index & (number < end)
    return TileReplacements(
        num=_product(loops.bounds, changes),
        sweeps=leading(reuses, indexes),
        slices=leading(indexes, reuses),
    )


def _rounded_up(x: Leaf) -> Leaf:
    """Smallest integer at or above `x`, up to rounding errors; the gradient is 1."""
    return jnp.asarray(-floor_ste(-x * (1.0 - 4.0 * jnp.finfo(jnp.result_type(x)).eps)))


def _product(bounds: Leaf, flags: Leaf) -> Leaf:
    return jnp.prod(jnp.where(flags, bounds, 1.0), axis=-1)


def burst_cycles(
    total_bytes: Leaf, num_bursts: Leaf, bytes_per_cycle: Leaf, relaxation: Relaxation = EXACT
) -> Leaf:
    r"""Cycles of a port for one burst, $\lceil (D / Z) / \beta \rceil$; zero without data.

    $D$ bytes over the operator in $Z$ bursts; $\beta$ is the width of all ports together. A burst
    narrower than the port takes one cycle. The gradient is that of the quotient, and zero for such
    a burst.
    """
    moves = total_bytes > 0.0
    passes = jnp.where(moves, total_bytes, 1.0) / num_bursts / bytes_per_cycle
    rounded = jnp.where(passes > 1.0, _rounded_up(passes), 1.0)
    if not relaxation.is_exact:
        rounded = rounded + relaxation.temperature * (jnp.maximum(passes, 1.0) - rounded)
    return jnp.where(moves, rounded, 0.0)


def spare_capacity_fractions(
    tiles: Sequence[Leaf], capacity_bytes: Leaf, relaxation: Relaxation = EXACT
) -> tuple[Leaf, ...]:
    """Fraction of the next tile that fits beside each tile in a memory: 1 or 0 in the exact model.

    `tiles` are the bytes that must stay: a tile, or one of its slices. Space is given in the order
    of `tiles`. The gradient, and the smooth relaxation, are those of the fitting fraction.
    """
    free = capacity_bytes - sum(tiles, start=0.0)
    shares = []
    for tile in tiles:
        part = jnp.clip(free / jnp.where(tile > 0.0, tile, 1.0), 0.0, 1.0)
        rounded = floor_ste(part * (1.0 + 4.0 * jnp.finfo(jnp.result_type(part)).eps))
        share = (
            rounded if relaxation.is_exact else rounded + relaxation.temperature * (part - rounded)
        )
        free = free - share * tile
        shares.append(share)
    return tuple(shares)


def window_cycles(period_cycles: Leaf, sweeps: Leaf, share: Leaf) -> Leaf:
    """Part of a period in which a tile may be replaced.

    The full period $P$ if a second tile fits, otherwise the last sweep through the old tile,
    $P / s$. In a smooth relaxation, interpolated by the fitting fraction `share` of the next tile.
    """
    last_sweep = period_cycles / sweeps
    return last_sweep + share * (period_cycles - last_sweep)


def port_stall_cycles(streams: Sequence[Stream], compute_cycles: Leaf) -> Leaf:
    r"""Cycles that the array waits for one port, beyond its `compute_cycles` $T$.

    A stream has $Z$ bursts of $X$ cycles, each in a window of $A$ cycles per period of $P$ cycles:

        $\sum_i (X_i - A_i)^+ (Z_i - 1) + (\sum_i \min(X_i, A_i) (Z_i - 1) - U)^+$.

    The first sum is the excess over each stream's own window. The second is the excess over all
    windows together: $U = T (1 - \prod_i (1 - A_i / P_i))$ is the time covered by any window. One
    burst of each stream is outside the run (`load_cycles`).

    Assumes that windows of different streams overlap as if independent. This is exact if a window
    is an integer number of periods of the faster stream.
    """
    own, shared, uncovered = 0.0, 0.0, 1.0
    for stream in streams:
        repeats = positive_part(stream.num_bursts - 1.0)
        is_active = (repeats > 0.0) & (stream.burst_cycles > 0.0)
        own = own + repeats * positive_part(stream.burst_cycles - stream.window_cycles)
        shared = shared + repeats * jnp.minimum(stream.burst_cycles, stream.window_cycles)
        closed = 1.0 - stream.window_cycles / stream.period_cycles
        uncovered = uncovered * jnp.where(is_active, closed, 1.0)
    return own + positive_part(shared - compute_cycles * (1.0 - uncovered))


def idle_cycles(streams: Sequence[Stream], run_cycles: Leaf) -> Leaf:
    r"""Idle cycles of a port during the run, stalls included.

    The fraction left at the pace of the array, $t (1 - \sum_i X_i / P_i)^+$: a lower estimate if
    another port slows the array down, and zero if this port does.
    """
    share = 1.0
    for stream in streams:
        busy = stream.burst_cycles / stream.period_cycles
        share = share - jnp.where(stream.num_bursts > 1.0, busy, 0.0)
    return run_cycles * positive_part(share)


def exposed_cycles(
    bursts: Sequence[Leaf], urgent: Sequence[Leaf], is_only: Sequence[Leaf], idle: Leaf
) -> tuple[Leaf, ...]:
    """Exposed cycles of first or last bursts at a port.

    If a burst is the only one of its stream, its tile lasts for the full run. All but its `urgent`
    cycles may then use the `idle` cycles of the port, the longest burst first.
    """
    deferrable = [
        jnp.where(only, positive_part(burst - need), 0.0)
        for burst, need, only in zip(bursts, urgent, is_only, strict=True)
    ]
    exposed = []
    for own, burst in enumerate(bursts):
        left = idle
        for other, rival in enumerate(bursts):
            if other != own:
                goes_first = (rival >= burst) if other < own else (rival > burst)
                left = left - jnp.where(goes_first, deferrable[other], 0.0)
        exposed.append(burst - jnp.clip(left, 0.0, deferrable[own]))
    return tuple(exposed)


def load_cycles(shared: Sequence[Leaf], own: Sequence[Leaf]) -> Leaf:
    r"""Cycles to load the first tiles of operands that share a port, then use separate links.

    A flow shop of two stages: operands take the `shared` port one by one, then their `own` links
    while the next operand is loaded. The minimum over both orders of two, $\min(s_1 + \max(s_2 +
    o_2, o_1), s_2 + \max(s_1 + o_1, o_2))$.
    """
    if len(shared) == 1:
        return shared[0] + own[0]
    (first, second), (after_first, after_second) = shared, own
    return jnp.minimum(
        first + jnp.maximum(second + after_second, after_first),
        second + jnp.maximum(first + after_first, after_second),
    )
