"""Errors of samples of the public files of kernels and servers; bad files."""

from pathlib import Path

import jax
import numpy as np
import pytest

from hwdse.calibration.serving_fit import STARTS, engine_of, fitted, served_rows
from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.validation.aws import aws_inference
from hwdse.validation.kernels import attention, gemm, ops
from hwdse.validation.serving import serving_energy
from hwdse.validation.shared.reference_table import read_table

DATA = Path(__file__).parents[1] / "data"


def sample(name, folder, every, keep=lambda line: True):
    """Every so many rows of a public file."""
    lines = (DATA / name).read_text().splitlines()
    head = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    rows = [line for line in lines[head + 1 :] if keep(line)]
    path = folder / name
    path.write_text("\n".join([*lines[: head + 1], *rows[::every]]) + "\n")
    return path


@pytest.mark.parametrize(
    ("module", "name", "most"),
    [
        (gemm, "measured_gemm_public.csv", 0.09),
        (attention, "measured_attention_public.csv", 0.22),
        (ops, "measured_ops_public.csv", 0.20),
    ],
)
def test_kernel_times_agree_with_measurements(module, name, most):
    found = module.validate(DATA / name)
    assert found.metrics["time"]["mape"] < most
    assert abs(found.metrics["time"]["bias"]) < 0.05
    assert found.metrics["time"]["spearman"] > 0.97
    assert found.metrics["flops"]["mismatches"] == 0


def test_experts_agree_with_measurements():
    assert ops.validate(DATA / "measured_ops_public.csv").metrics["expert_time"]["mape"] < 0.25


def test_windows_of_a_server_agree_with_measurements(tmp_path):
    path = sample(
        "measured_serving_energy_public.csv", tmp_path, 2, lambda line: "Llama-3.1-70B" in line
    )
    found = serving_energy.validate(path).metrics
    assert found["itl_median"]["mape"] < 0.12
    assert found["power"]["mape"] < 0.2
    assert found["itl_median"]["spearman"] > 0.95


def test_a_fit_returns_the_constants_that_made_the_times(tmp_path):
    path = sample(
        "measured_serving_energy_public.csv", tmp_path, 3, lambda line: "Llama-3.1-70B" in line
    )
    with jax.enable_x64(True):
        ((_, served),) = served_rows("windows", read_table(path))
        moved = {"step_host_s": 0.5, "sequence_s": -0.5, "elementwise_ratio": 0.3}
        truth = engine_of(np.array([moved.get(name, 0.0) for name in STARTS]))
        made = served._replace(measured_s=served.predicted_s(truth))
        start, found = (
            np.abs(np.log(made.predicted_s(engine) / made.measured_s)).mean()
            for engine in (engine_of(np.zeros(len(STARTS))), fitted(made))
        )
    # Thirteen constants and six rows: the priors pull a little.
    assert found < 0.3 * start


@pytest.mark.parametrize(
    "kind", ["gemm", "attention", "ops", "serving_energy", "serving_rates", "inference"]
)
def test_files_without_the_columns_are_refused_in_one_line(kind, tmp_path, capsys):
    path = tmp_path / "bad.csv"
    path.write_text("device,m\nH100,1\n")
    assert run(["validate", kind, str(path)]) == Exit.USER_ERROR
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "bad.csv" in line


def test_static_batches_on_aws_chips_agree_with_measurements():
    found = aws_inference.validate(DATA / "aws_inference_public.csv").metrics
    assert found["tpot"]["mape"] < 0.12
    assert found["tpot"]["median_ape"] < 0.08
    assert found["ttft"]["median_ape"] < 0.32
    assert found["ttft"]["spearman"] > 0.9
