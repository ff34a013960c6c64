"""Published training runs: errors by source, skipped rows, bad cells, unstated micro-batches."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from hwdse.config import load_workload
from hwdse.validation.training import training_runs, vtrain
from hwdse.validation.training.training_jobs import (
    OTHER,
    SOURCES,
    SYSTEMS,
    domain_chips,
    job_of,
    problem_of,
    slice_sizes,
    software_name,
)

DATA = Path(__file__).parents[1] / "data"
PUBLIC = DATA / "measured_training_public.csv"
RECENT = DATA / "measured_training_2026_public.csv"
SINGLE = DATA / "measured_vtrain_single_node_public.csv"
LINES = [x for x in PUBLIC.read_text().splitlines() if not x.startswith("#")]
ROWS = list(csv.DictReader(LINES))


def row_of(row_id):
    return next(row for row in ROWS if row["row_id"] == row_id)


def written(tmp_path, rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]))
    writer.writeheader()
    writer.writerows(rows)
    path = tmp_path / "runs.csv"
    path.write_text(text.getvalue())
    return path


# Public rows ---------------------------------------------------------------------------------

TARGETS = {  # source: mean error of the step time, rows
    "korthikanti2022": (0.035, 5),
    "narayanan2021": (0.06, 15),
    "vtrain_multi": (0.10, 74),
    "mosaicml_llm_foundry": (0.12, 136),
    "megascale2024": (0.12, 9),
    "torchtitan": (0.12, 18),
    "palm2022": (0.12, 1),
    "simumax_b200": (0.08, 25),
}


@pytest.fixture(scope="module")
def report():
    return training_runs.validate(PUBLIC)


@pytest.mark.slow
@pytest.mark.parametrize("source", sorted(TARGETS))
def test_step_times_are_close_to_measurements(report, source):
    error, num_rows = TARGETS[source]
    found = report.groups[f"source={source}"]["step_time"]
    assert found["num_rows"] == num_rows
    assert found["mape"] < error


@pytest.mark.slow
def test_peak_memory_of_simumax_runs_and_rank_correlation_of_step_times(report):
    memory = report.groups["source=simumax_b200"]["peak_memory"]
    assert (memory["num_rows"], memory["max_ape"] < 0.02) == (25, True)
    assert report.metrics["step_time"]["spearman"] > 0.99
    assert abs(report.metrics["step_time"]["bias"]) < 0.03


@pytest.mark.slow
def test_rows_are_scored_or_skipped_with_a_reason(report):
    skipped = {"scope one transformer layer", "no global_batch", "no num_layers"}
    assert set(report.rows_skipped) == {*skipped, "scope time to target"}
    unscored = sum(1 for row in ROWS if problem_of(row))
    assert unscored == sum(report.rows_skipped.values())
    measures = "step_time_s", "tokens_per_s", "mfu_fraction", "peak_memory_bytes"
    left = [row for row in ROWS if not problem_of(row) and any(row[x] for x in measures)]
    assert report.rows_scored == len(left)


@pytest.mark.slow
def test_single_node_runs_of_vtrain_are_close_to_measurements():
    found = vtrain.validate(SINGLE)
    assert (found.rows_scored, found.rows_skipped) == (970, {})
    assert found.metrics["step_time"]["mape"] < 0.08
    assert found.metrics["step_time"]["spearman"] > 0.98


# Any file ------------------------------------------------------------------------------------


def model_of(report, name, quantity, reference):
    """Prediction for the single row of a source."""
    return reference * (1.0 + report.groups[f"source={name}"][quantity]["bias"])


def test_unstated_micro_batch_is_the_fastest_that_fits(tmp_path):
    row = {
        **row_of("mp0016"),
        "num_chips": "8",
        "tp": "8",
        "pp": "1",
        "dp": "1",
        "pp_interleave": "1",
        "num_layers": "32",
        "hidden": "8192",
        "feedforward": "32768",
        "num_heads": "64",
        "head_dim": "128",
        "global_batch": "48",
        "recompute": "none",
        "step_time_s": "1",
        "peak_memory_bytes": "1e9",
    }
    sizes = ("1", "2", "4", "8", "16")
    rows = [{**row, "source_id": f"size {x}", "micro_batch": x} for x in sizes]
    rows.append({**row, "source_id": "open", "micro_batch": ""})
    # Rows outside the scope of the model.
    rows.append({**row, "scope": "one transformer layer"})
    rows.append({**row, "accelerator": "Abacus"})
    rows.append({**row, "num_layers": ""})
    rows.append({**row, "tp": "16"})
    report = training_runs.validate(written(tmp_path, rows))
    assert report.rows_scored == 6
    assert report.rows_skipped == {
        "scope one transformer layer": 1,
        "no preset for accelerator Abacus": 1,
        "no num_layers": 1,
        "more ranks than chips": 1,
    }
    times = np.array([model_of(report, f"size {x}", "step_time", 1.0) for x in sizes])
    held = np.array([model_of(report, f"size {x}", "peak_memory", 1e9) for x in sizes])
    fits = held <= 80e9
    assert np.all(np.diff(held) > 0.0)
    assert fits[0]
    assert not fits[-1]
    best = int(np.argmin(np.where(fits, times, np.inf)))
    assert model_of(report, "open", "step_time", 1.0) == pytest.approx(times[best], rel=1e-9)
    assert model_of(report, "open", "peak_memory", 1e9) == pytest.approx(held[best], rel=1e-9)


@pytest.mark.parametrize(
    ("column", "cell", "expected"),
    [
        ("tp", "eight", "a number of at least"),
        ("step_time_s", "-1", "a number of at least 0"),
        ("num_chips", "0", "a number of at least"),
        ("num_heads", "0", "a number of at least"),
        ("hidden", "nan", "a number of at least"),
        ("peak_memory_bytes", "inf", "a number of at least 0"),
    ],
)
def test_bad_cell_raises_an_error_of_one_line(tmp_path, column, cell, expected):
    path = written(tmp_path, [ROWS[0], {**ROWS[0], column: cell}])
    with pytest.raises(ValueError, match="line 3") as caught:
        training_runs.validate(path)
    line = str(caught.value)
    assert line.startswith(f"{path}, line 3, column '{column}': got '{cell}', expected {expected}")
    assert "\n" not in line


def test_missing_column_and_empty_file_raise_errors_of_one_line(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(LINES).replace("micro_batch", "size", 1))
    with pytest.raises(ValueError, match="no column 'micro_batch'"):
        training_runs.validate(path)
    path = written(tmp_path, [{**ROWS[0], "scope": "a poem"}])
    with pytest.raises(ValueError, match="no row that the model can express"):
        training_runs.validate(path)
    path.write_text("num_chips,global_batch\n8,16\n")
    with pytest.raises(ValueError, match="no column 'micro_batch'"):
        vtrain.validate(path)
    header, first = ",".join(vtrain.COLUMNS), ",".join(["1"] * (len(vtrain.COLUMNS) - 1))
    path.write_text(f"{header}\n{first},0\n")
    with pytest.raises(ValueError, match="line 2, column 'step_time_s': got '0'"):
        vtrain.validate(path)


# Rows as designs -----------------------------------------------------------------------------


def test_row_is_converted_to_its_parallelism():
    job = job_of(row_of("mp0017"))
    parallelism, model = job.design.parallelism, job.workload.model
    assert (parallelism.tensor, parallelism.pipeline, parallelism.virtual_pipeline) == (
        8.0,
        8.0,
        3.0,
    )
    assert (parallelism.attention_recompute_fraction, parallelism.recompute_fraction) == (1.0, 0.0)
    assert parallelism.sequence_parallel_fraction == 1.0
    assert (parallelism.optimizer_shard_fraction, parallelism.weight_shard_fraction) == (0.0, 0.0)
    assert (model.hidden, model.num_layers, model.vocabulary) == (12288.0, 96.0, 51200.0)
    assert job.design.software.fused_attention_fraction == 0.0


def test_stacks_depend_on_sources_and_chips_alone():
    for row in ROWS:
        source = SOURCES.get(row["source_id"], OTHER)
        chip = SYSTEMS.get(row["accelerator"])
        if chip is not None and not row["model"].endswith("/MegaScale"):
            of_chip = source.chip_software.get(row["accelerator"])
            expected = of_chip or source.software or chip.software
            assert software_name(row) in {expected, source.zero3_software}


@pytest.mark.parametrize(
    ("accelerator", "stack"),
    [("A100", "megatron_lm"), ("GB200", "megatron_bridge"), ("TPUv7x", "maxtext")],
)
def test_unknown_sources_run_the_stack_of_the_years_of_their_chip(accelerator, stack):
    unknown = {**row_of("mp0017"), "source_id": "somebody2031", "accelerator": accelerator}
    assert software_name(unknown) == stack
    assert problem_of(unknown) is None


# Columns of 2025-26 --------------------------------------------------------------------------

MIXTURE = {
    **row_of("mp0017"),
    "source_id": "somebody2031",
    "scope": "iteration of a mixture of experts",
    "accelerator": "GB200",
    "chips_per_node": "72",
    "num_chips": "64",
    "number_format": "mxfp8",
    "model": "A mixture",
    "num_layers": "48",
    "hidden": "2048",
    "feedforward": "6144",
    "mlp_matrices": "3",
    "num_heads": "32",
    "num_kv_heads": "4",
    "head_dim": "128",
    "vocab": "151936",
    "seq_len": "4096",
    "global_batch": "512",
    "micro_batch": "2",
    "tp": "1",
    "pp": "1",
    "dp": "64",
    "cp": "1",
    "ep": "8",
    "pp_interleave": "1",
    "recompute": "none",
    "sequence_parallel": "false",
    "data_sharding": "zero1",
    "model_kind": "mixture",
    "num_experts": "128",
    "experts_per_token": "8",
    "num_shared_experts": "1",
    "expert_feedforward": "768",
    "num_dense_layers": "1",
    "head_norms": "2",
}


def test_columns_of_experts_are_those_of_a_preset():
    row = {**MIXTURE, "num_shared_experts": "0", "num_dense_layers": "0"}
    preset = load_workload("qwen3_30b_a3b").model
    assert job_of(row).workload.model == preset
    shared = job_of(MIXTURE).workload.model
    assert (shared.num_shared_experts, shared.num_dense_layers) == (1.0, 1.0)


def test_a_mixture_without_its_columns_is_skipped_with_a_reason():
    assert problem_of(MIXTURE) is None
    bare = {**MIXTURE, "num_experts": ""}
    assert problem_of(bare) == "no num_experts or expert_feedforward"
    latent = {**MIXTURE, "model_kind": "mixture, latent attention"}
    assert problem_of(latent) == "no preset for model A mixture"


def test_multi_token_prediction_adds_a_layer_and_a_pass_of_the_head():
    plain, more = (job_of({**MIXTURE, "mtp_layers": n}).workload.model for n in ("0", "1"))
    assert (plain.num_layers, plain.num_predicted_tokens) == (48.0, 1.0)
    assert (more.num_layers, more.num_predicted_tokens) == (49.0, 2.0)


@pytest.mark.parametrize(
    ("kind", "runs"),
    [
        ("mixture, half of the layers with a window", (1.0, 1.0)),
        ("dense, 5 of 6 layers with a window", (5.0, 1.0)),
    ],
)
def test_windows_of_some_layers(kind, runs):
    row = {**MIXTURE, "model_kind": kind, "attention_window": "128"}
    layers = job_of(row).workload.model.layers
    assert tuple(entry.count for entry in layers) == runs
    assert (layers[0].sliding_window, layers[1].sliding_window) == (128.0, None)


def test_overlap_of_a_recipe_replaces_that_of_its_stack():
    stated = job_of({**MIXTURE, "dp_overlap": "false", "moe_overlap": "true"}).design.software
    assert (stated.data_overlap_fraction, stated.expert_overlap_fraction) == (0.0, 1.0)
    unstated = job_of(MIXTURE).design.software
    assert (unstated.data_overlap_fraction, unstated.expert_overlap_fraction) == (1.0, 0.0)


def test_graphs_of_the_whole_iteration_leave_no_host_work():
    hosts = [
        job_of({**MIXTURE, "cuda_graph": text}).design.software.dispatch_time_s
        for text in ("none", "transformer_engine attn+moe_router", "full_iteration")
    ]
    assert hosts[0] > hosts[1] > hosts[2] == 0.0


def test_adapters_train_their_own_parameters_alone():
    row = {**MIXTURE, "scope": "LoRA iteration, packed", "model": "Llama-2-70B"}
    sizes = {"num_layers": "80", "hidden": "8192", "feedforward": "28672", "num_heads": "64"}
    dense = {"num_kv_heads": "8", "vocab": "32000", "model_kind": "dense", "num_experts": ""}
    workload = job_of({**row, **sizes, **dense, "head_norms": ""}).workload
    # Rank 16 on the query, key, value and output matrices of 80 layers: 44,564,480 parameters.
    assert workload.trainable_fraction == pytest.approx(44_564_480 / 68_976_648_192, rel=1e-6)


@pytest.mark.parametrize(
    ("sizes", "num_chips", "expected"),
    [
        ((16.0, 20.0, 28.0), 128.0, (4.0, 4.0, 8.0)),
        ((16.0, 20.0, 28.0), 256.0, (4.0, 8.0, 8.0)),
        ((16.0, 16.0), 32.0, (4.0, 8.0)),
        ((16.0, 16.0), 512.0, (16.0, 16.0)),
        ((16.0, 16.0, 16.0), 6144.0, (16.0, 16.0, 12.0)),
    ],
)
def test_slices_of_tpu_pods(sizes, num_chips, expected):
    assert slice_sizes(sizes, num_chips) == expected


@pytest.mark.parametrize(
    ("num_chips", "expected"), [(72.0, 72.0), (64.0, 72.0), (256.0, 64.0), (2560.0, 64.0)]
)
def test_jobs_on_several_racks_use_a_power_of_two_of_each(num_chips, expected):
    assert domain_chips(72.0, num_chips) == expected


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"recompute_modules": "none"}, {}),
        (
            {"recompute_modules": "layernorm+moe_act"},
            {"norm_recompute_fraction": 1.0, "activation_recompute_fraction": 1.0},
        ),
        ({"recompute_modules": "mla_up_proj"}, {"projection_recompute_fraction": 1.0}),
        (
            {"recompute_modules": "block: 5 layer(s) a stage in full", "pp": "4"},
            {"recompute_fraction": 5.0 / 12.0, "pipeline": 4.0},
        ),
        ({"offload": "activations of 12 layers to the host"}, {"offload_fraction": 0.25}),
        (
            {"recompute_modules": "custom: decoder_layer_input=offload", "recompute": "full"},
            {"recompute_fraction": 1.0, "offload_fraction": 1.0},
        ),
        (
            {
                "recompute_modules": "custom: decoder_layer_input=device query_proj=device "
                "key_proj=device value_proj=device context=device",
                "recompute": "full",
            },
            {
                "recompute_fraction": 0.0,
                "mlp_recompute_fraction": 1.0,
                "norm_recompute_fraction": 1.0,
                "output_recompute_fraction": 1.0,
                "attention_recompute_fraction": 0.0,
                "offload_fraction": 0.0,
            },
        ),
    ],
)
def test_words_of_recomputation_and_offload(cells, expected):
    parallelism = job_of({**MIXTURE, **cells}).design.parallelism
    plain = job_of(MIXTURE).design.parallelism
    assert parallelism == plain.replace(**expected)


def test_recipes_of_a_source_hold_for_their_model():
    row = {**MIXTURE, "source_id": "megatron_bridge"}
    assert job_of(row).workload.optimizer_state_bytes_per_parameter == 12.0
    deepseek = job_of({**row, "model": "DeepSeek-V3", "num_layers": "61"})
    assert deepseek.workload.optimizer_state_bytes_per_parameter == 8.0


@pytest.mark.parametrize(
    ("cells", "context"),
    [
        ({"cp": "1", "dp": "64", "global_batch": "512"}, 1.0),
        ({"cp": "2", "dp": "32", "global_batch": "512"}, 2.0),
        ({"cp": "", "dp": "", "tp": "", "pp": "", "global_batch": "8"}, 8.0),
        ({"cp": "1", "dp": "64", "global_batch": "16"}, 4.0),
    ],
)
def test_every_replica_has_a_sequence(cells, context):
    assert job_of({**MIXTURE, "model_kind": "dense", **cells}).design.parallelism.context == context


def test_most_runs_of_2025_and_2026_are_in_scope():
    lines = [x for x in RECENT.read_text().splitlines() if not x.startswith("#")]
    problems = [problem_of(row) for row in csv.DictReader(lines)]
    assert problems.count(None) >= 0.85 * len(problems)
