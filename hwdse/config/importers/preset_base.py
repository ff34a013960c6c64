"""Preset system whose values complete an imported one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hwdse.config.files.base_files import read_with_base
from hwdse.config.files.errors import ConfigError, MissingFileError
from hwdse.config.files.toml_files import find_file


@dataclass(frozen=True)
class PresetBase:
    """Tables of a preset system and of its chip."""

    name: str
    chip_name: str
    system: Mapping[str, Any]
    chip: Mapping[str, Any]

    @classmethod
    def of(cls, name: str) -> "PresetBase":
        """Preset system by name. Raises `ConfigError` for a name that is none."""
        try:
            path = find_file("systems", name)
        except MissingFileError as error:
            raise ConfigError(f"--base {name}: expected {error.expected}") from None
        system = read_with_base("systems", path).tables
        chip = str(system["chip"])
        tables = read_with_base("chips", find_file("chips", chip)).tables
        return cls(path.stem, chip, system, tables)

    def array_clock(self, peak_flop_per_s: float) -> float:
        """Clock in Hz at which the arrays of the preset chip have a peak rate."""
        array = self.chip["array"]
        macs = float(array["rows"]) * float(array["cols"]) * float(array["num_arrays"])
        return peak_flop_per_s / (2.0 * macs)

    def repeated_overrides(self, chip: Mapping[str, Any]) -> dict[str, Any]:
        """Overrides of the preset that would hide values of `chip`, with the values of `chip`."""
        repeated: dict[str, Any] = {}
        for words in _paths(self.system.get("overrides", {})):
            value: Any = {"chip": chip}
            for word in words:
                value = value.get(word) if isinstance(value, Mapping) else None
            if value is not None:
                repeated[".".join(words)] = value
        return repeated


def _paths(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _paths(value, (*above, key))
        else:
            yield (*above, key)
