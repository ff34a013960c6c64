"""Areas of memories, units and dies against published areas.

The file has one area per row: columns `item`, `node` (such as N7), `value`, `unit`. Scored rows
are results of the model: SRAM macros from cells, caches, units from transistor counts, matrix
units from the MAC area of the process, and dies ("... die", or their cores) from `configs/dies`.
Cells, PHYs, controllers and other constants are inputs of the model and are skipped.
"""

import re
from pathlib import Path

from hwdse.config.hardware.process_presets import load_process
from hwdse.config.hardware.published_dies import load_dies
from hwdse.models.silicon import die_area_from_units
from hwdse.specs.hardware.process_nodes import logic_density_mtr_per_mm2
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    read_table,
)
from hwdse.validation.shared.row_predictions import NoModelError, Predictions, model_predictions

MIB = 1024.0**2
BITS_PER_MBIT = {"Mib/mm2": MIB, "Mb/mm2": 1e6}
MANTISSA_BITS = {"fp64": 52.0, "fp32": 23.0, "fp16": 10.0, "bf16": 7.0}
UM2 = 1e6
INPUT = "an input of the model, not a result"


def validate(path: Path) -> ValidationReport:
    """Error table of `area`, each row in its own unit, by kind of item and by node."""
    table = read_table(path, ("item", "node", "value", "unit"))
    references = {"area": table.numbers("value", at_least=1e-12)}
    models, skipped = model_predictions(table, references, _predictions)
    comparisons = {name: Comparison(references[name], models[name]) for name in references}
    groups = {"item": [_kind_of(item) for item in table.text("item")], "node": table.text("node")}
    return build_report("area", path, comparisons, rows_skipped=skipped, group_by=groups)


def _kind_of(item: str) -> str:
    """Group of an item."""
    words = ("macro", "cache", "FPU", "MXU", "cores", "die")
    return next((word for word in words if word in item), "other")


def _predictions(table: ReferenceTable, index: int) -> Predictions:
    row = table.rows[index]
    item, unit = row["item"], row["unit"]
    if item.startswith("sram macro"):
        return {"area": _macro(row["node"], unit)}
    if item.startswith("gpu cache") and unit == "mm2/MiB":
        return {
            "area": MIB * float(die_area_from_units.cache_area_mm2_per_byte(_node_nm(row["node"])))
        }
    unit_name = re.fullmatch(r"(\w+) FPU", item)
    if unit_name and unit == "um2":
        return {"area": _float_unit_um2(unit_name[1], row["node"])}
    engine = re.fullmatch(r"MXU (\d+)x(\d+) (?:bf16|fp16)", item)
    if engine and unit == "mm2":
        return {"area": float(engine[1]) * float(engine[2]) * _mac_mm2(row["node"])}
    if " die" in item and unit == "mm2":
        return {"area": _die(item)}
    raise NoModelError(INPUT)


def _node_nm(node: str) -> float:
    """Node in nanometers: 7 for N7, 3 for N3E."""
    match = re.match(r"N(\d+)", node)
    if match is None:
        raise NoModelError("no single node")
    return float(match[1])


def _macro(node: str, unit: str) -> float:
    """Area per MiB (mm²), or the density in decimal or binary megabits."""
    cell = die_area_from_units.BITCELL_UM2.get(_node_nm(node))
    if cell is None:
        raise NoModelError("no bit cell of this node")
    per_byte = float(die_area_from_units.macro_area_mm2_per_byte(cell))
    if unit == "mm2/MiB":
        return MIB * per_byte
    if unit in BITS_PER_MBIT:
        return die_area_from_units.BITS_PER_BYTE / per_byte / BITS_PER_MBIT[unit]
    raise NoModelError(f"unit {unit}: not known")


def _float_unit_um2(name: str, node: str) -> float:
    """Area from transistor count and peak density, as in the source (µm²)."""
    if name not in MANTISSA_BITS:
        raise NoModelError("no transistor count of this unit")
    density = float(logic_density_mtr_per_mm2(_node_nm(node)))
    return UM2 * float(die_area_from_units.float_unit_mtr(MANTISSA_BITS[name])) / density


def _mac_mm2(node: str) -> float:
    try:
        return float(load_process(f"n{_node_nm(node):g}").mac_area_mm2)
    except ValueError:
        raise NoModelError("no process preset of this node") from None


def _die(item: str) -> float:
    """Area of a die from its unit counts, or of its cores (mm²)."""
    plans = load_dies()
    name = next((n for n in sorted(plans, key=len, reverse=True) if item.startswith(n)), None)
    if name is None:
        raise NoModelError("no counts of this die")
    parts = die_area_from_units.die_area_parts_mm2(plans[name][0])
    return float(parts.cores if "cores" in item else parts.total)
