"""Plots shown in the documentation, drawn again: `python tools/docs_pictures.py [NAME...]`.

Each plot is the output of commands that a reader can repeat; those of the Pareto front are the
commands of `make demo` (a minute).
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
JOB = "trn2_llama3_70b"
PICTURES = {
    "pareto": (
        "pareto/pareto.png",
        (
            f"optimize {JOB} --out optimize",
            f"sweep {JOB} --points 1e6 --out sweep",
            "pareto sweep optimize --out pareto --format png",
        ),
    ),
    "balance": ("plots/balance.png", (f"balance {JOB} --plots plots --format png",)),
    "mapping": (
        "plots/mapping_mm_4.png",
        ("mapping gemmini_bert --operator 3 --plots plots --format png",),
    ),
}
"""File that the commands write, and the commands, by the name of the plot in docs/."""


def draw(name: str) -> None:
    """Run the commands of a plot in a scratch folder and copy its file to docs/."""
    file, commands = PICTURES[name]
    with tempfile.TemporaryDirectory() as folder:
        for command in commands:
            program = [sys.executable, "-c", "from hwdse.cli import main; main()", *command.split()]
            done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"hwdse {command}: {done.stderr.strip()}")
        shutil.copyfile(Path(folder) / file, DOCS / f"{name}.png")
    print(f"wrote docs/{name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(PICTURES)}")
    for each in parser.parse_args().names or PICTURES:
        draw(each)
