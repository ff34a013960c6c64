"""`hwdse validate`: error of a model against published reference data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hwdse.cli.shared.common_options import Json
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import print_json, print_table, say

NAME = "validate"
KINDS = {
    "accelforge": "simulators.accelforge",
    "astrasim": "simulators.astrasim",
    "area": "published.areas",
    "attention": "kernels.attention",
    "aws": "aws.aws_kernels",
    "calculon_layers": "simulators.calculon_layers",
    "checkpoint": "simulators.checkpoint_monte_carlo",
    "collectives": "measured.measured_collectives",
    "cost": "published.worked_costs",
    "energy": "published.operation_energy",
    "gemm": "kernels.gemm",
    "gemmini": "measured.gemmini",
    "inference": "serving.inference",
    "kernel_power": "power.kernel_power",
    "nccl": "measured.nccl",
    "ops": "kernels.ops",
    "power": "power.job_power",
    "power_caps": "power.power_caps",
    "precision": "published.fp64_fp16_split",
    "scalesim": "simulators.scalesim",
    "serving_energy": "serving.serving_energy",
    "serving_rates": "serving.serving_rates",
    "timeloop": "simulators.timeloop",
    "training": "training.training_runs",
    "vtrain": "training.vtrain",
    "zigzag": "simulators.zigzag",
}
"""Module of `hwdse.validation` by kind."""
ROW_KINDS = {
    "aws": {
        "kernel": "aws.aws_kernels",
        "collective": "aws.aws_collectives",
        "training": "aws.aws_training",
        "strategy": "aws.aws_strategies",
        "inference": "aws.aws_inference",
    }
}
"""Module of `hwdse.validation` by value of `--kind`, for files with several kinds of rows."""
EQUAL_KINDS = (
    "accelforge",
    "astrasim",
    "calculon_layers",
    "checkpoint",
    "precision",
    "scalesim",
    "timeloop",
    "zigzag",
)
"""Kinds that are compared for equality within a tolerance; only they count unequal rows."""
METRICS = {
    "mape": "MAPE (%)",
    "median_ape": "median (%)",
    "p90_ape": "p90 (%)",
    "max_ape": "max (%)",
    "bias": "bias (%)",
}
"""Column of each metric of the error: absolute relative errors, and the mean relative error."""


def run(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"Reference: {', '.join(KINDS)}.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Reference data (CSV).")],
    row_kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="NAME",
            help="Rows of an aws file: kernel, collective, training, inference, strategy (rank of "
            "parallelism strategies).  [default: kernel]",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare a model with reference data: error table.

    Rows outside the scope of the model are skipped, and the reasons are printed.

    \b
    Examples:
      hwdse validate scalesim tests/data/scalesim_public.csv
      hwdse validate timeloop tests/data/timeloop_gemmini_public.csv --json
    """
    if kind not in KINDS:
        raise CommandError(f"KIND {kind}: expected one of {', '.join(KINDS)}")
    allowed = ROW_KINDS.get(kind, {})
    if row_kind is not None and row_kind not in allowed:
        expected = f"one of {', '.join(allowed)}" if allowed else f"no --kind for {kind} files"
        raise CommandError(f"--kind {row_kind}: expected {expected}")
    import importlib

    name = allowed.get(row_kind or "", KINDS[kind])
    module = importlib.import_module(f"hwdse.validation.{name}")
    try:
        report = module.validate(file).as_dict()
    except ValueError as error:
        raise CommandError(str(error)) from error
    if json:
        print_json(report)
    else:
        _print_report(report, kind in EQUAL_KINDS)


def _print_report(report: dict[str, Any], is_equality: bool) -> None:
    def row(name: str, metrics: dict[str, Any]) -> list[str]:
        unequal = [f"{metrics['mismatches']:,}"] if is_equality else []
        return [*_row(name, metrics), *unequal]

    rows = [row(name, metrics) for name, metrics in report["metrics"].items()]
    columns = ["quantity", "rows", *METRICS.values(), "Spearman"]
    columns += ["unequal"] if is_equality else []
    print_table(f"{report['kind']}: {report['file']}", columns, rows)
    groups = [
        [group, *row(name, metrics)]
        for group, table in report["groups"].items()
        for name, metrics in table.items()
    ]
    if groups:
        print_table("by group", ["group", *columns], groups, left=2)
    say(f"{report['rows_scored']} rows compared")
    for key, label in (("rows_skipped", "skipped"), ("rows_partly_scored", "partly compared")):
        for reason, count in report.get(key, {}).items():
            say(f"{count} rows {label}: {reason}" if count != 1 else f"1 row {label}: {reason}")


def _row(name: str, metrics: dict[str, Any]) -> list[str]:
    spearman = metrics["spearman"]
    return [
        name,
        f"{metrics['num_rows']:,}",
        *(_share(metrics[key]) for key in METRICS),
        "-" if spearman is None else f"{spearman:.4f}",
    ]


def _share(value: float | None) -> str:
    """Relative error in percent; `-` if unknown."""
    if value is None:
        return "-"
    if 0.0 < abs(value) < 1e-5:
        return "< 0.001"
    return f"{100.0 * value:.{0 if value == 0 else 3}f}"
