"""Imports run one way, effects do not know each other, and a file's name says which one it is."""

import ast
import functools
from collections import Counter
from pathlib import Path

import pytest

import hwdse

ROOT = Path(hwdse.__file__).parent
ORDER = (  # a room imports from its own place or an earlier one
    ("lazy_names", "units", "numerics"),
    ("specs",),
    ("search",),
    ("workload",),
    ("models",),
    ("core",),
    ("training", "serving"),
    ("evaluation",),
    ("objectives",),
    ("analysis",),
    ("config",),
    ("runs",),
    ("validation",),
    ("calibration",),
    ("plots",),
    ("report",),
    ("jobs",),
    ("cli",),
)
PLACE = {name: place for place, names in enumerate(ORDER) for name in names}
ONLY_IN = {  # libraries of the edges, and who may import them
    "matplotlib": ("plots",),
    "typer": ("cli",),
    "rich": ("cli",),
    "pydantic": ("config",),
    "pyarrow": ("runs",),
    "duckdb": ("cli",),
    "distributed": ("runs",),
}
MAX_MODULES = 14
"""Modules of a folder, `__init__` left out."""
MAX_LINES = 600
FILES = sorted(ROOT.rglob("*.py"))
MODULES = [file for file in FILES if file != ROOT / "__init__.py"]
FOLDERS = sorted({file.parent for file in FILES})


def label(file):
    return str(file.relative_to(ROOT))


def room_of(file):
    """The first name below `hwdse`: `models`, `objectives`."""
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


def module_name(file):
    parts = ("hwdse", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


BY_NAME = {module_name(file): file for file in FILES}


@functools.cache
def imported_files(file):
    """Files of hwdse that a file imports: modules themselves, and those that names come from."""
    found = set()
    for name in imported(file):
        target = BY_NAME.get(name) or BY_NAME.get(name.rpartition(".")[0])
        if target is not None and target != file:
            found.add(target)
    return found


def cycle(graph):
    """Some cycle of a graph of successors, or nothing."""
    state, path = {}, []

    def visit(node):
        state[node] = "open"
        path.append(node)
        for successor in sorted(graph[node]):
            if state.get(successor) == "open":
                return [*path[path.index(successor) :], successor]
            if successor not in state and (found := visit(successor)):
                return found
        state[node] = "done"
        path.pop()
        return None

    for node in sorted(graph):
        if node not in state and (found := visit(node)):
            return found
    return None


def test_the_search_for_cycles_finds_one():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None


@pytest.mark.parametrize("file", MODULES, ids=label)
def test_no_room_imports_a_higher_one(file):
    own = room_of(file)
    assert own in PLACE, f"{own} has no place in the order"
    for name in imported(file):
        parts = name.split(".")
        if parts[0] == "hwdse" and len(parts) > 1 and parts[1] in PLACE:
            assert PLACE[parts[1]] <= PLACE[own], f"{label(file)} imports {name}"


def test_search_does_not_import_hardware():
    for file in (ROOT / "search").rglob("*.py"):
        for name in imported(file):
            assert not name.startswith("hwdse.specs"), f"{label(file)} imports {name}"


def test_no_modules_import_in_a_circle():
    found = cycle({file: imported_files(file) for file in FILES})
    assert not found, [label(file) for file in found]


def test_no_folders_import_in_a_circle():
    graph = {folder: set() for folder in FOLDERS if folder != ROOT}
    for file in MODULES:
        targets = {target.parent for target in imported_files(file)} - {file.parent, ROOT}
        if file.parent != ROOT:
            graph[file.parent] |= targets
    found = cycle(graph)
    assert not found, [label(folder) for folder in found]


def test_effects_of_models_do_not_meet_in_models():
    for file in (ROOT / "models").rglob("*.py"):
        effect = file.relative_to(ROOT).parts[1]
        for name in imported(file):
            parts = name.split(".")
            is_other = parts[:2] == ["hwdse", "models"] and parts[2] != effect
            assert not is_other, f"{label(file)} imports {name}"


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_libraries_of_the_edges_stay_there(library):
    for file in MODULES:
        if any(name.split(".")[0] == library for name in imported(file)):
            assert room_of(file) in ONLY_IN[library], f"{label(file)} imports {library}"


def test_no_two_modules_share_a_name():
    names = Counter(file.name for file in FILES if file.name != "__init__.py")
    shared = {name for name, number in names.items() if number > 1}
    assert not shared, sorted(label(file) for file in FILES if file.name in shared)


@pytest.mark.parametrize("folder", FOLDERS, ids=label)
def test_folders_are_small(folder):
    modules = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
    assert len(modules) <= MAX_MODULES


def bodies(file):
    """Functions of a file with the lines of their bodies, docstrings left out."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if first:
                yield node.name, first[-1].end_lineno - first[0].lineno + 1


@pytest.mark.parametrize("file", FILES, ids=label)
def test_files_hold_one_idea_and_functions_fit_a_screen(file):
    assert len(file.read_text().splitlines()) <= MAX_LINES
    long = {name: lines for name, lines in bodies(file) if lines >= 50}
    assert not long


@pytest.mark.parametrize("file", FILES, ids=label)
def test_public_names_are_described(file):
    tree = parsed(file)
    assert ast.get_docstring(tree), "no module docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            is_overload = any(getattr(x, "id", "") == "overload" for x in node.decorator_list)
            assert is_overload or ast.get_docstring(node), f"{node.name} has no docstring"
