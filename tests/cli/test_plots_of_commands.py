"""Plots of the commands: formats, words for parameters and operators, systems beside a front."""

import dataclasses

import numpy as np
import pytest
import typer

from hwdse.cli.main import run
from hwdse.cli.shared.common_options import PLOT_FORMATS, parse_formats
from hwdse.cli.shared.exit_codes import Exit
from hwdse.cli.sweep import front_tables
from hwdse.config import load_search
from hwdse.config.schema.user_paths import leaf_paths
from hwdse.config.search import search_file
from hwdse.evaluation import evaluate_exact
from hwdse.jobs.reliance import resting_plot_files
from hwdse.plots.figure_files import FORMATS
from hwdse.plots.fronts.pareto_plots import Marker
from hwdse.report import evaluation_plots
from hwdse.report.evaluation_plots import gemm_words
from hwdse.report.parameter_words import (
    CONSTANTS,
    DESIGN,
    OPERATION,
    grouped_elasticities,
    parameter_group,
    parameter_words,
)
from hwdse.report.plot_targets import provenance
from hwdse.runs.run_folder import create_run
from hwdse.search.space.search_space import Choice, SearchSpace
from hwdse.workload.transformer.micro_batch_gemms import GEMM_NAMES


def test_formats_of_the_command_line_are_those_of_the_figures():
    assert PLOT_FORMATS == FORMATS


@pytest.mark.parametrize(
    ("text", "expected"),
    [("png", ("png",)), ("pdf, SVG", ("pdf", "svg")), ("svg,svg,png", ("svg", "png"))],
)
def test_formats_are_a_list(text, expected):
    assert parse_formats(text) == expected


@pytest.mark.parametrize("text", ["jpg", "", "png,,svg", "png svg"])
def test_unknown_format_is_refused_with_those_that_exist(text):
    with pytest.raises(typer.BadParameter, match="png,svg,pdf"):
        parse_formats(text)


@pytest.mark.parametrize(
    ("path", "words", "group"),
    [
        ("chip.hbm.bandwidth_bytes_per_s", "HBM bandwidth", DESIGN),
        ("chip.sram.capacity_bytes", "SRAM capacity", DESIGN),
        ("chip.link.bandwidth_bytes_per_s", "scale-up bandwidth", DESIGN),
        ("chip.array.rows", "array rows", DESIGN),
        ("chip.vector_flop_per_s", "vector rate", DESIGN),
        ("parallelism.tensor", "TP degree", DESIGN),
        ("cluster.torus_bandwidth_fractions.1", "dimension 1 of torus bandwidth fractions", DESIGN),
        ("chip.matrix_efficiency_fraction", "matrix efficiency", CONSTANTS),
        ("chip.process.mac_energy_j", "process MAC energy", CONSTANTS),
        ("software.fused_attention_fraction", "software fused attention", CONSTANTS),
        ("cluster.schedule_availability_fraction", "schedule availability", OPERATION),
        ("cluster.lifetime_s", "lifetime", OPERATION),
        ("cluster.num_chips", "number of chips", OPERATION),
    ],
)
def test_parameters_have_words_without_units_and_a_group(path, words, group):
    assert parameter_words(path) == words
    assert parameter_group(path) == group


def test_design_parameters_come_first_and_equal_words_keep_their_paths():
    slopes = {
        "cluster.lifetime_s": -0.9,
        "chip.array.rows": -0.4,
        "chip.launch_latency_s": 0.1,
        "accelerator.clock_hz": -0.2,
        "chip.array.clock_hz": -0.3,
    }
    groups = grouped_elasticities(slopes)
    assert list(groups) == [DESIGN, CONSTANTS, OPERATION]
    assert groups[DESIGN] == {
        "array rows": -0.4, "accelerator.clock_hz": -0.2, "chip.array.clock_hz": -0.3
    }  # fmt: skip
    assert groups[OPERATION] == {"lifetime": -0.9}


def test_no_word_of_a_parameter_of_the_reference_job_is_a_unit():
    units = {"bytes", "hz", "s", "j", "w", "mm2", "usd", "g", "v"}
    for path in leaf_paths(load_search("trn2_llama3_70b", ()).base):
        words = parameter_words(path)
        assert words
        assert not units & set(words.split()), path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qkv", "QKV"),
        ("up_dx", "MLP up dx"),
        ("scores_1", "attention scores, layers 1"),
        ("expert_up_dw_2", "expert up dw, layers 2"),
        ("key_value_up_dx", "key-value up dx"),
        ("router", "router"),
    ],
)
def test_operators_have_words(name, words):
    assert gemm_words(name) == words


def test_words_of_the_operators_of_a_model_are_distinct():
    assert len({gemm_words(name) for name in GEMM_NAMES}) == len(GEMM_NAMES)


def test_provenance_names_version_and_inputs_and_not_the_date():
    inputs = {"design": {"a": 1.0}, "workload": {}, "title": "x"}
    text = provenance(inputs)
    assert text.startswith("hwdse ")
    assert text == provenance({**inputs, "title": "y", "sources": ["file"]})
    assert text != provenance({**inputs, "design": {"a": 2.0}})


def test_systems_beside_a_front_are_real():
    loaded = load_search("trn2_llama3_70b", ())
    found = dict(front_tables._other_systems(loaded, "trn2_llama3_70b", ()))
    assert {"DGX H100", "trn2.48xlarge"} <= set(found)
    assert not any(" in " in label for label in found)  # no chip in a foreign system
    for other in found.values():
        assert other.base.cluster.num_chips == loaded.base.cluster.num_chips
        assert other.base.parallelism == loaded.base.parallelism


def test_systems_beside_a_front_do_not_rank_the_searched_strategies(tmp_path, monkeypatch):
    file = tmp_path / "s.toml"
    file.write_text(
        '[design]\nsystem = "dgx_h100"\nmodel = "llama3_8b"\nstrategy = "TP8"\n'
        '[objective]\nminimize = "energy_delay"\nfront = ["time_per_token", "energy_per_token"]\n'
        '[[choices]]\npath = "parallelism"\nvalues = "best"\n'
    )
    loaded = load_search(file)
    assert loaded.space.choices
    ranked = []
    space = search_file._space
    monkeypatch.setattr(search_file, "_space", lambda *a: ranked.append(space(*a)) or ranked[-1])
    _, other = next(front_tables._other_systems(loaded, str(file), ()))
    assert [one.choices for one in ranked] == [()] * len(ranked)
    assert other.base.parallelism.tensor == 8.0


def test_parts_of_labels_that_name_a_path_are_rows_of_that_path():
    paths = tuple(f"cluster.torus_bandwidth_fractions.{i}" for i in range(2))
    labels = tuple(f"{paths[0]} {a}, {paths[1]} {b}, TP8" for a, b in ((0.3, 0.7), (0.6, 0.4)))
    choice = Choice(" x ".join(paths), paths, ((0.3, 0.7), (0.6, 0.4)), labels)
    loaded = dataclasses.replace(
        load_search("trn2_llama3_70b", ()), space=SearchSpace((), (choice,))
    )
    rows = front_tables._name_rows(loaded, {choice.name: np.array(labels, object)})
    assert rows == [
        (paths[0], ["0.3", "0.6"]), (paths[1], ["0.7", "0.4"]), (choice.name, ["TP8", "TP8"])
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sets", "note"),
    [
        ([], ""),
        (['limits.die_area="100 mm^2"'], "over area limit"),
        (['limits.die_area="100 mm^2"', 'limits.chip_power="9 W"'], "over area and power limits"),
    ],
)
def test_note_names_the_limits_that_a_design_exceeds(sets, note):
    loaded = load_search("trn2_llama3_70b", sets)
    evaluation = evaluate_exact(loaded.base, loaded.workload)
    assert front_tables.limits_note(loaded, evaluation) == note


def test_evaluate_writes_the_formats_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["evaluate", "trn2_llama3_70b", "--plots", "p", "--format"]
    assert run([*arguments, "pdf"]) == Exit.OK
    assert {path.name for path in (tmp_path / "p").iterdir()} == {"breakdown.pdf", "roofline.pdf"}
    assert run([*arguments, "gif"]) == Exit.USER_ERROR
    assert "expected some of png,svg,pdf" in capsys.readouterr().err


def test_small_print_names_version_inputs_and_what_the_result_rests_on(tmp_path):
    loaded = load_search("trn2_llama3_70b", ())
    files = resting_plot_files(loaded, tmp_path, ("svg",), loaded.base, "step_time")
    assert files.job == loaded.title
    first, second = files.footer.split(". ", 1)
    assert f"{first}." == provenance(loaded.resolved).rstrip()
    assert second.startswith("Step time rests on: ")
    assert second.endswith(".")


CONFIG = {"title": "A job", "front_objectives": ["time_per_token", "energy_per_token"],
          "workload": {"a": 1.0}, "design": {"b": 1.0}}  # fmt: skip
OPTIMUM = {"label": "optimum of the energy-delay product", "objectives": [0.9e-6, 0.1],
           "role": "best", "note": ""}  # fmt: skip


def recorded(folder, options, *rows, **summary):
    """Run folder with a front of these rows, or without one."""
    record = create_run(folder, {**CONFIG, "options": options}, "hwdse", 0)
    if rows:
        lines = ["time_per_token_s,energy_per_token_j", *(f"{t},{e}" for t, e in rows)]
        record.write_text("front.csv", "\n".join(lines) + "\n")
    record.finish("finished", **summary)


def test_optimum_of_a_gradient_search_is_drawn_beside_a_front(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path / "wide", {"command": "sweep"}, (1e-6, 0.3), (2e-6, 0.2))
    recorded(tmp_path / "best", {"command": "optimize"}, markers=[OPTIMUM])
    drawn = []
    monkeypatch.setattr(
        evaluation_plots, "save_pareto", lambda *args, **options: drawn.append(args) or []
    )
    assert run(["pareto", "wide", "best", "--out", "both", "--format", "svg"]) == Exit.OK
    (runs, objectives, markers, files), *_ = drawn
    assert [one.label for one in runs] == ["Pareto front of wide"]
    assert objectives == CONFIG["front_objectives"]
    assert markers == [Marker(OPTIMUM["label"], (0.9e-6, 0.1), "best")]
    assert (files.job, files.formats) == ("A job", ("svg",))
    assert run(["pareto", "best", "--out", "none"]) == Exit.USER_ERROR
    assert "no front; expected a run of sweep or of optimize --front" in capsys.readouterr().err
