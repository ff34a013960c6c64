"""Cores from TOML files and presets: an array of PEs below memory levels of any number.

The memories are tables `[[levels]]`, outermost first. A level has the fields of
`specs.hardware.accelerator.Level` and these short forms: `bandwidth` if reads and writes share
ports, `energy` if reads and writes need the same energy, `word` as one width for all operands,
and bandwidths per cycle of the nominal clock (`"2 B/cycle"`). Without `energy_slope`, energy does
not depend on the capacity.
"""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictBool, StrictStr, create_model

from hwdse.config.files.errors import ConfigLocation, did_you_mean, listed
from hwdse.config.hardware.load_specs import COMMON, NamedIn, Preset, open_file, with_process
from hwdse.config.schema.consistency_checks import check_accelerator
from hwdse.config.schema.field_rules import UnitInKey, rule_of
from hwdse.config.schema.schema import STRICT, check, number_field, spec_fields, to_spec
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator, Level, Operands
from hwdse.units.parse_units import to_base
from hwdse.workload.loops.operators import DIMS

PER_CYCLE = "/cycle"
_LEVEL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_BANDWIDTHS = ("read_bandwidth_bytes_per_s", "write_bandwidth_bytes_per_s")
_ENERGIES = ("read_energy_j_per_byte", "write_energy_j_per_byte")


@dataclass(frozen=True)
class AcceleratorFile(Preset):
    """A core with the metadata of its file."""

    accelerator: Accelerator


def _check_level_name(value: str) -> str:
    taken = {field.name for field in fields(Accelerator)}
    if not _LEVEL_NAME.fullmatch(value) or value in taken:
        raise ValueError("a name of letters, digits, _ and - that is not a key of a core")
    return value


def _check_operand(value: str) -> str:
    if value not in OPERANDS:
        raise ValueError(f"one of {listed(OPERANDS)}{did_you_mean(value, OPERANDS)}")
    return value


def _check_dims(value: str) -> str:
    if not value or len(set(value)) != len(value) or not set(value) <= set(DIMS):
        raise ValueError(f"distinct letters of {DIMS} (dimensions of operators)")
    return value


_WIDTHS: Any = {name: (number_field("word_bytes")[0], Field()) for name in OPERANDS}
_WORD_TABLE = create_model("WordTable", __config__=STRICT, **_WIDTHS)
_Operand = Annotated[StrictStr, AfterValidator(_check_operand)]
_LEVEL_FIELDS: Any = spec_fields(Level) | {
    "name": (Annotated[StrictStr, AfterValidator(_check_level_name)], Field()),
    "keeps": (Annotated[list[_Operand], Field(min_length=1)], Field()),
    "word_bytes": (_WORD_TABLE, Field()),
    "shares_port": (StrictBool, Field()),
    "follows_clock": (StrictBool, Field()),
}
LEVEL_TABLE = create_model("LevelTable", __config__=STRICT, **_LEVEL_FIELDS)
_Dims = Annotated[StrictStr, AfterValidator(_check_dims)]
_ACCELERATOR_FIELDS: Any = spec_fields(Accelerator) | {
    "levels": (Annotated[list[dict[str, Any]], Field(min_length=2, max_length=12)], Field()),
    "rows_dims": (_Dims, Field()),
    "cols_dims": (_Dims, Field()),
}
ACCELERATOR_TABLES = create_model(
    "AcceleratorTables", __config__=STRICT, **COMMON, **_ACCELERATOR_FIELDS
)


def load_accelerator_file(
    name_or_path: str | Path, named_in: NamedIn | None = None
) -> AcceleratorFile:
    """Load a core from a preset or a TOML file, with its sources."""
    file = open_file("accelerators", name_or_path, named_in)
    where = ConfigLocation(file.label)
    tables, files = with_process(file.tables, file)
    checked = check(ACCELERATOR_TABLES, tables, where)
    levels = tuple(
        _level(table, checked.nominal_clock_hz, where.table(f"levels {number}"))
        for number, table in enumerate(checked.levels, 1)
    )
    accelerator = to_spec(Accelerator, checked.model_copy(update={"levels": levels}))
    check_accelerator(accelerator, where)
    published = {
        "rows": accelerator.rows,
        "cols": accelerator.cols,
        "clock_hz": accelerator.clock_hz,
        "dram_bandwidth_bytes_per_s": levels[0].read_bandwidth_bytes_per_s,
        "sram_bytes": sum(x.capacity_bytes for x in levels[1:] if x.banks != "pes"),
    }
    sources = tuple(checked.sources)
    return AcceleratorFile(checked.name, published, sources, (file, *files), accelerator)


def load_accelerator(name_or_path: str | Path) -> Accelerator:
    """Load a core from a preset (`gemmini`) or a TOML file; SI base units."""
    return load_accelerator_file(name_or_path).accelerator


def _level(table: dict[str, Any], nominal_clock_hz: float, where: ConfigLocation) -> Level:
    """Memory level of its table, with short forms expanded."""
    full = _without_cycles(dict(table), nominal_clock_hz, where)
    if full.get("shares_port") is not False:
        _expand(full, "bandwidth_bytes_per_s", _BANDWIDTHS, where)
    _expand(full, "energy_j_per_byte", _ENERGIES, where)
    if "word" in full:
        full["word_bytes"] = _word(full.pop("word"), where)
    if "word_bytes" in full and not isinstance(full["word_bytes"], dict):
        full["word_bytes"] = dict.fromkeys(OPERANDS, full["word_bytes"])
    if not {"energy_slope", "energy_exponent"} & set(full):
        full |= {"energy_slope": 0.0, "energy_exponent": 0.0}
    if isinstance(full.get("energy_slope"), str):
        full["energy_slope"] = _slope(full["energy_slope"], full.get("energy_exponent"), where)
    checked = check(LEVEL_TABLE, full, where)
    values = {f.name: getattr(checked, f.name) for f in fields(Level)}
    values |= {"keeps": tuple(checked.keeps), "word_bytes": to_spec(Operands, checked.word_bytes)}
    return Level(**values)


def _word(value: Any, where: ConfigLocation) -> Any:
    """Size of a word in bytes, or of the word of each operand."""
    if isinstance(value, dict):
        return {name: _word(item, where) for name, item in value.items()}
    try:
        return UnitInKey(rule_of("word_bytes").check(value))
    except ValueError as error:
        raise where.error("word", value, str(error)) from None


def _without_cycles(
    table: dict[str, Any], clock_hz: float, where: ConfigLocation
) -> dict[str, Any]:
    """The table with bandwidths per cycle converted to B/s."""
    keys = [key for key in table if key in ("bandwidth", "read_bandwidth", "write_bandwidth")]
    for key in keys:
        value = table[key]
        if not isinstance(value, str) or not value.rstrip().endswith(PER_CYCLE):
            continue
        try:
            per_cycle = to_base(value.rstrip().removesuffix(PER_CYCLE), "B")
            table[key] = UnitInKey(clock_hz * per_cycle)
        except ValueError:
            expected = 'bytes per cycle such as "2 B/cycle", or a bandwidth such as "2 GB/s"'
            raise where.error(key, value, expected) from None
    return table


def _expand(
    table: dict[str, Any], field: str, targets: tuple[str, str], where: ConfigLocation
) -> None:
    """Replace a short form in place by its two fields, which must not be given as well."""
    short = field.split("_")[0]
    if short not in table:
        return
    value = table.pop(short)
    try:
        number = rule_of(targets[0]).check(value)
    except ValueError as error:
        raise where.error(short, value, str(error)) from None
    for target in targets:
        key = f"{target.split('_')[0]}_{short}"
        if key in table or target in table:
            raise where.error(
                key, table.get(key), f"either {key} or {short}, which sets it; remove one"
            )
        table[target] = number


def _slope(value: str, exponent: object, where: ConfigLocation) -> float:
    """Slope of an energy linear in the capacity, from its text."""
    try:
        number = to_base(value, "J/B/B")
    except ValueError:
        raise where.error(
            "energy_slope", value, 'a number, or a text such as "0.025 pJ/B/KiB"'
        ) from None
    if exponent != 1:
        raise where.error("energy_exponent", exponent, "1 beside an energy_slope with a unit")
    return number
