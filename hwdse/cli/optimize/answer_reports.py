"""Reports on the answer of `hwdse optimize`: all strategies, constants it rests on, optimality."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwdse.cli.optimize import optimality_tables, reliance_tables
from hwdse.cli.optimize.budgeted_search import (
    LATEST_REPORT_FRACTION,
    Clock,
    SearchBudgetOptions,
    join_rounds,
    search_again,
)
from hwdse.cli.shared.table_output import say

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.jobs.footing.answer_reliance import AnswerReliance
    from hwdse.jobs.footing.strategy_check import StrategyCheck
    from hwdse.runs.run_folder import Run
    from hwdse.search.answers.optimality import OptimalityReport
    from hwdse.search.evaluation.search_result import ObjectiveFn, SearchResult

MAX_SEARCHES = 2
"""Searches after the first, each with the best strategies on the last design."""


@dataclass(frozen=True)
class Question:
    """Search whose answer is reported."""

    loaded: "LoadedSearch"
    objective: "ObjectiveFn"
    budget: SearchBudgetOptions
    seed: int
    num_neighbors: int | None
    total: float
    """Largest number of evaluations of the command."""
    has_report: bool
    finds_robust: bool

    @property
    def has_reliance(self) -> bool:
        """True if the regret over the bands around constants is reported."""
        is_long = getattr(self.loaded.base, "runs_long", False)
        return self.finds_robust or (self.has_report and self.loaded.robust is None and not is_long)


@dataclass(frozen=True)
class Answer:
    """Best design with its reports; `loaded` has the strategies that were searched at last."""

    loaded: "LoadedSearch"
    result: "SearchResult"
    optimality: "OptimalityReport | None" = None
    reliance: "AnswerReliance | None" = None
    strategies: "StrategyCheck | None" = None
    base_strategies: "StrategyCheck | None" = None
    """Strategies on the base design."""


def answered(
    question: Question,
    result: "SearchResult",
    clock: Clock,
    keep: Callable[["SearchResult"], None],
) -> Answer:
    """The result of a search and its reports, as far as budget and time allow.

    Each of them may find a better design, which replaces the result. `keep` receives the best
    result so far before another search.
    """
    answer = Answer(question.loaded, result)
    if question.has_report and not clock.is_over(LATEST_REPORT_FRACTION):
        answer = _with_all_strategies(question, answer, clock, keep)
    if question.has_reliance and not clock.is_over(LATEST_REPORT_FRACTION):
        answer = _with_reliance(question, answer)
    if question.has_report and not clock.is_over(LATEST_REPORT_FRACTION):
        left = question.total - answer.result.num_evaluations
        found, report = optimality_tables.with_optimality_report(
            answer.loaded, question.objective, answer.result, question.seed,
            question.num_neighbors, max_evaluations=left, should_stop=clock.is_over,
        )  # fmt: skip
        is_moved = report is not None and report.num_improvements > 0
        answer = dataclasses.replace(answer, result=found, optimality=report)
        if is_moved and answer.reliance is not None:
            answer = _with_reliance(question, answer)
    return _checked(answer)


def _with_all_strategies(
    question: Question,
    answer: Answer,
    clock: Clock,
    keep: Callable[["SearchResult"], None],
) -> Answer:
    """The answer after searches with the best of all strategies on its design, as long as one is
    better than its own and evaluations are left."""
    from hwdse.jobs.footing.strategy_check import (
        check_strategies,
        has_strategies,
        with_checked_strategies,
    )

    loaded = answer.loaded
    if not has_strategies(loaded) or not answer.result.is_feasible:
        return answer
    for index in range(MAX_SEARCHES + 1):
        design: Any = answer.result.design
        found = check_strategies(loaded, design)
        answer = dataclasses.replace(answer, loaded=loaded, strategies=found)
        is_done = index == MAX_SEARCHES or clock.is_over(LATEST_REPORT_FRACTION)
        if is_done or not found.is_searched or not found.num_better:
            break
        keep(answer.result)
        better = with_checked_strategies(loaded, found)
        again = search_again(
            better, question.objective, question.budget, question.seed, found.best_design,
            spent=answer.result.num_evaluations, has_report=question.has_report,
        )  # fmt: skip
        if again is None:
            break
        first = dataclasses.replace(
            answer.result, unit=better.space.snap(better.space.encode(answer.result.design))
        )
        loaded = better
        answer = dataclasses.replace(answer, result=join_rounds(first, again))
    base: Any = loaded.base
    return dataclasses.replace(
        answer, loaded=loaded, base_strategies=check_strategies(loaded, base)
    )


def _with_reliance(question: Question, answer: Answer) -> Answer:
    result, reliance = reliance_tables.with_answer_reliance(
        answer.loaded, question.objective, answer.result, question.seed,
        finds_robust=question.finds_robust,
    )  # fmt: skip
    return dataclasses.replace(answer, result=result, reliance=reliance)


def _checked(answer: Answer) -> Answer:
    """The answer with all strategies on its design, if a report moved it."""
    from hwdse.jobs.footing.strategy_check import SAME, check_strategies

    found = answer.strategies
    if found is None or abs(found.log_objective - answer.result.log_objective) <= SAME:
        return answer
    design: Any = answer.result.design
    return dataclasses.replace(answer, strategies=check_strategies(answer.loaded, design))


def write_answer(answer: Answer, record: "Run") -> None:
    """Write the files of the reports to a run folder."""
    if answer.reliance is not None:
        reliance_tables.write_answer_reliance(answer.loaded, answer.result, answer.reliance, record)


def answer_json(answer: Answer) -> dict[str, Any]:
    """Reports in base units, those that were made."""
    values: dict[str, Any] = {}
    if answer.optimality is not None:
        values["optimality"] = optimality_tables.optimality_json(
            answer.loaded, answer.result, answer.optimality
        )
    if answer.strategies is not None and answer.base_strategies is not None:
        found, base = answer.strategies, answer.base_strategies
        best = base.best_log_objective
        values["strategies"] = {
            "is_searched": found.is_searched,
            "evaluated": len(found.strategies),
            "feasible": found.num_feasible,
            "better": found.num_better,
            "best": found.best_label,
            "base_best": base.best_label if math.isfinite(best) else None,
            "base_value": math.exp(best) if math.isfinite(best) else None,
        }
    if answer.reliance is not None:
        values["regret"] = reliance_tables.answer_reliance_json(
            answer.loaded, answer.result, answer.reliance
        )
    return values


def print_answer(answer: Answer) -> None:
    """Print the reports after the tables of the design."""
    if answer.optimality is not None:
        optimality_tables.print_optimality(
            answer.loaded, answer.result, answer.optimality, answer.strategies
        )
    if answer.reliance is not None:
        reliance_tables.print_answer_reliance(answer.loaded, answer.result, answer.reliance)


def fair_base_line(answer: Answer) -> str:
    """Base design with its own best strategy, and the ratio of its objective to the optimum; empty
    without a check."""
    from hwdse.report.metrics import kind_of, metric_of

    base, loaded = answer.base_strategies, answer.loaded
    if base is None:
        return ""
    if not math.isfinite(base.best_log_objective):
        return "baseline: no strategy meets the limits"
    metric = metric_of(loaded.objective, kind=kind_of(loaded))
    (cell,) = metric.cells([math.exp(base.best_log_objective)])
    ratio = math.exp(base.best_log_objective - answer.result.log_objective)
    return f"baseline with its best strategy ({base.best_label}): {cell}, {ratio:.3g}x the optimum"


def say_fair_base(answer: Answer) -> None:
    """Print the base design with its best strategy."""
    if line := fair_base_line(answer):
        say(line)
