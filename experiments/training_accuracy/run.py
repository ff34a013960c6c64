"""Errors of modeled step times and memory against published measurements.

    python experiments/training_accuracy/run.py          # error tables, about two minutes
    python experiments/training_accuracy/run.py --fit    # also refits the constants

Writes results/errors.md and results/errors.json, and with --fit results/fit.txt.
"""

import argparse
import json
import pathlib

import jax

from hwdse.calibration.training_fit import read_runs, report
from hwdse.validation.shared.reference_table import Metrics
from hwdse.validation.training import training_runs, vtrain

HERE = pathlib.Path(__file__).parent
DATA = HERE.parents[1] / "tests" / "data"
RUNS = DATA / "measured_training_public.csv"
RECENT = DATA / "measured_training_2026_public.csv"
SINGLE = DATA / "measured_vtrain_single_node_public.csv"
OTHERS = {
    "vtrain_single": "vTrain 8.4 % (profiles the GPU), Calculon 39 %",
    "vtrain_multi": "vTrain 14.7 %, Calculon 15.3 %",
    "korthikanti2022": "Calculon 3.65 % (fitted on them)",
    "narayanan2021": "Calculon 5.4 to 10 % (without ZeRO-3 rows)",
    "mosaicml_llm_foundry": "Calculon 18 to 26 %",
    "simumax_b200": "SimuMax 5.6 %, memory 0.46 % (measures every shape)",
}
"""Errors of other tools on the same sources, published or measured with these tools."""
NAMES = {
    "step_time": "step time",
    "utilization_without_time": "MFU",
    "peak_memory": "peak memory",
}


def errors() -> dict[str, dict[str, Metrics]]:
    """Error metrics by source and quantity."""
    found: dict[str, dict[str, Metrics]] = {}
    for result in (vtrain.validate(SINGLE), *map(training_runs.validate, (RUNS, RECENT))):
        for group, metrics in result.groups.items():
            if group.startswith("source="):
                found[group.removeprefix("source=")] = metrics
    return found


def table(found: dict[str, dict[str, Metrics]]) -> str:
    """Markdown table, one line per source and quantity."""
    lines = [
        "| source | quantity | rows | mean (%) | median (%) | max (%) | bias (%) | other tools |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for source, quantities in found.items():
        for quantity, metrics in quantities.items():
            shares = [
                100.0 * (metrics[k] or 0.0) for k in ("mape", "median_ape", "max_ape", "bias")
            ]
            cells = " | ".join(f"{share:.1f}" for share in shares[:3])
            others = OTHERS.get(source, "-")
            lines.append(
                f"| {source} | {NAMES[quantity]} | {metrics['num_rows']} | {cells} | "
                f"{shares[3]:+.1f} | {others} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    results = HERE / "results"
    found = errors()
    (results / "errors.json").write_text(json.dumps(found, indent=1) + "\n")
    (results / "errors.md").write_text(table(found))
    if options.fit:
        with jax.enable_x64(True):
            text = "\n".join(report(read_runs([RUNS, SINGLE, RECENT])))
        (results / "fit.txt").write_text(text + "\n")


if __name__ == "__main__":
    main()
