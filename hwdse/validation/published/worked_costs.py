"""Dies per wafer, yields and costs of good dies against worked examples.

The file has one number per row: columns `item`, `value`, `unit`, `note`. Scored items begin with
"worked:" and match a pattern below; wafer prices are those of the process presets. All other rows
are inputs of the model.
"""

import re
from collections.abc import Callable
from pathlib import Path

from hwdse.config.hardware.process_presets import load_process
from hwdse.models.silicon import cost, die_yield
from hwdse.models.silicon.die_yield import gross_dies_per_wafer
from hwdse.specs.hardware.chip import Process
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    read_table,
)
from hwdse.validation.shared.row_predictions import NoModelError, Predictions, model_predictions

TOLERANCE = 0.01
"""Relative error above which a row counts as a mismatch."""
MM2_PER_CM2 = 100.0
FULL_WAFER_MM = 300.0
NUMBER = r"(\d+(?:\.\d+)?)"
PER_WAFER = re.compile(rf"dies per wafer {NUMBER} mm2 (?:plain|edge {NUMBER} scribe {NUMBER})")
YIELD = re.compile(rf"yield {NUMBER} mm2(?: N\w+)? D0 {NUMBER} (\w+(?:-\w+)?)(?: \w+ {NUMBER})?")
GOOD_DIE = re.compile(rf"known-good-die cost {NUMBER} mm2 N(\d+)")
YIELD_NAMES = {
    "nb": "negative_binomial",
    "poisson": "poisson",
    "murphy": "murphy",
    "seeds": "seeds",
    "bose-einstein": "bose_einstein",
}
"""Yield models of `models/silicon/die_yield.py` by their names in the file."""
INPUT = "an input of the model, not a result"


def validate(path: Path) -> ValidationReport:
    """Error table of `value`, each row in its own unit, by kind of item."""
    table = read_table(path, ("item", "value", "unit"))
    items = [item.removeprefix("worked: ") for item in table.text("item")]
    references = {"value": table.numbers("value", at_least=0.0)}
    models, skipped = model_predictions(table, references, _predictions)
    margin = 2.0 * TOLERANCE * references["value"]
    comparisons = {"value": Comparison(references["value"], models["value"], margin)}
    kinds = [re.split(r" \d", item)[0] for item in items]
    return build_report("cost", path, comparisons, rows_skipped=skipped, group_by={"item": kinds})


def _predictions(table: ReferenceTable, index: int) -> Predictions:
    item = table.rows[index]["item"]
    if not item.startswith("worked: "):
        raise NoModelError(INPUT)
    text = item.removeprefix("worked: ")
    rules: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], float]], ...] = (
        (PER_WAFER, _dies_per_wafer),
        (YIELD, _yield),
        (GOOD_DIE, _good_die),
    )
    for pattern, rule in rules:
        match = pattern.fullmatch(text)
        if match:
            return {"value": rule(match)}
    raise NoModelError("a worked number without a rule")


def _dies_per_wafer(match: re.Match[str]) -> float:
    edge_mm, scribe_mm = float(match[2] or 0.0), float(match[3] or 0.0)
    diameter_mm = FULL_WAFER_MM - 2.0 * edge_mm
    return float(gross_dies_per_wafer(float(match[1]), diameter_mm, scribe_mm))


def _yield(match: re.Match[str]) -> float:
    name = YIELD_NAMES.get(match[3].lower())
    if name is None:
        raise NoModelError("a yield law of another name")
    shape = float(match[4]) if match[4] else 1.0
    defects = float(match[1]) * float(match[2]) / MM2_PER_CM2
    return float(die_yield.YIELDS[name](defects, shape))


def _good_die(match: re.Match[str]) -> float:
    area_mm2, process = float(match[1]), _process(match[2])
    defects = area_mm2 * process.defects_per_mm2
    good = die_yield.negative_binomial_yield_fraction(defects, process.defect_clustering)
    return float(cost.good_die_cost_usd(area_mm2, good, process))


def _process(node: str) -> Process:
    try:
        return load_process(f"n{node}")
    except ValueError:
        raise NoModelError("no process preset of this node") from None
