"""Discrete-event simulator of continuous batching with chunked prefill, in plain Python.

Semantics of the scheduler of vLLM V1: a step first serves running sequences in the order of their
admission, within the token budget, then admits waiting requests first come, first served, as long
as sequences, KV pages and budget allow. Long prompts are processed in chunks. A running sequence
that finds no page preempts the last admitted one, which returns to the head of the queue and
computes its tokens again. A request that arrives at the end of a step misses the next one.
"""

import dataclasses
import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from hwdse.specs.serving.requests import StepLoad

StepTime = Callable[[StepLoad], float]


@dataclasses.dataclass(frozen=True)
class Server:
    """Limits of one replica."""

    max_sequences: int = 10**9
    kv_tokens: int = 10**12
    page_tokens: int = 16
    token_budget: int = 8192
    host_s: float = 0.0


@dataclasses.dataclass(eq=False)
class Request:
    """One request and what happened to it."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    sent_s: float = 0.0
    token_times: list[float] = dataclasses.field(default_factory=list)
    computed: int = 0
    pages: int = 0
    num_preemptions: int = 0

    @property
    def ttft_s(self) -> float:
        return self.token_times[0] - self.sent_s

    @property
    def latency_s(self) -> float:
        return self.token_times[-1] - self.sent_s

    @property
    def tpot_s(self) -> float:
        return (self.token_times[-1] - self.token_times[0]) / max(self.output_tokens - 1, 1)

    @property
    def gaps(self) -> list[float]:
        return [b - a for a, b in itertools.pairwise(self.token_times)]

    @property
    def known(self) -> int:
        """Tokens that exist: the prompt and those generated."""
        return self.input_tokens + len(self.token_times)


@dataclasses.dataclass
class Run:
    """Finished requests in the order of their end, and integrals over the run."""

    finished: list[Request]
    steps: list[tuple[float, float, StepLoad]]
    """Start, time and load of each step."""

    def settled(self, skip: float = 0.25, drop: float = 0.0) -> list[Request]:
        """Requests sent after a share `skip` of all and before the last share `drop`."""
        by_start = sorted(self.finished, key=lambda request: request.sent_s)
        return by_start[int(skip * len(by_start)) : len(by_start) - int(drop * len(by_start))]


def simulate(
    server: Server,
    step_time: StepTime,
    requests: Iterable[Request],
    concurrency: int | None = None,
) -> Run:
    """All requests served; with `concurrency`, each answer sends the next request of the list."""
    source: Iterator[Request] = iter(requests)
    tie = itertools.count()
    coming: list[tuple[float, int, Request]] = []
    for request in source if concurrency is None else itertools.islice(source, concurrency):
        heapq.heappush(coming, (request.sent_s + server.host_s, next(tie), request))
    waiting: deque[Request] = deque()
    running: list[Request] = []
    finished: list[Request] = []
    steps: list[tuple[float, float, StepLoad]] = []
    free, now = server.kv_tokens // server.page_tokens, 0.0

    def pages_for(tokens: int) -> int:
        return -(-tokens // server.page_tokens)

    while coming or waiting or running:
        if not waiting and not running:
            now = max(now, coming[0][0])
            waiting.append(heapq.heappop(coming)[2])
        while coming and coming[0][0] < now:
            waiting.append(heapq.heappop(coming)[2])
        budget, scheduled, was_preempted = server.token_budget, [], False
        place = 0
        while place < len(running) and budget > 0:
            request = running[place]
            tokens = min(request.known - request.computed, budget)
            needed = pages_for(request.computed + tokens) - request.pages
            while needed > free:
                victim = running.pop()
                free += victim.pages
                victim.pages, victim.computed = 0, 0
                victim.num_preemptions += 1
                waiting.appendleft(victim)
                was_preempted = True
                if victim is request:
                    break
            if place >= len(running):
                break
            request.pages += needed
            free -= needed
            budget -= tokens
            scheduled.append((request, tokens))
            place += 1
        while waiting and budget > 0 and not was_preempted and len(running) < server.max_sequences:
            request = waiting[0]
            hit = min(request.cached_tokens, request.known - 1)
            tokens = min(request.known - hit, budget)
            needed = pages_for(hit + tokens)
            if needed > free:
                break
            waiting.popleft()
            running.append(request)
            request.pages, request.computed = needed, hit
            free -= needed
            budget -= tokens
            scheduled.append((request, tokens))
        load = _load(scheduled)
        duration = float(step_time(load))
        steps.append((now, duration, load))
        now += duration
        for request, tokens in scheduled:
            request.computed += tokens
            if request.computed < request.known:
                continue
            request.token_times.append(now)
            if len(request.token_times) == request.output_tokens:
                running.remove(request)
                free += request.pages
                finished.append(request)
                following = next(source, None) if concurrency is not None else None
                if following is not None:
                    following.sent_s = now
                    heapq.heappush(coming, (now + server.host_s, next(tie), following))
    return Run(finished, steps)


def _load(scheduled: list[tuple[Request, int]]) -> StepLoad:
    decodes = [r for r, n in scheduled if n == 1 and r.token_times]
    prefills = [(r, n) for r, n in scheduled if not (n == 1 and r.token_times)]
    tokens = sum(n for _, n in prefills)
    context = sum(n * (r.computed + 0.5 * (n + 1)) for r, n in prefills)
    return StepLoad(
        decode_sequences=float(len(decodes)),
        decode_context=sum(r.known for r in decodes) / max(len(decodes), 1),
        prefill_tokens=float(tokens),
        prefill_context=context / max(tokens, 1),
        prefill_sequences=float(len(prefills)),
    )


def lengths(rng: random.Random, mean: float, spread: float, least: int = 1) -> int:
    """A length with this mean and relative standard deviation: uniform, or gamma for wide ones."""
    if spread == 0.0:
        return max(round(mean), least)
    if spread < 0.5:
        half = math.sqrt(3.0) * spread * mean
        return max(round(rng.uniform(mean - half, mean + half)), least)
    shape = 1.0 / spread**2
    return max(round(rng.gammavariate(shape, mean / shape)), least)


def draw_requests(
    rng: random.Random,
    number: int,
    input_tokens: float,
    output_tokens: float,
    input_spread: float = 0.0,
    output_spread: float = 0.0,
    cached_tokens: int = 0,
) -> list[Request]:
    """Requests with drawn lengths, all sent at time 0."""
    return [
        Request(
            max(lengths(rng, input_tokens, input_spread), cached_tokens + 1),
            lengths(rng, output_tokens, output_spread),
            cached_tokens,
        )
        for _ in range(number)
    ]


def with_arrivals(
    rng: random.Random, requests: list[Request], rate_per_s: float, spread: float = 1.0
) -> list[Request]:
    """The requests, sent at a mean rate: Poisson (spread 1) or evenly (0)."""
    now = 0.0
    for request in requests:
        now += rng.expovariate(rate_per_s) if spread else 1.0 / rate_per_s
        request.sent_s = now
    return requests


def with_staggered_starts(
    rng: random.Random, requests: list[Request], concurrency: int, span_s: float
) -> list[Request]:
    """The first requests of a closed loop, sent at random times of a span."""
    for request in requests[:concurrency]:
        request.sent_s = rng.uniform(0.0, span_s)
    return requests
