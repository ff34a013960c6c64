"""Best design of a search that is stopped by a signal, and its checkpoint."""

import math
from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.interrupts import uninterrupted
from hwdse.runs.search_checkpoint import SearchCheckpoint
from hwdse.search.evaluation.search_log import SearchLog

if TYPE_CHECKING:
    from hwdse.cli.optimize.budgeted_search import Clock
    from hwdse.config import LoadedSearch
    from hwdse.runs.run_folder import Run
    from hwdse.search.evaluation.search_result import SearchResult


class SearchKeeper:
    """Log of a search with its checkpoint; writes the best design so far if a signal arrives."""

    def __init__(
        self, loaded: "LoadedSearch", record: "Run", clock: "Clock", *, resume: bool
    ) -> None:
        self._loaded, self._record, self._clock = loaded, record, clock
        self._checkpoint = SearchCheckpoint(record)
        batches, clock.before_s = self._checkpoint.load() if resume else ({}, 0.0)
        self._result: SearchResult | None = None
        self.log = SearchLog(batches)

    def save_if_due(self) -> None:
        """Write the checkpoint if the last one is old enough."""
        with uninterrupted():
            self._checkpoint.save_if_due(self.log, self._clock.elapsed_s)

    def keep(self, result: "SearchResult") -> None:
        """Write the design of the complete search."""
        from hwdse.config import to_toml

        with uninterrupted():
            self._result = result
            self._record.write_text("best.toml", to_toml(self._loaded, result.design))

    def finish(self, **summary: Any) -> None:
        """Record the end of the search, whose design is written, and remove the checkpoint."""
        assert self._result is not None
        with uninterrupted():
            status = "finished" if self._result.is_feasible else "infeasible"
            self._record.finish(status, **summary)
            self._checkpoint.remove()

    def stop(self) -> str:
        """Write best.toml, the checkpoint and the status; the line for the user."""
        folder = self._record.folder
        self._checkpoint.save(self.log, self._clock.elapsed_s)
        written = self._write_best()
        self._record.finish("stopped", evaluations=self.log.num_evaluations, **written)
        count = f"stopped after {self.log.num_evaluations:,} evaluations"
        proceed = f"continue with: hwdse optimize --resume {folder}"
        if not written:
            return f"{folder}: {count}, before the first design; {proceed}"
        rank = "best so far" if written["is_feasible"] else "nearest to the limits so far"
        return f"{folder}: {count}; {rank} {self._value(written)} in best.toml; {proceed}"

    def _write_best(self) -> dict[str, Any]:
        """Write the best design so far; its objective and feasibility, or nothing without one."""
        from hwdse.config import to_toml

        if self._result is not None:
            return {"objective": math.exp(self._result.log_objective),
                    "is_feasible": self._result.is_feasible}  # fmt: skip
        best, space = self.log.best, self._loaded.space
        if best is None:
            return {}
        base = space.variant_bases(self._loaded.base)[best.variant][1]
        design = space.decode_rounded(best.unit, base)
        self._record.write_text("best.toml", to_toml(self._loaded, design))
        return {"objective": math.exp(best.log_objective), "is_feasible": best.is_feasible}

    def _value(self, written: dict[str, Any]) -> str:
        from hwdse.config.schema.metric_fields import metric_unit
        from hwdse.report.metrics import format_metric

        return format_metric(written["objective"], metric_unit(self._loaded.objective))
