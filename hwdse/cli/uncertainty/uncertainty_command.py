"""`hwdse uncertainty`: percentiles of metrics and variance contributions of uncertain constants."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.common_options import (
    DEFAULT_FORMATS,
    Config,
    Formats,
    Json,
    Seed,
    Sets,
    parse_count,
    parse_formats,
)
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.reliance_output import print_reliance, reliance_json
from hwdse.cli.shared.table_output import print_json, print_table, say
from hwdse.report.number_texts import percent

if TYPE_CHECKING:
    import numpy as np

    from hwdse.config import LoadedSearch
    from hwdse.config.search.metric_names import Metric
    from hwdse.search.uncertainty.uncertain_constants import UncertainConstant
    from hwdse.search.uncertainty.uncertainty_propagation import VarianceBudget

NAME = "uncertainty"
SIGMA = "σ of ln"  # noqa: RUF001
SHOWN_CONSTANTS = 12
MAX_BUDGETS = 3
"""Largest number of metrics whose variance budgets are printed in full."""


def run(
    config: Config,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Metric, e.g. chip_power. Repeatable.  "
                     "[default: headline metrics]"),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", parser=parse_count, metavar="N", help="Samples of the "
                          "constants.")
    ] = 1000,
    uncertain: Annotated[
        list[str] | None,
        typer.Option("--uncertain", metavar="PATH=SIGMA", help="Uncertain constant with its "
                     "relative uncertainty, e.g. chip.hbm.energy=30%: lognormal, one standard "
                     "deviation is a factor of 1.3. Repeatable."),
    ] = None,
    front: Annotated[
        Path | None,
        typer.Option("--front", metavar="RUN", help="Analyze a front: run folder, or CSV such as "
                     "its front.csv."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="With --front: folder of uncertainty.csv and "
                     "plots.  [default: folder of the front]"),
    ] = None,
    formats: Formats = DEFAULT_FORMATS,
    sets: Sets = None,
    seed: Seed = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Propagate uncertain constants to metrics.

    Prints percentiles (p5, p50, p95) of the metrics of a design and the variance contribution of
    each constant. With --front: percentiles of the objectives of each design, and the share of
    samples in which it meets the limits and stays on the front. All designs share the same samples.

    Uncertain constants come from [uncertain] of the config, from values such as
    "0.9 pJ/bit +- 30 %" and from --uncertain. "30 %": lognormal; plus or minus one standard
    deviation is a factor of 1.3.

    \b
    Examples:
      hwdse uncertainty trn2_llama3_70b --uncertain chip.hbm.energy=30% \\
        --uncertain chip.process.mac_energy=20%
      hwdse uncertainty trn2_llama3_70b --uncertain chip.hbm.bandwidth=10% --metric time_per_token
      hwdse uncertainty trn2_llama3_70b --uncertain chip.hbm.energy=30% --front runs/front
    """
    from hwdse.config import load_search
    from hwdse.config.search.metric_names import parse_metric

    changes = [*(sets or ()), *(_checked_uncertainty(text) for text in uncertain or ())]
    loaded = load_search(config, changes)
    if not loaded.uncertain_constants:
        raise CommandError(
            f"{config}: no uncertain constants; add [uncertain] to the config or "
            "--uncertain chip.hbm.energy=30%"
        )
    if samples < 10:
        raise CommandError(f"--samples {samples}: expected at least 10")
    seed = loaded.seed if seed is None else seed
    if front is not None:
        from hwdse.cli.uncertainty.front_uncertainty_tables import run_front

        if metric:
            raise CommandError(f"--metric {metric[0]}: not with --front, which has its objectives")
        run_front(loaded, config, front, num_samples=samples, seed=seed, out=out,
                  formats=parse_formats(formats), json=json)  # fmt: skip
        return
    if out is not None:
        raise CommandError(f"--out {out}: only with --front")
    metrics = [parse_metric(name, "--metric") for name in metric or _headlines(loaded)]
    rows, budget = _metric_rows(loaded, metrics, samples, seed)
    names = [one.name for one in metrics]
    if json:
        told = _as_json(loaded, metrics, rows, budget, samples)
        print_json({**told, "rests_on": reliance_json(loaded, loaded.base, *names)})
    else:
        _print(loaded, metrics, rows, budget, samples)
        print_reliance(loaded, loaded.base, *names)


def _checked_uncertainty(text: str) -> str:
    """Value of `--uncertain` as a change of the search file."""
    from hwdse.config.files.uncertainty_suffix import relative_fraction
    from hwdse.search.uncertainty.uncertain_constants import relative_uncertainty

    path, _, value = text.partition("=")
    if not path.strip() or not value.strip():
        raise CommandError(f"--uncertain {text}: expected PATH=SIGMA, e.g. chip.hbm.energy=30%")
    try:
        relative_uncertainty(path, relative_fraction(value))
    except ValueError as error:
        reason = str(error).removeprefix(f"{path}: expected ")
        raise CommandError(f"--uncertain {text}: expected {reason}") from None
    return f"uncertain.{text}"


def _headlines(loaded: "LoadedSearch") -> list[str]:
    from hwdse.report.metrics import HEADLINES, kind_of

    names = HEADLINES[kind_of(loaded)]
    return [field for _, field, _, _ in names]


def _metric_rows(
    loaded: "LoadedSearch", metrics: list["Metric"], num_samples: int, seed: int
) -> tuple["dict[str, np.ndarray]", "VarianceBudget"]:
    """Nominal values, percentiles and standard deviations of metrics, and the variance budget."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from hwdse.config.schema.range_ends import inside_ranges
    from hwdse.evaluation import evaluate, evaluate_exact
    from hwdse.search.uncertainty.uncertainty_propagation import (
        percentiles,
        sample_metrics,
        variance_budget,
    )

    def values(design: Any) -> Any:
        evaluation = evaluate(design, loaded.workload)
        return jnp.stack([jnp.asarray(m.value(evaluation), float) for m in metrics])

    with jax.enable_x64(True):
        sample = sample_metrics(
            values, loaded.base, loaded.uncertain_constants, num_samples=num_samples, seed=seed
        )
        # As in `hwdse sensitivity`: derivatives into the range.
        inside = inside_ranges(loaded.base)
        budget = variance_budget(values, inside, loaded.uncertain_constants)
    nominal = evaluate_exact(loaded.base, loaded.workload)
    rows = {
        "nominal": np.asarray([float(m.value(nominal)) for m in metrics]),
        "percentiles": percentiles(sample),
        "sampled_sigma": np.log(sample).std(axis=0),
    }
    return rows, budget


def _print(
    loaded: "LoadedSearch",
    metrics: list["Metric"],
    rows: "dict[str, np.ndarray]",
    budget: "VarianceBudget",
    samples: int,
) -> None:
    from hwdse.cli.shared.parameter_cells import metric_row
    from hwdse.config.schema.user_paths import short_path
    from hwdse.report.metrics import kind_of

    kind = kind_of(loaded)
    labels, cells, unaffected = [], [], []
    for i, metric in enumerate(metrics):
        values = [rows["nominal"][i], *rows["percentiles"][:, i]]
        label, numbers = metric_row(metric, values, kind=kind)
        labels.append(label.rpartition(" (")[0] or label)
        if len(metrics) > MAX_BUDGETS and budget.total_sigmas[i] == 0.0:
            unaffected.append(labels[i])
            continue
        sigmas = (rows["sampled_sigma"][i], budget.total_sigmas[i])
        cells.append([label, *numbers, *(f"{float(sigma):.3f}" for sigma in sigmas)])
    heads = ["metric", "nominal", "p5", "p50", "p95", f"{SIGMA}, sampled", f"{SIGMA}, linear"]
    say(loaded.title)
    noun = "constant" if len(loaded.uncertain_constants) == 1 else "constants"
    say(f"{samples:,} samples of {len(loaded.uncertain_constants)} uncertain {noun}")
    say("")
    print_table("", heads, cells)
    for constant in loaded.uncertain_constants:
        if clipped := _clipped_fraction(loaded, constant):
            say(f"{short_path(constant.path)}: {percent(clipped)} of the samples are set to the "
                "end of its range")  # fmt: skip
    if unaffected:
        say(f"unaffected: {', '.join(unaffected)}")
    shown = [i for i in range(len(metrics)) if budget.total_sigmas[i] > 0.0]
    for i in shown if len(metrics) <= MAX_BUDGETS else shown[:0]:
        _print_budget(loaded, labels[i], budget, i)
    for i in shown if len(metrics) > MAX_BUDGETS else shown[:0]:
        largest = int(budget.shares[i].argmax())
        share = percent(float(budget.shares[i][largest]))
        path = short_path(loaded.uncertain_constants[largest].path)
        say(f"largest variance contribution to {labels[i]}: {path}, {share}")


def _clipped_fraction(loaded: "LoadedSearch", constant: "UncertainConstant") -> float:
    """Fraction of the samples of a constant that are set to an end of its range."""
    from hwdse.search.space.pytree_path import get_path

    return constant.clipped_fraction(float(get_path(loaded.base, constant.path)))


def _print_budget(loaded: "LoadedSearch", label: str, budget: "VarianceBudget", i: int) -> None:
    from hwdse.config.schema.range_ends import range_ends, side_text
    from hwdse.config.schema.user_paths import short_path

    ends = range_ends(loaded.base)
    sides = [side_text(ends.get(constant.path)) for constant in loaded.uncertain_constants]
    order = (-budget.shares[i]).argsort(kind="stable")[:SHOWN_CONSTANTS]
    rows = [
        [
            short_path(loaded.uncertain_constants[k].path),
            loaded.uncertain_constants[k].distribution,
            f"{float(budget.log_sigmas[k]):.3f}",
            f"{budget.elasticities[i, k]:+.3f}",
            f"{100.0 * float(budget.shares[i, k]):.1f}",
            *([sides[k]] if any(sides) else []),
        ]
        for k in order
    ]
    heads = ["constant", "distribution", SIGMA, "elasticity", "variance contribution (%)"]
    heads += ["derivative"] if any(sides) else []
    print_table(f"variance of {label}", heads, rows)


def _as_json(
    loaded: "LoadedSearch",
    metrics: list["Metric"],
    rows: "dict[str, np.ndarray]",
    budget: "VarianceBudget",
    num_samples: int,
) -> dict[str, Any]:
    from hwdse.config.schema.range_ends import range_ends

    paths = [constant.path for constant in loaded.uncertain_constants]
    ends = range_ends(loaded.base)
    return {
        "title": loaded.title,
        "samples": num_samples,
        "constants": {
            s.path: {"distribution": s.distribution, "low_factor": s.low, "high_factor": s.high,
                     "log_sigma": sigma, "one_sided": ends.get(s.path),
                     "clipped_fraction": _clipped_fraction(loaded, s)}
            for s, sigma in zip(loaded.uncertain_constants, budget.log_sigmas.tolist(), strict=True)
        },
        "metrics": {
            m.name: {
                "unit": m.unit,
                "nominal": rows["nominal"][i],
                "p5": rows["percentiles"][0, i],
                "p50": rows["percentiles"][1, i],
                "p95": rows["percentiles"][2, i],
                "sampled_log_sigma": rows["sampled_sigma"][i],
                "linear_log_sigma": budget.total_sigmas[i],
                "elasticities": dict(zip(paths, budget.elasticities[i].tolist(), strict=True)),
                "variance_contributions": dict(zip(paths, budget.shares[i].tolist(), strict=True)),
            }
            for i, m in enumerate(metrics)
        },
    }  # fmt: skip
