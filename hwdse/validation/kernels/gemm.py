"""Times of matrix products against measurements, one row per shape, format and device."""

import functools
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np

from hwdse.models.compute.gemm_times import NO_REUSE, gemm_bytes, gemm_flop, gemm_time_s
from hwdse.numerics.stacking import stacked
from hwdse.specs.hardware.kernel_costs import KernelCosts
from hwdse.specs.kernel_formats import KERNEL_FORMATS, KernelFormat
from hwdse.validation.kernels.kernel_devices import known_devices, stacked_costs, stacked_rates
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    at_rows,
    build_report,
    read_table,
)

COLUMNS = ("device", "dtype", "scheme", "m", "n", "k", "latency_us")
SCHEMES = MappingProxyType(
    {
        ("bf16", "plain"): "plain",
        ("fp16", "plain"): "plain",
        ("bf16", "plain_eager"): "plain_eager",
        ("fp16", "plain_eager"): "plain_eager",
        ("fp8", "dyn_act_quant"): "fp8_dynamic",
        ("fp8", "static"): "fp8_static",
        ("fp8_block", "dyn_act_quant"): "fp8_block",
        ("nvfp4", "dyn_act_quant"): "nvfp4",
        ("int8", "smoothquant"): "int8_smoothquant",
        ("int8_wo", "weight_only"): "int8_weight_only",
        ("int4_wo", "weight_only"): "int4_weight_only",
    }
)
"""Format by data type and scheme of a row."""
REPLAYED_COPIES = 5.0
"""Sets of weights that take turns in the graphs of aiconfigurator (collector/trtllm)."""
REPLAYED_SOURCE = "AIC"
MICRO = 1e-6


class GemmRows:
    """Rows of a table that the model can express, as arrays."""

    def __init__(self, table: ReferenceTable) -> None:
        schemes = list(zip(table.text("dtype"), table.text("scheme"), strict=True))
        devices = table.text("device")
        known = known_devices(devices) & np.array([scheme in SCHEMES for scheme in schemes])
        self.index = np.flatnonzero(known)
        self.num_unknown = int(len(known) - known.sum())
        self.devices = [devices[i] for i in self.index]
        self.formats = [SCHEMES[schemes[i]] for i in self.index]
        self.m, self.n, self.k = (table.numbers(x, at_least=1.0)[self.index] for x in "mnk")
        self.time_s = MICRO * table.numbers("latency_us", at_least=0.0)[self.index]
        sources = table.text("source") if "source" in table.columns else [""] * len(table)
        self.copies = np.array(
            [REPLAYED_COPIES if sources[i].startswith(REPLAYED_SOURCE) else NO_REUSE
             for i in self.index]
        )  # fmt: skip

    def fmt(self) -> KernelFormat:
        """Format of each row."""
        return stacked(KERNEL_FORMATS[name] for name in self.formats)

    def predicted_s(self, costs: KernelCosts, fmt: KernelFormat) -> np.ndarray:
        """Times by the model."""
        rates = stacked_rates(self.devices)
        return np.asarray(gemm_time_s(self.m, self.n, self.k, fmt, rates, costs, self.copies))


def validate(path: Path) -> ValidationReport:
    """Error table of product times, FLOP and bytes of a file.

    Bytes of the table count no scales of 4-bit blocks beside the stored ones and activations of
    weight-only formats in 16 bits, as the model does.
    """
    table = read_table(path, COLUMNS)
    rows = GemmRows(table)
    fmt = rows.fmt()
    with jax.enable_x64(True):
        time_s = rows.predicted_s(stacked_costs(rows.devices), fmt)
    at = functools.partial(at_rows, len(table), rows.index)
    comparisons = {"time": Comparison(at(rows.time_s), at(time_s))}
    for name, own in (
        ("flops", gemm_flop(rows.m, rows.n, rows.k)),
        ("bytes", gemm_bytes(rows.m, rows.n, rows.k, fmt)),
    ):
        if name in table.columns:
            given = table.numbers(name, at_least=0.0, may_be_empty=True)
            comparisons[name] = Comparison(given, at(own), 1.0)
    return build_report(
        "gemm",
        path,
        comparisons,
        rows_skipped={"device or format without constants": rows.num_unknown},
        group_by={
            "device": table.text("device"),
            "scheme": [f"{d}/{s}" for d, s in zip(table.text("dtype"), table.text("scheme"),
                                                  strict=True)],
        },
    )  # fmt: skip
