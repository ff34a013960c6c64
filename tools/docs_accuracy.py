"""Page of the validation against reference data: `python tools/docs_accuracy.py`.

Runs `hwdse validate --json` for every reference file and writes docs/accuracy.md with the error
tables, the version and the date. Takes some minutes. `--keep FOLDER` reads and keeps the JSON
files in a folder, so that a stopped run continues.
"""

import argparse
import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "accuracy.md"
TEMPLATE = ROOT / "tools" / "accuracy_template.md"
FIT = ROOT / "experiments" / "training_accuracy" / "results" / "fit.txt"


@dataclass(frozen=True)
class Validation:
    """One `hwdse validate` command and its place on the page."""

    quantity: str
    reference: str
    arguments: str
    """Kind, file and options of the command; the file lies in tests/data."""
    key: str
    """Quantity of the summary row."""
    headline: str
    """`unequal`, or metrics of the summary row, separated by commas."""
    fitted: str
    group: str = ""
    """Group of rows of the summary row, such as `source=simumax_b200`."""
    remark: str = ""

    @property
    def command(self) -> list[str]:
        """Arguments with the folder of the file."""
        words = self.arguments.split()
        return [words[0], f"tests/data/{words[1]}", *words[2:]]


VALIDATIONS = (
    Validation(
        "Systolic arrays: cycles, utilization, SRAM and DRAM words",
        "SCALE-Sim 3.0.0", "scalesim scalesim_public.csv", "total_cycles", "unequal", "none",
        remark="Output, weight and input stationary.",
    ),
    Validation(
        "Loop nests: cycles and energy of given mappings (GEMMs, convolutions)",
        "Timeloop and Accelergy", "timeloop timeloop_gemmini_public.csv", "energy_uj", "max",
        "none", remark="Cycles agree to the printed digits, with one row at the rounding limit of "
        "energy.",
    ),
    Validation(
        "Mapper: energy-delay product of the best mapping of a GEMM",
        "AccelForge, optimal mappings", "accelforge accelforge_public.csv", "edp_js",
        "median,max", "none",
        remark="hwdse is never above. The rows below are mappings outside of its mapspace; "
        "re-evaluated as loop nests they give the same value (`edp_as_nest`).",
    ),
    Validation(
        "Ports: conflicts, on- and off-loading; energy of given mappings",
        "ZigZag", "zigzag zigzag_public.csv", "latency_total_cycles", "MAPE,max", "none",
        remark="`best_...` compares the mapper of hwdse with ZigZag's own mappings: "
        "`best_energy_above_pj` counts only the excess over ZigZag. The energy of hwdse is "
        "never more than 0.06 % above, and down to half.",
    ),
    Validation(
        "Cycles of a real array: issue, DMA, fill and start-up",
        "Gemmini, RTL simulation", "gemmini gemmini_rtl_public.csv", "rtl_cycles",
        "median,spearman", "6 constants, on these rows",
        remark="The form of the law was chosen with all rows in view. The program that the test "
        "harness executed was inferred where its code and the cycles disagree with the text of a "
        "row (`hwdse/validation/measured/gemmini_runs.py`); `rtl_cycles_by_roofline_as_written` "
        "is the bare roofline of the rows as written. Taken as written, random mappings have a "
        "median error of 34 %.",
    ),
    Validation(
        "Trainium engines, kernels, DMA: kernel latency",
        "AWS Neuron, published kernels", "aws aws_kernels_public.csv --kind kernel", "latency",
        "median,max", "3 constants, on 7 of 40 rows",
    ),
    Validation(
        "Checkpoint schemes: one blocking level, two levels, asynchronous",
        "Monte-Carlo simulation", "checkpoint checkpoint_mc_public.csv", "efficiency",
        "MAPE,max", "none",
        remark="A row is unequal if it is outside of the larger of twice the half-width of the "
        "simulation and 0.15 %.",
    ),
    Validation(
        "FP64:FP16 area split, closed form and found by the search",
        "worked examples", "precision precision_split_worked.csv", "searched_opt_P64_over_P16",
        "max", "none",
    ),
    Validation(
        "FP64:FP16 ratio of published chips, and the FP64 share that each suits",
        "data sheets", "precision fp64_fp16_published.csv", "searched_best_ratio", "max",
        "none", remark="`one_to` agrees in the printed digits.",
    ),
    Validation(
        "Training step time on one A100 node, models of 0.1 to 1.2 B parameters",
        "vTrain, measured", "vtrain measured_vtrain_single_node_public.csv", "step_time",
        "MAPE,median,max", "2 of the chip, 4 of the stack",
    ),
    Validation(
        "Training step time on 8 to 12,288 A100, H100, B200 or TPU v4; 0.1 B to 1 T parameters, "
        "dense and MoE; TP, PP, DP, CP, EP, ZeRO",
        "published runs (Megatron-LM, DeepSpeed, LLM Foundry, TorchTitan, Megatron Core, MegaScale "
        "and others)",
        "training measured_training_public.csv", "step_time", "MAPE,median,max",
        "1 or 2 per family of chips, 1 to 4 per stack",
    ),
    Validation(
        "Training step time of 2025-26 on H100, H200, B200, GB200, B300, GB300, MI355X, TPU v6e, "
        "7x; dense and MoE, BF16, FP8 and FP4, LoRA, packed sequences",
        "published runs (Megatron-Bridge, MLPerf Training v5.1, TPU recipes)",
        "training measured_training_2026_public.csv", "step_time", "MAPE,median,max",
        "1 for Hopper and Blackwell, 1 for CDNA, 2 for TPUs; 4, 2 and 1 for the three stacks",
        remark="Stacks follow from source and chip; number format, overlap, dispatcher, CUDA "
        "graphs and recomputed modules from the columns of a row. The same setting on several "
        "releases of the software differs by 2.9 % (dense) and 10.9 % (MoE) in the mean of these "
        "rows, and by up to 77 %. Errors with a chip or a model left out of the fit are above.",
    ),
    Validation(
        "Peak memory of a chip in training", "Megatron Core on B200",
        "training measured_training_public.csv", "peak_memory", "MAPE,max", "none",
        group="source=simumax_b200",
        remark="TorchTitan's memory is that of an eager allocator with other recomputation rules; "
        "it is not modeled (`source=torchtitan`).",
    ),
    Validation(
        "Collectives of NCCL, oneCCL, custom kernels and DeepEP on six kinds of device",
        "measured times", "collectives measured_collectives_public.csv", "time",
        "median,MAPE", "start-up, step and rate per library and device, on these rows",
    ),
    Validation(
        "Trainium1 training throughput", "AWS Neuron benchmarks",
        "aws aws_training_public.csv --kind training", "throughput", "median,MAPE,max",
        "4 constants",
    ),
    Validation(
        "Parallelism strategies that AWS trains with on Trn1: rank of the TP and PP degrees",
        "AWS Neuron benchmarks", "aws aws_training_public.csv --kind strategy", "",
        "", "none",
        remark="Reference 1 is the fastest pair of degrees that fits. All of the published pairs "
        "are among the five best (rank 2 to 5).",
    ),
    Validation(
        "Collectives of EC2 instances and of nccom-test", "published times",
        "aws aws_collectives_public.csv --kind collective", "", "", "none",
        remark="Trn1 over two servers is 81 % low: an old release has a start-up of half a "
        "millisecond.",
    ),
    Validation(
        "All-reduce on A100 and V100", "NCCL, measured",
        "nccl measured_nccl_all_reduce_public.csv", "", "MAPE", "on half of the rows",
    ),
    Validation(
        "Slowdown under power caps, five GPUs", "epochs and products, measured",
        "power_caps measured_power_cap_public.csv", "", "MAPE", "threshold and least voltage, time "
        "share, on V100, P100, RTX6000 and A40 together",
        remark="Every cap that binds. One law for all: the threshold of 0.6 of nominal lies "
        "between what the clocks of B300 say (0.66) and the slowdown of the four others (0.55).",
    ),
    Validation(
        "Products at the power limit and below, H200 and B200", "single kernels, measured",
        "kernel_power measured_kernel_power_public.csv", "rate_at_limit", "MAPE",
        "energy per FLOP (with serving); efficiency and cast of the kernels of each format, "
        "prologue of a tile, clock power between kernels, on these rows",
        remark="Every fourth row of the source. A format has the same kernels on both chips. "
        "Below the limit the meter shows a mean of the last second and lags behind the load; it "
        "scatters by 17 to 30 %.",
    ),
    Validation(
        "Power of GPUs that serve at their measured rates", "ML.ENERGY Benchmark, measured",
        "power measured_serving_energy_public.csv", "", "MAPE", "clock energy of H100 and of B200, "
        "bytes of sampling, on these rows",
        remark="Bytes and FLOP per token follow from the architectures; the rate is the measured "
        "one. Flagged rows are those whose host held the GPU up or whose steps were uneven.",
    ),
    Validation(
        "Power of chips and nodes that train at their measured rates", "MLPerf and others",
        "power measured_training_power.csv", "", "MAPE",
        "watts of the host and loss of the supply, from idle readings of the nodes; activity of "
        "constant operands, on B300",
        remark="The constants of the chips come from serving and single products: H100's own, "
        "and B200's for B300. Rows that multiply hours by the TDP are no measurements: skipped.",
    ),
    Validation(
        "Collectives in the convention of ASTRA-sim", "ASTRA-sim, analytical backend",
        "astrasim astrasim_collectives_public.csv", "", "unequal", "none",
    ),
    Validation(
        "FLOP, bytes and weights of unfused layers, kernel by kernel", "Calculon 0.1.0",
        "calculon_layers calculon_layers_public.csv", "", "unequal", "none",
    ),
    Validation(
        "Energy per operation by format and node",
        "Horowitz, Jouppi, FPnew", "energy energy_per_op.csv", "", "median", "none",
        remark="Rows of a power limit over a printed peak are skipped: no chip reaches that rate "
        "at its limit. Measured power of whole chips is in the sections on power.",
    ),
    Validation(
        "Areas of memories, units and cores", "published areas", "area area.csv", "",
        "MAPE,max", "none",
    ),
    Validation(
        "Die area of the chip presets, as in limits, cost and leakage",
        "dies of 7 presets, MI300X compute and base dies", "area die_areas.csv",
        "",
        "MAPE,max", "sources of the process constants, on A100, MI210 and TPU v4",
        remark="No blind test: terms were chosen with these errors in view. The printed area of "
        "TPU v4 is an upper bound, those of B200 and B300 are about "
        "the limit of the reticle. Base dies of MI300X (N6) count as N5.",
    ),
    Validation(
        "Dies per wafer, yield, die cost", "worked examples", "cost cost.csv", "", "max",
        "none",
    ),
    Validation(
        "Matrix products from one row up, in a replayed graph",
        "aiconfigurator, Vidur and others, measured", "gemm measured_gemm_public.csv", "time",
        "MAPE,median", "one set per chip and four shared ones, on these rows",
        remark="Errors of shapes and devices left out: experiments/kernel_times.",
    ),
    Validation(
        "Fused attention, prefill and decode",
        "aiconfigurator and others, measured", "attention measured_attention_public.csv", "time",
        "MAPE,median", "one set per chip and seven shared ones, on these rows",
    ),
    Validation(
        "Norms, activations, casts, routed experts",
        "NVIDIA and others, measured", "ops measured_ops_public.csv", "time",
        "MAPE,median", "one set per chip, on these rows",
    ),
    Validation(
        "Servers at a known batch: inter-token latency, throughput, power",
        "ML.ENERGY leaderboard, vLLM 0.11, measured",
        "serving_energy measured_serving_energy_public.csv", "itl_median",
        "MAPE,median", "13 constants of the engine, on these rows; power: none here",
        remark="Errors of models left out: experiments/serving_accuracy.",
    ),
    Validation(
        "Closed loops: time per output token and to the first one",
        "InferenceX and aiconfigurator, measured", "inference measured_inference_public.csv",
        "tpot", "MAPE,median", "13 constants of each of three engines, on these rows",
        remark="Errors of models and chips left out: experiments/serving_accuracy.",
    ),
    Validation(
        "Static batches on Inferentia2 and Trainium: time per output token",
        "AWS Neuron, published", "aws aws_inference_public.csv --kind inference", "tpot",
        "MAPE,median", "9 constants, on the rows of Inferentia2 and Trainium1",
    ),
)  # fmt: skip


def report(validation: Validation, folder: Path | None) -> dict[str, Any]:
    """The JSON of a validation, from the folder of earlier ones if it is there."""
    kept = folder / f"{validation.arguments.replace(' ', '_')}.json" if folder else None
    if kept is not None and kept.exists():
        return json.loads(kept.read_text())
    print(f"hwdse validate {' '.join(validation.command)}", flush=True)
    script = "from hwdse.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "validate", *validation.command, "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    if kept is not None:
        kept.write_text(done.stdout)
    return json.loads(done.stdout)


METRICS = {"MAPE": "mape", "median": "median_ape", "max": "max_ape"}


def percent(value: float | None, sign: str = "") -> str:
    """A fraction in percent."""
    if value is None:
        return "-"
    if value == 0:
        return "0 %"
    if abs(value) < 5e-6:
        return "< 0.001 %"
    digits = 3 if abs(value) < 1e-3 else 2 if abs(value) < 1e-2 else 1
    return f"{100 * value:{sign}.{digits}f} %"


def headline(validation: Validation, metrics: dict[str, Any]) -> str:
    """The error of a summary row."""
    parts = []
    for name in validation.headline.split(",") if validation.headline else ["median", "max"]:
        if name == "unequal":
            parts.append(f"{metrics['mismatches']:,} of {metrics['num_rows']:,} rows unequal")
        elif name == "spearman":
            parts.append(f"Spearman {metrics['spearman']:.2f}")
        else:
            parts.append(f"{name} {percent(metrics[METRICS[name]])}")
    return ", ".join(parts)


def summary(validation: Validation, found: dict[str, Any]) -> str:
    """Row of the summary table."""
    tables = found["groups"][validation.group] if validation.group else found["metrics"]
    if validation.key and validation.key not in tables:
        raise SystemExit(f"{validation.arguments}: no {validation.key}; has {', '.join(tables)}")
    key = validation.key or next(iter(tables))
    cells = (
        validation.quantity,
        validation.reference,
        f"{tables[key]['num_rows']:,}",
        f"`{key}`",
        headline(validation, tables[key]),
        validation.fitted,
        f"`hwdse validate {' '.join(validation.command)}`",
    )
    return "| " + " | ".join(cells) + " |"


SHOWN_GROUPS = ("source=", "set=", "kind=", "accelerator=", "gpu=", "rows=")
"""Groupings whose rows are shown beside the total."""
HEADER = (
    "quantity", "rows", "MAPE", "median", "p90", "max", "bias", "Spearman", "unequal",
)  # fmt: skip


def detail(entry: Validation, remarks: list[str], found: dict[str, Any]) -> list[str]:
    """Section with all quantities of a report."""
    lines = [f"### {entry.quantity}", "", f"`hwdse validate {' '.join(entry.command)}`", ""]
    lines += [text for remark in remarks if remark for text in (remark, "")]
    lines += [f"| {' | '.join(HEADER)} |", "| --- " * len(HEADER) + "|"]
    groups = {"": found["metrics"]}
    groups |= {k: v for k, v in found["groups"].items() if k.startswith(SHOWN_GROUPS)}
    for group, table in groups.items():
        for name, m in table.items():
            values = [percent(m[key]) for key in ("mape", "median_ape", "p90_ape", "max_ape")]
            values.append(percent(m["bias"], "+"))
            values.append("-" if m["spearman"] is None else f"{m['spearman']:.4f}")
            label = f"`{name}`" + (f", {group.partition('=')[2]}" if group else "")
            cells = (label, f"{m['num_rows']:,}", *values, f"{m['mismatches']:,}")
            lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    skipped = {**found["rows_skipped"], **found["rows_partly_scored"]}
    if skipped:
        texts = "; ".join(f"{number} {reason}" for reason, number in skipped.items())
        lines += [f"Rows outside the model, skipped in whole or in part: {texts}.", ""]
    return lines


def page(folder: Path | None) -> str:
    """The page."""
    from importlib.metadata import version

    reports = [(entry, report(entry, folder)) for entry in VALIDATIONS]
    rows = [
        "| quantity | reference | rows | metric | error | fitted constants | command |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(summary(entry, found) for entry, found in reports),
    ]
    details: list[str] = []
    seen: set[str] = set()
    for entry, found in reports:
        if entry.arguments not in seen:
            seen.add(entry.arguments)
            same = [other.remark for other, _ in reports if other.arguments == entry.arguments]
            details += detail(entry, same, found)
    text = TEMPLATE.read_text().format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        version=tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        jax=version("jax"),
        summary="\n".join(rows),
        fit="\n".join(line for line in FIT.read_text().splitlines() if is_error_line(line)),
        details="\n".join(details),
    )
    return "<!-- generated by tools/docs_accuracy.py; do not edit -->\n\n" + text.rstrip() + "\n"


def is_error_line(line: str) -> bool:
    """True for the lines of errors in a record of a fit."""
    starts = ("fitted on all", "every other", "chip ", "model ", "each ")
    return not line.startswith("  ") or line.lstrip().startswith(starts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder of JSON files to read and keep")
    TARGET.write_text(page(parser.parse_args().keep))
    print(f"wrote {TARGET.relative_to(ROOT)}")
