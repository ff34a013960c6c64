"""Which streams of a mapping meet at which memory port, from its loop nest and its traffic."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax.numpy as jnp

from hwdse.models.memory import port_stalls
from hwdse.numerics.array_types import Leaf
from hwdse.numerics.relaxation import EXACT, Relaxation, positive_part
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator, Level, num_instances
from hwdse.specs.mappings.loop_nest import Accounting, LoopNest, NestTraffic
from hwdse.specs.mappings.port_traffic import Stream, TileReplacements
from hwdse.workload.loops.operators import DIMS

LOADED = ("weights", "inputs")
"""Operands that come in before the array starts; outputs go when it has stopped."""


@dataclass(frozen=True)
class OperandPath:
    """Way of an operand's tiles between two levels, or between one and the array (`lower` None)."""

    operand: str
    upper: int
    lower: int | None
    turns: TileReplacements


Links = Mapping[str, tuple[OperandPath, ...]]


@dataclass(frozen=True)
class End:
    """One end of a link: what passes through the port of one level over the whole operator."""

    link: OperandPath
    level: int
    is_read: bool
    total_bytes: Leaf
    is_refill: bool = False
    """Partial sums on their way back: neither the first tile nor the last one waits for them."""


@dataclass(frozen=True)
class PortUse:
    """Streams that meet at one port of a level, and the ends that they belong to."""

    level: int
    ends: tuple[End, ...]
    streams: tuple[Stream, ...]


def links_of(nest: LoopNest, accelerator: Accelerator) -> Links:
    """Links of each operand, from the outermost level that keeps it to the array."""
    names = [level.name for level in accelerator.levels]
    loops = port_stalls.loop_order(nest)
    links = {}
    for operand in OPERANDS:
        places = port_stalls.holders(nest, operand)
        levels = [names.index(nest.tiers[place].memory) for place in places]
        chain = []
        for step, upper in enumerate(levels[:-1]):
            after = places[step + 2] if step + 2 < len(places) else None
            changes = port_stalls.tile_replacements(loops, operand, places[step + 1], after)
            chain.append(OperandPath(operand, upper, levels[step + 1], changes))
        to_array = port_stalls.tile_replacements(loops, operand, loops.num_tiers)
        links[operand] = (*chain, OperandPath(operand, levels[-1], None, to_array))
    return links


def used_part(nest: LoopNest, accelerator: Accelerator) -> Accelerator:
    """The rows and columns that the unrolled loops use, for `num_instances` their ports and banks."""
    spatial = jnp.asarray(nest.spatial, float)

    def unrolled(dims: str, count: Leaf) -> Leaf:
        letters = jnp.array([letter in dims for letter in DIMS])
        return jnp.minimum(jnp.prod(jnp.where(letters, spatial, 1.0), axis=(-2, -1)), count)

    return replace(
        accelerator,
        rows=unrolled(accelerator.rows_dims, accelerator.rows),
        cols=unrolled(accelerator.cols_dims, accelerator.cols),
    )


def bytes_per_cycle(end: End, used: Accelerator) -> Leaf:
    """Bytes that all ports taking part at the end of a link move in a cycle of the array."""
    level = used.levels[end.level]
    is_read = end.is_read or level.shares_port
    bandwidth = level.read_bandwidth_bytes_per_s if is_read else level.write_bandwidth_bytes_per_s
    clock = used.nominal_clock_hz if level.follows_clock else used.clock_hz
    return bandwidth / clock * num_instances(level.ports, used)


def port_uses(
    links: Links,
    nest: LoopNest,
    traffic: NestTraffic,
    accelerator: Accelerator,
    accounting: Accounting,
    relaxation: Relaxation = EXACT,
    *,
    packs_results: bool = False,
) -> tuple[PortUse, ...]:
    """Streams of a mapping by port: one port of a level, or one for reads and one for writes.

    `links` are those of `nest` (`links_of`), `traffic` is that of `nest` under `accounting`. With
    `packs_results`, a memory keeps and gives finished sums in the width in which the next one
    stores them, several in an access (ZigZag), and `traffic` counts them so; without, in the width
    of partial sums. All ports of a level that take part have equal shares of a burst.
    """
    ends = [end for operand in LOADED for end in _loading_ends(links[operand], traffic)]
    ends += _output_ends(links["outputs"], traffic, accelerator, accounting, packs_results)
    used = used_part(nest, accelerator)
    room = _room(used, links, traffic, accelerator, packs_results, relaxation)
    uses = []
    for number, level in enumerate(accelerator.levels):
        here = [end for end in ends if end.level == number]
        split = [[end for end in here if end.is_read], [end for end in here if not end.is_read]]
        for meeting in [here] if level.shares_port else split:
            streams = []
            for end in meeting:
                width = bytes_per_cycle(end, used)
                fits = room.get((end.link.lower, end.link.operand), 1.0)
                streams.append(_stream(end, traffic.compute_cycles, width, fits, relaxation))
            uses.append(PortUse(number, tuple(meeting), tuple(streams)))
    return tuple(uses)


def _stream(end: End, cycles: Leaf, width: Leaf, fits: Leaf, relaxation: Relaxation) -> Stream:
    """The bursts of an end of a link; what the array itself takes may come all the time."""
    changes = end.link.turns
    period = cycles / changes.num
    window = period
    if end.link.lower is not None:
        window = port_stalls.window_cycles(period, changes.sweeps, fits)
    burst = port_stalls.burst_cycles(end.total_bytes, changes.num, width, relaxation)
    return Stream(changes.num, period, window, burst)


def _room(
    used_array: Accelerator,
    links: Links,
    traffic: NestTraffic,
    accelerator: Accelerator,
    packs_results: bool,
    relaxation: Relaxation,
) -> dict[tuple[int | None, str], Leaf]:
    """By level and operand, whether the next tile fits beside what must stay."""
    room: dict[tuple[int | None, str], Leaf] = {}
    for number, level in enumerate(accelerator.levels):
        into = [link for o in OPERANDS for link in links[o] if link.lower == number]
        used = traffic.levels[number].used
        packing = [_packing(link, accelerator, packs_results) for link in into]
        tiles = [
            getattr(used, link.operand) / link.turns.slices * ratio
            for link, ratio in zip(into, packing, strict=True)
        ]
        share = num_instances(level.banks, used_array) / num_instances(level.banks, accelerator)
        fits = port_stalls.spare_capacity_fractions(tiles, level.capacity_bytes * share, relaxation)
        room |= {(number, link.operand): fit for link, fit in zip(into, fits, strict=True)}
    return room


def _loading_ends(links: tuple[OperandPath, ...], traffic: NestTraffic) -> list[End]:
    """Ends of the links of weights or inputs: read above, written below."""
    ends = []
    for link in links:
        read = getattr(traffic.levels[link.upper].reads, link.operand)
        ends.append(End(link, link.upper, True, read))
        if link.lower is not None:
            written = getattr(traffic.levels[link.lower].writes, link.operand)
            ends.append(End(link, link.lower, False, written))
    return ends


def _output_ends(
    links: tuple[OperandPath, ...],
    traffic: NestTraffic,
    accelerator: Accelerator,
    accounting: Accounting,
    packs_results: bool,
) -> list[End]:
    """Ends of the links of outputs: sums go up, partial sums may come back down.

    A level's reads are sums on their way up and partial sums on their way down, its writes sums
    from below and partial sums from above; going inwards level by level tells them apart.
    """
    ends = []
    drained, num_down = 0.0, 0.0
    for link in links:
        word = _sum_bytes(accelerator.levels[link.upper])
        moved = traffic.levels[link.upper]
        from_above = num_down * word
        num_down = positive_part(moved.reads.outputs - drained) / word
        num_up = positive_part(moved.writes.outputs - from_above) / word
        ends.append(End(link, link.upper, False, num_up * word))
        ends.append(End(link, link.upper, True, num_down * word, is_refill=True))
        if link.lower is not None:
            below = _sum_bytes(accelerator.levels[link.lower])
            leaving = num_up * below * _packing(link, accelerator, packs_results)
            ends.append(End(link, link.lower, True, leaving))
            ends.append(End(link, link.lower, False, num_down * below, is_refill=True))
            drained = leaving if accounting.drains_outputs else 0.0
    return ends


def _packing(link: OperandPath, accelerator: Accelerator, packs_results: bool) -> Leaf:
    """Width in which a memory keeps and gives finished sums, by that of its partial sums."""
    if link.operand != "outputs" or link.lower is None or not packs_results:
        return 1.0
    upper, lower = (_sum_bytes(accelerator.levels[x]) for x in (link.upper, link.lower))
    return jnp.minimum(upper / lower, 1.0)


def _sum_bytes(level: Level) -> Leaf:
    return level.word_bytes.outputs
