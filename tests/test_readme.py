"""Snippets of the README run; named commands, options, files and links of README and docs exist."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from hwdse.cli.main import app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS]
MAX_README_LINES = 110
SHELL_FENCE = re.compile(r"^```(?:bash|console)?\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"\bhwdse ([a-z][a-z-]*)")
REPOSITORY_PATH = re.compile(
    r"\b(?:hwdse|tests|configs|experiments|tools|docs)/[\w./-]*\.(?:py|toml|csv|md|png)\b"
)
COMMANDS = typer.main.get_command(app).commands


def label(path):
    return str(path.relative_to(ROOT))


@functools.cache
def text_of(path):
    return path.read_text(encoding="utf-8")


def shell_lines(path):
    """Logical lines of the shell fences of a page, prompts and comments removed."""
    for fence in SHELL_FENCE.findall(text_of(path)):
        for line in fence.replace("\\\n", " ").splitlines():
            yield re.sub(r"\s#\s.*$", "", line.removeprefix("$ ")).strip()


SNIPPETS = re.findall(r"```python\n(.*?)```", text_of(README), flags=re.DOTALL)


def test_the_readme_is_short_and_has_a_snippet():
    assert len(text_of(README).splitlines()) < MAX_README_LINES
    assert SNIPPETS


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_run(snippet):
    done = subprocess.run(
        [sys.executable, "-c", snippet], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "µs per token" in done.stdout
    assert done.stdout.strip() in text_of(README)


@pytest.mark.parametrize("path", DOCS, ids=label)
def test_snippets_of_pages_compile(path):
    for snippet in re.findall(r"```python\n(.*?)```", text_of(path), flags=re.DOTALL):
        compile(snippet, label(path), "exec")


@pytest.mark.parametrize("path", PAGES, ids=label)
def test_named_commands_and_options_exist(path):
    for line in shell_lines(path):
        for call in re.split(r"\s*(?:&&|\||;)\s*", line):
            match = re.match(r"hwdse ([a-z][a-z-]*)", call)
            if match is None or match[1] == "name":
                continue
            assert match[1] in COMMANDS, call
            known = {option for parameter in COMMANDS[match[1]].params for option in parameter.opts}
            used = set(re.findall(r"(?<=\s)--[a-z][a-z-]*", call)) - {"--help"}
            assert used <= known, f"{call}: no {sorted(used - known)}"


@pytest.mark.parametrize("path", PAGES, ids=label)
def test_commands_named_in_prose_exist(path):
    for code in re.findall(r"`([^`\n]+)`", text_of(path)):
        match = COMMAND.match(code)
        assert match is None or match[1] in {*COMMANDS, "name"}, code


def test_every_command_has_its_help_in_the_reference():
    text = text_of(ROOT / "docs" / "reference" / "command-line.md")
    for name in COMMANDS:
        assert f"## hwdse {name}\n" in text


@pytest.mark.parametrize("path", PAGES, ids=label)
def test_named_files_exist(path):
    for name in REPOSITORY_PATH.findall(text_of(path)):
        assert (ROOT / name).exists() or "NAME" in name or "FAMILY" in name, name


@pytest.mark.parametrize("path", [*PAGES, *ROOT.glob("experiments/*/README.md")], ids=label)
def test_links_lead_to_files(path):
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text_of(path)):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_two_examples_in_its_help(name):
    help_text = COMMANDS[name].help or ""
    assert help_text.count(f"hwdse {name}") >= 2


@pytest.mark.parametrize(
    "name", ["benchmarks", "dosa", "scale_up_vs_scale_out", "training_accuracy", "trn2_llama3_70b"]
)
def test_tables_of_an_experiment_are_those_it_measured(name):
    folder = ROOT / "experiments" / name
    (results,) = (folder / "results").glob("*.md")
    assert results.read_text().strip() in (folder / "README.md").read_text()
