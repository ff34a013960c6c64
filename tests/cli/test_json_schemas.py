"""Schemas of --json: one for every command, strict, and met by outputs of every command.

`support.json_outputs` checks the outputs of all other tests as well.
"""

import copy
import json

import pytest
import typer
from jsonschema import Draft202012Validator
from support.json_outputs import mistakes

from hwdse.cli.main import app, run
from hwdse.cli.schemas.json_schemas import SCHEMAS, schema_of
from hwdse.cli.shared.exit_codes import Exit

CORE = ["gemmini", "--layers", "bert_base"]
SEARCH = """
title = "Small"
[design]
accelerator = "gemmini"
layers = "bert_base"
mapping = "explicit"
[objective]
minimize = "energy_delay"
front = ["time_per_token", "energy_per_token"]
[[variables]]
path = "accelerator.clock"
low = "0.5 GHz"
high = "1.5 GHz"
step = "0.1 GHz"
"""


def commands_with_json():
    group = typer.main.get_command(app)
    return [
        name
        for name, command in group.commands.items()
        if any("--json" in parameter.opts for parameter in command.params)
    ]


def objects(schema):
    """All objects with named keys in a schema."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def told(capsys, *arguments):
    """JSON object that a command prints."""
    assert run([*arguments, "--json"]) == Exit.OK
    return json.loads(capsys.readouterr().out)


def test_every_command_with_json_has_a_schema():
    assert sorted(SCHEMAS) == sorted(commands_with_json())
    assert len(SCHEMAS) >= 14


@pytest.mark.parametrize("command", sorted(SCHEMAS))
def test_schemas_are_valid_and_strict(command):
    schema = schema_of(command)
    Draft202012Validator.check_schema(schema)
    found = list(objects(schema))
    assert found
    for node in found:
        assert node["additionalProperties"] is False
        assert node["required"]
        assert set(node["required"]) <= set(node["properties"])


@pytest.mark.parametrize("command", sorted(SCHEMAS))
def test_printed_schemas_are_whole_documents(command, capsys):
    assert run(["schema", command]) == Exit.OK
    printed = json.loads(capsys.readouterr().out)
    assert printed == schema_of(command)
    assert printed["$schema"].endswith("2020-12/schema")


def test_the_list_names_all_commands(capsys):
    assert run(["schema"]) == Exit.OK
    assert capsys.readouterr().out.split() == list(SCHEMAS)
    assert run(["schema", "evalute"]) == Exit.USER_ERROR
    assert "did you mean 'evaluate'?" in capsys.readouterr().err


def paths_of(node, path=()):
    """Paths of all values of a JSON object, at most two items per list."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*path, key)
            yield from paths_of(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node[:2]):
            yield from paths_of(value, (*path, index))


def test_a_missing_a_new_and_a_wrong_value_are_mistakes(capsys):
    output = told(capsys, "evaluate", *CORE)
    assert mistakes("evaluate", output) == []
    free = {"labels"}  # any names
    for path in paths_of(output):
        if path[0] in free and len(path) > 1:
            continue
        missing, wrong = copy.deepcopy(output), copy.deepcopy(output)
        for changed, last in ((missing, None), (wrong, {"no": []})):
            node = changed
            for word in path[:-1]:
                node = node[word]
            if last is None:
                del node[path[-1]]
            else:
                node[path[-1]] = last
            assert mistakes("evaluate", changed), path
    assert mistakes("evaluate", {**output, "more": 1})


def test_outputs_of_all_tests_are_checked(monkeypatch):
    monkeypatch.setattr("support.json_outputs.mistakes", lambda command, value: [command])
    with pytest.raises(AssertionError, match="presets"):
        run(["presets", "chip", "--json"])


def test_descriptions_have_units():
    fields = schema_of("evaluate")["$defs"]["metrics"]["properties"]
    assert fields["step_time_s"]["description"].endswith("[s]")
    assert fields["effective_tokens_per_s"]["description"].endswith("[tokens/s]")
    assert "[" not in fields["mfu_fraction"]["description"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["presets", "chip"],
        ["explain", "accelerator.clock", "gemmini_bert_explicit"],
        ["compare", "gemmini", "gemmini", "--layers", "bert_base"],
        ["mapping", *CORE],
        ["mapping", *CORE, "--operator", "0"],
        ["uncertainty", *CORE, "--uncertain", "accelerator.clock=10%", "--samples", "20",
         "--metric", "chip_power"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_outputs_on_cores(arguments, capsys):
    assert told(capsys, *arguments)


@pytest.mark.parametrize(
    "name",
    ["h100", "dgx_h100", "llama3_8b", "gemmini", "pretraining", "neuron"],
)
def test_sheets(name, capsys):
    assert told(capsys, "show", name)["name"] == name


def test_a_part_of_a_sweep_and_its_query(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(SEARCH)
    sweep = ["sweep", "s.toml", "--points", "8", "--method", "grid", "--chunk", "4", "--out", "r"]
    part = told(capsys, *sweep, "--shard", "1/2")
    assert part["is_complete"] is False
    assert part["num_points"] < 11
    whole = told(capsys, *sweep, "--resume")
    assert whole["is_complete"]
    assert told(capsys, "query", "r")["rows"]
    assert told(capsys, "pareto", "r", "--out", "p")["rests_on"]
