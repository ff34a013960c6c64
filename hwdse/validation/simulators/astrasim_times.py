r"""Collective times in the convention of ASTRA-sim's analytical backend (`astrasim`).

Separate from the physical model, because ASTRA-sim is not physical in two points. A chip on a
switch or full mesh sends to all others at once, each at full link bandwidth. Two active chunks
do not share the fabric. Congestion-unaware backend:

- a message of x bytes over q hops takes $\lfloor q \alpha + x / \beta \rfloor$ ns; a switch has
  two hops, a ring the shorter direction, a full mesh one;
- reducing x bytes takes $3 \lfloor x / \beta_{mem} \rfloor$ ns; every step ends in a delay E;
- c chunks run in sequence along each dimension, `active` of them at once;
- over several dimensions, `hierarchical` reduce-scatters along all but the last, all-reduces
  there, and gathers back; `sequential` all-reduces along each with the full message.

`message_bytes` is the input of each chip, also of an all-gather. Source: astra-sim/astra-sim
518bd51, system/astraccl/native_collectives, and astra-network-analytical 599a047,
congestion_unaware/basic-topology.
"""

import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

NS = 1e-9


@dataclass(frozen=True)
class AstraSimDimension:
    """One dimension of the fabric: `Ring`, `Switch` or `FullyConnected`."""

    topology: str
    size: int
    bandwidth_bytes_per_s: float
    latency_s: float
    endpoint_delay_s: float
    memory_bytes_per_s: float

    def hops(self, distance: int) -> int:
        """Hops to the chip at the given distance in rank order."""
        if self.topology == "Ring":
            return min(distance, self.size - distance)
        return 2 if self.topology == "Switch" else 1

    def send_s(self, message_bytes: float, distance: int = 1) -> float:
        """Time of one message, in whole nanoseconds."""
        hop_s = self.hops(distance) * self.latency_s
        return math.floor((hop_s + message_bytes / self.bandwidth_bytes_per_s) / NS + 1e-6) * NS

    def reduce_s(self, message_bytes: float) -> float:
        """Time of a reduction: two reads and a write of the local memory."""
        return 3 * math.floor(message_bytes / self.memory_bytes_per_s / NS + 1e-6) * NS


def _ring(kind: str, n: float, d: AstraSimDimension) -> float:
    g, delay = d.size, d.endpoint_delay_s
    share = n / g
    if kind == "all_to_all":
        steps = g * (g - 1) // 2
        return steps * d.send_s(share) + delay * (steps + 1)
    if kind == "all_gather":
        return (g - 1) * d.send_s(n) + delay * g
    scatter_s = (g - 1) * (d.send_s(share) + d.reduce_s(share))
    if kind == "reduce_scatter":
        return scatter_s + delay * g
    return scatter_s + (g - 1) * d.send_s(share) + delay * (2 * g - 1)


def _direct(kind: str, n: float, d: AstraSimDimension) -> float:
    """Time of the direct algorithm: all messages at once, the farthest arrives last."""
    share, delay, far = n / d.size, d.endpoint_delay_s, d.size // 2
    if kind == "all_gather":
        return d.send_s(n, far) + 2 * delay
    if kind == "all_to_all":
        return d.send_s(share, far) + 2 * delay
    scatter_s = d.send_s(share, far) + d.reduce_s(share)
    if kind == "reduce_scatter":
        return scatter_s + 2 * delay
    return scatter_s + d.send_s(share, far) + 3 * delay


def _halving_doubling(kind: str, n: float, d: AstraSimDimension) -> float:
    """Time with partners at distance 1, 2, 4, ..., each with half of the remaining message."""
    steps, delay = round(math.log2(d.size)), d.endpoint_delay_s
    scatter_s = gather_s = 0.0
    for step in range(steps):
        part, distance = n / 2 ** (step + 1), 2**step
        scatter_s += d.send_s(part, distance) + delay
        if step > 0:  # ASTRA-sim does not count the first reduction
            scatter_s += d.reduce_s(part)
        gather_s += d.send_s(part, distance) + delay
    if kind == "reduce_scatter":
        return scatter_s + delay
    if kind == "all_reduce":
        return scatter_s + gather_s + delay
    doubled = sum(d.send_s(n * 2**step, d.size >> (step + 1)) + delay for step in range(steps))
    return doubled + delay


ALGORITHM_TIMES: Mapping[str, Callable[[str, float, AstraSimDimension], float]] = MappingProxyType(
    {"ring": _ring, "direct": _direct, "halvingDoubling": _halving_doubling}
)
"""Time of a collective of one chunk in one dimension (s), by ASTRA-sim's algorithm name."""


Stage = tuple[int, float]
"""Index of a dimension, and the time of one chunk there (s)."""


def _stages(
    kind: str,
    n: float,
    dimensions: list[AstraSimDimension],
    algorithms: list[str],
    is_hierarchical: bool,
) -> list[Stage]:
    """Stages of one chunk in execution order. An all-gather starts in the outermost dimension."""

    def stage(stage_kind: str, size: float, dim: int) -> Stage:
        return dim, ALGORITHM_TIMES[algorithms[dim]](stage_kind, size, dimensions[dim])

    dims = range(len(dimensions))
    last = dims[-1]
    if kind == "all_to_all" or (kind == "all_reduce" and not is_hierarchical):
        return [stage(kind, n, dim) for dim in dims]
    if kind == "all_gather":
        outside = [math.prod(d.size for d in dimensions[dim + 1 :]) for dim in dims]
        return [stage(kind, n * outside[dim], dim) for dim in reversed(dims)]
    inside = [math.prod(d.size for d in dimensions[:dim]) for dim in dims]
    if kind == "reduce_scatter":
        return [stage(kind, n / inside[dim], dim) for dim in dims]
    return [
        *(stage("reduce_scatter", n / inside[dim], dim) for dim in dims[:-1]),
        stage("all_reduce", n / inside[last], last),
        *(stage("all_gather", n / inside[dim + 1], dim) for dim in reversed(dims[:-1])),
    ]


def _finish_s(stages: list[Stage], num_chunks: int, num_active: int) -> float:
    """Finish time of the last chunk.

    Each dimension processes `num_active` chunks at once, first come, first served.
    """
    free = {dim: [0.0] * num_active for dim, _ in stages}
    arrivals = [(0.0, chunk, 0) for chunk in range(num_chunks)]
    finish = 0.0
    while arrivals:
        time, chunk, step = heapq.heappop(arrivals)
        if step == len(stages):
            finish = max(finish, time)
            continue
        dim, seconds = stages[step]
        done = max(time, heapq.heappop(free[dim])) + seconds
        heapq.heappush(free[dim], done)
        heapq.heappush(arrivals, (done, chunk, step + 1))
    return finish


def collective_time_s(
    kind: str,
    message_bytes: float,
    dimensions: list[AstraSimDimension],
    algorithms: list[str],
    *,
    num_chunks: int,
    num_active: int,
    is_hierarchical: bool,
) -> float:
    """Time until the last chip finishes (s)."""
    stages = _stages(kind, message_bytes / num_chunks, dimensions, algorithms, is_hierarchical)
    return _finish_s(stages, num_chunks, num_active)
