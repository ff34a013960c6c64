"""Constants of the kernels of a chip, from the table `configs/libraries/kernels.csv`.

A chip file names its row with the key `kernels`; a chip that names none has the row `any`, the
common values of all measured chips.
"""

import csv
import dataclasses
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from hwdse.config.files.errors import ConfigLocation, did_you_mean, listed
from hwdse.config.files.toml_files import preset_root
from hwdse.specs.hardware.kernel_costs import KernelCosts

ANY = "any"
"""Row of chips without measured kernels."""


@cache
def kernel_library() -> Mapping[str, KernelCosts]:
    """Constants by the name of their row."""
    names = {field.name for field in dataclasses.fields(KernelCosts)}
    with (preset_root() / "libraries" / "kernels.csv").open(newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        found = {
            row["kernels"]: KernelCosts(**{k: float(v) for k, v in row.items() if k in names and v})
            for row in rows
        }
    return MappingProxyType(found)


def kernels_of(name: str, where: ConfigLocation | None = None) -> KernelCosts:
    """Constants of a row; errors name the file of the chip."""
    library = kernel_library()
    if name in library:
        return library[name]
    expected = f"one of {listed(library)}{did_you_mean(name, library)}"
    raise (where or ConfigLocation("kernels.csv")).error("kernels", name, expected)
