"""CPUs from TOML files and presets, for `models.compute.cpu_simd`."""

import math
from dataclasses import dataclass
from pathlib import Path

from pydantic import create_model

from hwdse.config.files.errors import ConfigLocation
from hwdse.config.hardware.load_specs import (
    COMMON,
    Preset,
    open_file,
    published_field,
    published_of,
)
from hwdse.config.schema.schema import STRICT, check, spec_fields, to_spec
from hwdse.models.compute.cpu_simd import MAX_REGISTERS
from hwdse.specs.hardware.cpu import SimdEngine

_PUBLISHED = "fp64_flop_per_s fp32_flop_per_s fp16_flop_per_s dram_bandwidth_bytes_per_s year"
_WHOLE = ("num_cores", "num_fma_ports", "num_registers")


CPU_TABLES = create_model(
    "SimdTables",
    __config__=STRICT,
    **COMMON,
    **spec_fields(SimdEngine),
    published=published_field(_PUBLISHED),
)


@dataclass(frozen=True)
class SimdFile(Preset):
    """Vector units of a CPU with the metadata of their file."""

    engine: SimdEngine


def load_simd_file(name_or_path: str | Path) -> SimdFile:
    """Load a CPU from a preset (`graviton4`) or a TOML file, with its published values."""
    file = open_file("simd", name_or_path, None)
    where = ConfigLocation(file.label)
    checked = check(CPU_TABLES, file.tables, where)
    engine = to_spec(SimdEngine, checked)
    _check_engine(engine, where)
    return SimdFile(
        name=checked.name,
        published=published_of(checked),
        sources=tuple(checked.sources),
        files=(file,),
        engine=engine,
    )


def load_simd(name_or_path: str | Path) -> SimdEngine:
    """Load the vector units of a CPU from a preset (`graviton4`) or a TOML file; SI units."""
    return load_simd_file(name_or_path).engine


def _check_engine(engine: SimdEngine, where: ConfigLocation) -> None:
    """Check whole counts, the number of registers, and cache sizes that grow outwards."""
    for name in _WHOLE:
        value = getattr(engine, name)
        if value != math.floor(value):
            raise where.error(name, value, "a whole number above 0")
    if not 3 <= engine.num_registers <= MAX_REGISTERS:
        expected = f"a whole number from 3 to {MAX_REGISTERS}"
        raise where.error("num_registers", engine.num_registers, expected)
    if engine.l2.capacity_bytes < engine.l1.capacity_bytes:
        expected = f"at least that of l1, {engine.l1.capacity_bytes:g} bytes"
        raise where.table("l2").error("capacity", engine.l2.capacity_bytes, expected)
