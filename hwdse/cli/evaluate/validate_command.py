"""`hwdse validate`: agreement of a model with numbers of others."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hwdse.cli.shared.common_options import Json
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import percent, print_json, print_table, say

NAME = "validate"
KINDS = {
    "accelforge": "simulators.accelforge",
    "astrasim": "simulators.astrasim",
    "area": "published.areas",
    "aws": "aws.aws_kernels",
    "calculon_layers": "simulators.calculon_layers",
    "checkpoint": "simulators.checkpoint_monte_carlo",
    "collectives": "measured.measured_collectives",
    "cost": "published.worked_costs",
    "energy": "published.operation_energy",
    "gemmini": "measured.gemmini",
    "nccl": "measured.nccl",
    "precision": "published.fp64_fp16_split",
    "scalesim": "simulators.scalesim",
    "timeloop": "simulators.timeloop",
    "training": "measured.training_runs",
    "vtrain": "measured.vtrain",
    "zigzag": "simulators.zigzag",
}
"""Module of `hwdse.validation` by kind."""
ROW_KINDS = {
    "aws": {
        "kernel": "aws.aws_kernels",
        "collective": "aws.aws_collectives",
        "training": "aws.aws_training",
        "strategy": "aws.aws_strategies",
    }
}
"""What `--kind` may pick from files that hold several kinds of rows, and its module."""
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
"""Kinds that claim to be equal, within a tolerance; only they have a column of unequal rows."""
METRICS = ("mape", "median_ape", "p90_ape", "max_ape", "bias")


def run(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Reference numbers (CSV).")],
    row_kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="NAME",
            help="Of an aws file: kernel, collective or training rows, or layout, its rank.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Score a model against a file of reference numbers and print the error table.

    A row that the model has no rule for is skipped, and its reason is printed.

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
    columns = ["quantity", "rows", "MAPE", "median", "90 %", "max", "bias", "Spearman"]
    columns += ["unequal"] if is_equality else []
    print_table(f"{report['kind']}: {report['file']}", columns, rows)
    groups = [
        [group, *row(name, metrics)]
        for group, table in report["groups"].items()
        for name, metrics in table.items()
    ]
    if groups:
        print_table("by group", ["group", *columns], groups, left=2)
    say(f"{report['rows_scored']} rows scored")
    for what in ("rows_skipped", "rows_partly_scored"):
        for reason, count in report.get(what, {}).items():
            say(f"{count} {what.replace('_', ' ')}: {reason}")


def _row(name: str, metrics: dict[str, Any]) -> list[str]:
    spearman = metrics["spearman"]
    return [
        name,
        f"{metrics['num_rows']:,}",
        *(_share(metrics[key]) for key in METRICS),
        "-" if spearman is None else f"{spearman:.4f}",
    ]


def _share(value: float | None) -> str:
    if value is None:
        return "-"
    if 0.0 < abs(value) < 1e-5:
        return "< 0.001 %"
    return percent(value, 0 if value == 0 else 3 if abs(value) < 1e-3 else 2)
