"""Published training runs: errors by source, skipped rows, bad cells, unstated micro-batches."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from hwdse.validation.measured import training_runs, vtrain
from hwdse.validation.measured.training_jobs import (
    OTHER,
    SOURCES,
    job_of,
    problem_of,
    software_name,
)

DATA = Path(__file__).parents[1] / "data"
PUBLIC = DATA / "measured_training_public.csv"
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


def test_stacks_depend_on_sources_and_not_on_rows():
    for row in ROWS:
        source = SOURCES.get(row["source_id"], OTHER)
        stacks = {source.software, source.zero3_software}
        if not row["model"].endswith("/MegaScale"):
            assert software_name(row) in stacks
    unknown = {**row_of("mp0017"), "source_id": "somebody2031"}
    assert software_name(unknown) == OTHER.software
    assert problem_of(unknown) is None
