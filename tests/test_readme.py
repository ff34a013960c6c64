"""What the README shows works, and what it says is there is there."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = re.findall(r"^hwdse (.*?)(?:\s+#.*)?$", README, flags=re.MULTILINE)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_run(snippet):
    done = subprocess.run(
        [sys.executable, "-c", snippet], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "us a token" in done.stdout


def test_there_is_a_snippet_and_every_command():
    assert SNIPPETS
    verbs = {command.split()[0] for command in COMMANDS}
    shown = {
        "presets",
        "balance",
        "evaluate",
        "sensitivity",
        "optimize",
        "solve",
        "uncertainty",
        "compare-search",
        "sweep",
        "pareto",
        "query",
        "validate",
        "mapping",
        "layout",
    }
    assert verbs == shown


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("verb", sorted({command.split()[0] for command in COMMANDS}))
def test_every_command_explains_itself_by_two_examples(verb):
    done = subprocess.run(
        [sys.executable, "-c", "from hwdse.cli import main; main()", verb, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"hwdse {verb}") >= 2


@pytest.mark.parametrize(
    "name", ["benchmarks", "dosa", "scale_up_vs_scale_out", "training_accuracy", "trn2_llama3_70b"]
)
def test_tables_of_an_experiment_are_those_it_measured(name):
    folder = ROOT / "experiments" / name
    (results,) = (folder / "results").glob("*.md")
    assert results.read_text().strip() in (folder / "README.md").read_text()
