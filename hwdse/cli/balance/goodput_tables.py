"""Goodput, checkpoint intervals and checkpoint schemes of a job as table rows."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hwdse.report.number_texts import number_cells
from hwdse.units.format_units import format_number

if TYPE_CHECKING:
    from hwdse.specs.design import Design
    from hwdse.specs.results.evaluation_result import Evaluation

SCHEME_NAMES = {"blocking": "blocking", "two_level": "two-level", "async": "asynchronous"}
HOUR_S = 3600.0
MINUTE_S = 60.0


def checkpoint_rows(design: "Design", evaluation: "Evaluation") -> list[list[str]]:
    """Rows of label and value: failures, checkpoint writes, Young interval and goodput."""
    import jax

    from hwdse.models.reliability.exponential_failures import young_interval_s
    from hwdse.models.reliability.single_level_checkpoint import job_mtbf_s

    cluster, write_s = design.cluster, evaluation.checkpoint_write_time_s
    interval_s = float(design.checkpoint_interval_s)
    with jax.enable_x64(True):
        mtbf_s = float(job_mtbf_s(cluster.chip_mtbf_s, cluster.num_chips))
        young_s = float(young_interval_s(write_s, mtbf_s))
    return [
        ["job MTBF (h)", *number_cells([mtbf_s / HOUR_S], 1)],
        ["remote checkpoint write time (s)", *number_cells([write_s], 2)],
        ["checkpoint interval, current (min)", *number_cells([interval_s / MINUTE_S], 1)],
        ["checkpoint interval, Young (min)", *number_cells([young_s / MINUTE_S], 1)],
        ["goodput, current (%)", f"{100.0 * evaluation.goodput_fraction:.2f}"],
    ]


def scheme_rows(design: "Design", workload: Any) -> list[list[str]]:
    """Rows of checkpoint schemes: optimal interval in min, goodput there in percent."""
    import jax

    from hwdse.numerics.jit_compile import quick_jit

    with jax.enable_x64(True):
        base = jax.tree.map(float, design)
        count, found = jax.tree.map(float, quick_jit(lambda _: _schemes(base, workload))(0.0))
    labels = []
    for name in found:
        label = SCHEME_NAMES[name]
        if name == "two_level":
            label += f", 1 in {format_number(count)} remote"
        if name == design.checkpointing.scheme:
            label += " (current)"
        labels.append(label)
    intervals = number_cells([interval_s / MINUTE_S for interval_s, _ in found.values()], 1)
    goodputs = [f"{100.0 * fraction:.2f}" for _, fraction in found.values()]
    return [list(row) for row in zip(labels, intervals, goodputs, strict=True)]


def _schemes(design: "Design", workload: Any) -> Any:
    """Checkpoints per remote checkpoint of the optimal two-level schedule; optimal interval and
    goodput of every scheme."""
    from hwdse.models.reliability.two_level_checkpoint import best_integer_schedule
    from hwdse.training.job_goodput import SCHEMES, checkpoint_times, goodput, two_level_times
    from hwdse.workload.transformer.sharding import shard

    step = shard(
        workload, design.parallelism, design.cluster.num_chips, design.software, design.mix
    )
    times = checkpoint_times(step.checkpoint_bytes, design)
    count = best_integer_schedule(two_level_times(times, design.cluster))[1]
    found = {}
    for name in SCHEMES:
        scheme = replace(design.checkpointing, scheme=name, remote_every_count=count)
        other = replace(design, checkpointing=scheme)
        optimal_s = goodput(step, other).optimal_interval_s
        optimum = goodput(step, replace(other, checkpoint_interval_s=optimal_s))
        found[name] = (optimal_s, optimum.fraction)
    return count, found
