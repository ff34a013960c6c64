"""Check of every JSON object that a command prints in a test against the schema of the command."""

import functools
import json
from types import SimpleNamespace

import pytest

from hwdse.cli.shared import table_output

try:  # newer typers have a click of their own, with the context
    from typer._click.globals import get_current_context
except ImportError:
    from click import get_current_context


@functools.cache
def validator(command):
    """Validator of the output of a command."""
    from jsonschema import Draft202012Validator

    from hwdse.cli.schemas.json_schemas import schema_of

    return Draft202012Validator(schema_of(command))


def mistakes(command, told):
    """Mistakes of an output, one line each."""
    found = []
    for error in validator(command).iter_errors(told):
        for inner in error.context or [error]:
            place = "/".join(map(str, [*error.absolute_path, *inner.relative_path]))
            found.append(f"{command}: {place}: {inner.message[:300]}")
    return found


@pytest.fixture(autouse=True)
def outputs_meet_their_schema(monkeypatch):
    """Fail a test whose command prints JSON that does not meet its schema."""

    def checked(value, **options):
        context = get_current_context(silent=True)
        if context is not None and context.info_name != "schema":
            found = mistakes(context.info_name, value)
            assert not found, "\n".join(found)
        return json.dumps(value, **options)

    monkeypatch.setattr(table_output, "json", SimpleNamespace(dumps=checked))
