"""Commands on jobs: show, new, explain, compare, and jobs of evaluate from names and flags."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.config import load_chip, load_search
from hwdse.config.new_files import KINDS
from hwdse.runs.atomic_files import read_csv_columns

GEMMA = Path(__file__).parents[1] / "data" / "hf" / "gemma2_9b.json"
CLASSES = Path(__file__).parents[2] / "configs" / "classes"
WORK = ["--model", "llama3_8b", "--strategy", "TP8", "--batch", "64"]
CORE = ["--layers", "bert_base"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def output(capsys, *arguments):
    """Standard output of a command that succeeds."""
    assert run(list(arguments)) == Exit.OK, capsys.readouterr().err
    return capsys.readouterr().out


def told(capsys, *arguments):
    return json.loads(output(capsys, *arguments, "--json"))


def refused(capsys, *arguments):
    """Lines on stderr of a command with a mistake of the user."""
    assert run(list(arguments)) == Exit.USER_ERROR
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hwdse: ")
    return captured.err


# show


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("h100", ["peak rates", "balance point", "die area", "TDP, published (W)"]),
        ("dgx_h100", ["8 x H100", "BF16 peak (PFLOP/s)", "peak rates"]),
        ("llama3_8b", ["parameters", "KV cache per token", "memory per chip in training"]),
        ("gemmini", ["rows", "scratchpad.capacity"]),
        ("pretraining", ["attention"]),
        ("neuron", ["dispatch_time"]),
    ],
)
def test_show_prints_a_sheet_of_each_kind(name, words, capsys):
    text = output(capsys, "show", name)
    assert all(word in text for word in words)


def test_the_numbers_of_a_sheet_are_those_of_the_chip(capsys):
    values = told(capsys, "show", "h100")["values"]
    chip = load_chip("h100")
    array = chip.array
    macs_per_s = array.rows * array.cols * array.num_arrays * array.clock_hz
    assert values["bf16_flop_per_s"] == pytest.approx(2.0 * macs_per_s, rel=1e-12)
    balance = values["balance_flop_per_byte"]["hbm"]
    bandwidth = chip.hbm.bandwidth_bytes_per_s
    assert balance * bandwidth == pytest.approx(values["bf16_flop_per_s"])
    assert sum(values["area_mm2"].values()) == pytest.approx(values["die_area_mm2"])
    assert values["sustained_flop_per_s"] < values["bf16_flop_per_s"]


@pytest.mark.parametrize("command", ["show", "evaluate"])
@pytest.mark.parametrize("name", ["h100", "dgx_h100"])
def test_rooflines_of_a_chip_are_drawn(command, name, capsys, folder):
    files = told(capsys, command, name, "--plots", "drawn", "--format", "png")["files"]
    assert files == ["drawn/roofline.png"]
    assert (folder / files[0]).stat().st_size > 10_000


def test_a_model_has_no_plots(capsys, folder):
    assert "expected a chip or a system" in refused(capsys, "show", "llama3_8b", "--plots", "p")
    assert not (folder / "p").exists()


def test_a_sheet_names_what_is_assumed(capsys):
    values = told(capsys, "show", "h100")["values"]
    assert all(note.startswith("assumed") for note in values["assumed"].values())
    assert not set(values["assumed"]) & set(values["defaults"])
    text = output(capsys, "show", "h100")
    assert "chip.hbm_cost" in text
    assert f"{len(values['defaults'])} defaults" in text


def test_the_size_of_a_model(capsys):
    """Llama 3 8B: 8,030,261,248 parameters; 32 layers, 8 KV heads of 128, keys and values, BF16."""
    values = told(capsys, "show", "llama3_8b")["values"]
    assert values["num_parameters"] == 8_030_261_248
    assert values["kv_bytes_per_token"] == 32 * 2 * 8 * 128 * 2
    assert values["training_flop_per_token"] > 6.0 * values["num_active_parameters"]


def test_files_of_each_kind_are_shown(capsys, folder):
    (folder / "c.toml").write_text('name = "mine"\nbase = "h100"\n[hbm]\nbandwidth = "4 TB/s"\n')
    assert "4 TB/s" in output(capsys, "show", "c.toml")
    text = output(capsys, "show", str(GEMMA))
    assert "not modeled:" in text
    assert told(capsys, "show", str(GEMMA))["not_modeled"]


def test_names_without_a_sheet_are_refused(capsys):
    assert "expected one of chip" in refused(capsys, "show", "trn2_llama3_70b")
    assert "did you mean 'h100'?" in refused(capsys, "show", "h10")


# new


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_new_writes_a_file_that_its_next_command_reads(kind, capsys, folder):
    assert run(["new", kind, "mine"]) == Exit.OK
    captured = capsys.readouterr()
    assert "wrote mine.toml" in captured.err
    assert captured.out == f"next: {KINDS[kind].next_step.format(file='mine.toml')}\n"
    if kind not in ("job", "search"):
        assert "mine" in output(capsys, "show", "mine.toml")
    before = (folder / "mine.toml").read_text()
    assert "mine.toml: exists" in refused(capsys, "new", kind, "mine.toml")
    assert (folder / "mine.toml").read_text() == before


def test_a_changed_copy_of_a_chip_is_evaluated(capsys, folder):
    output(capsys, "new", "chip", "mine", "--from", "h100")
    text = (folder / "mine.toml").read_text()
    start = text.index("# [hbm]")
    line = text.index("# bandwidth =", start)
    end = text.index("\n", line)
    changed = text[:start] + "[hbm]" + text[start + len("# [hbm]") : line]
    (folder / "mine.toml").write_text(changed + 'bandwidth = "1 TB/s"' + text[end:])
    job = ["evaluate", "--system", "dgx_h100", *WORK]
    slow = told(capsys, *job, "--chip", "mine.toml")["metrics"]
    assert slow["step_time_s"] > told(capsys, *job)["metrics"]["step_time_s"]


def test_wrong_kinds_and_presets_are_refused(capsys, folder):
    assert "expected one of chip" in refused(capsys, "new", "cpu", "mine")
    assert "did you mean 'h100'" in refused(capsys, "new", "chip", "mine", "--from", "h10")
    assert not list(folder.iterdir())


# explain


def test_explain_prints_origin_band_and_effect(capsys):
    text = output(capsys, "explain", "chip.process.sram_area", "trn2_llama3_70b")
    for word in ("derived", "n5 line", "± 15 %", "mm^2/MiB", "die area", "elasticity"):
        assert word in text
    found = told(capsys, "explain", "chip.process.sram_area", "trn2_llama3_70b")
    assert found["kind"] == "derived"
    assert found["unit"] == "mm^2/B"
    assert found["elasticities"]["time_per_token"] == 0.0
    assert 0.0 < found["elasticities"]["die_area"] < 1.0


def test_explain_gives_the_ends_of_the_band_of_a_class(capsys):
    text = output(capsys, "explain", "chip.matrix_efficiency_fraction", "trn2_llama3_70b")
    found = told(capsys, "explain", "chip.matrix_efficiency_fraction", "trn2_llama3_70b")
    bands = tomllib.loads((CLASSES / "matured.toml").read_text())["bands"]
    low, high = bands["matrix_efficiency_fraction"]
    assert found["kind"] == "class"
    assert (found["low_text"], found["high_text"]) == (f"{low:g}", f"{high:g}")
    assert f"of the class: {low:g} to {high:g}" in text


def test_explain_takes_a_job_by_flags(capsys):
    flags = ["--system", "dgx_h100:2", *WORK]
    found = told(capsys, "explain", "chip.hbm.bandwidth", *flags)
    assert "2 x DGX H100" in found["title"]
    assert told(capsys, "explain", "chip.hbm.bandwidth", "dgx_h100:2", *WORK) == found
    assert "model" in refused(capsys, "explain", "chip.hbm.bandwidth", "--system", "dgx_h100")


def test_explain_follows_set_and_chooses_a_job_on_a_core(capsys):
    assert "Gemmini" in output(capsys, "explain", "accelerator.rows")
    found = told(capsys, "explain", "chip.hbm.bandwidth", "--set", 'chip.hbm.bandwidth="4 TB/s"')
    assert (found["kind"], found["place"], found["value"]) == ("given", "--set", 4e12)
    assert found["band_ratio"] == 0.0


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("chip.hbm.bandwith", "did you mean 'chip.hbm.bandwidth'"),
        ("chip.hbm", "found a table"),
        ("hbm", "expected a path"),
    ],
)
def test_explain_refuses_what_is_no_value(path, word, capsys):
    assert word in refused(capsys, "explain", path)


# compare


def test_compare_prints_ratios_and_writes_si_units(capsys, folder):
    pair = ["compare", "dgx_h100", "dgx_a100", *WORK]
    text = output(capsys, *pair, "--csv", "table.csv", "--plots", "plots", "--format", "png")
    assert "DGX H100" in text
    assert "1.00x" in text
    assert "rests on:" in text
    columns = read_csv_columns((folder / "table.csv").read_text())
    found = told(capsys, *pair)
    for index, job in enumerate(found["jobs"]):
        single = ["evaluate", ("dgx_h100", "dgx_a100")[index], *WORK]
        alone = told(capsys, *single)["metrics"]
        for name in ("step_time_s", "mfu_fraction", "cost_per_token_usd", "die_area_mm2"):
            assert job["metrics"][name] == pytest.approx(alone[name], rel=1e-12)
            assert columns[name][index] == pytest.approx(alone[name], rel=1e-6)
    first, second = found["jobs"]
    assert set(first["ratios"].values()) == {1.0}
    for name, value in second["metrics"].items():
        assert second["ratios"][name] == pytest.approx(value / first["metrics"][name])
    assert (folder / "plots" / "comparison.png").stat().st_size > 1000
    assert not (folder / "plots" / "comparison.svg").exists()


def test_compare_varies_a_parameter(capsys, folder):
    found = told(
        capsys, "compare", "dgx_h100", *WORK, "--vary", "chip.link.bandwidth=100..400 GB/s:4",
        "--plots", "plots",
    )  # fmt: skip
    values = [job["varied"]["chip.link.bandwidth"] for job in found["jobs"]]
    assert values == ["100 GB/s", "200 GB/s", "300 GB/s", "400 GB/s"]
    times = [job["metrics"]["step_time_s"] for job in found["jobs"]]
    assert np.all(np.diff(times) < 0.0)
    assert (folder / "plots" / "comparison.svg").stat().st_size > 1000


def test_compare_at_equal_power(capsys):
    found = told(capsys, "compare", "dgx_h100:2", "dgx_a100", *WORK, "--equal", "power")
    first, second = (job["metrics"] for job in found["jobs"])
    assert found["equal"] == "power"
    one_system = second["facility_power_w"] / (second["num_chips"] / 8.0)
    assert abs(second["facility_power_w"] - first["facility_power_w"]) <= one_system


def test_compare_cores(capsys):
    text = output(capsys, "compare", "gemmini", *CORE, "--vary", "accelerator.rows=16,32")
    assert "MAC utilization (%)" in text
    assert "accelerator.rows 32" in text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["dgx_h100", *WORK], "two or more jobs"),
        (["dgx_h100", "dgx_a100", *WORK, "--equal", "mass"], "expected one of chips"),
        (["dgx_h100", "h100", *WORK], "h100 is a chip: expected a job, a system or a core"),
        (["dgx_h100", "dgx_h1000", *WORK], "did you mean 'dgx_h100'"),
        (["dgx_h100", *WORK, "--vary", "chip.hbm.bandwidth=4 TB/s"], "two or more jobs"),
        (["dgx_h100", *WORK, "--vary", "chip.hbm.bandwith=2,3"], "chip.hbm.bandwidth"),
        (["dgx_h100", *WORK, "--vary", "system=dgx_h100,dgx_a100"], "no other names"),
        (["gemmini", "gemmini", *CORE, "--equal", "power"], "expected jobs on systems"),
        (["dgx_h100", "dgx_a100", *WORK, "--plots", "p", "--format", "gif"], "png,svg,pdf"),
    ],
)
def test_compare_refuses(arguments, word, capsys, folder):
    assert word in refused(capsys, "compare", *arguments)
    assert not list(folder.iterdir())


# evaluate


@pytest.mark.parametrize("name", ["h100", "dgx_h100", "llama3_8b", "gemmini"])
def test_evaluate_of_an_item_shows_it(name, capsys):
    assert output(capsys, "evaluate", name) == output(capsys, "show", name)


def test_flags_replace_parts_of_a_file(capsys, folder):
    (folder / "job.toml").write_text(
        'title = "mine"\n[design]\nsystem = "dgx_h100"\nmodel = "llama3_8b"\nstrategy = "TP8"\n'
    )
    found = told(capsys, "evaluate", "job.toml", "--batch", "64", "--seq", "4096")
    direct = load_search("job.toml", ["design.global_batch=64", "design.seq_len=4096"])
    assert found["metrics"]["tokens_per_step"] == 64 * 4096
    assert direct.workload.seq_len == 4096
    other = told(capsys, "evaluate", "job.toml", "--batch", "64", "--system", "dgx_a100")
    assert other["labels"]["system"] == "DGX A100 80 GB"
    assert other["title"] != "mine"


def test_a_system_or_core_beside_flags(capsys):
    flags = told(capsys, "evaluate", "--system", "dgx_h100:2", *WORK)
    beside = told(capsys, "evaluate", "dgx_h100:2", *WORK)
    assert flags == beside
    core = told(capsys, "evaluate", "gemmini", *CORE)
    assert core == told(capsys, "evaluate", "--core", "gemmini", *CORE)


def test_parts_that_are_not_modeled_are_said(capsys):
    job = ["dgx_h100", "--model", str(GEMMA), "--strategy", "TP8", "--batch", "64", "--seq", "1024"]
    notes = told(capsys, "evaluate", *job)["not_modeled"]
    assert notes
    text = output(capsys, "evaluate", *job)
    assert all(f"not modeled: {note}" in text for note in notes)
    pair = told(capsys, "compare", *job[:1], "dgx_a100", *job[1:])
    assert [one["not_modeled"] for one in pair["jobs"]] == [notes, notes]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "expected a CONFIG"),
        (["--system", "dgx_h100"], "model"),
        (["dgx_h100:0", *WORK], "whole number of at least 1"),
        (["dgx_h100", "--model", "llama3_8b", "--strategy", "TP3"], "tensor = 3"),
        (["dgx_h100", *WORK[:-1], "many"], "not an integer"),
    ],
)
def test_evaluate_refuses_impossible_jobs(arguments, word, capsys):
    assert word in refused(capsys, "evaluate", *arguments)
