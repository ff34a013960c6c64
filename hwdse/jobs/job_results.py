"""Results of jobs that print as tables: metrics of one design, strategies, elasticities."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwdse.report.evaluation_json import warnings_json
from hwdse.report.metrics import HEADLINES, kind_of
from hwdse.specs.results.evaluation_result import Evaluation

DEFAULT_FORMATS = ("png", "svg")
"""File formats of plots."""
MAX_ROWS = 40
"""Largest number of rows that print; `to_pandas` and `columns` have all."""


@dataclass(frozen=True, repr=False)
class ResultTable:
    """Table of a result: printed cells, and the numbers behind them in SI base units."""

    title: str
    heads: tuple[str, ...]
    """Heads of the printed columns, with units."""
    cells: tuple[tuple[str, ...], ...]
    """Printed rows; the first column is aligned left."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Values in SI base units by name, for programs."""

    def __repr__(self) -> str:
        rows = [self.heads, *self.cells[:MAX_ROWS]]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.heads))]
        lines = [self.title] if self.title else []
        for row in rows:
            first, *rest = (cell.rjust(w) for cell, w in zip(row, widths, strict=True))
            lines.append("  ".join([row[0].ljust(len(first)), *rest]).rstrip())
        hidden = len(self.cells) - MAX_ROWS
        return "\n".join([*lines, *([f"... {hidden} more rows"] if hidden > 0 else [])])

    def _repr_html_(self) -> str:
        def row(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

        body = "".join(row(cells, "td") for cells in self.cells[:MAX_ROWS])
        caption = f"<caption>{html.escape(self.title)}</caption>"
        return (
            f"<table>{caption}<thead>{row(self.heads, 'th')}</thead><tbody>{body}</tbody></table>"
        )

    def __len__(self) -> int:
        return len(self.cells)

    def to_pandas(self) -> Any:
        """`pandas.DataFrame` of `columns`. Raises `ImportError` without the package pandas."""
        try:
            import pandas  # type: ignore[import-not-found]
        except ImportError:
            raise ImportError("to_pandas needs pandas: pip install 'hwdse[pandas]'") from None
        return pandas.DataFrame(dict(self.columns))


@dataclass(frozen=True, repr=False)
class JobResult(ResultTable):
    """Metrics of one design. Fields of `hwdse.Evaluation` are attributes as well.

    `plot` writes the breakdown and the roofline. Under tracing only the attributes have meaning.
    """

    evaluation: Evaluation = field(kw_only=True)
    job: Any = field(kw_only=True)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "evaluation" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["evaluation"], name)

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines below the table: why the design cannot run, and what is not modeled."""
        if self.job.is_traced:
            return ()
        warnings = [item["text"] for item in warnings_json(self.job.design, self.evaluation)]
        return (*warnings, *(f"not modeled: {note}" for note in self.job.loaded.notes))

    def __repr__(self) -> str:
        return "\n".join((super().__repr__(), *self.notes))

    def plot(
        self, folder: str | Path = ".", formats: Sequence[str] = DEFAULT_FORMATS
    ) -> list[Path]:
        """Write breakdown and roofline to a folder; the paths of the files."""
        from hwdse.jobs.reliance import resting_plot_files
        from hwdse.report.evaluation_plots import save_evaluation

        loaded, design = self.job.loaded, self.job.design
        files = resting_plot_files(loaded, Path(folder), formats, design)
        return save_evaluation(loaded, design, self.evaluation, files)


def metric_table(evaluation: Evaluation, job: Any) -> JobResult:
    """Table of the headline metrics of an evaluation."""
    metrics = HEADLINES[kind_of(job.loaded)]
    values = [getattr(evaluation, metric.field) for metric in metrics]
    if job.is_traced:
        return JobResult(job.title, ("metric",), (), {}, evaluation=evaluation, job=job)
    cells = tuple(
        (metric.label, *metric.cells([float(value)]))
        for metric, value in zip(metrics, values, strict=True)
    )
    columns = {
        "metric": [metric.field for metric in metrics],
        "value": [float(value) for value in values],
    }
    return JobResult(job.title, ("metric", "value"), cells, columns, evaluation=evaluation, job=job)
