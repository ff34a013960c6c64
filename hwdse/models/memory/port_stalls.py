r"""Waits for memory ports: conflicts while the array runs, and the first and last tiles.

A port serves one access a cycle, however narrow. Data moves in bursts, one for each tile, and a
burst may run unseen only while its tile's place in the memory below is free: all the time where
there is room for a second tile, else from the last time on that the old tile is gone through.
What does not fit makes the array wait. These terms come on top of a roofline, which assumes that
ports never idle while bytes wait.

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
"""A bound up to here is no loop: bounds may be quotients of floats."""


def holders(nest: LoopNest, operand: str) -> tuple[int, ...]:
    """Places among the nest's tiers that keep an operand, outermost first."""
    return tuple(place for place, tier in enumerate(nest.tiers) if operand in tier.keeps)


def loop_order(nest: LoopNest) -> LoopOrder:
    """The nest's loops in time in the order in which they run, ragged bounds as whole ones."""
    # A ragged last tile is a tile like the others.
    whole = _rounded_up(jnp.asarray(nest.temporal, float))
    place = jnp.broadcast_to(jnp.asarray(nest.position, float), whole.shape)
    dims = jnp.argsort(place, axis=-1, stable=True)
    bounds = jnp.take_along_axis(whole, dims, axis=-1)
    flat = (*whole.shape[:-2], whole.shape[-2] * whole.shape[-1])
    return LoopOrder(bounds.reshape(flat), dims.reshape(flat), whole.shape[-2])


def turns(
    loops: LoopOrder, operand: str, place: int, next_place: int | None = None
) -> TileReplacements:
    """How the tile that tier `place` keeps of an operand changes.

    A tile changes with each step of the innermost loop outside that indexes the operand, and of
    those around it; loops inside that one reuse the tile. `next_place` is the tier of the
    operand's next smaller tile: what it does not index is used up when that tile is loaded. With
    `place` the number of tiers, the tile is what the array itself takes.
    """
    number = np.arange(loops.num_tiers * len(DIMS))
    is_index = jnp.array([letter in RELEVANT[operand] for letter in DIMS])[loops.dims]
    is_loop = loops.bounds > NO_LOOP

    def changes_tile(tier: int) -> Leaf:
        outside = is_loop & is_index & (number < tier * len(DIMS))
        return number <= jnp.max(jnp.where(outside, number, -1), axis=-1, keepdims=True)

    def leading(within: Leaf, stops: Leaf) -> Leaf:
        """Product of bounds of loops within, as far as the first one that stops."""
        first = jnp.min(jnp.where(stops, number, number.size), axis=-1, keepdims=True)
        return _product(loops.bounds, within & (number < first))

    changes = changes_tile(place)
    within, end = ~changes, number.size
    if next_place is not None:
        within, end = within & changes_tile(next_place), next_place * len(DIMS)
    reuses = within & is_loop & ~is_index
    indexes = within & is_loop & is_index & (number < end)
    return TileReplacements(
        num=_product(loops.bounds, changes),
        sweeps=leading(reuses, indexes),
        slices=leading(indexes, reuses),
    )


def _rounded_up(x: Leaf) -> Leaf:
    """Smallest whole number not below `x`, but for rounding errors; the gradient is one."""
    return jnp.asarray(-floor_ste(-x * (1.0 - 4.0 * jnp.finfo(jnp.result_type(x)).eps)))


def _product(bounds: Leaf, flags: Leaf) -> Leaf:
    return jnp.prod(jnp.where(flags, bounds, 1.0), axis=-1)


def burst_cycles(
    total_bytes: Leaf, num_bursts: Leaf, bytes_per_cycle: Leaf, relaxation: Relaxation = EXACT
) -> Leaf:
    r"""Cycles of a port for one burst, $\lceil (D / Z) / \beta \rceil$; zero without data.

    $D$ bytes over the whole operator in $Z$ bursts; $\beta$ is the width of all ports that take
    part. A burst narrower than the port takes a whole cycle. The gradient is that of the quotient,
    and zero for such a burst.
    """
    moves = total_bytes > 0.0
    passes = jnp.where(moves, total_bytes, 1.0) / num_bursts / bytes_per_cycle
    whole = jnp.where(passes > 1.0, _rounded_up(passes), 1.0)
    if not relaxation.is_exact:
        whole = whole + relaxation.temperature * (jnp.maximum(passes, 1.0) - whole)
    return jnp.where(moves, whole, 0.0)


def spare_room(
    tiles: Sequence[Leaf], capacity_bytes: Leaf, relaxation: Relaxation = EXACT
) -> tuple[Leaf, ...]:
    """For each tile in a memory, one where the memory has room for the next tile beside it.

    `tiles` are the bytes that must stay: a whole tile, or one of its slices. Room is given in the
    order of `tiles`. The exact value is zero or one; its gradient, and the smooth reading, are
    those of the part of the next tile that there is room for.
    """
    free = capacity_bytes - sum(tiles, start=0.0)
    shares = []
    for tile in tiles:
        part = jnp.clip(free / jnp.where(tile > 0.0, tile, 1.0), 0.0, 1.0)
        whole = floor_ste(part * (1.0 + 4.0 * jnp.finfo(jnp.result_type(part)).eps))
        share = whole if relaxation.is_exact else whole + relaxation.temperature * (part - whole)
        free = free - share * tile
        shares.append(share)
    return tuple(shares)


def window_cycles(period_cycles: Leaf, sweeps: Leaf, share: Leaf) -> Leaf:
    r"""Part of a period in which a tile may be replaced: all of it with room for a second tile.

    Without, it is the last sweep through the old tile: $P / s$. In between (smooth reading) by
    the share of the next tile that there is room for.
    """
    last_sweep = period_cycles / sweeps
    return last_sweep + share * (period_cycles - last_sweep)


def port_stall_cycles(streams: Sequence[Stream], compute_cycles: Leaf) -> Leaf:
    r"""Cycles that the array waits for one port, beyond its `compute_cycles` $T$.

    Of streams with bursts of $X$ cycles in windows of $A$ out of periods of $P$, $Z$ times,
    $$\sum_i (X_i - A_i)^+ (Z_i - 1) + (\sum_i \min(X_i, A_i) (Z_i - 1) - U)^+,$$
    what its own window cannot take, and what all windows together cannot take:
    $U = T (1 - \prod_i (1 - A_i / P_i))$ is the time covered by some window. One burst of each
    stream stands outside the run (`load_cycles`, `unload_cycles`).

    Assumes that windows of different streams overlap as if they were independent, which is exact
    where a window is a whole number of the periods of the faster stream.
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
    r"""Cycles of the run, stalls included, that repeated bursts leave a port idle.

    The share left at the pace of the array, $t (1 - \sum_i X_i / P_i)^+$: cautious where another
    port slows the array down, and none where this one does.
    """
    share = 1.0
    for stream in streams:
        busy = stream.burst_cycles / stream.period_cycles
        share = share - jnp.where(stream.num_bursts > 1.0, busy, 0.0)
    return run_cycles * positive_part(share)


def exposed_cycles(
    bursts: Sequence[Leaf], urgent: Sequence[Leaf], is_only: Sequence[Leaf], idle: Leaf
) -> tuple[Leaf, ...]:
    """Cycles of first or last bursts at a port that cannot run behind the array's work.

    Where a burst is the only one of its stream, its tile lasts for the whole run and all but its
    `urgent` cycles may use the cycles in which the port is `idle`, the longest burst first.
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
    r"""Time to load the first tiles of operands that share a port and then go separate ways.

    A flow shop of two stages: each operand takes the `shared` port for a time, one after the
    other, then its `own` links while the next one is loaded. The best of both orders of two,
    $\min(s_1 + \max(s_2 + o_2, o_1), s_2 + \max(s_1 + o_1, o_2))$.
    """
    if len(shared) == 1:
        return shared[0] + own[0]
    (first, second), (after_first, after_second) = shared, own
    return jnp.minimum(
        first + jnp.maximum(second + after_second, after_first),
        second + jnp.maximum(first + after_first, after_second),
    )
