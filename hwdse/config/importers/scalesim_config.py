"""Chip, core and job from a configuration of SCALE-Sim.

A `run.cfg` (versions 2 and 3) has one systolic array with three SRAMs. It becomes a chip with one
array, whose cycles of every layer equal those of SCALE-Sim, and for weight-stationary arrays also
a core for `hwdse mapping`. SCALE-Sim has no clock, no energies and words of one byte: the clock is
assumed, other values are those of presets. With a topology CSV, a job is written as well.
"""

import configparser
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwdse.config.files.base_files import read_with_base
from hwdse.config.files.errors import ConfigError, ConfigLocation, listed, one_line
from hwdse.config.files.toml_files import find_file, read_bytes
from hwdse.config.importers.imported_file import (
    SOURCE,
    ImportedFile,
    SourceTable,
    not_expressed,
    quantity,
)
from hwdse.config.importers.preset_base import PresetBase

DEFAULT_BASE = "p4de_24xlarge"
"""Preset system with the values that SCALE-Sim lacks, those of one chip taken."""
DEFAULT_CORE = "gemmini"
"""Preset core with the energies that SCALE-Sim lacks."""
SECTION = "architecture_presets"
DATAFLOWS = {
    "os": "output_stationary",
    "ws": "weight_stationary",
    "is": "input_stationary",
}
"""Dataflow of hwdse by that of SCALE-Sim; folds run one after another in both."""
KEYS = {
    key.lower(): key
    for key in (
        "ArrayHeight", "ArrayWidth", "IfmapSramSzkB", "FilterSramSzkB", "OfmapSramSzkB",
        "Dataflow", "Bandwidth", "InterfaceBandwidth",
    )
}  # fmt: skip
"""Keys as SCALE-Sim writes them, by the lower case that its parser gives them."""
SRAMS = ("ifmapsramszkb", "filtersramszkb", "ofmapsramszkb")
OUTPUT_ROUNDING = (
    "one pass, batch 1; SCALE-Sim has one more output where a stride does not divide the input"
)
CLOCK_GHZ = 1.0
"""Clock in GHz, assumed: SCALE-Sim counts cycles."""
REASONS: Mapping[str, str] = {
    "ifmapoffset": "addresses are not modeled",
    "filteroffset": "addresses are not modeled",
    "ofmapoffset": "addresses are not modeled",
    "memorybanks": "bank conflicts are not modeled",
    "readrequestbuffer": "request queues are not modeled",
    "writerequestbuffer": "request queues are not modeled",
    "topologycsvloc": "give the topology CSV as a second file",
    "useramulatortrace": "DRAM traces are not modeled",
    "sparsitysupport": "dense operators only",
    "ifmapcustomlayout": "SRAM layouts are not modeled",
    "filtercustomlayout": "SRAM layouts are not modeled",
}
"""Reason by key, in lower case as the parser of SCALE-Sim has them."""


def import_scalesim(
    paths: Sequence[Path], stem: str, base: str | None = None
) -> tuple[ImportedFile, ...]:
    """Files of hwdse of a `run.cfg`, and of a topology CSV that follows it.

    The first file is the job if a topology is given, else the system. `base` is the preset system
    with the values that SCALE-Sim lacks. Raises `ConfigError` with one line for a file that is no
    configuration of SCALE-Sim.
    """
    topologies = [path for path in paths if path.suffix.lower() == ".csv"]
    configs = [path for path in paths if path not in topologies]
    if len(configs) != 1 or len(topologies) > 1:
        names = listed(str(path) for path in paths)
        raise ConfigError(
            f"{names}: expected one configuration (.cfg) and at most one topology CSV"
        )
    sections = _read(configs[0])
    array = sections[SECTION]
    dataflow = array.choice("dataflow", DATAFLOWS)
    preset = PresetBase.of(base or DEFAULT_BASE)
    system_name = f"{stem}_system" if topologies else stem
    chip, notes = _chip_tables(array, preset, dataflow)
    bandwidth = _bandwidth(sections)
    name = _run_name(sections, configs[0])
    if bandwidth is not None:
        chip["hbm"] = {"bandwidth": quantity(3.0 * bandwidth * CLOCK_GHZ, "GB/s")}
        notes["hbm.bandwidth"] = "Bandwidth in words per cycle, one port per operand"
    lost = _losses(sections, dataflow, bandwidth)
    chip = {"name": name, "base": preset.chip_name, "sources": _sources(configs[0]), **chip}
    notes[SOURCE] = "comments name keys of the source; other values are those of the base"
    files = [
        _system_file(system_name, name, preset, chip, tuple(lost)),
        ImportedFile("chip", f"{system_name}_chip", chip, (), notes),
    ]
    if dataflow == "ws":
        files.append(_core_file(f"{stem}_core", name, array, configs[0], bandwidth))
    usage = "hwdse evaluate --system {path} --layers resnet50"
    if topologies:
        files.insert(0, _job_file(stem, name, f"{system_name}.toml", topologies[0]))
        usage = "hwdse evaluate {path}"
    files[0] = replace(files[0], usage=usage)
    return tuple(replace(file, made_from=tuple(paths)) for file in files)


def _read(path: Path) -> dict[str, SourceTable]:
    """Sections of a configuration, keys in lower case."""
    label = str(path)
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(read_bytes(path, label).decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError(f"{label}: expected UTF-8 text") from None
    except configparser.Error as error:
        raise ConfigError(
            one_line(f"{label}: expected sections and KEY: VALUE ({error})")
        ) from None
    if SECTION not in parser:
        raise ConfigError(f"{label}: expected a configuration of SCALE-Sim with [{SECTION}]")
    where = ConfigLocation(label)
    sections = {}
    for name in parser.sections():
        values = {key.lower(): _value(value) for key, value in parser[name].items()}
        written = {key.lower(): key for key in parser[name]}
        sections[name] = SourceTable(values, where.table(name), KEYS | written)
    return sections


def _value(text: str) -> Any:
    """Number, truth value or text of a value in a configuration."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        return text


def _sources(path: Path) -> list[str]:
    return [f"{path.name} of SCALE-Sim"]


def _run_name(sections: Mapping[str, SourceTable], path: Path) -> str:
    general = sections.get("general")
    name = None if general is None else general.raw("run_name")
    return str(name) if name else path.stem


def _chip_tables(
    array: SourceTable, preset: PresetBase, dataflow: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Tables of a chip with one array that works as in SCALE-Sim."""
    rows, cols = (array.count(key, at_least=1) for key in ("arrayheight", "arraywidth"))
    sizes = [array.count(key, at_least=1) for key in SRAMS]
    clock = quantity(CLOCK_GHZ, "GHz")
    chip = {
        "nominal_clock": clock,
        "num_dies": 1,
        "num_scratchpads": 1,
        "fp64_per_fp16_ratio": 0.0,
        "fp8_speedup_ratio": 1.0,
        "vector_flop_per_s": quantity(cols * CLOCK_GHZ, "GFLOPS"),
        "fixed_area": "0 mm^2",
        "launch_latency": "0 s",
        "matrix_efficiency_fraction": 1.0,
        "hbm_efficiency_fraction": 1.0,
        "array": {
            "rows": rows,
            "cols": cols,
            "num_arrays": 1,
            "clock": clock,
            "dataflow": DATAFLOWS[dataflow],
        },
        "sram": {"capacity": quantity(sum(sizes), "KiB")},
    }
    notes = {
        "nominal_clock": "assumed: SCALE-Sim counts cycles",
        "fp8_speedup_ratio": "one operation per PE and cycle for words of one byte",
        "fp64_per_fp16_ratio": "no FP64 units in SCALE-Sim",
        "vector_flop_per_s": "assumed: one operation per column and cycle",
        "fixed_area": "the array and its SRAM only",
        "launch_latency": "no launches in SCALE-Sim",
        "array.rows": "ArrayHeight",
        "array.cols": "ArrayWidth",
        "array.num_arrays": "one array",
        "array.clock": "assumed: SCALE-Sim counts cycles",
        "array.dataflow": "Dataflow",
        "sram.capacity": f"IfmapSramSzkB + FilterSramSzkB + OfmapSramSzkB, {sizes}",
    }
    return chip, notes


def _bandwidth(sections: Mapping[str, SourceTable]) -> float | None:
    """Words per cycle of each DRAM port in mode USER; None in mode CALC, which never waits."""
    presets = sections.get("run_presets")
    mode = presets.choice("interfacebandwidth", ("CALC", "USER")) if presets is not None else "CALC"
    array = sections[SECTION]
    value = array.raw("bandwidth")
    if mode == "CALC" or value is None:
        return None
    try:
        words = float(str(value).split(",")[0])
    except ValueError:
        words = 0.0
    if not 0.0 < words < 1e12:
        raise array.error("bandwidth", value, "words per cycle above 0")
    return words


def _losses(
    sections: Mapping[str, SourceTable], dataflow: str, bandwidth: float | None
) -> list[str]:
    """Lines about keys without a counterpart."""
    lost = []
    if bandwidth is None:
        reason = "SCALE-Sim never waits for DRAM; the chip has the bandwidth of the base"
        lost.append(not_expressed("run_presets.InterfaceBandwidth", "CALC", reason))
    reason = "one SRAM of the chip for all operands"
    sizes = [sections[SECTION].raw(key) for key in SRAMS]
    lost.append(
        not_expressed(f"{SECTION}.IfmapSramSzkB, FilterSramSzkB, OfmapSramSzkB", sizes, reason)
    )
    if dataflow != "ws":
        reason = "in the chip, not in a core: its mapper knows weight-stationary arrays only"
        lost.append(not_expressed(f"{SECTION}.Dataflow", dataflow, reason))
    for name, table in sections.items():
        if name in ("layout", "sparsity") and not _is_used(table):
            continue
        lost += table.unread_lines(REASONS, default=f"[{name}] has no counterpart")
    return lost


def _is_used(table: SourceTable) -> bool:
    """True if a section with a switch is switched on."""
    return any(table.table.get(key) is True for key in REASONS)


def _system_file(
    stem: str, name: str, preset: PresetBase, chip: Mapping[str, Any], lost: tuple[str, ...]
) -> ImportedFile:
    """System of one chip."""
    tables: dict[str, Any] = {
        "name": f"one chip of {name}",
        "base": preset.name,
        "chip": f"{stem}_chip.toml",
        "cluster": {
            "num_chips": 1,
            "topology": "switch",
            "torus_sizes": [1],
            "torus_bandwidth_fractions": [1.0],
            "torus_latency_ratios": [1.0],
        },
    }
    repeated = preset.repeated_overrides(chip)
    if repeated:
        tables["overrides"] = repeated
    notes = {"cluster.num_chips": "SCALE-Sim has one array", SOURCE: f"base: {preset.name}"}
    return ImportedFile("system", stem, tables, lost, notes)


def _core_file(
    stem: str, name: str, array: SourceTable, path: Path, bandwidth: float | None
) -> ImportedFile:
    """Weight-stationary core: DRAM, scratchpad of inputs and weights, accumulator, registers."""
    rows, cols = array.count("arrayheight"), array.count("arraywidth")
    ifmap, weights, sums = (array.count(key) for key in SRAMS)
    core = read_with_base("accelerators", find_file("accelerators", DEFAULT_CORE)).tables
    words = f"{bandwidth * 3.0:g} B/cycle" if bandwidth else f"{rows + cols} B/cycle"
    changes = {
        "dram": {"bandwidth": words},
        "scratchpad": {"capacity": f"{ifmap + weights} KiB"},
        "accumulator": {"capacity": f"{sums} KiB", "bandwidth": "2 B/cycle"},
        "registers": {"capacity": f"{rows * cols} B"},
    }
    levels = [
        {**level, **changes.get(level["name"], {}), "word": "8 bit"} for level in core["levels"]
    ]
    tables = {
        "name": f"core of {name}",
        "base": DEFAULT_CORE,
        "sources": _sources(path),
        "rows": rows,
        "cols": cols,
        "clock": quantity(CLOCK_GHZ, "GHz"),
        "nominal_clock": quantity(CLOCK_GHZ, "GHz"),
        "levels": levels,
    }
    dram = "Bandwidth x 3 ports" if bandwidth else "assumed: one word per row and column and cycle"
    notes = {
        "rows": "ArrayHeight",
        "cols": "ArrayWidth",
        "clock": "assumed: SCALE-Sim counts cycles",
        "levels.0.bandwidth": dram,
        "levels.1.capacity": "IfmapSramSzkB + FilterSramSzkB",
        "levels.2.capacity": "OfmapSramSzkB; sums of one byte, as words of SCALE-Sim",
        "levels.3.capacity": "one weight per PE",
        SOURCE: f"energies, ports and other values: preset {DEFAULT_CORE}",
    }
    return ImportedFile("accelerator", stem, tables, (), notes)


def _job_file(stem: str, name: str, system: str, topology: Path) -> ImportedFile:
    """Job of one pass over the layers of a topology, in words of one byte."""
    tables = {
        "title": f"{topology.stem} on {name}",
        "design": {
            "system": system,
            "num_systems": 1,
            "layers": str(topology.resolve()),
            "mix": {"fp64_flop_fraction": 0, "fp8_flop_fraction": 1.0},
        },
    }
    notes = {"design.mix.fp8_flop_fraction": "words of one byte", SOURCE: OUTPUT_ROUNDING}
    return ImportedFile("job", stem, tables, (), notes)
