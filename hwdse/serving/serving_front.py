"""Interactivity against throughput of a service over strategies, formats and concurrency."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.stacking import stacked
from hwdse.search.pareto.dominance_and_hypervolume import non_dominated_mask
from hwdse.serving.serving_evaluation import evaluate_serving
from hwdse.serving.serving_strategies import enumerate_serving_strategies, serving_strategy_label
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.specs.serving.engine import ServingDesign, ServingFormats, ServingStrategy
from hwdse.workload.serving.serving_task import ServingTask

CONCURRENCIES = tuple(2.0**power for power in range(13))
"""Requests in flight per replica: 1 to 4096."""
BATCH = 64
"""Configurations per call of the compiled program."""


@dataclass(frozen=True)
class FrontPoint:
    """One configuration of a service and its figures."""

    precision: str
    strategy: ServingStrategy
    label: str
    """Text of the strategy."""
    replica_chips: float
    num_replicas: float
    concurrency: float
    """Requests in flight over all replicas."""
    user_tokens_per_s: float
    """Output tokens per second that a user sees."""
    chip_tokens_per_s: float
    """Output tokens per second and chip."""
    ttft_s: float
    ttft_p99_s: float
    tpot_s: float
    tpot_p99_s: float
    requests_per_s: float
    """Answered requests per second of all replicas."""
    chip_power_w: float
    energy_per_token_j: float
    """Chip energy per output token."""
    cost_per_token_usd: float
    hbm_used_ratio: float

    @property
    def fits(self) -> bool:
        """True if the weights and one request fit into the HBM."""
        return self.hbm_used_ratio <= 1.0


@functools.cache
def _compiled() -> Callable[[ServingDesign, ServingTask], Evaluation]:
    return quick_jit(jax.vmap(evaluate_serving))


def front_points(
    design: ServingDesign,
    task: ServingTask,
    precisions: dict[str, ServingFormats],
    strategies: Sequence[ServingStrategy] | None = None,
    concurrencies: Sequence[float] = CONCURRENCIES,
) -> list[FrontPoint]:
    """Closed loops of every strategy, format and concurrency of a replica, in float64.

    Without strategies: all that the chips of the cluster and the model allow. Configurations that
    do not fit into memory are included; `FrontPoint.fits` tells.
    """
    num_chips = float(design.cluster.num_chips)
    if strategies is None:
        strategies = enumerate_serving_strategies(task.model, num_chips)
    each = [
        (name, formats, strategy, concurrency)
        for name, formats in precisions.items()
        for strategy in strategies
        for concurrency in concurrencies
    ]
    found: list[FrontPoint] = []
    for start in range(0, len(each), BATCH):
        part = each[start : start + BATCH]
        filled = [*part, *[part[-1]] * (BATCH - len(part))]  # one compiled shape
        evaluation = _evaluated(design, task, filled)
        columns = {field: getattr(evaluation, source) for field, source in _SOURCES.items()}
        for row, (name, _, strategy, concurrency) in enumerate(part):
            chips = float(strategy.replica_chips)
            replicas = num_chips / chips
            found.append(
                FrontPoint(
                    precision=name,
                    strategy=strategy,
                    label=serving_strategy_label(strategy, chips),
                    replica_chips=chips,
                    num_replicas=replicas,
                    concurrency=concurrency * replicas,
                    **{field: float(values[row]) for field, values in columns.items()},
                )
            )
    return found


_SOURCES = {
    "user_tokens_per_s": "interactivity_tokens_per_s",
    **{
        name: name
        for name in (
            "chip_tokens_per_s",
            "ttft_s",
            "ttft_p99_s",
            "tpot_s",
            "tpot_p99_s",
            "requests_per_s",
            "chip_power_w",
            "energy_per_token_j",
            "cost_per_token_usd",
            "hbm_used_ratio",
        )
    },
}
"""Field of an evaluation by field of a point."""


def _evaluated(
    design: ServingDesign,
    task: ServingTask,
    each: Sequence[tuple[str, ServingFormats, ServingStrategy, float]],
) -> Evaluation:
    num_chips = float(design.cluster.num_chips)
    with jax.enable_x64(True):
        designs, tasks = [], []
        for _, formats, strategy, concurrency in each:
            replicas = num_chips / float(strategy.replica_chips)
            requests = dataclasses.replace(
                task.requests, concurrency=concurrency * replicas, arrival_rate_per_s=0.0
            )
            designs.append(dataclasses.replace(design, formats=formats, strategy=_plain(strategy)))
            tasks.append(dataclasses.replace(task, requests=requests))
        return jax.tree.map(np.asarray, _compiled()(stacked(designs), stacked(tasks)))


def _plain(strategy: ServingStrategy) -> ServingStrategy:
    """Strategy with all fields set, so that strategies stack."""
    return dataclasses.replace(strategy, expert_tensor=strategy.expert_shards)


def pareto_points(points: Sequence[FrontPoint], by: str = "chip_tokens_per_s") -> list[FrontPoint]:
    """Configurations that fit and that no other one exceeds in both figures, the most interactive
    first.

    `by`: a figure of which more is better; for costs `-cost_per_token_usd`.
    """
    sign = -1.0 if by.startswith("-") else 1.0
    name = by.removeprefix("-")
    able = [one for one in points if one.fits]
    worse = np.array([(-one.user_tokens_per_s, -sign * getattr(one, name)) for one in able])
    rows = np.flatnonzero(non_dominated_mask(worse.reshape(-1, 2)))
    return [able[row] for row in sorted(rows, key=lambda row: worse[row, 0])]


def within_limits(
    points: Sequence[FrontPoint], ttft_p99_s: float = math.inf, tpot_p99_s: float = math.inf
) -> list[FrontPoint]:
    """Configurations that fit and meet limits of the 99th percentiles."""
    return [
        one
        for one in points
        if one.fits and one.ttft_p99_s <= ttft_p99_s and one.tpot_p99_s <= tpot_p99_s
    ]


def best_goodput(points: Sequence[FrontPoint]) -> FrontPoint | None:
    """Configuration with the most output tokens per chip."""
    return max(points, key=lambda one: one.chip_tokens_per_s, default=None)


def least_chips(
    points: Sequence[FrontPoint], requests_per_s: float
) -> tuple[FrontPoint, float] | None:
    """Configuration that serves a load with the fewest chips, and their number: whole replicas."""

    def chips(one: FrontPoint) -> float:
        per_replica = one.requests_per_s / one.num_replicas
        return one.replica_chips * math.ceil(requests_per_s / per_replica - 1e-9)

    found = min(points, key=lambda one: (chips(one), -one.chip_tokens_per_s), default=None)
    return None if found is None else (found, chips(found))
