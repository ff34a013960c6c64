"""Public names of `hwdse` and of each public folder load, are described, and have examples."""

import doctest
import importlib
import re
import subprocess
import sys

import pytest

import hwdse

ROOMS = (
    "hwdse",
    "hwdse.numerics",
    "hwdse.search",
    "hwdse.config",
    "hwdse.core",
    "hwdse.training",
    "hwdse.analysis",
)
LIGHT = ("hwdse", "hwdse.search", "hwdse.core", "hwdse.training", "hwdse.analysis")


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_load_and_are_described(room):
    module = importlib.import_module(room)
    described = set(re.findall(r"`(\w+)`", module.__doc__))
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in described, f"{room}.{name} is not in the docstring of the room"
    assert set(module.__all__) <= set(dir(module))


def test_unknown_names_are_attribute_errors():
    for room in LIGHT:
        with pytest.raises(AttributeError, match="no_such_name"):
            _ = importlib.import_module(room).no_such_name


def test_importing_the_rooms_does_not_import_jax():
    code = f"import sys, {', '.join(LIGHT)}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", hwdse.__all__)
def test_the_help_of_a_public_name_has_an_example_that_runs(name):
    found = getattr(hwdse, name)
    described = found if callable(found) else type(found)
    tests = doctest.DocTestFinder(recurse=False).find(described, name, globs={})
    examples = [test for test in tests if test.examples]
    assert examples, f"help(hwdse.{name}) has no example"
    for test in examples:
        outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
        assert outcome.failed == 0
