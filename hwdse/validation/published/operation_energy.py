"""Energy and area of operations, units and instructions.

The file has one operation per row: columns `kind`, `format`, `node_nm`, `energy_pj`, `area_um2`,
`per`, `note`. Kinds: `add` and `mult` of a format; `mac` of a format, or of "A mult + B add";
`flop` and `fma` of a unit; `instr`, from the MACs of an instruction; `fpu`, whose area column
contains transistors; `chip`, a power limit over a printed peak rate. The last kind and rows whose
note excludes their use are skipped.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from hwdse.models.energy import arithmetic_unit_costs as units
from hwdse.models.silicon.unit_areas import INT32_UNIT_MTR, float_unit_mtr
from hwdse.specs.number_formats import FORMATS
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    read_table,
)
from hwdse.validation.shared.row_predictions import NoModelError, Predictions, model_predictions

PJ, UM2, MTR = 1e12, 1e6, 1e6
KINDS = ("add", "mult", "mac", "flop", "fma", "instr", "fpu", "chip")
INSTRUCTIONS: Mapping[str, tuple[float, str, str]] = MappingProxyType(
    {
        "HFMA": (1.0, "fp16", "fp16"),
        "HDP4A": (4.0, "int8", "int32"),
        "HMMA": (64.0, "fp16", "fp32"),
        "IMMA": (512.0, "int8", "int32"),
    }
)
"""MACs, format and accumulator format of one GPU instruction. Source: Dally, Hot Chips 2023."""


def validate(path: Path) -> ValidationReport:
    """Error table of `energy_pj`, `area_um2` and `transistors`, by kind and node."""
    table = read_table(path, ("kind", "format", "node_nm", "energy_pj", "area_um2", "per", "note"))
    references = _references(table)
    models, skipped = model_predictions(table, references, _predictions)
    comparisons = {n: Comparison(references[n], models[n]) for n in references}
    nodes = [f"{cell} nm" if cell else "any" for cell in table.text("node_nm")]
    groups = {"kind": table.text("kind"), "node": nodes}
    return build_report("energy", path, comparisons, rows_skipped=skipped, group_by=groups)


def _references(table: ReferenceTable) -> dict[str, np.ndarray]:
    energy = table.numbers("energy_pj", at_least=1e-12, may_be_empty=True)
    area = table.numbers("area_um2", at_least=1e-12, may_be_empty=True)
    holds_transistors = np.asarray([per == "transistors" for per in table.text("per")])
    # A PE of several formats has the area of the widest.
    shared = np.asarray(["also serves" in note for note in table.text("note")])
    return {
        "energy_pj": energy,
        "area_um2": np.where(holds_transistors | shared, np.nan, area),
        "transistors": np.where(holds_transistors, area, np.nan),
    }


def _predictions(table: ReferenceTable, index: int) -> Predictions:
    row = table.rows[index]
    kind, name = row["kind"], row["format"]
    if kind not in KINDS:
        raise NoModelError(f"kind {kind}: no model")
    if kind == "chip":
        raise NoModelError("power limit over printed peak: no chip reaches that rate at its limit")
    if "do not use" in row["note"]:
        raise NoModelError("excluded by the note in the file")
    if kind == "fpu":
        return _unit_transistors(name)
    node_nm = table.numbers("node_nm", may_be_empty=True)[index]
    if not node_nm > 0.0:
        raise NoModelError("no node")
    ratios = float(units.node_energy_ratio(node_nm)), float(units.node_area_ratio(node_nm))
    if kind == "instr":
        return _instruction_predictions(name, ratios)
    if kind in ("add", "mult"):
        return _operation_predictions(kind, _format_name(name), ratios)
    joules, mm2 = _mac(*_mac_formats(name), ratios)
    per_flop = 2.0 if kind == "flop" else 1.0
    return {"energy_pj": PJ * joules / per_flop, "area_um2": UM2 * mm2}


def _format_name(text: str) -> str:
    """The single format in a text. Two formats mean an engine of several formats, an error."""
    words = re.findall(r"\b(?:mx)?(?:fp|bf|tf|int)\d+(?:_e\dm\d)?\b", text)
    known = [word for word in words if units.ALIASES.get(word, word) in (*FORMATS, *units.INTEGERS)]
    if len(set(known)) != 1:
        raise NoModelError("not one known format")
    return known[0]


def _mac_formats(text: str) -> tuple[str, str]:
    """Formats of multiply and add: "A mult + B add", or one format with its usual accumulator."""
    parts = re.fullmatch(r"(\w+) mult \+ (\w+) add", text)
    if parts:
        return _format_name(parts[1]), _format_name(parts[2])
    name = _format_name(text)
    return name, "int32" if name in units.INTEGERS else name


def _mac(name: str, accumulator: str, ratios: tuple[float, float]) -> tuple[float, float]:
    """Energy (J) and area (mm²) of a MAC."""
    if (name in units.INTEGERS) != (accumulator in units.INTEGERS):
        raise NoModelError("an integer product in a floating-point sum, or the reverse")
    if name in units.INTEGERS:
        bits = units.INTEGERS[name], units.INTEGERS[accumulator]
        return (
            float(units.int_mac_energy_j(*bits, ratios[0])),
            float(units.int_mac_area_mm2(*bits, ratios[1])),
        )
    pair = units.format_of(name), units.format_of(accumulator)
    return (
        float(units.format_mac_energy_j(*pair, ratios[0])),
        float(units.format_mac_area_mm2(*pair, ratios[1])),
    )


def _operation_predictions(kind: str, name: str, ratios: tuple[float, float]) -> Predictions:
    if name in units.INTEGERS:
        width = units.INTEGERS[name]
        laws = {"add": (units.INT_ADD_J, units.INT_ADD_MM2),
                "mult": (units.INT_MULTIPLY_J, units.INT_MULTIPLY_MM2)}[kind]  # fmt: skip
    else:
        number = units.format_of(name)
        width = number.total_bits if kind == "add" else number.significand_bits
        laws = {"add": (units.ADD_J, units.ADD_MM2),
                "mult": (units.MULTIPLY_J, units.MULTIPLY_MM2)}[kind]  # fmt: skip
    joules, mm2 = laws[0](width), laws[1](width)
    return {"energy_pj": PJ * ratios[0] * float(joules), "area_um2": UM2 * ratios[1] * float(mm2)}


def _instruction_predictions(name: str, ratios: tuple[float, float]) -> Predictions:
    if name not in INSTRUCTIONS:
        raise NoModelError("instruction of unknown size")
    count, number, accumulator = INSTRUCTIONS[name]
    return {"energy_pj": PJ * count * _mac(number, accumulator, ratios)[0]}


def _unit_transistors(text: str) -> Predictions:
    name = _format_name(text)
    if name == "int32":
        return {"transistors": MTR * INT32_UNIT_MTR}
    if name in units.INTEGERS:
        raise NoModelError("no transistor count of this unit")
    mantissa_bits = units.format_of(name).significand_bits - 1.0
    return {"transistors": MTR * float(float_unit_mtr(mantissa_bits))}
