"""Waits of a mapping for memory ports: optional terms on top of the roofline of its levels."""

import jax.numpy as jnp

from hwdse.core.ports.port_streams import (
    LOADED,
    End,
    Links,
    OperandPath,
    PortUse,
    bytes_per_cycle,
    links_of,
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
"""Cycles that cannot run behind the array's work, by operand, upper level and level of the port."""


def port_waits(
    nest: LoopNest,
    traffic: NestTraffic,
    accelerator: Accelerator,
    accounting: Accounting,
    relaxation: Relaxation = EXACT,
    *,
    packs_results: bool = False,
) -> PortStalls:
    """Stalls by level, load of the first tiles and unload of the last ones, of a loop nest.

    `traffic` must be that of `nest` under `accounting`; `packs_results` as in `port_uses`.
    Assumes that ports of different levels wait at the same time. Law and source:
    `models.stalls`.
    """
    links = links_of(nest, accelerator)
    uses = port_uses(
        links, nest, traffic, accelerator, accounting, relaxation, packs_results=packs_results
    )
    cycles = jnp.asarray(traffic.compute_cycles)
    level_stall: list[Leaf] = [0.0 * cycles for _ in accelerator.levels]
    longest = 0.0 * cycles
    for use in uses:
        waiting = port_stalls.port_stall_cycles(use.streams, cycles)
        level_stall[use.level] = maximum(level_stall[use.level], waiting, relaxation)
        longest = maximum(longest, waiting, relaxation)
    used = used_part(nest, accelerator)
    exposed: Exposed = {}
    for use in uses:
        exposed |= _exposed_at(use, links, traffic, used, cycles + longest, relaxation)
    clock = accelerator.clock_hz
    return PortStalls(
        level_stall_s=tuple(waiting / clock for waiting in level_stall),
        stall_s=longest / clock,
        load_s=_load_cycles(links, exposed) / clock,
        unload_s=sum((_link_cycles(x, exposed) for x in links["outputs"][:-1]), 0.0) / clock,
    )


def latency_s(
    costs: MappingCosts,
    waits: PortStalls,
    relaxation: Relaxation = EXACT,
    *,
    with_stalls: bool = True,
    with_loading: bool = True,
) -> Leaf:
    r"""Time of an operator with the waits asked for, never below the roofline.

    $\max(t_{roofline}, t_{array} + t_{stall} + t_{load} + t_{unload})$. The roofline counts the
    first and last tiles as traffic of its ports, so they do not come on top of it.
    """
    time_s = costs.compute_s
    if with_stalls:
        time_s = time_s + waits.stall_s
    if with_loading:
        time_s = time_s + waits.load_s + waits.unload_s
    return maximum(costs.time_s, time_s, relaxation)


def _exposed_at(
    use: PortUse,
    links: Links,
    traffic: NestTraffic,
    used: Accelerator,
    run_cycles: Leaf,
    relaxation: Relaxation,
) -> Exposed:
    """First and last bursts at a port, less what can run behind the array's work."""
    waiting = [
        (end, stream)
        for end, stream in zip(use.ends, use.streams, strict=True)
        if end.link.lower is not None and not end.is_refill
    ]
    exposed = port_stalls.exposed_cycles(
        [stream.burst_cycles for _, stream in waiting],
        [_urgent_cycles(end, links, traffic, used, relaxation) for end, _ in waiting],
        [stream.num_bursts < 1.5 for _, stream in waiting],
        port_stalls.idle_cycles(use.streams, run_cycles),
    )
    keys = [(end.link.operand, end.link.upper, end.level) for end, _ in waiting]
    return dict(zip(keys, exposed, strict=True))


def _urgent_cycles(
    end: End, links: Links, traffic: NestTraffic, used: Accelerator, relaxation: Relaxation
) -> Leaf:
    """Cycles of a burst that must run before the array starts, or after it has stopped.

    To start, the tile of the innermost memory must be there. When the array stops, the last of
    the ports of the innermost memory still has its outputs to give.
    """
    operand = end.link.operand
    inner = links[operand][-1].upper
    num_bytes = getattr(traffic.levels[inner].used, operand)
    if operand not in LOADED:
        stored = used.levels[inner].word_bytes.outputs
        wanted = used.levels[end.link.upper].word_bytes.outputs
        num_bytes = num_bytes / stored * jnp.minimum(stored, wanted)
        num_bytes = num_bytes / num_instances(used.levels[inner].ports, used)
    width = bytes_per_cycle(end, used)
    return port_stalls.burst_cycles(num_bytes, 1.0, width, relaxation)


def _link_cycles(link: OperandPath, exposed: Exposed) -> Leaf:
    """The slower end of a link sets its pace."""
    ends = [exposed[link.operand, link.upper, level] for level in (link.upper, link.lower)]
    return jnp.maximum(*ends)


def _load_cycles(links: Links, exposed: Exposed) -> Leaf:
    """First tiles of weights and inputs: in turn where they come from one level, else at once."""
    shared, own = [], []
    for operand, other in (LOADED, reversed(LOADED)):
        sources = {link.upper for link in links[other][:-1]}
        cycles = [(link, _link_cycles(link, exposed)) for link in links[operand][:-1]]
        shared.append(sum((time for link, time in cycles if link.upper in sources), start=0.0))
        own.append(sum((time for link, time in cycles if link.upper not in sources), start=0.0))
    return port_stalls.load_cycles(shared, own)
