"""Areas of memories, units and dies against published areas.

The file has one area per row: columns `item`, `node` (such as N7), `value`, `unit`. Scored rows
are results of the model: SRAM macros from cells, units from transistor counts, matrix units from
the MAC area of the process, and dies from chip presets: "H100 die" (one of equal dies), "B200
dies" (all of a package), "MI300X compute die" (XCD), "MI300X base die" (IOD), "A100 die, largest
block (cores)". The area is that of limits, cost and leakage (`models/silicon/area`). Cells, caches,
PHYs, controllers and other constants are inputs of the model and are skipped.
"""

import re
from pathlib import Path

from hwdse.config.files.toml_files import preset_names
from hwdse.config.hardware.load_specs import load_chip
from hwdse.config.hardware.process_presets import load_process
from hwdse.models.silicon import area, unit_areas
from hwdse.numerics.relaxation import total
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.hardware.process_nodes import logic_density_mtr_per_mm2
from hwdse.specs.results.evaluation_result import AreaParts
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
    words = ("macro", "FPU", "MXU", "cores", "die")
    return next((word for word in words if word in item), "other")


def _predictions(table: ReferenceTable, index: int) -> Predictions:
    row = table.rows[index]
    item, unit = row["item"], row["unit"]
    if item.startswith("sram macro"):
        return {"area": _macro(row["node"], unit)}
    unit_name = re.fullmatch(r"(\w+) FPU", item)
    if unit_name and unit == "um2":
        return {"area": _float_unit_um2(unit_name[1], row["node"])}
    engine = re.fullmatch(r"MXU (\d+)x(\d+) (?:bf16|fp16)", item)
    if engine and unit == "mm2":
        return {"area": float(engine[1]) * float(engine[2]) * _mac_mm2(row["node"])}
    if re.search(r" die| XCD| IOD", item) and unit == "mm2":
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
    cell = unit_areas.BITCELL_UM2.get(_node_nm(node))
    if cell is None:
        raise NoModelError("no bit cell of this node")
    per_byte = float(unit_areas.macro_area_mm2_per_byte(cell))
    if unit == "mm2/MiB":
        return MIB * per_byte
    if unit in BITS_PER_MBIT:
        return unit_areas.BITS_PER_BYTE / per_byte / BITS_PER_MBIT[unit]
    raise NoModelError(f"unit {unit}: not known")


def _float_unit_um2(name: str, node: str) -> float:
    """Area from transistor count and peak density, as in the source (µm²)."""
    if name not in MANTISSA_BITS:
        raise NoModelError("no transistor count of this unit")
    density = float(logic_density_mtr_per_mm2(_node_nm(node)))
    return UM2 * float(unit_areas.float_unit_mtr(MANTISSA_BITS[name])) / density


def _mac_mm2(node: str) -> float:
    try:
        return float(load_process(f"n{_node_nm(node):g}").mac_area_mm2)
    except ValueError:
        raise NoModelError("no process preset of this node") from None


def _die(item: str) -> float:
    """Area of one die of a preset, of all its dies, or of the cores on them (mm²)."""
    preset = preset_named_in(item)
    if preset is None:
        raise NoModelError("no preset of this chip")
    chip = load_chip(preset)
    parts = area.area_parts_mm2(chip)
    if "cores" in item:
        return _cores_mm2(chip, parts)
    if "dies" in item:
        return float(total(parts))
    stacked = float(parts.base_dies)
    if "base die" in item or "IOD" in item:
        if stacked == 0.0:
            raise NoModelError("no base dies")
        return (float(total(parts)) - stacked) / chip.num_base_dies
    return (stacked or float(total(parts))) / chip.num_dies


def _cores_mm2(chip: Chip, parts: AreaParts) -> float:
    """Engines with registers and first-level SRAM: without caches, network and interfaces (mm²)."""
    cache_bytes = chip.sram.capacity_bytes * chip.spare_sram_ratio * chip.cache_fraction
    caches = cache_bytes * chip.process.cache_area_mm2_per_byte
    return float(parts.matrix + parts.fp64 + parts.vector + parts.sram - caches)


def preset_named_in(text: str) -> str | None:
    """Chip preset with the longest file name that the text begins with."""
    flat = re.sub(r"[^a-z0-9]", "", text.lower().split("/")[0])
    names = sorted(preset_names("chips"), key=len, reverse=True)
    matches = (n for n in names if flat.startswith(n.replace("_", "")))
    return next(matches, None)
