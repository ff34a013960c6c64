"""Imports run one way, effects do not know each other, and a file's name says which one it is."""

import ast
import functools
from collections import Counter
from pathlib import Path

import pytest

import hwdse

ROOT = Path(hwdse.__file__).parent
ORDER = (  # a module imports from its own place or an earlier one
    ("shapes", "numerics", "units", "unit_text", "compiling", "memoryless", "roots", "wafers"),
    ("specs",),
    ("workload",),
    ("models",),
    ("system",),
    ("objectives",),
    ("search", "balance"),
    ("config", "results", "results_files"),
    ("calibration", "validation"),
    ("report",),
    ("cli",),
)
PLACE = {name: place for place, names in enumerate(ORDER) for name in names}
ONLY_IN = {  # libraries of the edges, and who may import them
    "matplotlib": ("report",),
    "typer": ("cli",),
    "rich": ("cli",),
    "pydantic": ("config",),
    "pyarrow": ("results", "results_files"),
    "duckdb": ("cli",),
    "distributed": ("cli",),
}
FILES = sorted(ROOT.rglob("*.py"))
MODULES = [file for file in FILES if file != ROOT / "__init__.py"]


def label(file):
    return str(file.relative_to(ROOT))


def part_of(file):
    """The first name below `hwdse`: `models`, `numerics`."""
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


@functools.cache
def parsed(file):
    return ast.parse(file.read_text())


@functools.cache
def imported(file):
    """Dotted names of all modules that a file imports, inside functions as well."""
    names = []
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            names += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{label(file)}: imports are absolute"
            names += [f"{node.module}.{name.name}" for name in node.names]
    return names


@pytest.mark.parametrize("file", MODULES, ids=label)
def test_imports_point_to_earlier_parts(file):
    own = part_of(file)
    assert own in PLACE, f"{own} has no place in the order"
    for name in imported(file):
        parts = name.split(".")
        if parts[0] == "hwdse" and len(parts) > 1 and parts[1] in PLACE:
            assert PLACE[parts[1]] <= PLACE[own], f"{label(file)} imports {name}"


def test_models_meet_in_the_system_only():
    for file in (ROOT / "models").glob("*.py"):
        for name in imported(file):
            parts = name.split(".")
            is_model = parts[:2] == ["hwdse", "models"] and parts[2:3] != [file.stem]
            assert not is_model, f"{label(file)} imports {name}"


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_libraries_of_the_edges_stay_there(library):
    for file in MODULES:
        if any(name.split(".")[0] == library for name in imported(file)):
            assert part_of(file) in ONLY_IN[library], f"{label(file)} imports {library}"


def test_no_two_modules_share_a_name():
    names = Counter(file.name for file in FILES if file.name != "__init__.py")
    shared = {name for name, number in names.items() if number > 1}
    assert not shared, sorted(label(file) for file in FILES if file.name in shared)


def bodies(file):
    """Functions of a file with the lines of their bodies, docstrings left out."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if first:
                yield node.name, first[-1].end_lineno - first[0].lineno + 1


@pytest.mark.parametrize("file", FILES, ids=label)
def test_files_and_functions_are_short(file):
    assert len(file.read_text().splitlines()) < 300
    long = {name: lines for name, lines in bodies(file) if lines >= 40}
    assert not long


@pytest.mark.parametrize("file", FILES, ids=label)
def test_public_names_are_described(file):
    tree = parsed(file)
    assert ast.get_docstring(tree), "no module docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            is_overload = any(getattr(x, "id", "") == "overload" for x in node.decorator_list)
            assert is_overload or ast.get_docstring(node), f"{node.name} has no docstring"
