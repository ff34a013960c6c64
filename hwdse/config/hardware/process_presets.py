"""Process presets by themselves: `configs/processes/*.toml`."""

from hwdse.config.files.errors import ConfigLocation
from hwdse.config.hardware.load_specs import COMMON, open_file
from hwdse.config.schema.schema import check, spec_model, to_spec
from hwdse.specs.hardware.chip import Process


def load_process(name: str) -> Process:
    """A process by the name of its preset or the path of its file, such as `n5`.

    Raises `ConfigError` where there is none or a value is not allowed.
    """
    file = open_file("processes", name, None)
    values = {key: value for key, value in file.tables.items() if key not in COMMON}
    return to_spec(Process, check(spec_model(Process), values, ConfigLocation(file.label)))
