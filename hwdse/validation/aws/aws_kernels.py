"""NeuronCore engine models against published kernel measurements on Trainium.

The file has one metric of one kernel per row, in the columns of `COLUMNS`; rows of other domains
than "kernel" are skipped. Latency, bytes, FLOP and active time of engines are separate quantities.
Groups: chip, kernel family, and whether a constant of `configs/engines` was fitted to the row
(`FITTED`).
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np

from hwdse.config.hardware.neuron_cores import load_engines
from hwdse.core.neuron_kernel_time import KernelTimes, kernel_times
from hwdse.models.compute.neuron_engines import (
    lone_transfer_time_s,
    peak_flop_per_s,
    transfer_efficiency,
)
from hwdse.specs.hardware.neuron_core import NeuronCore
from hwdse.validation.aws.kernel_names import CORES, UnmodeledRowError, recognize
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    printed_resolution,
    read_table,
)

COLUMNS = (
    "case_id",
    "domain",
    "model",
    "detail",
    "chip",
    "precision",
    "seq_len",
    "size_bytes",
    "metric",
    "value",
    "unit",
    "notes",
)
UNITS: Mapping[str, float] = MappingProxyType(
    {
        "s": 1.0,
        "ms": 1e-3,
        "us": 1e-6,
        "ns": 1e-9,
        "percent": 1.0,
        "fraction": 1.0,
        "bytes": 1.0,
        "flop": 1.0,
        "TFLOPS": 1e12,
    }
)
"""Conversion factors from units of the file to base units."""

CORES_PER_HBM_STACK = 2.0
"""Cores per HBM stack; the Neuron profiler reports bandwidth utilization per stack."""


def _share_of_time(engine: str) -> Callable[[KernelTimes, NeuronCore], float]:
    return lambda times, core: 100.0 * getattr(times, engine) / times.latency_s


def _share_of_peak(flop: str) -> Callable[[KernelTimes, NeuronCore], float]:
    """Percentage of the BF16 peak rate."""

    def share(times: KernelTimes, core: NeuronCore) -> float:
        peak = float(peak_flop_per_s("bf16", core.tensor))
        return 100.0 * getattr(times, flop) / (times.latency_s * peak)

    return share


def _share_of_hbm(times: KernelTimes, core: NeuronCore) -> float:
    stack = CORES_PER_HBM_STACK * core.hbm_bandwidth_bytes_per_s
    return 100.0 * (times.read_bytes + times.written_bytes) / (times.latency_s * stack)


METRICS: Mapping[str, Callable[[KernelTimes, NeuronCore], float]] = MappingProxyType(
    {
        "latency": lambda times, core: times.latency_s,
        "tensor_engine_active": lambda times, core: times.tensor_s,
        "tensor_engine_active_pct": _share_of_time("tensor_s"),
        "vector_engine_active_pct": _share_of_time("vector_active_s"),
        "scalar_engine_active_pct": _share_of_time("scalar_active_s"),
        "dma_active_pct": _share_of_time("dma_s"),
        "hbm_read": lambda times, core: times.read_bytes,
        "hbm_write": lambda times, core: times.written_bytes,
        "hardware_flops": lambda times, core: times.hardware_flop,
        "hfu": _share_of_peak("hardware_flop"),
        "mfu_vs_bf16_peak": _share_of_peak("model_flop"),
        "mbu": _share_of_hbm,
        "achieved": lambda times, core: times.model_flop / times.latency_s,
    }
)
"""Quantities of a kernel by metric name in the file."""

FITTED = frozenset(
    {
        ("accelopt-transpose-matmul-k2048-m4096-n10944-baseline", "latency"),
        ("accelopt-transpose-matmul-k2048-m4096-n10944-optimised", "latency"),
        ("accelopt-swiglu-k1024-m4096-n3072-baseline", "latency"),
        ("accelopt-matmul-add-rmsnorm-k2048-m4096-n2048-baseline", "latency"),
        ("accelopt-add-rmsnorm-matmul-k1024-m4096-n2048-baseline", "latency"),
        ("accelopt-matmul-k5120-m4096-n12288-baseline", "latency"),
        ("accelopt-mamba-c256-m7168-s16-baseline", "latency"),
        ("accelopt-bmm-softmax-b16-k64-m4096-n4096-baseline", "hbm_write"),
    }
)
"""Rows used to fit sustained_fraction, launch_latency and usable_fraction."""


def validate(path: Path) -> ValidationReport:
    """Error table of all `METRICS` and of DMA transfers, with reasons of skipped rows."""
    table = read_table(path, COLUMNS)
    chosen = [row["domain"] == "kernel" for row in table.rows]
    if not any(chosen):
        raise ValueError(f"{path}: no row of domain 'kernel'; expected at least one")
    skipped: Counter[str] = Counter()
    families, model = ["-"] * len(table), np.full(len(table), math.nan)
    with jax.enable_x64(True):
        for index, row in enumerate(table.rows):
            if not chosen[index]:
                skipped[f"domain {row['domain']}: not a kernel"] += 1
                continue
            try:
                families[index], model[index] = _model_value(row)
            except UnmodeledRowError as error:
                skipped[str(error)] += 1
    comparisons = _comparisons(table, model)
    if not comparisons:
        raise ValueError(f"{path}: no row that the engines' model covers; skipped {dict(skipped)}")
    is_fitted = [(row["case_id"], row["metric"]) in FITTED for row in table.rows]
    return build_report(
        "aws kernel",
        path,
        comparisons,
        rows_skipped=skipped,
        group_by={
            "chip": table.text("chip"),
            "family": families,
            "fitted": ["yes" if used else "no" for used in is_fitted],
        },
    )


def _comparisons(table: ReferenceTable, model: np.ndarray) -> dict[str, Comparison]:
    """Reference and model by metric, in base units, for rows with a model."""
    is_scored = ~np.isnan(model)
    scale = np.ones(len(table))
    for index, row in enumerate(table.rows):
        if is_scored[index] and row["unit"] not in UNITS:
            raise table.error(index, "unit", "one of " + ", ".join(UNITS))
        scale[index] = UNITS.get(row["unit"], 1.0)
    cells = [row["value"] if used else "" for row, used in zip(table.rows, is_scored, strict=True)]
    reference = _numbers(table, cells) * scale
    resolution = printed_resolution(cells) * scale
    metrics = np.array([row["metric"] for row in table.rows])
    comparisons = {}
    for metric in sorted(set(metrics[is_scored])):
        chosen = metrics == metric
        comparisons[metric] = Comparison(
            np.where(chosen, reference, math.nan), np.where(chosen, model, math.nan), resolution
        )
    return comparisons


def _numbers(table: ReferenceTable, cells: list[str]) -> np.ndarray:
    """Positive finite values of the scored cells, NaN elsewhere."""
    values = np.full(len(cells), math.nan)
    for index, cell in enumerate(cells):
        if not cell:
            continue
        try:
            values[index] = float(cell)
        except ValueError:
            values[index] = math.nan
        if not (math.isfinite(values[index]) and values[index] > 0.0):
            raise table.error(index, "value", "a number above 0")
    return values


def _model_value(row: Mapping[str, str]) -> tuple[str, float]:
    """Kernel family and modeled metric of a row, in base units."""
    preset = CORES.get(row["chip"].lower())
    if preset is None:
        raise UnmodeledRowError(f"no engines of {row['chip']}")
    if "upper_bound" in row["metric"]:
        raise UnmodeledRowError("a bound asserted by a unit test, not a measurement")
    core = load_engines(preset)
    if row["model"].startswith("DMA"):
        return "dma", _dma_value(row, core)
    named = recognize(row)
    if row["metric"] not in METRICS:
        raise UnmodeledRowError(f"no rule for the metric {row['metric']}")
    times = jax.tree.map(float, kernel_times(named.build(core), core))
    value = METRICS[row["metric"]](times, core)
    if value == 0.0:
        raise UnmodeledRowError(f"{row['metric']} of a kernel without such work")
    return named.family, value


def _dma_value(row: Mapping[str, str], core: NeuronCore) -> float:
    """Time of a transfer by one engine (s), or throughput relative to its maximum."""
    try:
        size = float(row["size_bytes"])
    except ValueError:
        raise UnmodeledRowError("a DMA transfer without its size") from None
    if row["metric"] == "normalised_throughput":
        return float(transfer_efficiency(size, core.dma))
    if row["metric"] == "latency" and "one engine" in row["model"]:
        return float(lone_transfer_time_s(size, 1.0, core.dma))
    raise UnmodeledRowError(f"no rule for the DMA metric {row['metric']}")
