"""Searches of one core: files, error messages, and the commands that run them."""

import json
from pathlib import Path

import numpy as np
import pytest

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.config import ConfigError, load_operators, load_search, to_toml
from hwdse.config.files.toml_files import preset_root
from hwdse.search.space.pytree_path import get_path, set_path
from hwdse.specs.design import CoreDesign

DATA = Path(__file__).parents[1] / "data"
NETWORK = "name,R,S,P,Q,C,K,N,count\nffn,1,1,64,1,256,192,1,2\nscore,1,1,64,1,32,64,1,8\n"
SEARCH = """
title = "small core"
[design]
accelerator = "gemmini"
workload = "net.csv"
mapping = "explicit"
[objective]
minimize = "energy_delay"
front = ["time_per_token", "energy_per_token"]
[limits]
die_area = "2.7 mm^2"
memory_used_ratio = 1
[[variables]]
path = "accelerator.rows"
low = 4
high = 64
step = 4
[[variables]]
path = "accelerator.scratchpad.capacity"
low = "4 KiB"
high = "256 KiB"
step = "4 KiB"
[[variables]]
path = "accelerator.dram.bandwidth"
low = "1 GB/s"
high = "16 GB/s"
[[variables]]
path = "tiles.*.p"
low = 1
high = 1024
[[variables]]
path = "tiles.*.k"
low = 1
high = 128
"""


@pytest.fixture
def search(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.csv").write_text(NETWORK)
    path = tmp_path / "small.toml"
    path.write_text(SEARCH)
    return path


@pytest.mark.parametrize("name", ["gemmini_bert", "gemmini_resnet50", "gemmini_bert_explicit"])
def test_presets_search_array_memories_bandwidths_and_clock(name):
    loaded = load_search(name)
    paths = [dimension.path for dimension in loaded.space.dimensions]
    assert {f"accelerator.{leaf}" for leaf in (
        "rows", "cols", "clock_hz", "scratchpad.capacity_bytes", "accumulator.capacity_bytes",
        "dram.read_bandwidth_bytes_per_s", "scratchpad.read_bandwidth_bytes_per_s",
    )} <= set(paths)  # fmt: skip
    assert loaded.objective == "energy_delay"
    assert loaded.limits["memory_used_ratio"] == 1.0
    kinds = [source["kind"] for source in loaded.resolved["sources"]]
    assert kinds == ["search", "accelerator", "process", "layers"]
    assert json.loads(json.dumps(loaded.resolved)) == loaded.resolved
    design = loaded.space.decode_rounded(np.full(loaded.space.num_dims, 0.3), loaded.base)
    assert isinstance(design, CoreDesign)


def test_explicit_mappings_have_more_than_thirty_variables():
    loaded = load_search("gemmini_bert_explicit")
    assert loaded.space.num_dims >= 30
    operators = load_operators("bert_base")
    tiles = [d for d in loaded.space.dimensions if d.path.startswith("tiles.")]
    for dimension in tiles:
        _, name, field = dimension.path.split(".")
        dim = {"rows": "c", "cols": "k"}.get(field, field.removeprefix("block_"))
        extent = float(getattr(operators, dim)[operators.names.index(name)])
        assert dimension.high <= extent
        assert dimension.step == 1.0
    assert {d.path.split(".")[1] for d in tiles} == set(operators.names)


def test_a_star_leaves_out_numbers_that_cannot_vary(search):
    text = SEARCH.replace('path = "tiles.*.k"\nlow = 1', 'path = "tiles.*.k"\nlow = 64')
    search.write_text(text.replace("high = 128", "high = 512"))
    found = {d.path: d.high for d in load_search("small.toml").space.dimensions}
    assert "tiles.score.k" not in found  # it has 64 columns
    assert found["tiles.ffn.k"] == 192.0
    assert found["tiles.ffn.p"] == found["tiles.score.p"] == 64.0


def test_values_are_set_by_path(search):
    sets = ["accelerator.scratchpad.capacity=1 MiB", "accelerator.dram.bandwidth=9 GB/s",
            "tiles.ffn.p=7", "tiles.1.k=5", "accelerator.dram.word.outputs=16 bit",
            "accelerator.scratchpad.ports=one"]  # fmt: skip
    design = load_search(search, sets).base
    assert get_path(design, "accelerator.scratchpad.capacity_bytes") == 2.0**20
    assert get_path(design, "accelerator.dram.read_bandwidth_bytes_per_s") == 9e9
    assert get_path(design, "accelerator.dram.word_bytes.outputs") == 2.0
    assert get_path(design, "accelerator.scratchpad.ports") == "one"
    assert [tile.p for tile in design.tiles] == [7.0, 64.0]
    assert design.tiles[1].k == 5.0


def test_a_written_design_reads_back_exactly(search):
    loaded = load_search(search, ["accelerator.clock=1.1 GHz"])
    design = set_path(loaded.base, "accelerator.accumulator.word_bytes.outputs", 1.0 / 3.0)
    design = set_path(design, "tiles.score.block_k", 17.0)
    Path("again.toml").write_text(to_toml(loaded, design))
    again = load_search("again.toml")
    assert again.base == design
    assert again.space == loaded.space
    assert get_path(again.base, "accelerator.clock_hz") == 1.1e9


@pytest.mark.parametrize("name", ["topology_conv.csv", "topology_gemm.csv"])
def test_topologies_of_scalesim_are_workloads_of_a_core(search, name):
    loaded = load_search(search, [f'design.workload="{DATA / name}"'])
    assert loaded.workload.names == load_operators(DATA / name).names


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('"gemmini"', '"gemini"', 'small.toml [design] accelerator = "gemini": expected a path'),
        ('"net.csv"', '"nte.csv"', 'small.toml [design] layers = "nte.csv": expected an'),
        ('"net.csv"', '"bert_bas"', 'small.toml [design] layers = "bert_bas": expected a path'),
        (
            '"explicit"',
            '"explicitly"',
            'small.toml [design] mapping = "explicitly": expected one of optimize, explicit',
        ),
        (
            '"explicit"',
            '"explicit"\nsystem = "trn2_48xlarge"',
            'small.toml [design] system = "trn2_48xlarge": expected one of the keys accelerator, ',
        ),
        (
            '"gemmini"',
            '"eyeriss"',
            'small.toml [design] accelerator = "eyeriss": expected ',
        ),
        (
            '"energy_delay"',
            '"cost_per_token"',
            'small.toml [objective] minimize = "cost_per_token": expected one of time_per_token, ',
        ),
        (
            "accelerator.dram.bandwidth",
            "accelerator.dram.bandwith",
            'small.toml [variables 3] path = "accelerator.dram.bandwith": expected a path of the ',
        ),
        (
            '"tiles.*.k"',
            '"tiles.*.m"',
            'small.toml [variables 5] path = "tiles.*.m": expected a path of the design (here ',
        ),
        (
            '"tiles.*.k"\nlow = 1',
            '"tiles.ffn.q"\nlow = 1',
            "small.toml [variables 5] low = 1: expected a value below 1, the extent of the op",
        ),
        (
            '"tiles.*.k"',
            '"tiles.ffn.p"',
            "small.toml [variables 5] path = \"tiles.ffn.p\": expected each path once; it is ",
        ),
        (
            '"tiles.*.k"',
            '"tiles.*.q"',
            'small.toml [variables 5] path = "tiles.*.q": expected a path with at least one number',
        ),
        ("memory_used_ratio = 1", "memory_used = 1", "small.toml [limits] memory_used = 1: expect"),
    ],
)  # fmt: skip
def test_an_error_is_one_line_and_exit_code_2(search, capsys, old, new, line):
    assert old in SEARCH
    search.write_text(SEARCH.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_search("small.toml")
    assert str(caught.value).startswith(line), str(caught.value)
    assert run(["evaluate", "small.toml"]) == Exit.USER_ERROR
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_a_wrong_value_is_named(search):
    with pytest.raises(ConfigError, match=r"--set accelerator\.rows = 0: expected a whole number"):
        load_search(search, ["accelerator.rows=0"])
    with pytest.raises(ConfigError, match=r"did you mean 'accelerator\.scratchpad\.capacity'"):
        load_search(search, ["accelerator.scratchpad.capasity=1"])


def test_evaluate_and_sensitivity(search, capsys, tmp_path):
    plots = tmp_path / "plots"
    assert run(["evaluate", "small.toml", "--plots", str(plots), "--json"]) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["tokens_per_step"] == 1.0
    assert {path.name for path in plots.iterdir()} >= {"roofline.png", "breakdown.svg"}
    assert run(["evaluate", "small.toml"]) == Exit.OK
    text = capsys.readouterr().out
    assert "energy per pass" in text
    assert "token" not in text
    assert run(["sensitivity", "small.toml", "--metric", "energy_delay", "--json"]) == Exit.OK
    elasticities = json.loads(capsys.readouterr().out)["elasticities"]
    assert elasticities["accelerator.dram.read_energy_j_per_byte"] > 0.0
    assert elasticities["accelerator.dram.read_bandwidth_bytes_per_s"] <= 0.0
    assert {"tiles.ffn.k", "tiles.score.block_p"} <= set(elasticities)


def test_optimize_and_sweep_improve_the_baseline_within_the_limits(search, capsys):
    arguments = ["optimize", "small.toml", "--evaluations", "800", "--out", "best", "--json"]
    assert run(arguments) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    before, after = found["before"]["metrics"], found["after"]["metrics"]
    products = [x["step_time_s"] * x["step_energy_j"] for x in (before, after)]
    assert products[1] < 0.8 * products[0]
    assert found["value"] == pytest.approx(products[1])
    assert all(row["is_met"] for row in found["limits"])
    assert run(["evaluate", "best/best.toml", "--json"]) == Exit.OK
    read_back = json.loads(capsys.readouterr().out)["metrics"]
    assert read_back == after
    assert (
        run(
            [
                "sweep",
                "small.toml",
                "--points",
                "2048",
                "--chunk",
                "2048",
                "--out",
                "wide",
                "--json",
            ]
        )
        == Exit.OK
    )
    front = json.loads(capsys.readouterr().out)["front"]
    assert "tiles.score.p" in front
    assert min(front["time_per_token_s"]) < before["step_time_s"]
    assert run(["pareto", "wide", "--out", "front"]) == Exit.OK
    assert Path("front/pareto.png").exists()


@pytest.mark.slow
def test_hardware_is_searched_with_optimized_mappings(search, capsys):
    search.write_text(SEARCH[: SEARCH.index('[[variables]]\npath = "tiles.*.p"')])
    arguments = ["optimize", "small.toml", "--set", 'design.mapping="optimize"', "--evaluations",
                 "300", "--out", "best", "--json"]  # fmt: skip
    assert run(arguments) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert found["is_feasible"]
    before, after = found["before"]["metrics"], found["after"]["metrics"]
    products = [x["step_time_s"] * x["step_energy_j"] for x in (before, after)]
    assert products[1] < 0.8 * products[0]
    rows = found["design"]["accelerator.rows"]
    assert rows % 4 == 0


def test_presets_list_cores_and_operators(capsys):
    assert run(["presets", "accelerator", "--json"]) == Exit.OK
    cores = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["presets"]}
    assert cores["gemmini"]["published"]["rows"] == 16
    assert run(["presets", "operators", "--json"]) == Exit.OK
    layers = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["presets"]}
    assert layers["resnet50"]["published"]["num_operators"] == 24
    assert (preset_root() / "operators/resnet50.csv").exists()
