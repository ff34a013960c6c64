"""Transfer streams of a mapping at each memory port, from its loop nest and its traffic."""

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
"""Operands that are loaded before the array starts; outputs are unloaded after its end."""


@dataclass(frozen=True)
class OperandPath:
    """Path of operand tiles between two levels, or between a level and the array (`lower` None)."""

    operand: str
    upper: int
    lower: int | None
    turns: TileReplacements


OperandPaths = Mapping[str, tuple[OperandPath, ...]]


@dataclass(frozen=True)
class PathEnd:
    """One end of an operand path: traffic through the port of one level, over the full operator."""

    path: OperandPath
    level: int
    is_read: bool
    total_bytes: Leaf
    is_refill: bool = False
    """True for partial sums that return; they delay neither the first nor the last tile."""


@dataclass(frozen=True)
class PortUse:
    """Streams at one port of a level, and the path ends that they belong to."""

    level: int
    ends: tuple[PathEnd, ...]
    streams: tuple[Stream, ...]


def operand_paths(nest: LoopNest, accelerator: Accelerator) -> OperandPaths:
    """Paths of each operand, from the outermost level that stores it to the array."""
    names = [level.name for level in accelerator.levels]
    loops = port_stalls.loop_order(nest)
    paths = {}
    for operand in OPERANDS:
        tiers = port_stalls.holders(nest, operand)
        levels = [names.index(nest.tiers[tier].memory) for tier in tiers]
        chain = []
        for step, upper in enumerate(levels[:-1]):
            after = tiers[step + 2] if step + 2 < len(tiers) else None
            changes = port_stalls.tile_replacements(loops, operand, tiers[step + 1], after)
            chain.append(OperandPath(operand, upper, levels[step + 1], changes))
        to_array = port_stalls.tile_replacements(loops, operand, loops.num_tiers)
        paths[operand] = (*chain, OperandPath(operand, levels[-1], None, to_array))
    return paths


def used_part(nest: LoopNest, accelerator: Accelerator) -> Accelerator:
    """Core with the array rows and columns that the unrolled loops use (see `num_instances`)."""
    spatial = jnp.asarray(nest.spatial, float)

    def unrolled(dims: str, count: Leaf) -> Leaf:
        letters = jnp.array([letter in dims for letter in DIMS])
        return jnp.minimum(jnp.prod(jnp.where(letters, spatial, 1.0), axis=(-2, -1)), count)

    return replace(
        accelerator,
        rows=unrolled(accelerator.rows_dims, accelerator.rows),
        cols=unrolled(accelerator.cols_dims, accelerator.cols),
    )


def bytes_per_cycle(end: PathEnd, used: Accelerator) -> Leaf:
    """Bytes per array cycle of all ports at one path end."""
    level = used.levels[end.level]
    is_read = end.is_read or level.shares_port
    bandwidth = level.read_bandwidth_bytes_per_s if is_read else level.write_bandwidth_bytes_per_s
    clock = used.nominal_clock_hz if level.follows_clock else used.clock_hz
    return bandwidth / clock * num_instances(level.ports, used)


def port_uses(
    paths: OperandPaths,
    nest: LoopNest,
    traffic: NestTraffic,
    accelerator: Accelerator,
    accounting: Accounting,
    relaxation: Relaxation = EXACT,
    *,
    packs_results: bool = False,
) -> tuple[PortUse, ...]:
    """Streams of a mapping by port: one port per level, or one for reads and one for writes.

    `paths` are those of `nest` (`operand_paths`), `traffic` is that of `nest` under `accounting`.
    With `packs_results`, a memory stores and sends finished sums in the word width of the next
    level, several per access (ZigZag), and `traffic` must count them so. Otherwise they have the
    width of partial sums. All active ports of a level have equal shares of a burst.
    """
    ends = [end for operand in LOADED for end in _loading_ends(paths[operand], traffic)]
    ends += _output_ends(paths["outputs"], traffic, accelerator, accounting, packs_results)
    used = used_part(nest, accelerator)
    next_fits = _next_tile_fits(used, paths, traffic, accelerator, packs_results, relaxation)
    uses = []
    for index, level in enumerate(accelerator.levels):
        here = [end for end in ends if end.level == index]
        split = [[end for end in here if end.is_read], [end for end in here if not end.is_read]]
        for sharing in [here] if level.shares_port else split:
            streams = []
            for end in sharing:
                width = bytes_per_cycle(end, used)
                fits = next_fits.get((end.path.lower, end.path.operand), 1.0)
                streams.append(_stream(end, traffic.compute_cycles, width, fits, relaxation))
            uses.append(PortUse(index, tuple(sharing), tuple(streams)))
    return tuple(uses)


def _stream(end: PathEnd, cycles: Leaf, width: Leaf, fits: Leaf, relaxation: Relaxation) -> Stream:
    """Bursts at a path end; the array itself accepts data at any time."""
    changes = end.path.turns
    period = cycles / changes.num
    window = period
    if end.path.lower is not None:
        window = port_stalls.window_cycles(period, changes.sweeps, fits)
    burst = port_stalls.burst_cycles(end.total_bytes, changes.num, width, relaxation)
    return Stream(changes.num, period, window, burst)


def _next_tile_fits(
    used_array: Accelerator,
    paths: OperandPaths,
    traffic: NestTraffic,
    accelerator: Accelerator,
    packs_results: bool,
    relaxation: Relaxation,
) -> dict[tuple[int | None, str], Leaf]:
    """1 if the next tile fits beside the resident tiles, by level and operand (relaxed: 0 to 1)."""
    next_fits: dict[tuple[int | None, str], Leaf] = {}
    for number, level in enumerate(accelerator.levels):
        into = [path for o in OPERANDS for path in paths[o] if path.lower == number]
        used = traffic.levels[number].used
        packing = [_packing(path, accelerator, packs_results) for path in into]
        tiles = [
            getattr(used, path.operand) / path.turns.slices * ratio
            for path, ratio in zip(into, packing, strict=True)
        ]
        share = num_instances(level.banks, used_array) / num_instances(level.banks, accelerator)
        fits = port_stalls.spare_capacity_fractions(tiles, level.capacity_bytes * share, relaxation)
        next_fits |= {(number, path.operand): fit for path, fit in zip(into, fits, strict=True)}
    return next_fits


def _loading_ends(paths: tuple[OperandPath, ...], traffic: NestTraffic) -> list[PathEnd]:
    """Path ends of weights or inputs: reads of the upper level, writes of the lower level."""
    ends = []
    for path in paths:
        read = getattr(traffic.levels[path.upper].reads, path.operand)
        ends.append(PathEnd(path, path.upper, True, read))
        if path.lower is not None:
            written = getattr(traffic.levels[path.lower].writes, path.operand)
            ends.append(PathEnd(path, path.lower, False, written))
    return ends


def _output_ends(
    paths: tuple[OperandPath, ...],
    traffic: NestTraffic,
    accelerator: Accelerator,
    accounting: Accounting,
    packs_results: bool,
) -> list[PathEnd]:
    """Path ends of outputs: sums move up, partial sums may return.

    Reads of a level are sums that move up and partial sums that move down. Writes are sums from
    below and partial sums from above. The recursion from the outermost level inwards separates
    them.
    """
    ends = []
    drained, num_down = 0.0, 0.0
    for path in paths:
        word = _sum_bytes(accelerator.levels[path.upper])
        moved = traffic.levels[path.upper]
        from_above = num_down * word
        num_down = positive_part(moved.reads.outputs - drained) / word
        num_up = positive_part(moved.writes.outputs - from_above) / word
        ends.append(PathEnd(path, path.upper, False, num_up * word))
        ends.append(PathEnd(path, path.upper, True, num_down * word, is_refill=True))
        if path.lower is not None:
            below = _sum_bytes(accelerator.levels[path.lower])
            leaving = num_up * below * _packing(path, accelerator, packs_results)
            ends.append(PathEnd(path, path.lower, True, leaving))
            ends.append(PathEnd(path, path.lower, False, num_down * below, is_refill=True))
            drained = leaving if accounting.drains_outputs else 0.0
    return ends


def _packing(path: OperandPath, accelerator: Accelerator, packs_results: bool) -> Leaf:
    """Width of finished sums in a memory over the width of its partial sums."""
    if path.operand != "outputs" or path.lower is None or not packs_results:
        return 1.0
    upper, lower = (_sum_bytes(accelerator.levels[x]) for x in (path.upper, path.lower))
    return jnp.minimum(upper / lower, 1.0)


def _sum_bytes(level: Level) -> Leaf:
    return level.word_bytes.outputs
