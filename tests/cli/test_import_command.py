"""`hwdse import`: written files, lines about parts not expressed, errors."""

import hashlib
import json
from pathlib import Path

import jax
import pytest

from hwdse.cli.main import run
from hwdse.config.design.model_and_task import load_model_file
from hwdse.evaluation import evaluate

DATA = Path(__file__).parents[1] / "data"
LLAMA = DATA / "hf" / "llama31_8b.json"
NETWORK = "topology: [Ring]\nnpus_count: [4]\nbandwidth: [50.0]\nlatency: [500.0]\n"


@pytest.mark.parametrize("name", ["llama31_8b", "gemma3_27b", "deepseek_v3", "gptj_6b"])
def test_written_model_equals_the_config(tmp_path, capsys, name):
    source, out = DATA / "hf" / f"{name}.json", tmp_path / "mine.toml"
    assert run(["import", "hf", str(source), "--out", str(out)]) == 0
    assert load_model_file(out).model == load_model_file(source).model
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("not expressed: ")]
    assert tuple(x.removeprefix("not expressed: ") for x in lines) == load_model_file(source).notes


def test_file_has_its_source_and_the_key_of_every_value(tmp_path):
    out = tmp_path / "mine.toml"
    run(["import", "hf", str(LLAMA), "--out", str(out)])
    text = out.read_text()
    assert f"llama31_8b.json (sha256 {hashlib.sha256(LLAMA.read_bytes()).hexdigest()})" in text
    assert "hidden = 4096  # hidden_size" in text
    table = text.partition("[model]\n")[2].partition("\n[")[0]
    assert all("  # " in line for line in table.splitlines() if line)


def test_summary_has_the_parameters_and_the_next_command(tmp_path, capsys):
    out = tmp_path / "mine.toml"
    run(["import", "hf", str(LLAMA), "--out", str(out)])
    said = capsys.readouterr().out
    assert "8,030,261,248 parameters" in said
    assert f"--model {out}" in said


def test_json_has_tables_and_lines(tmp_path, capsys):
    source, out = DATA / "hf" / "gemma3_27b.json", tmp_path / "mine.toml"
    assert run(["import", "hf", str(source), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"][0]["tables"]["model"]["num_layers"] == 62
    assert any("vision_config" in line for line in found["files"][0]["not_expressed"])
    assert found["files"][0]["path"] == str(out)


def test_config_is_a_model_of_a_job(tmp_path):
    from hwdse.config import load_search

    job = tmp_path / "job.toml"
    job.write_text(
        f'[design]\nsystem = "p4de_24xlarge"\nmodel = "{LLAMA}"\nseq_len = 4096\n'
        'global_batch = 64\nstrategy = "TP8"\n'
    )
    loaded = load_search(job)
    with jax.enable_x64(True):
        assert float(evaluate(loaded.base, loaded.workload).step_time_s) > 0.0


def test_existing_files_are_kept(tmp_path, capsys):
    out = tmp_path / "mine.toml"
    out.write_text("mine")
    assert run(["import", "hf", str(LLAMA), "--out", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert run(["import", "hf", str(LLAMA), "--out", str(out), "--force"]) == 0
    assert out.read_text() != "mine"


def test_default_name_is_that_of_the_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("Ring-4.yml").write_text(NETWORK)
    assert run(["import", "astrasim", "Ring-4.yml"]) == 0
    assert Path("ring_4.toml").exists()


def test_impossible_model_leaves_no_file(tmp_path, capsys):
    source, out = tmp_path / "config.json", tmp_path / "mine.toml"
    table = {**json.loads(LLAMA.read_text()), "num_local_experts": 4, "num_experts_per_tok": 0}
    source.write_text(json.dumps(table))
    assert run(["import", "hf", str(source), "--out", str(out)]) == 2
    assert not out.exists()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["onnx", "a.json"], "PEER onnx: expected one of hf, calculon, astrasim, scalesim"),
        (["hf", "missing.json"], "missing.json: expected"),
        (["hf", str(LLAMA), str(LLAMA)], "expected one config.json, found 2 files"),
        (["hf", str(LLAMA), "--base", "dgx_h100"], "--base dgx_h100: expected none for hf"),
        (["hf", str(LLAMA), "--out", "a.json"], "--out a.json: expected a file ending in .toml"),
        (["calculon", str(LLAMA)], "expected a JSON file of Calculon"),
        (["astrasim", str(LLAMA)], "expected one network file"),
        (["scalesim", str(LLAMA)], "expected sections and KEY: VALUE"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    assert run(["import", *arguments]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
