"""NeuronCore engine models against published kernels: targets and skipped rows."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from hwdse.config.hardware.neuron_cores import load_engines
from hwdse.validation.aws.aws_kernels import COLUMNS, FITTED, validate
from hwdse.validation.aws.kernel_names import UnmodeledRowError, recognize
from hwdse.validation.shared.reference_table import read_table

FILE = Path(__file__).parents[1] / "data" / "aws_kernels_public.csv"


@pytest.fixture(scope="module")
def report():
    return validate(FILE)


def write(path, *changes):
    """File of rows that differ from a GEMM of the tutorial by `changes`."""
    base = dict.fromkeys(COLUMNS, "") | {
        "case_id": "x",
        "domain": "kernel",
        "model": "matmul 4096x8192x8192",
        "detail": "v5 DMA coalesced",
        "chip": "Trainium2",
        "precision": "fp32",
        "metric": "latency",
        "value": "28.3",
        "unit": "ms",
    }
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(base | change for change in changes)
    return path


def named(**changes):
    return recognize({"detail": "", "notes": "", "precision": "fp32", "seq_len": ""} | changes)


def test_latencies_reach_their_targets(report):
    """Median error below 15 %, maximum below 40 %; FP32 GEMM of the tutorial within 2 %."""
    latency = report.metrics["latency"]
    assert latency["num_rows"] >= 40
    assert latency["median_ape"] < 0.06
    assert latency["max_ape"] < 0.30
    assert latency["spearman"] > 0.99
    assert report.groups["chip=Trainium2"]["latency"]["max_ape"] < 0.02


def test_rows_outside_the_fit_agree_as_well(report):
    held_out = report.groups["fitted=no"]["latency"]
    assert held_out["num_rows"] > 30
    assert held_out["median_ape"] < 0.06
    assert held_out["max_ape"] < 0.30


@pytest.mark.parametrize(
    ("metric", "median"),
    [
        ("hardware_flops", 0.0),
        ("hbm_read", 0.01),
        ("hbm_write", 0.0),
        ("hfu", 0.05),
        ("tensor_engine_active", 0.01),
        ("dma_active_pct", 0.01),
        ("scalar_engine_active_pct", 0.08),
        ("vector_engine_active_pct", 0.3),
        ("normalised_throughput", 0.03),
    ],
)
def test_median_errors_of_other_quantities(report, metric, median):
    assert report.metrics[metric]["median_ape"] <= median


def test_every_row_is_scored_or_skipped_with_a_reason(report):
    num_rows = sum(not line.startswith("#") for line in FILE.read_text().splitlines()) - 1
    assert report.rows_scored + sum(report.rows_skipped.values()) == num_rows
    reasons = " | ".join(report.rows_skipped)
    for word in ("search", "framework", "bound", "no engines of H100 SXM"):
        assert word in reasons


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("swiglu_K512_M1024_N2048 baseline", "swiglu"),
        ("transpose_matmul_K2048_M4096_N100 optimized", "transpose_matmul"),
        ("add_rmsnorm_matmul_K512_M128_N512 baseline", "add_rmsnorm_matmul"),
        ("bmm_softmax_B1_K64_M128_N512", "bmm_softmax"),
        ("gqa_full_B1_D64_KH2_N1024_QH4 baseline", "gqa_full"),
        ("rope_single_freq_apply_B1_D128_H4_N512 baseline", "rope_single_freq_apply"),
        ("lora_K512_M1024_N2048_R64 baseline", "lora"),
        ("mamba_C128_M512_S8 baseline", "mamba"),
    ],
)
def test_benchmark_kernels_are_recognized_by_name_at_any_size(text, family):
    assert named(model=family, detail=text).family == family


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "topk", "detail": "topk_K8_M128 baseline"}, "no model of the kernel topk"),
        ({"model": "conv1d 128x64"}, "no model of the kernel conv1d"),
        ({"model": "matmul 128x128x512", "detail": "fast"}, "GEMM without stated loops"),
        ({"model": "attention d128 seq64", "detail": "search stage 2"}, "search stage without"),
        ({"model": "mamba", "detail": "PyTorch reference ch256"}, "framework"),
        ({"model": "matmul 8x8x8", "precision": "int4"}, "precision 'int4'"),
        ({"model": "mamba scan", "detail": "ch256 seq512 state16"}, "version"),
    ],
)
def test_rows_outside_the_model_have_a_reason(changes, reason):
    with pytest.raises(UnmodeledRowError, match=reason):
        named(**changes)


def test_missing_size_is_a_skip_reason(tmp_path):
    rows = write(tmp_path / "a.csv", {}, {"model": "silu", "detail": "silu_M128 baseline"})
    assert validate(rows).rows_skipped == {"silu without its size N": 1}


def test_units_are_those_of_the_row(tmp_path):
    changes = [{}, {"value": "28300", "unit": "us"}, {"value": "0.0283", "unit": "s"}]
    errors = validate(write(tmp_path / "a.csv", *changes)).metrics["latency"]
    assert errors["num_rows"] == 3
    assert math.isclose(errors["mape"], errors["max_ape"], rel_tol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"value": "fast"}, ["line 2", "column 'value'", "got 'fast'", "above 0"]),
        ({"value": "-1"}, ["column 'value'", "got '-1'"]),
        ({"unit": "fortnights"}, ["column 'unit'", "got 'fortnights'", "ms"]),
        ({"domain": "training"}, ["no row of domain 'kernel'"]),
        ({"chip": "Abacus"}, ["no row that the engines' model covers", "no engines of Abacus"]),
    ],
)
def test_errors_have_one_line(tmp_path, change, words):
    with pytest.raises(ValueError, match=r"a\.csv") as error:
        validate(write(tmp_path / "a.csv", change))
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_error_names_a_missing_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("case_id,domain\nx,kernel\n")
    with pytest.raises(ValueError, match="no column 'model'"):
        validate(path)


def published_values():
    """Published values by case and metric."""
    return {
        (row["case_id"], row["metric"]): float(row["value"])
        for row in read_table(FILE, COLUMNS).rows
    }


def test_fitted_constants_follow_from_their_rows():
    """launch_latency, sustained_fraction and usable_fraction of NeuronCore-v2, recomputed."""
    core, values = load_engines("neuron_core_v2"), published_values()
    baselines = [case for case, metric in FITTED if metric == "latency" and "baseline" in case]
    launches = [
        values[case, "latency"] * 1e-3
        - values[case, "hardware_flops"] / (values[case, "hfu"] / 100 * 91.75e12)
        for case in baselines
    ]
    assert len(launches) == 6
    assert core.launch_latency_s == pytest.approx(float(np.median(launches)), rel=0.05)

    case = "accelopt-transpose-matmul-k2048-m4096-n10944"
    shares = [
        32 * 16 * columns * 4 / 2.8e9 / (values[case + kind, "latency"] * 1e-3 - 1e-4)
        for kind, columns in (("-baseline", 22 * 512), ("-optimised", 86 * 128))
    ]
    assert core.tensor.sustained_fraction == pytest.approx(np.mean(shares), rel=2e-3)

    written = values["accelopt-bmm-softmax-b16-k64-m4096-n4096-baseline", "hbm_write"]
    scores, result = 4 * 4096**2, 4 * 16 * 4096**2
    kept = scores - (written - result) / 16
    assert core.sbuf.usable_fraction == pytest.approx(kept / core.sbuf.capacity_bytes, rel=1e-3)


def test_benchmark_kernels_are_modeled_at_other_sizes(tmp_path):
    """Every benchmark kernel has a positive latency at a small and a large size."""
    texts = [
        name + "".join(f"_{letters}{scale * size}" for letters, size in sizes.items())
        for scale in (1, 8)
        for name, sizes in {
            "matmul": {"K": 256, "M": 128, "N": 512},
            "bmm": {"B": 2, "K": 64, "M": 128, "N": 512},
            "lora": {"K": 256, "M": 128, "N": 512, "R": 16},
            "rmsnorm_matmul": {"K": 256, "M": 128, "N": 512},
            "rope_single_freq_apply": {"B": 1, "D": 16, "H": 2, "N": 512},
            "silu": {"M": 128, "N": 1024},
            "mamba": {"C": 128, "M": 256, "S": 4},
        }.items()
    ]
    rows = [{"chip": "Trainium1", "model": "x", "detail": f"{text} baseline"} for text in texts]
    report = validate(write(tmp_path / "a.csv", *rows))
    assert report.rows_scored == len(texts)
    assert report.metrics["latency"]["bias"] > -1.0
