r"""The `astrasim` convention: collective times as ASTRA-sim's analytical backend counts them.

Kept apart from the physical model, which it contradicts where ASTRA-sim is not physical: a chip
of a switch or of a full mesh sends to all others at once, each at the full bandwidth of a link,
and two active chunks run as if each had the fabric to itself. Congestion-unaware backend:

- a message of x bytes over q hops takes $\lfloor q \alpha + x / \beta \rfloor$ ns; a switch is two
  hops, a ring the shorter way, a full mesh one;
- reducing x bytes takes $3 \lfloor x / \beta_{mem} \rfloor$ ns; every step ends in a delay E;
- c chunks run one after the other along each dimension, `active` of them at once;
- over several dimensions `hierarchical` reduce-scatters along all but the last, all-reduces
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
        """Hops to the chip `distance` places on."""
        if self.topology == "Ring":
            return min(distance, self.size - distance)
        return 2 if self.topology == "Switch" else 1

    def send_s(self, message_bytes: float, distance: int = 1) -> float:
        """One message, in whole nanoseconds."""
        hop_s = self.hops(distance) * self.latency_s
        return math.floor((hop_s + message_bytes / self.bandwidth_bytes_per_s) / NS + 1e-6) * NS

    def reduce_s(self, message_bytes: float) -> float:
        """Two reads and a write of the local memory."""
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
    """All messages at once; the farthest arrives last."""
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
    """Partners at distance 1, 2, 4, ..., with halves of what is left."""
    steps, delay = round(math.log2(d.size)), d.endpoint_delay_s
    scatter_s = gather_s = 0.0
    for step in range(steps):
        part, distance = n / 2 ** (step + 1), 2**step
        scatter_s += d.send_s(part, distance) + delay
        if step > 0:  # the sum of the first step is not charged
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
"""Seconds of a collective of one chunk in one dimension, by the tool's name of the algorithm."""


Stage = tuple[int, float]
"""Place of a dimension, and the seconds that one chunk takes there."""


def _stages(
    kind: str,
    n: float,
    dimensions: list[AstraSimDimension],
    algorithms: list[str],
    is_hierarchical: bool,
) -> list[Stage]:
    """The stages of one chunk, in their order. A gather starts in the outermost dimension."""

    def stage(stage_kind: str, size: float, place: int) -> Stage:
        return place, ALGORITHM_TIMES[algorithms[place]](stage_kind, size, dimensions[place])

    places = range(len(dimensions))
    last = places[-1]
    if kind == "all_to_all" or (kind == "all_reduce" and not is_hierarchical):
        return [stage(kind, n, place) for place in places]
    if kind == "all_gather":
        outside = [math.prod(d.size for d in dimensions[place + 1 :]) for place in places]
        return [stage(kind, n * outside[place], place) for place in reversed(places)]
    inside = [math.prod(d.size for d in dimensions[:place]) for place in places]
    if kind == "reduce_scatter":
        return [stage(kind, n / inside[place], place) for place in places]
    return [
        *(stage("reduce_scatter", n / inside[place], place) for place in places[:-1]),
        stage("all_reduce", n / inside[last], last),
        *(stage("all_gather", n / inside[place + 1], place) for place in reversed(places[:-1])),
    ]


def _finish_s(stages: list[Stage], num_chunks: int, num_active: int) -> float:
    """When the last chunk leaves: each dimension works on `num_active` chunks at once, first come
    first served."""
    free = {place: [0.0] * num_active for place, _ in stages}
    arrivals = [(0.0, chunk, 0) for chunk in range(num_chunks)]
    finish = 0.0
    while arrivals:
        time, chunk, number = heapq.heappop(arrivals)
        if number == len(stages):
            finish = max(finish, time)
            continue
        place, seconds = stages[number]
        done = max(time, heapq.heappop(free[place])) + seconds
        heapq.heappush(free[place], done)
        heapq.heappush(arrivals, (done, chunk, number + 1))
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
    """Time until the last chip has finished."""
    stages = _stages(kind, message_bytes / num_chunks, dimensions, algorithms, is_hierarchical)
    return _finish_s(stages, num_chunks, num_active)
