"""`hwdse mapping`: sums equal `evaluate`, printed nests are valid input, user errors."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from support.designs import BASE, JOB, LAYERS

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.config import load_search
from hwdse.core.network_mapper import map_network
from hwdse.core.operator_loop_nests import costs_of_nest
from hwdse.evaluation import evaluate_exact
from hwdse.workload.transformer.micro_batch_gemms import GEMM_NAMES
from hwdse.workload.transformer.sharding import shard

BERT = ("mapping", "gemmini_bert")
TINY = ("--set", "accelerator.accumulator.capacity=2 B")
NEST = "dram[WIO] C4 - scratchpad[WI] K8 - accumulator[O] N1 C16X K16X - registers[W] P128"


def told(arguments, capsys, code=Exit.OK):
    """JSON output of a command."""
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_sums_equal_evaluate(capsys):
    loaded = load_search(BERT[1])
    evaluation = evaluate_exact(loaded.base, loaded.workload)
    totals = told(BERT, capsys)["totals"]
    assert totals["time_s"] == pytest.approx(evaluation.step_time_s)
    assert totals["energy_j"] + totals["static_j"] == pytest.approx(evaluation.step_energy_j)
    used = evaluation.mfu_fraction
    assert totals["utilization_fraction"] == pytest.approx(used)


@pytest.mark.parametrize("name", ["gemmini_resnet50", "gemmini_bert_explicit", "trn2_llama3_70b"])
def test_every_nest_has_the_costs_of_its_mapping(name):
    loaded = load_search(name)
    network = map_network(loaded.base, loaded.workload)
    for index in range(len(network.operators.names)):
        mapped = network.operator(index)
        again = costs_of_nest(mapped.nest, mapped.operator, mapped.accelerator)
        for own, known in zip(jax.tree.leaves(again), jax.tree.leaves(mapped.costs), strict=True):
            assert own == pytest.approx(known, rel=1e-6), mapped.text
        bound = [level.traffic_over_bound_ratio for level in mapped.metrics.levels]
        assert min(bound) >= 1.0 - 1e-9


def test_the_printed_nest_is_a_valid_option(capsys):
    found = told([*BERT, "--operator", "mm_4"], capsys)
    again = told([*BERT, "--operator", "mm_4", "--nest", found["nest"]], capsys)
    for key in ("time_s", "energy_j", "compute_cycles"):
        assert again[key] == pytest.approx(found[key])
    assert again["nest_lines"] == found["nest_lines"]
    assert run([*BERT, "--operator", "mm_4"]) == Exit.OK
    text = capsys.readouterr().out
    for line in (
        *found["nest_lines"],
        f"nest: {found['nest']}",
        f"bound by {found['resources'][0]['name']}",
    ):
        assert line in text


def test_operators_are_selected_by_number_or_name(capsys):
    assert told([*BERT, "--operator", "1"], capsys) == told([*BERT, "--operator", "mm_1"], capsys)


def test_help_shows_two_examples(capsys):
    assert run(["mapping", "--help"]) == Exit.OK
    assert capsys.readouterr().out.count("    hwdse mapping") == 2


def test_the_table_lists_every_operator(capsys):
    assert run(list(BERT)) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    for name in load_search("gemmini_bert").workload.names:
        assert any(name in line for line in lines)
    assert "  total" in lines[-2]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--operator", "mm_9"), "did you mean 'mm_"),
        (("--operator", "7"), "0 to 4"),
        (("--nest", NEST), "--operator"),
        (("--plots", "a"), "--operator"),
        (("--operator", "1", "--nest", NEST.replace("C4", "C5")), "cover 80: expected 64"),
        (("--operator", "1", "--nest", NEST.replace("dram", "L3")), "scratchpad"),
        (("--operator", "1", "--nest", "dram"), "dram"),
        (("--set", "accelerator.row=3"), "accelerator.rows"),
    ],
)
def test_user_errors_are_one_line_with_exit_code_2(arguments, named, capsys):
    assert run([*BERT, *arguments]) == Exit.USER_ERROR
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert named in captured.err


def test_a_network_that_does_not_fit_exits_with_code_3_and_names_the_capacity(capsys):
    assert run([*BERT, *TINY]) == Exit.INFEASIBLE
    captured = capsys.readouterr()
    assert "does not fit" in captured.out
    assert "5 of 5 operators" in captured.err
    assert re.search(r"accumulator: \d+ B required, \dx the available 2 B", captured.err)
    rows = told([*BERT, *TINY], capsys, Exit.INFEASIBLE)["operators"]
    assert {row["capacity_violations"][0]["resource"] for row in rows} == {"accumulator"}
    for row in rows:
        (violation,) = row["capacity_violations"]
        assert violation["available"] == 2.0
        assert violation["ratio"] == pytest.approx(violation["required"] / 2.0)


def test_a_nest_that_does_not_fit_exits_with_code_3_and_is_plotted(tmp_path: Path, capsys):
    wide = NEST.replace("C4", "N1").replace("C16X", "C64X")
    arguments = [*BERT, "--operator", "mm_1", "--nest", wide, "--plots", str(tmp_path)]
    assert run(arguments) == Exit.INFEASIBLE
    captured = capsys.readouterr()
    assert "rows: 64 required, 4x the available 16" in captured.err
    assert "<svg" in (tmp_path / "mapping_mm_1.svg").read_text()


def test_plots_are_written_to_the_folder(tmp_path: Path, capsys):
    folder = tmp_path / "new"
    arguments = [*BERT, "--operator", "mm_1", "--nest", NEST, "--plots", str(folder)]
    files = [str(folder / f"mapping_mm_1.{suffix}") for suffix in ("png", "svg")]
    assert told(arguments, capsys)["files"] == files
    assert sorted(str(path) for path in folder.iterdir()) == files
    assert all(Path(path).stat().st_size > 1000 for path in files)


def test_the_gemms_of_all_cores_add_up_to_the_step():
    network = map_network(BASE, JOB)
    with jax.enable_x64(True):
        step = shard(JOB, BASE.parallelism, BASE.cluster.num_chips)
    layers = np.where(
        np.asarray(step.executions.is_lm_head) > 0.5, 1.0, float(step.layers_per_stage)
    )
    runs = np.asarray(step.executions.total) * layers * float(step.num_micro_batches)
    macs = np.asarray(step.gemms.num_macs, float) * runs
    parts = np.asarray(network.operators.num_macs) * network.operators.count * network.num_cores
    np.testing.assert_allclose(parts, macs, rtol=1e-6)
    assert network.operators.names == GEMM_NAMES
    assert len(macs) == len(GEMM_NAMES)


def test_layers_of_a_topology_keep_their_names():
    network = map_network(BASE, LAYERS)
    assert network.operators.names == LAYERS.names
    assert network.operator(1).operator.names == ("b",)


def test_gemms_of_a_transformer_have_the_right_names():
    with jax.enable_x64(True):
        gemms = shard(JOB, BASE.parallelism, BASE.cluster.num_chips).gemms
    rows = {
        name: (float(m), float(k), float(n))
        for name, m, k, n in zip(GEMM_NAMES, gemms.m, gemms.k, gemms.n, strict=True)
    }
    model, tensor = JOB.model, BASE.parallelism.tensor
    assert rows["out"][1:] == (model.num_heads * model.head_dim / tensor, model.hidden)
    assert rows["down"][1:] == (model.feedforward / tensor, model.hidden)
    assert rows["up"][1:] == (model.hidden, 2.0 * model.feedforward / tensor)
    assert rows["head"][1:] == (model.hidden, model.vocabulary / tensor)
    assert rows["scores"][1] == rows["values"][2] == model.head_dim
    for name in ("qkv", "out", "up", "down", "head"):
        tokens, k, n = rows[name]
        assert rows[f"{name}_dx"] == (tokens, n, k)
        assert rows[f"{name}_dw"] == (k, tokens, n)
