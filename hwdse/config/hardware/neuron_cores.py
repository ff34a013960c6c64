"""NeuronCores from TOML files and presets."""

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
from hwdse.specs.hardware.neuron_core import NeuronCore

_PUBLISHED = "bf16_flop_per_s fp8_flop_per_s fp32_flop_per_s year"
_WHOLE = (("tensor", "psum_banks"), ("tensor", "psum_bank_elements"), ("dma", "num_engines"))


NEURON_CORE_TABLES = create_model(
    "EnginesTables",
    __config__=STRICT,
    **COMMON,
    **spec_fields(NeuronCore),
    published=published_field(_PUBLISHED),
)


@dataclass(frozen=True)
class EnginesFile(Preset):
    """A NeuronCore with the metadata of its file."""

    core: NeuronCore


def load_engines_file(name_or_path: str | Path) -> EnginesFile:
    """Load a NeuronCore from a preset (`neuron_core_v3`) or a TOML file, with published values."""
    file = open_file("engines", name_or_path, None)
    where = ConfigLocation(file.label)
    checked = check(NEURON_CORE_TABLES, file.tables, where)
    core = to_spec(NeuronCore, checked)
    _check_core(core, where)
    return EnginesFile(
        name=checked.name,
        published=published_of(checked),
        sources=tuple(checked.sources),
        files=(file,),
        core=core,
    )


def load_engines(name_or_path: str | Path) -> NeuronCore:
    """Load a NeuronCore from a preset (`neuron_core_v3`) or a TOML file; SI base units."""
    return load_engines_file(name_or_path).core


def _check_core(core: NeuronCore, where: ConfigLocation) -> None:
    """Check whole counts, and that fractions used as divisors are above zero."""
    for table, name in _WHOLE:
        value = getattr(getattr(core, table), name)
        if value != math.floor(value):
            raise where.table(table).error(name, value, "a whole number above 0")
    for table, name in (("tensor", "sustained_fraction"), ("dma", "transpose_fraction")):
        value = getattr(getattr(core, table), name)
        if value <= 0.0:
            raise where.table(table).error(name, value, "a number above 0 and at most 1")
