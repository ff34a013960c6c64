"""Source of a job: a file or preset, values in place of its own, or only such values."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any


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

    def __str__(self) -> str:
        return os.fspath(self)
