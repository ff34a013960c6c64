"""Files of `hwdse parallelism`: strategies that fit, the best design and a plot."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdse.cli.parallelism.strategy_tables import Found, strategy_columns
from hwdse.training.strategy_enumeration import strategy_label

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.plots.figure_files import PlotFiles

GB = 1e9


def save(
    loaded: "LoadedSearch",
    found: Found,
    config: str,
    folder: Path,
    formats: tuple[str, ...],
    *,
    overwrite: bool,
) -> list[Path]:
    """Write strategies.csv and best.toml if a strategy fits, and the plot; their paths."""
    from hwdse.cli.shared.start_run import start_run
    from hwdse.config import to_toml
    from hwdse.runs.atomic_files import csv_text

    options = {
        "command": "parallelism",
        "sort_by": found.sort_by,
        "num_strategies": len(found.strategies),
    }
    record = start_run(loaded, options, config, folder, loaded.seed, overwrite=overwrite)
    files = []
    if (best := found.best) is not None:
        record.write_text("strategies.csv", csv_text(strategy_columns(found, found.order)))
        record.write_text("best.toml", to_toml(loaded, best))
        files = [record.folder / name for name in ("strategies.csv", "best.toml")]
    files += _draw(found, _plot_files(loaded, found, record.folder / "plots", formats))
    status = "infeasible" if best is None else "finished"
    record.finish(status, evaluations=len(found.strategies))
    return files


def _plot_files(
    loaded: "LoadedSearch", found: Found, folder: Path, formats: tuple[str, ...]
) -> "PlotFiles":
    """Target of the plot; its small print is about the best strategy."""
    from hwdse.jobs.reliance import resting_plot_files
    from hwdse.report.plot_targets import plot_files

    if found.best is None:
        return plot_files(loaded, folder, formats)
    metric = "hbm_used_ratio" if found.sort_by == "memory" else found.sort_by
    return resting_plot_files(loaded, folder, formats, found.best, metric)


def _draw(found: Found, files: "PlotFiles") -> list[Path]:
    """Plot of HBM usage and step time of all strategies; its paths."""
    from hwdse.plots.figure_files import new_figure
    from hwdse.plots.strategy_scatter import plot_strategies
    from hwdse.search.pareto.dominance_and_hypervolume import non_dominated_mask

    metrics = found.metrics
    capacity = found.design.chip.hbm.capacity_bytes
    used_gb, step_s = metrics.hbm_used_ratio * capacity / GB, metrics.step_time_s
    finite = np.flatnonzero(np.isfinite(used_gb) & np.isfinite(step_s))
    best, label = None, ""
    if len(found.order):
        row = int(found.order[0])
        best = int(np.searchsorted(finite, row))
        label = strategy_label(found.strategies, row, found.num_chips)
    figure, (axes,) = new_figure(width_in=7.6, height_in=5.2)
    used_gb, step_s, is_met = used_gb[finite], step_s[finite], found.limits.is_met[finite]
    available_gb = found.max_hbm_ratio * capacity / GB
    allowed = np.flatnonzero(is_met & (used_gb <= available_gb))
    front = allowed[non_dominated_mask(np.stack([used_gb, step_s], axis=1)[allowed])]
    plot_strategies(axes, used_gb, step_s, available_gb, is_met, front, best, label)
    return files.save(figure, "strategies", "Parallelism strategies")
