"""Improvement of the Trn2 preset at the same die area and power, in total and by part.

    python experiments/trn2_llama3_70b/run.py

Writes results/gain.json and results/gain.md: one `hwdse optimize` for each part of the search, seed
0. About four minutes on two idle cores.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable

HERE = pathlib.Path(__file__).parent
SEARCH = HERE.parents[1] / "configs" / "searches" / "trn2_llama3_70b.toml"
HWDSE = pathlib.Path(sys.executable).with_name("hwdse")
FP64, INTERVAL = "chip.fp64_per_fp16_ratio", "checkpoint_interval"
PARTS: dict[str, Callable[[str], bool]] = {
    "checkpoint interval": lambda path: path == INTERVAL,
    "parallelism strategy and interval": lambda path: path in (INTERVAL, "parallelism"),
    "FP64 units": lambda path: path == FP64,
    "chip without FP64 units": lambda path: path.startswith("chip.") and path != FP64,
    "chip": lambda path: path.startswith("chip."),
    "everything": lambda _: True,
}
"""Searched paths of each part; all other parameters as in the preset."""


def search_text(is_searched: Callable[[str], bool]) -> str:
    """The search file with the tables of the searched paths only."""
    head, *tables = re.split(r"(?=^\[\[)", SEARCH.read_text(), flags=re.MULTILINE)
    kept = [
        table
        for table in tables
        if is_searched(re.search(r'^path = "([\w.]+)"', table, re.MULTILINE)[1])
    ]
    return head + "".join(kept)


INFEASIBLE = 3
"""Exit code of a search without a design within the limits."""


def optimum(text: str) -> dict | None:
    """Output of `hwdse optimize --json` for a search; None if no design meets its limits."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "part.toml"
        file.write_text(text)
        command = [str(HWDSE), "optimize", str(file), "--json", "--out", f"{folder}/run"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == INFEASIBLE:
        return None
    if done.returncode != 0:
        raise SystemExit(done.stderr or done.stdout)
    return json.loads(done.stdout)


def main() -> None:
    """Write results/gain.json and results/gain.md."""
    rows = {}
    for name, is_searched in PARTS.items():
        found = optimum(search_text(is_searched))
        if found is None:
            rows[name] = {"gain": None}
            continue
        before = found["before"]["metrics"]
        base = before["time_per_token_s"] * before["energy_per_token_j"]
        rows[name] = {"gain": base / found["value"], "design": found["design"]}
        if name == "everything":
            rows[name] |= {key: found[key] for key in ("regret", "strategies") if key in found}
        print(f"{name}: {rows[name]['gain']:.3f}", flush=True)
    lines = ["| searched, other parameters as in the preset | energy-delay product better by |"]
    lines += ["| --- | --- |"]
    for name, row in rows.items():
        gain = "no design within the limits" if row["gain"] is None else f"{row['gain']:.2f}x"
        lines.append(f"| {name} | {gain} |")
    (HERE / "results" / "gain.json").write_text(json.dumps(rows, indent=1) + "\n")
    (HERE / "results" / "gain.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
