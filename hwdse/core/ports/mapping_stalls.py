"""Port stalls of a mapping: optional terms on top of the roofline of its levels."""

import jax.numpy as jnp

from hwdse.core.ports.port_streams import (
    LOADED,
    OperandPath,
    OperandPaths,
    PathEnd,
    PortUse,
    bytes_per_cycle,
    operand_paths,
    port_uses,
    used_part,
)
from hwdse.models.memory import port_stalls
from hwdse.numerics.array_types import Leaf
from hwdse.numerics.relaxation import EXACT, Relaxation, maximum
from hwdse.specs.hardware.accelerator import Accelerator, num_instances
from hwdse.specs.mappings.loop_nest import Accounting, LoopNest, MappingCosts, NestTraffic
from hwdse.specs.mappings.port_traffic import PortStalls

Exposed = dict[tuple[str, int, int | None], Leaf]
"""Cycles not overlapped with the array, by operand, upper level and level of the port."""


def port_waits(
    nest: LoopNest,
    traffic: NestTraffic,
    accelerator: Accelerator,
    accounting: Accounting,
    relaxation: Relaxation = EXACT,
    *,
    packs_results: bool = False,
) -> PortStalls:
    """Stalls by level, load time of the first tiles and unload time of the last tiles of a nest.

    `traffic` must be that of `nest` under `accounting`; `packs_results` as in `port_uses`. Assumes
    that stalls of different levels overlap. Equations and source: `models/memory/port_stalls`.
    """
    paths = operand_paths(nest, accelerator)
    uses = port_uses(
        paths, nest, traffic, accelerator, accounting, relaxation, packs_results=packs_results
    )
    cycles = jnp.asarray(traffic.compute_cycles)
    level_stall: list[Leaf] = [0.0 * cycles for _ in accelerator.levels]
    longest = 0.0 * cycles
    for use in uses:
        stall = port_stalls.port_stall_cycles(use.streams, cycles)
        level_stall[use.level] = maximum(level_stall[use.level], stall, relaxation)
        longest = maximum(longest, stall, relaxation)
    used = used_part(nest, accelerator)
    exposed: Exposed = {}
    for use in uses:
        exposed |= _exposed_at(use, paths, traffic, used, cycles + longest, relaxation)
    clock = accelerator.clock_hz
    return PortStalls(
        level_stall_s=tuple(stall / clock for stall in level_stall),
        stall_s=longest / clock,
        load_s=_load_cycles(paths, exposed) / clock,
        unload_s=sum((_path_cycles(x, exposed) for x in paths["outputs"][:-1]), 0.0) / clock,
    )


def latency_s(
    costs: MappingCosts,
    waits: PortStalls,
    relaxation: Relaxation = EXACT,
    *,
    with_stalls: bool = True,
    with_loading: bool = True,
) -> Leaf:
    r"""Time of an operator with the selected stalls, at least the roofline.

    $\max(t_{roofline}, t_{array} + t_{stall} + t_{load} + t_{unload})$. The roofline includes the
    first and last tiles as traffic of its ports, so they do not add to it.
    """
    time_s = costs.compute_s
    if with_stalls:
        time_s = time_s + waits.stall_s
    if with_loading:
        time_s = time_s + waits.load_s + waits.unload_s
    return maximum(costs.time_s, time_s, relaxation)


def _exposed_at(
    use: PortUse,
    paths: OperandPaths,
    traffic: NestTraffic,
    used: Accelerator,
    run_cycles: Leaf,
    relaxation: Relaxation,
) -> Exposed:
    """Cycles of the first and last bursts at a port that do not overlap with the array."""
    waiting = [
        (end, stream)
        for end, stream in zip(use.ends, use.streams, strict=True)
        if end.path.lower is not None and not end.is_refill
    ]
    exposed = port_stalls.exposed_cycles(
        [stream.burst_cycles for _, stream in waiting],
        [_urgent_cycles(end, paths, traffic, used, relaxation) for end, _ in waiting],
        [stream.num_bursts < 1.5 for _, stream in waiting],
        port_stalls.idle_cycles(use.streams, run_cycles),
    )
    keys = [(end.path.operand, end.path.upper, end.level) for end, _ in waiting]
    return dict(zip(keys, exposed, strict=True))


def _urgent_cycles(
    end: PathEnd,
    paths: OperandPaths,
    traffic: NestTraffic,
    used: Accelerator,
    relaxation: Relaxation,
) -> Leaf:
    """Cycles of a burst that must precede the start of the array, or follow its end.

    The array starts when the tile of the innermost memory is complete. After its end, the last port
    of the innermost memory still transfers its outputs.
    """
    operand = end.path.operand
    inner = paths[operand][-1].upper
    num_bytes = getattr(traffic.levels[inner].used, operand)
    if operand not in LOADED:
        stored = used.levels[inner].word_bytes.outputs
        next_width = used.levels[end.path.upper].word_bytes.outputs
        num_bytes = num_bytes / stored * jnp.minimum(stored, next_width)
        num_bytes = num_bytes / num_instances(used.levels[inner].ports, used)
    width = bytes_per_cycle(end, used)
    return port_stalls.burst_cycles(num_bytes, 1.0, width, relaxation)


def _path_cycles(path: OperandPath, exposed: Exposed) -> Leaf:
    """Cycles of an operand path: those of its slower end."""
    ends = [exposed[path.operand, path.upper, level] for level in (path.upper, path.lower)]
    return jnp.maximum(*ends)


def _load_cycles(paths: OperandPaths, exposed: Exposed) -> Leaf:
    """Cycles to load first tiles of weights and inputs: serialized from a common level, else
    concurrent."""
    shared, own = [], []
    for operand, other in (LOADED, reversed(LOADED)):
        sources = {path.upper for path in paths[other][:-1]}
        cycles = [(path, _path_cycles(path, exposed)) for path in paths[operand][:-1]]
        shared.append(sum((time for path, time in cycles if path.upper in sources), start=0.0))
        own.append(sum((time for path, time in cycles if path.upper not in sources), start=0.0))
    return port_stalls.load_cycles(shared, own)
