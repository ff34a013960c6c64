"""Catalog of all presets with the published values of their vendors."""

from dataclasses import dataclass

from hwdse.config.design.model_and_task import load_model_file, load_task_file
from hwdse.config.design.operator_csv import load_operators_file
from hwdse.config.design.serving_files import load_engine_file, load_serving_task_file
from hwdse.config.files.toml_files import preset_names
from hwdse.config.hardware.accelerators import load_accelerator_file
from hwdse.config.hardware.failure_rates import load_reliability_file
from hwdse.config.hardware.load_specs import (
    Published,
    load_chip_file,
    load_software_file,
    load_system,
)


@dataclass(frozen=True)
class PresetEntry:
    """One line of `hwdse presets`."""

    kind: str
    """Kind of file: chip, system, model, task, requests, engine, software, accelerator, operators,
    reliability."""
    name: str
    """Name in files and on the command line."""
    title: str
    published: Published
    """Published values in base units by field name; for cores and operators their sizes."""
    sources: tuple[str, ...]


def list_presets() -> tuple[PresetEntry, ...]:
    """All presets of the package with their sources, search files left out."""
    entries = []
    loaders = (
        ("chip", "chips", load_chip_file),
        ("system", "systems", load_system),
        ("model", "models", load_model_file),
        ("task", "tasks", load_task_file),
        ("requests", "requests", load_serving_task_file),
        ("engine", "serving_engines", load_engine_file),
        ("software", "software", load_software_file),
        ("accelerator", "accelerators", load_accelerator_file),
        ("operators", "operators", load_operators_file),
        ("reliability", "reliability", load_reliability_file),
    )
    for kind, folder, load in loaders:
        for name in preset_names(folder):
            preset = load(name)
            entries.append(PresetEntry(kind, name, preset.name, preset.published, preset.sources))
    return tuple(entries)
