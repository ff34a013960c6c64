"""What presets there are, with the figures that their vendors print."""

from dataclasses import dataclass

from hwdse.config.design.operator_csv import load_operators_file
from hwdse.config.files.toml_files import preset_names
from hwdse.config.hardware.accelerators import load_accelerator_file
from hwdse.config.hardware.failure_rates import load_reliability_file
from hwdse.config.hardware.load_specs import (
    Published,
    load_chip_file,
    load_software_file,
    load_system,
    load_workload_file,
)


@dataclass(frozen=True)
class PresetEntry:
    """A line of `hwdse presets`."""

    kind: str
    """"chip", "system", "workload", "software", "accelerator", "operators" or "reliability"."""
    name: str
    """What to write in a file or on the command line."""
    title: str
    figures: Published
    """Published figures in base units, by field name; of cores and layers their own sizes."""
    sources: tuple[str, ...]


def list_presets() -> tuple[PresetEntry, ...]:
    """Every preset that comes with the package, with its sources; searches are no presets."""
    entries = []
    loaders = (
        ("chip", "chips", load_chip_file),
        ("system", "clusters", load_system),
        ("workload", "workloads", load_workload_file),
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
