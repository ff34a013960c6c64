"""Number of systems of a job whose total power, cost, area or chips is that of another."""

import math
from collections.abc import Sequence
from typing import Any

from hwdse.config.files.errors import ConfigError
from hwdse.jobs.compared_metrics import TOTALS, num_chips
from hwdse.jobs.composed_job import Job

MAX_TRIES = 40
"""Numbers of systems that are tried around the best one."""
TOLERANCE = 0.06
"""Largest deviation of a total for a number of systems that divides the batch better."""


def with_total(one: Job, result: Any, equal: str, target: float) -> Job:
    """The job with the number of systems whose total is near the target.

    `equal` is one of `TOTALS`. Candidates are the nearest number and the one within `TOLERANCE`
    whose chips divide the batch best; that with the higher throughput per unit of the total is
    taken. Raises `ConfigError` if no number has a valid strategy.
    """
    chips_per_system = int(num_chips(one, result) / _count(one))
    ideal = target / (TOTALS[equal](one, result) / _count(one))
    batch = int(getattr(one.workload, "global_batch", 1.0))

    def common(count: int) -> int:
        return math.gcd(count * chips_per_system, batch)

    near = [n for n in range(1, int(ideal * 1.5) + 2) if abs(n / ideal - 1.0) <= TOLERANCE]
    around = range(max(round(ideal) - MAX_TRIES, 1), round(ideal) + MAX_TRIES + 1)
    nearest = sorted(around, key=lambda n: abs(n - ideal))
    found = [_first_valid(one, sorted(near, key=lambda n: (-common(n), abs(n - ideal))))]
    found.append(_first_valid(one, nearest))
    made = {_count(each): each for each in found if each is not None}
    if not made:
        raise ConfigError(
            f"{one.title}: no number of systems near {ideal:.3g} has a valid strategy"
        )

    def rate(each: Job) -> float:
        its = each.evaluate()
        return float(its.effective_tokens_per_s) / TOTALS[equal](each, its)

    return max(made.values(), key=rate) if len(made) > 1 else next(iter(made.values()))


def _first_valid(one: Job, counts: Sequence[int]) -> Job | None:
    """The job with the first number of systems that has a valid strategy, or None."""
    for count in counts[:MAX_TRIES]:
        try:
            return one.with_(count=count)
        except ConfigError:
            continue
    return None


def _count(one: Job) -> float:
    return float(one.loaded.tables["design"].get("num_systems", 1.0))
