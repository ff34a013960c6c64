"""A loaded search as plain numbers, for the record of a run."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hwdse.config.files.toml_files import TomlFile
from hwdse.config.search.loaded_search import LoadedSearch


def plain(value: Any) -> Any:
    """Dicts, lists, numbers and texts of specs, arrays and tuples."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":  # dates of TOML, say
        return str(value)
    return array.tolist()


def resolved_tables(
    loaded: LoadedSearch,
    files: Iterable[tuple[str, TomlFile]],
    published: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """All inputs of a run for JSON: values in SI base units, hashes of files."""
    uncertain = (
        {"uncertain": plain(loaded.uncertain_constants)} if loaded.uncertain_constants else {}
    )
    if loaded.robust is not None:
        uncertain["robust"] = plain(loaded.robust)
    return {
        "title": loaded.title,
        "seed": loaded.seed,
        "labels": dict(loaded.labels),
        "objective": loaded.objective,
        "front_objectives": list(loaded.front_objectives),
        "limits": dict(loaded.limits),
        "design": plain(loaded.base),
        "workload": plain(loaded.workload),
        "variables": plain(loaded.space.dimensions),
        "choices": plain(loaded.space.choices),
        "variants": plain(loaded.space.variants),
        "published": plain(dict(published)),
        "sources": [
            {"kind": kind, "file": read.label, "sha256": read.sha256}
            for kind, file in files
            for read in (file, *file.bases)
        ],
        "tables": plain(loaded.tables),
        **uncertain,
    }
