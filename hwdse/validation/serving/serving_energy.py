"""Inter-token latency, throughput, power and energy of servers at a fixed batch: measured windows.

Windows with another `quality` than ok (host jitter, uneven steps, early windows) are reported in
groups of their own and not scored in the totals.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from hwdse.numerics.relaxation import total
from hwdse.numerics.stacking import stacked
from hwdse.serving.steps.step_mixture import mean_step_s, median_step_s
from hwdse.serving.steps.step_power import fabric_of, step_run
from hwdse.validation.serving.job_groups import JobRow, for_all
from hwdse.validation.serving.served_jobs import preset_parts, table_jobs, window_job
from hwdse.validation.shared.reference_table import (
    Comparison,
    ValidationReport,
    at_rows,
    build_report,
    read_table,
)

COLUMNS = (
    "model", "gpu", "num_gpus", "attention_tp", "attention_dp", "expert_ep", "weight_precision",
    "avg_batch_size", "mean_input_tokens", "uncached_input_tokens", "mean_output_tokens",
    "window_mean_age_tokens", "window_prefills_per_token",
    "median_itl_ms", "output_tokens_per_s", "avg_power_w_per_gpu", "energy_per_token_j",
)  # fmt: skip
GOOD = "ok"


def steps_of(row: JobRow) -> Any:
    """Times and energies of the steps without and with prompts."""
    fabric = fabric_of(row.model, row.design)

    def one(load: Any) -> tuple[Any, Any]:
        run = step_run(row.model, load, row.design, fabric)
        return run.times.step_s, total(run.energy)

    return jax.vmap(one)(row.loads)


def validate(path: Path) -> ValidationReport:
    """Error table of a file: median inter-token latency, tokens/s, power, J per token."""
    table = read_table(path, COLUMNS)
    parts = preset_parts()
    jobs, index, skipped = table_jobs(table, lambda row: window_job(row, parts))
    seconds, joules = for_all(jobs, steps_of)
    mixtures = stacked([job.steps for job in jobs])
    median_s = np.asarray(median_step_s(mixtures, seconds[:, 0], seconds[:, 1]))
    mean_s = np.asarray(mean_step_s(mixtures, seconds[:, 0], seconds[:, 1]))
    energy_j = np.asarray(mean_step_s(mixtures, joules[:, 0], joules[:, 1]))
    batch = table.numbers("avg_batch_size", at_least=0.0)[index]
    chips = table.numbers("num_gpus", at_least=1.0)[index]
    quality = table.text("quality") if "quality" in table.columns else [GOOD] * len(table)
    is_good = np.array([text == GOOD for text in quality])
    model = {
        "itl_median": median_s,
        "output_tokens_per_s": batch / mean_s,
        "power": energy_j / mean_s,
        "energy_per_token": chips * energy_j / batch,
    }
    measured = {
        "itl_median": 1e-3 * table.numbers("median_itl_ms", at_least=0.0),
        "output_tokens_per_s": table.numbers("output_tokens_per_s", at_least=0.0),
        "power": table.numbers("avg_power_w_per_gpu", at_least=0.0),
        "energy_per_token": table.numbers("energy_per_token_j", at_least=0.0),
    }
    comparisons = {}
    for name, values in model.items():
        given = np.where(is_good, measured[name], np.nan)
        comparisons[name] = Comparison(given, at_rows(len(table), index, values))
    return build_report(
        "serving_energy",
        path,
        comparisons,
        rows_skipped={**skipped, "quality": int((~is_good).sum())},
        group_by={"gpu": table.text("gpu"), "model": table.text("model")},
    )
