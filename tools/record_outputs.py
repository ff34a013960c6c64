"""Record what every command prints as JSON, to compare two versions of hwdse number by number.

`python tools/record_outputs.py OUT.json [--cases FOLDER]` runs evaluate, layout, mapping, balance
and sensitivity on all search presets (and on the TOML files of a folder), every kind of validate
on the files of tests/data, and one short search of each kind. It imports the hwdse that Python
finds first, so `PYTHONPATH=../old python tools/record_outputs.py` records another checkout.
`tools/compare_outputs.py` compares two records.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from docs_accuracy import VALIDATIONS

SEARCHES = (
    "dosa_bert",
    "gemmini_bert",
    "gemmini_bert_explicit",
    "gemmini_resnet50",
    "trn2_llama3_70b",
)
VIEWS = ("evaluate", "layout", "mapping", "balance", "sensitivity")
MAIN = "trn2_llama3_70b"
UNCERTAIN = ("--metric", "energy_per_token", "--samples", "64")
# Of the version that runs: {view: command}, and the options whose names have changed.
OLD_WORDS = {"layout": "layout", "strategy": "layout", "--uncertain": "--spread"}
NEW_WORDS = {"layout": "parallelism", "--uncertain": "--uncertain"}


def _commands(cases: Path | None, data: Path) -> dict[str, list[str]]:
    commands = {}
    for name in SEARCHES:
        for view in VIEWS:
            commands[f"{view} {name}"] = [view, name]
    for path in sorted(cases.glob("*.toml")) if cases else ():
        for view in VIEWS:
            commands[f"{view} {path.name}"] = [view, str(path)]
    for arguments in sorted({validation.arguments for validation in VALIDATIONS}):
        kind, file, *rest = arguments.split()
        commands[f"validate {arguments}"] = ["validate", kind, str(data / file), *rest]
    commands[f"optimize {MAIN}"] = ["optimize", MAIN, "--evaluations", "800", "--neighbors", "200"]
    commands[f"optimize --front {MAIN}"] = ["optimize", MAIN, "--front", "--evaluations", "800"]
    commands["optimize gemmini_bert_explicit"] = [
        "optimize",
        "gemmini_bert_explicit",
        "--evaluations",
        "300",
    ]
    commands[f"sweep {MAIN}"] = ["sweep", MAIN, "--points", "20000"]
    commands[f"solve {MAIN}"] = [
        "solve",
        MAIN,
        "--target",
        "step_time_s <= 12",
        "--free",
        "chip.hbm.bandwidth,chip.array.clock",
    ]
    commands[f"uncertainty {MAIN}"] = [
        "uncertainty",
        MAIN,
        "--uncertain",
        "chip.hbm.energy=30%",
        *UNCERTAIN,
    ]
    return commands


def _run(command: list[str], words: dict[str, str], scratch: str) -> dict:
    command = [words.get(word, word) for word in command]
    if command[0] in ("optimize", "sweep"):
        command += ["--out", os.path.join(scratch, "-".join(command[:3]).replace("/", "_"))]
    call = [sys.executable, "-c", "from hwdse.cli import main; main()", *command, "--json"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    try:
        printed = json.loads(done.stdout)
    except ValueError:
        printed = None
    return {"exit_code": done.returncode, "json": printed, "stderr": done.stderr[-2000:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--data", type=Path, default=Path("tests/data"))
    parser.add_argument("--old-words", action="store_true", help="commands of version 0.1")
    parser.add_argument("--only", default="", help="only commands that contain this text")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    words = OLD_WORDS if options.old_words else NEW_WORDS
    commands = _commands(options.cases, options.data)
    commands = {key: value for key, value in commands.items() if options.only in key}
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as pool:
        results = pool.map(lambda command: _run(command, words, scratch), commands.values())
        record = {}
        for key, result in zip(commands, results, strict=True):
            record[key] = result
            options.out.write_text(json.dumps(record, indent=1))
            print(result["exit_code"], key, flush=True)


if __name__ == "__main__":
    main()
