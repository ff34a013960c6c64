"""`hwdse uncertainty`: bands of figures under uncertain constants, and which constant matters."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.common_options import Config, Json, Seed, Sets, parse_count
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import percent, print_json, print_table, say

if TYPE_CHECKING:
    import numpy as np

    from hwdse.config import LoadedSearch
    from hwdse.config.search.metric_names import Metric
    from hwdse.search.uncertainty.uncertainty_propagation import VarianceBudget

NAME = "uncertainty"
SHOWN_CONSTANTS = 12


def run(
    config: Config,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="A figure, such as chip_power; all headlines by default."),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", parser=parse_count, metavar="N", help="Designs sampled.")
    ] = 1000,
    spread: Annotated[
        list[str] | None,
        typer.Option("--spread", metavar="PATH=30%", help="One more uncertain constant."),
    ] = None,
    front: Annotated[
        Path | None,
        typer.Option("--front", metavar="RUN", help="Folder with front.csv, or a CSV like it."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Of --front: for bands.csv and the picture; "
                     "by default beside the front."),
    ] = None,
    sets: Sets = None,
    seed: Seed = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Bands (5, 50, 95 %) of the figures of a design, and the error budget of its constants.

    With --front: the bands of the objectives of each design of a front, and in how many of the
    samples, the same for all designs, it meets the limits and stays on the front.

    Constants are uncertain where the search file says so in [uncertain], where a value is written
    as "0.9 pJ/bit +- 30 %", and by --spread (+- one standard deviation, lognormal).

    \b
    Examples:
      hwdse uncertainty trn2_llama3_70b --spread chip.hbm.energy=30% \\
        --spread chip.process.mac_energy=20%
      hwdse uncertainty trn2_llama3_70b --spread chip.hbm.bandwidth=10% --metric time_per_token
      hwdse uncertainty trn2_llama3_70b --spread chip.hbm.energy=30% --front runs/front
    """
    from hwdse.config import load_search
    from hwdse.config.search.metric_names import parse_metric

    changes = [*(sets or ()), *(_checked_spread(text) for text in spread or ())]
    loaded = load_search(config, changes)
    if not loaded.uncertain_constants:
        raise CommandError(
            f"{config}: no constant is uncertain; name some in [uncertain], or with "
            "--spread chip.hbm.energy=30%"
        )
    if samples < 10:
        raise CommandError(f"--samples {samples}: expected at least 10")
    seed = loaded.seed if seed is None else seed
    if front is not None:
        from hwdse.cli.uncertainty.front_uncertainty_tables import run_front

        if metric:
            raise CommandError(f"--metric {metric[0]}: --front has the file's front objectives")
        run_front(loaded, config, front, num_samples=samples, seed=seed, out=out, json=json)
        return
    if out is not None:
        raise CommandError(f"--out {out}: only with --front")
    metrics = [parse_metric(name, "--metric") for name in metric or _headlines(loaded)]
    rows, budget = _figures(loaded, metrics, samples, seed)
    if json:
        print_json(_as_json(loaded, metrics, rows, budget, samples))
    else:
        _print(loaded, metrics, rows, budget)


def _checked_spread(text: str) -> str:
    """A `--spread` as the change of a search file that it is."""
    from hwdse.search.uncertainty.uncertain_constants import relative_spread
    from hwdse.units.parse_units import to_base

    path, _, value = text.partition("=")
    if not path.strip() or not value.strip():
        raise CommandError(f"--spread {text}: expected PATH=SPREAD such as chip.hbm.energy=30%")
    try:
        relative_spread(path, to_base(value.strip(), "1"))
    except ValueError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise CommandError(f"--spread {text}: expected {reason}") from None
    return f"uncertain.{text}"


def _headlines(loaded: "LoadedSearch") -> list[str]:
    from hwdse.cli.shared import metric_tables

    names = metric_tables.CORE_HEADLINE if metric_tables.is_core(loaded) else metric_tables.HEADLINE
    return [field for _, field, _, _ in names]


def _figures(
    loaded: "LoadedSearch", metrics: list["Metric"], num_samples: int, seed: int
) -> tuple["dict[str, np.ndarray]", "VarianceBudget"]:
    """Nominal values, bands and standard deviations of each metric, and the error budget."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from hwdse.cli.shared.metric_tables import evaluate_exact
    from hwdse.evaluation import evaluate
    from hwdse.search.uncertainty.uncertainty_propagation import (
        error_budget,
        percentiles,
        sample_figures,
    )

    def values(design: Any) -> Any:
        evaluation = evaluate(design, loaded.workload)
        return jnp.stack([jnp.asarray(m.value(evaluation), float) for m in metrics])

    with jax.enable_x64(True):
        sample = sample_figures(
            values, loaded.base, loaded.uncertain_constants, num_samples=num_samples, seed=seed
        )
        budget = error_budget(values, loaded.base, loaded.uncertain_constants)
    nominal = evaluate_exact(loaded.base, loaded.workload)
    rows = {
        "nominal": np.asarray([float(m.value(nominal)) for m in metrics]),
        "bands": percentiles(sample),
        "sampled_sigma": np.log(sample).std(axis=0),
    }
    return rows, budget


def _print(
    loaded: "LoadedSearch",
    metrics: list["Metric"],
    rows: "dict[str, np.ndarray]",
    budget: "VarianceBudget",
) -> None:
    cells = []
    for i, metric in enumerate(metrics):
        values = (rows["nominal"][i], *rows["bands"][:, i])
        cells.append(
            [
                metric.label,
                *(metric.format(value) for value in values),
                percent(float(rows["sampled_sigma"][i])),
                percent(float(budget.total_sigmas[i])),
            ]
        )
    heads = ["", "nominal", "5 %", "50 %", "95 %", "spread (sampled)", "(linear)"]
    print_table(loaded.title, heads, cells)
    shown = [i for i in range(len(metrics)) if budget.total_sigmas[i] > 0.0]
    for i in shown if len(metrics) <= 3 else shown[:0]:
        _print_budget(loaded, metrics[i], budget, i)
    for i in shown:
        place = int(budget.shares[i].argmax())
        say(
            f"{metrics[i].label}: {loaded.uncertain_constants[place].path} matters most, "
            f"{percent(float(budget.shares[i][place]), 0)} of the variance"
        )


def _print_budget(
    loaded: "LoadedSearch", metric: "Metric", budget: "VarianceBudget", i: int
) -> None:
    order = (-budget.shares[i]).argsort(kind="stable")[:SHOWN_CONSTANTS]
    rows = [
        [
            loaded.uncertain_constants[k].path,
            percent(float(budget.log_sigmas[k])),
            f"{budget.elasticities[i, k]:+.3f}",
            percent(float(budget.shares[i, k])),
        ]
        for k in order
    ]
    heads = ["constant", "spread", "elasticity", "share of the variance"]
    print_table(f"error budget of {metric.label}", heads, rows)


def _as_json(
    loaded: "LoadedSearch",
    metrics: list["Metric"],
    rows: "dict[str, np.ndarray]",
    budget: "VarianceBudget",
    num_samples: int,
) -> dict[str, Any]:
    paths = [spread.path for spread in loaded.uncertain_constants]
    return {
        "title": loaded.title,
        "samples": num_samples,
        "constants": {
            s.path: {"distribution": s.distribution, "low_factor": s.low, "high_factor": s.high,
                     "log_sigma": sigma}
            for s, sigma in zip(loaded.uncertain_constants, budget.log_sigmas.tolist(), strict=True)
        },
        "metrics": {
            m.name: {
                "unit": m.unit,
                "nominal": rows["nominal"][i],
                "p5": rows["bands"][0, i],
                "p50": rows["bands"][1, i],
                "p95": rows["bands"][2, i],
                "sampled_log_sigma": rows["sampled_sigma"][i],
                "linear_log_sigma": budget.total_sigmas[i],
                "elasticities": dict(zip(paths, budget.elasticities[i].tolist(), strict=True)),
                "variance_contributions": dict(zip(paths, budget.shares[i].tolist(), strict=True)),
            }
            for i, m in enumerate(metrics)
        },
    }  # fmt: skip
