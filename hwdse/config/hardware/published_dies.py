"""Dies with published unit counts: `configs/dies/published.csv`."""

import csv

from hwdse.config.files.toml_files import preset_root
from hwdse.specs.hardware.die_unit_counts import DieUnitCounts

KIB, MIB = 1024.0, 1024.0**2
SQUARE_MICROMETER_MM2 = 1e-6


def load_dies() -> dict[str, tuple[DieUnitCounts, float]]:
    """Load unit counts and printed area (mm²) of every die, by name."""
    lines = (preset_root() / "dies/published.csv").read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {row["die"]: (_unit_counts(row), float(row["die_mm2"])) for row in rows}


def _unit_counts(row: dict[str, str]) -> DieUnitCounts:
    number = {name: float(cell) for name, cell in row.items() if name not in ("die", "die_mm2")}
    return DieUnitCounts(
        mac_area_mm2=number.pop("mac_area_um2") * SQUARE_MICROMETER_MM2,
        local_bytes_per_core=number.pop("local_kib_per_core") * KIB,
        shared_bytes=number.pop("shared_mib") * MIB,
        shared_area_mm2_per_byte=number.pop("shared_mm2_per_mib") / MIB,
        **number,
    )
