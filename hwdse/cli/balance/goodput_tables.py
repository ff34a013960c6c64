"""What failures and checkpoints cost a job, as rows of tables."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.table_output import percent
from hwdse.units.format_units import format_number, format_quantity

if TYPE_CHECKING:
    from hwdse.specs.design import Design
    from hwdse.specs.results.evaluation_result import Evaluation

SCHEME_NAMES = {"blocking": "blocking", "two_level": "two levels", "async": "asynchronous"}


def checkpoint_rows(design: "Design", evaluation: "Evaluation") -> list[list[str]]:
    """Writes, failures and classic rules of a design, label and value."""
    import jax

    from hwdse.models.reliability.exponential_failures import young_interval_s
    from hwdse.models.reliability.single_level_checkpoint import job_mtbf_s

    cluster, write_s = design.cluster, evaluation.checkpoint_write_time_s
    with jax.enable_x64(True):
        mtbf_s = float(job_mtbf_s(cluster.chip_mtbf_s, cluster.num_chips))
        young_s = float(young_interval_s(write_s, mtbf_s))
    return [
        ["mean time between failures of the job", format_quantity(mtbf_s, "s")],
        ["a checkpoint into remote storage takes", format_quantity(write_s, "s")],
        ["Young's interval", format_quantity(young_s, "s")],
        ["useful share of wall time now (goodput)", percent(evaluation.goodput_fraction, 2)],
    ]


def scheme_rows(design: "Design", workload: Any) -> list[list[str]]:
    """Best interval of every scheme of checkpoints, and the useful share of wall time with it."""
    import jax

    from hwdse.numerics.jit_compile import quick_jit

    with jax.enable_x64(True):
        base = jax.tree.map(float, design)
        count, found = jax.tree.map(float, quick_jit(lambda _: _schemes(base, workload))(0.0))
    rows = []
    for name, (interval_s, fraction) in found.items():
        label = SCHEME_NAMES[name]
        if name == "two_level":
            label += f", every {format_number(count)}th remote"
        if name == design.checkpointing.scheme:
            label += " (this design's)"
        rows.append([label, format_quantity(interval_s, "s"), percent(fraction, 2)])
    return rows


def _schemes(design: "Design", workload: Any) -> Any:
    """n of the best schedule of two levels; best interval and goodput of every scheme."""
    from hwdse.models.reliability.two_level_checkpoint import best_integer_schedule
    from hwdse.training.job_goodput import SCHEMES, checkpoint_times, goodput, two_level_times
    from hwdse.workload.transformer.sharding import shard

    step = shard(workload, design.parallelism, design.cluster.num_chips, design.software)
    times = checkpoint_times(step.checkpoint_bytes, design)
    count = best_integer_schedule(two_level_times(times, design.cluster))[1]
    found = {}
    for name in SCHEMES:
        scheme = replace(design.checkpointing, scheme=name, remote_every_count=count)
        other = replace(design, checkpointing=scheme)
        best_s = goodput(step, other).optimal_interval_s
        best = goodput(step, replace(other, checkpoint_interval_s=best_s))
        found[name] = (best_s, best.fraction)
    return count, found
