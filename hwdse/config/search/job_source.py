"""Source of a job: a file or preset, values in place of its own, or only such values."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

COUNTED = re.compile(r"(?P<name>.+):(?P<count>[^:/\\]*)")
"""System with its number: `trn2_ultraserver:16`."""


@dataclass(frozen=True)
class JobSource(os.PathLike[str]):
    """File of a job and the tables that replace those of the file."""

    path: str | None
    """Path or preset; None for a job that consists of `tables`."""
    tables: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __fspath__(self) -> str:
        """Path of the file, or a name of system and work for run folders."""
        if self.path is not None:
            return self.path
        design = self.tables.get("design", {})
        keys = ("model", "layers", "system", "accelerator")
        words = [Path(str(design[key])).stem for key in keys if key in design]
        return "-".join(words) or "job"


def system_and_count(text: str) -> tuple[str, int | None]:
    """Name and number of `NAME:COUNT`; the number is None without one.

    Raises `ValueError` for a number that is not a whole number of at least 1.
    """
    match = COUNTED.fullmatch(text)
    if match is None or match["name"].endswith((".toml:", ":")) or len(match["name"]) == 1:
        return text, None
    if not match["count"].isascii() or not match["count"].isdecimal() or int(match["count"]) < 1:
        raise ValueError("NAME or NAME:COUNT with a whole number of at least 1, such as dgx_h100:8")
    return match["name"], int(match["count"])
