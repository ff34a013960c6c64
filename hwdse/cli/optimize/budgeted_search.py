"""Search of `hwdse optimize` within a budget of evaluations or time."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import progress_bar

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.search.evaluation.search_result import ObjectiveFn, SearchResult


@dataclass(frozen=True)
class SearchBudgetOptions:
    """Budget and descent rule of a search."""

    evaluations: int
    time_s: float | None = None
    optimizer: str = "adam"
    schedule: str = "cosine"
    learning_rate: float | None = None

    def options(self) -> dict[str, Any]:
        """Options as recorded in run.json; defaults are left out."""
        default = SearchBudgetOptions(self.evaluations)
        changed = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != getattr(default, field.name)
        }
        return {"evaluations": self.evaluations, **changed}


def make_budget(
    evaluations: int,
    time_text: str | None,
    optimizer: str,
    schedule: str,
    learning_rate: float | None,
) -> SearchBudgetOptions:
    """Validated budget. Raises `CommandError`, one line, for a wrong name or time."""
    from hwdse.config.files.errors import did_you_mean, listed
    from hwdse.search.descent.optimizers import OPTIMIZERS, SCHEDULES
    from hwdse.units.parse_units import to_base

    for name, value, allowed in (
        ("optimizer", optimizer, OPTIMIZERS),
        ("schedule", schedule, SCHEDULES),
    ):
        if value not in allowed:
            hint = did_you_mean(value, allowed)
            raise CommandError(f"--{name} {value}: expected one of {listed(allowed)}{hint}")
    if learning_rate is not None and not 0.0 < learning_rate < 100.0:
        raise CommandError(f"--learning-rate {learning_rate}: expected a number above 0, below 100")
    time_s = None
    if time_text is not None:
        try:
            is_plain = time_text.replace(".", "", 1).isdecimal()
            time_s = to_base(float(time_text) if is_plain else time_text, "s")
        except ValueError as error:
            raise CommandError(f"--time {time_text}: expected {error}") from None
        if not time_s > 0.0:
            raise CommandError(f"--time {time_text}: expected a time above 0, such as 30s")
    return SearchBudgetOptions(evaluations, time_s, optimizer, schedule, learning_rate)


def search(
    loaded: "LoadedSearch", objective: "ObjectiveFn", budget: SearchBudgetOptions, seed: int
) -> tuple["SearchResult", int]:
    """Best design and number of rounds.

    Without a time there is one round. With a time, rounds of `budget.evaluations` repeat with
    successive seeds until the time is up. A stage or round of local search that has begun is
    completed.
    """
    import jax

    from hwdse.cli.shared.metric_tables import METRIC_UNITS, format_metric
    from hwdse.search.descent.minimize import allocate_evaluations, minimize, never

    num_variants = math.prod(len(variant.values) for variant in loaded.space.variants)
    search_budget = allocate_evaluations(budget.evaluations, num_variants)
    unit = METRIC_UNITS[loaded.objective]
    title = f"minimizing {loaded.objective.replace('_', ' ')}"
    should_stop, elapsed_percent = _clock(budget.time_s)
    total = budget.evaluations if budget.time_s is None else 100.0
    kind = "evaluations" if budget.time_s is None else "% of time"
    best: SearchResult | None = None
    num_rounds = 0
    with progress_bar(title, total, kind) as update, jax.enable_x64(True):

        def progress(count: int, log: float) -> None:
            lead = min(log, best.log_objective) if best and best.is_feasible else log
            value = format_metric(math.exp(lead), unit) if math.isfinite(lead) else "none"
            update(count if budget.time_s is None else elapsed_percent(), f"best {value}")

        while best is None or (budget.time_s is not None and not should_stop()):
            result = minimize(
                objective, loaded.space, loaded.base, seed=seed + num_rounds, progress=progress,
                optimizer=budget.optimizer, schedule=budget.schedule,
                learning_rate=budget.learning_rate,
                should_stop=never if budget.time_s is None else should_stop, **search_budget,
            )  # fmt: skip
            best = result if best is None else join_rounds(best, result)
            num_rounds += 1
        end = format_metric(math.exp(best.log_objective), unit) if best.is_feasible else "none"
        update(total, f"best {end}")
    return best, num_rounds


def _clock(time_s: float | None) -> tuple[Callable[[], bool], Callable[[], float]]:
    """Two functions: True if the time is up, and elapsed time in percent."""
    begin = time.monotonic()
    limit_s = math.inf if time_s is None else time_s
    return (
        lambda: time.monotonic() - begin > limit_s,
        lambda: min(100.0 * (time.monotonic() - begin) / limit_s, 100.0),
    )


def join_rounds(first: "SearchResult", second: "SearchResult") -> "SearchResult":
    """Better of two rounds, with the evaluations and histories of both."""
    import numpy as np

    def rank(result: "SearchResult") -> tuple[float, float]:
        return float(np.maximum(result.constraint_values, 0.0).sum()), result.log_objective

    better = min(first, second, key=rank)
    later = second.history_evaluations + first.num_evaluations
    logs = np.concatenate((first.history_log_objective, second.history_log_objective))
    return dataclasses.replace(
        better,
        num_evaluations=first.num_evaluations + second.num_evaluations,
        history_evaluations=np.concatenate((first.history_evaluations, later)),
        history_log_objective=np.minimum.accumulate(logs),
    )
