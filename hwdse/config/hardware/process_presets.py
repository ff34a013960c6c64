"""Process presets without a chip: `configs/processes/*.toml`."""

from hwdse.config.files.errors import ConfigLocation
from hwdse.config.hardware.load_specs import COMMON, open_file
from hwdse.config.schema.schema import check, spec_model, to_spec
from hwdse.specs.hardware.chip import Process


def load_process(name: str) -> Process:
    """Load a process from a preset such as `n5` or a TOML file.

    Raises `ConfigError` if the file does not exist or a value is not allowed.
    """
    file = open_file("processes", name, None)
    values = {key: value for key, value in file.tables.items() if key not in COMMON}
    return to_spec(Process, check(spec_model(Process), values, ConfigLocation(file.label)))
