"""A small search file, and the files of a run folder for comparison."""

import json
from pathlib import Path

SEARCH = """
title = "small"
[design]
system = "trn2_ultraserver"
num_systems = 1
workload = "llama3_8b"
checkpoint_interval = "60 min"
[design.mix]
fp64_flop_fraction = 0
fp8_flop_fraction = 0
[design.parallelism]
tensor = 8
pipeline = 1
micro_batch = 1
recompute_fraction = 0
tensor_overlap_fraction = 0.5
[objective]
minimize = "energy_delay"
front = ["time_per_token", "energy_per_token"]
[limits]
die_area = "900 mm^2"
[[variables]]
path = "chip.array.rows"
low = 64
high = 256
step = 32
[[variables]]
path = "chip.array.clock"
low = "1.2 GHz"
high = "3.2 GHz"
step = "50 MHz"
"""


def files_of(folder: Path) -> dict[str, bytes]:
    """Contents of all files; of run.json without its times and its command line."""
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.json"
    }
    record = json.loads((folder / "run.json").read_text())
    record.pop("created"), record.pop("ended", None), record.pop("command"), record.pop("call")
    return {**found, "run.json": json.dumps(record, sort_keys=True).encode()}
