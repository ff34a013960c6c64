"""Search of `hwdse optimize` within a budget of evaluations or time."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import progress_bar

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.search.answers.optimality import OptimalityReport
    from hwdse.search.evaluation.search_log import SearchLog
    from hwdse.search.evaluation.search_result import ObjectiveFn, SearchResult

DEFAULT_EVALUATIONS = 20_000
"""Default budget with an optimality report."""
DEFAULT_SEARCH_EVALUATIONS = 10_000
"""Default budget without an optimality report, and of one round with --time."""
REPORT_FRACTION = 1.0 / 3.0
"""Fraction of the evaluations kept for the optimality report, which also has those that the search
leaves over."""
MIN_SEARCH_AGAIN = 500
"""Smallest search with other strategies, in evaluations."""
REPORT_TIME_FRACTION = 0.3
"""Fraction of the time kept for the optimality report, of which half is compilation."""
LATEST_REPORT_FRACTION = 1.0 - 0.5 * REPORT_TIME_FRACTION
"""Fraction of the time after which no report begins: it would end too late."""


@dataclass(frozen=True)
class SearchBudgetOptions:
    """Budget and descent rule of a search."""

    evaluations: int | None = None
    """Bound of all evaluations of the command; None: the default, or with a time no bound."""
    time_s: float | None = None
    """Bound of the time of the command."""
    optimizer: str = "adam"
    schedule: str = "cosine"
    learning_rate: float | None = None

    def options(self, total: float, num_neighbors: int | None) -> dict[str, Any]:
        """Options as recorded in run.json; defaults are left out."""
        changed = {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if getattr(self, item.name) != item.default
        }
        changed["evaluations"] = int(total) if math.isfinite(total) else None
        return changed if num_neighbors is None else {**changed, "neighbors": num_neighbors}

    def total(self, has_report: bool) -> float:
        """Largest number of evaluations of the command."""
        if self.evaluations is not None:
            return self.evaluations
        if self.time_s is not None:
            return math.inf
        return DEFAULT_EVALUATIONS if has_report else DEFAULT_SEARCH_EVALUATIONS


@dataclass
class Clock:
    """Time since the begin of a command, including that of the run it continues."""

    limit_s: float = math.inf
    before_s: float = 0.0
    begin: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Elapsed time."""
        return self.before_s + time.monotonic() - self.begin

    def is_over(self, fraction: float = 1.0) -> bool:
        """True once this fraction of the limit has passed."""
        return self.elapsed_s > fraction * self.limit_s


def make_budget(
    evaluations: int | None,
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
    loaded: "LoadedSearch",
    objective: "ObjectiveFn",
    budget: SearchBudgetOptions,
    seed: int,
    *,
    log: "SearchLog",
    clock: Clock,
    has_report: bool,
    on_progress: Callable[[], None] = lambda: None,
) -> tuple["SearchResult", int]:
    """Best design and number of rounds, within the share of the budget that the optimality report
    leaves.

    Without a time there is one round. With a time, rounds repeat with successive seeds until the
    time is up or the evaluations are spent. A stage or round of local search that has begun is
    completed. `on_progress` is called after each batch.
    """
    import jax

    from hwdse.config.schema.metric_fields import metric_unit
    from hwdse.report.metrics import format_metric
    from hwdse.search.descent.minimize import allocate_evaluations, minimize

    total = budget.total(has_report)
    fraction = 1.0
    if has_report:
        total -= REPORT_FRACTION * total if math.isfinite(total) else 0.0
        fraction -= REPORT_TIME_FRACTION
    unit = metric_unit(loaded.objective)
    has_time = budget.time_s is not None
    kind = "% of time" if has_time else "evaluations"
    best: SearchResult | None = None
    spent = num_rounds = 0
    title = f"minimizing {loaded.objective.replace('_', ' ')}"
    with progress_bar(title, 100.0 if has_time else total, kind) as update, jax.enable_x64(True):

        def progress(count: int, log_objective: float) -> None:
            lead = best.log_objective if best and best.is_feasible else math.inf
            lead = min(log_objective, lead)
            value = format_metric(math.exp(lead), unit) if math.isfinite(lead) else "none"
            share = 100.0 * clock.elapsed_s / (fraction * clock.limit_s)
            update(min(share, 100.0) if has_time else count, f"best {value}")
            on_progress()

        def should_stop() -> bool:
            return clock.is_over(fraction) and not log.is_replayed

        while best is None or (has_time and total - spent >= 1.0 and not should_stop()):
            left = total - spent
            size = int(min(left, DEFAULT_SEARCH_EVALUATIONS if has_time else left))
            log.round_index = num_rounds
            result = minimize(
                objective, loaded.space, loaded.base, seed=seed + num_rounds, progress=progress,
                optimizer=budget.optimizer, schedule=budget.schedule,
                learning_rate=budget.learning_rate, log=log, should_stop=should_stop,
                **allocate_evaluations(size, loaded.space.num_variants),
            )  # fmt: skip
            best = result if best is None else join_rounds(best, result)
            num_rounds += 1
            spent = best.num_evaluations
        end = format_metric(math.exp(best.log_objective), unit) if best.is_feasible else "none"
        update(100.0 if has_time else total, f"best {end}")
    return best, num_rounds


def search_again(
    loaded: "LoadedSearch",
    objective: "ObjectiveFn",
    budget: SearchBudgetOptions,
    seed: int,
    start: Any,
    *,
    spent: int,
    has_report: bool,
) -> "SearchResult | None":
    """Best design of a search that begins at a design, with the evaluations that are left; None if
    these are fewer than `MIN_SEARCH_AGAIN`."""
    import jax

    from hwdse.search.descent.minimize import allocate_evaluations, minimize

    total = budget.total(has_report)
    share = 1.0 - REPORT_FRACTION if has_report else 1.0
    left = share * total - spent if math.isfinite(total) else DEFAULT_SEARCH_EVALUATIONS
    if left < MIN_SEARCH_AGAIN:
        return None
    with jax.enable_x64(True):
        return minimize(
            objective, loaded.space, start, seed=seed, optimizer=budget.optimizer,
            schedule=budget.schedule, learning_rate=budget.learning_rate,
            **allocate_evaluations(int(left), loaded.space.num_variants),
        )  # fmt: skip


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
        num_local_search=first.num_local_search + second.num_local_search,
        history_evaluations=np.concatenate((first.history_evaluations, later)),
        history_log_objective=np.minimum.accumulate(logs),
    )


def evaluations_by_stage(
    result: "SearchResult", report: "OptimalityReport | None"
) -> dict[str, int]:
    """Evaluations in total and by stage."""
    num_report = 0 if report is None else report.num_evaluations
    return {
        "evaluations": result.num_evaluations + num_report,
        "search_evaluations": result.num_evaluations - result.num_local_search,
        "local_search_evaluations": result.num_local_search,
        "optimality_evaluations": num_report,
    }


def spent_lines(
    loaded: "LoadedSearch",
    result: "SearchResult",
    spent: Mapping[str, int],
    total: float,
    clock: Clock,
) -> list[str]:
    """Lines on the evaluations and the time of a command, with their bounds."""
    from hwdse.cli.sweep.front_tables import robust_line

    of = f" of {int(total):,}" if math.isfinite(total) else ""
    line = (
        f"evaluations: {spent['evaluations']:,}{of}: {spent['search_evaluations']:,} search, "
        f"{spent['local_search_evaluations']:,} local search, "
        f"{spent['optimality_evaluations']:,} optimality report"
    )
    if math.isfinite(result.relaxation_gap):
        cost = 100.0 * math.expm1(result.relaxation_gap)
        line += f"; rounding cost before local search {cost:+.2f} %"
    lines = [line]
    if math.isfinite(clock.limit_s):
        lines.append(f"time: {clock.elapsed_s:.1f} s of {clock.limit_s:g} s")
    if loaded.robust is not None:
        lines.append(robust_line(loaded, spent["evaluations"]))
    return lines
