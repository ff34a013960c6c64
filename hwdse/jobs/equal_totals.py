"""Number of systems of a job whose total power, cost, area or chips is that of another."""

import math
from collections.abc import Sequence
from typing import Any

from hwdse.config.files.errors import ConfigError
from hwdse.jobs.compared_metrics import TOTALS, num_chips
from hwdse.jobs.composed_job import Job

SEARCHED = 0.15
"""Relative distance of the tried numbers of systems from the estimate."""
TOLERANCE = 0.06
"""Relative distance of a total from the target that counts as equal."""
MAX_EVALUATED = 5
"""Evaluated numbers of systems beside the nearest one: those that divide the batch best."""
MAX_TRIES = 40
"""Numbers of systems without a valid strategy that are passed over."""
ROUNDS = 2
"""Estimates of the number of systems: power per chip depends on the strategy."""


def with_total(one: Job, result: Any, equal: str, target: float) -> tuple[Job, Any]:
    """The job with the number of systems whose total is that of the target, and its result.

    `equal` is one of `TOTALS`. Of the numbers within `TOLERANCE` of the target the one with the
    highest throughput per unit of the total is taken, and without one the nearest. Raises
    `ConfigError` if no number has a valid strategy.
    """
    total = TOTALS[equal]
    best, its = one, result
    for _ in range(ROUNDS):
        ideal = target * _count(best) / total(best, its)
        found = [(each, each.evaluate()) for each in _candidates(one, ideal)]
        if not found:
            raise ConfigError(
                f"{one.title}: no number of systems near {ideal:.3g} has a valid strategy"
            )
        near = [pair for pair in found if abs(total(*pair) / target - 1.0) <= TOLERANCE]
        if near:
            return max(near, key=lambda pair: pair[1].effective_tokens_per_s / total(*pair))
        best, its = min(found, key=lambda pair: abs(math.log(total(*pair) / target)))
    return best, its


def _candidates(one: Job, ideal: float) -> list[Job]:
    """Jobs with numbers of systems around an estimate that have a valid strategy."""
    chips_per_system = int(num_chips(one, None) / _count(one))
    batch = int(getattr(one.workload, "global_batch", 1.0))
    low, high = ideal * (1.0 - SEARCHED), ideal * (1.0 + SEARCHED)
    near = range(max(math.ceil(low), 1), math.floor(high) + 1)

    def order(count: int) -> tuple[int, float]:
        return -math.gcd(count * chips_per_system, batch), abs(count - ideal)

    around = range(max(round(ideal) - MAX_TRIES, 1), round(ideal) + MAX_TRIES + 1)
    nearest = sorted(around, key=lambda count: abs(count - ideal))
    made = _valid(one, sorted(near, key=order), MAX_EVALUATED)
    made += _valid(one, nearest, 1)
    return list({_count(each): each for each in made}.values())


def _valid(one: Job, counts: Sequence[int], most: int) -> list[Job]:
    """The job with the first `most` numbers of systems that have a valid strategy."""
    made = []
    for count in counts[:MAX_TRIES]:
        try:
            made.append(one.with_(count=count))
        except ConfigError:
            continue
        if len(made) == most:
            break
    return made


def _count(one: Job) -> float:
    return float(one.loaded.tables["design"].get("num_systems", 1.0))
