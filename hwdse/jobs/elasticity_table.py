"""Elasticities of a metric of a job to all parameters, as a table."""

import numpy as np

from hwdse.analysis.metric_slopes import metric_elasticities
from hwdse.config.files.errors import ConfigError, did_you_mean, listed
from hwdse.config.schema.range_ends import inside_ranges
from hwdse.config.schema.user_paths import format_value, short_path
from hwdse.jobs.job_interface import AnyJob
from hwdse.jobs.job_results import ResultTable
from hwdse.objectives import OBJECTIVES
from hwdse.search.space.pytree_path import get_path

MIN_ELASTICITY = 5e-4
"""Smallest printed elasticity; smaller ones are zero with three decimals."""


def elasticity_table(job: AnyJob, metric: str, top: int | None) -> ResultTable:
    """Elasticities of a metric, largest first; see `Job.gradient`.

    Raises `ConfigError` for an unknown metric, and `FloatingPointError` for one that is NaN.
    """
    if metric not in OBJECTIVES:
        hint = did_you_mean(metric, OBJECTIVES)
        raise ConfigError(f"metric = {metric!r}: expected one of {listed(OBJECTIVES)}{hint}")
    slopes = metric_elasticities(inside_ranges(job.design), job.workload, (metric,))[metric]
    broken = [path for path, slope in slopes.items() if not np.isfinite(slope)]
    if broken:
        raise FloatingPointError(f"elasticity of {metric} to {broken[0]} is not finite")
    value = float(OBJECTIVES[metric](job.evaluate().evaluation))
    ordered = sorted(slopes.items(), key=lambda item: -abs(item[1]))
    leaves = {path: float(get_path(job.design, path)) for path, _ in ordered}
    shown = [item for item in ordered if abs(item[1]) >= MIN_ELASTICITY][:top]
    cells = tuple(
        (short_path(path), format_value(path, leaves[path]), f"{slope:+.3f}")
        for path, slope in shown
    )
    columns = {
        "parameter": [path for path, _ in ordered],
        "value": [leaves[path] for path, _ in ordered],
        "elasticity": [slope for _, slope in ordered],
        "derivative": [
            slope * value / leaves[path] if leaves[path] else 0.0 for path, slope in ordered
        ],
    }
    return ResultTable(
        f"{job.title}: elasticities of {metric}",
        ("parameter", "value", "elasticity"),
        cells,
        columns,
    )
