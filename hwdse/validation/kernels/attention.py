"""Times of fused attention kernels against measurements."""

import functools
from pathlib import Path

import jax
import numpy as np

from hwdse.models.compute.attention_times import (
    AttentionWork,
    attention_bytes,
    attention_flop,
    attention_time_s,
)
from hwdse.specs.hardware.kernel_costs import KernelCosts
from hwdse.validation.kernels.kernel_devices import known_devices, stacked_costs, stacked_rates
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    at_rows,
    build_report,
    read_table,
)

SIZES = ("batch", "q_len", "kv_len", "num_heads", "num_kv_heads", "head_dim", "v_head_dim")
COLUMNS = ("device", "op", "dtype", "kv_dtype", *SIZES, "latency_us")
OPS = ("gqa_decode", "gqa_prefill", "mla_decode", "mla_prefill")
WIDTHS = {"bf16": 16.0, "fp16": 16.0, "fp8": 8.0}
MICRO = 1e-6


class AttentionRows:
    """Rows of a table that the model can express, as arrays."""

    def __init__(self, table: ReferenceTable) -> None:
        devices, ops = table.text("device"), table.text("op")
        widths = list(zip(table.text("dtype"), table.text("kv_dtype"), strict=True))
        known = known_devices(devices) & np.array(
            [
                op in OPS and a in WIDTHS and b in WIDTHS
                for op, (a, b) in zip(ops, widths, strict=True)
            ]
        )
        self.index = np.flatnonzero(known)
        self.num_unknown = int(len(known) - known.sum())
        self.devices = [devices[i] for i in self.index]
        sizes = {x: table.numbers(x, at_least=1.0)[self.index] for x in SIZES}
        is_decode = np.array([ops[i].endswith("decode") for i in self.index], float)
        is_latent = np.array([ops[i] == "mla_decode" for i in self.index], float)
        self.work = AttentionWork(
            **sizes,
            kv_bytes=np.array([WIDTHS[widths[i][1]] / 8.0 for i in self.index]),
            math_bits=np.array([WIDTHS[widths[i][0]] for i in self.index]),
            is_value_in_key=is_latent,
            window=np.full(len(self.index), 1e18),
            is_decode=is_decode,
            is_replayed=np.ones(len(self.index)),
        )
        self.time_s = MICRO * table.numbers("latency_us", at_least=0.0)[self.index]

    def predicted_s(self, costs: KernelCosts) -> np.ndarray:
        """Times by the model."""
        return np.asarray(attention_time_s(self.work, stacked_rates(self.devices), costs))


def validate(path: Path) -> ValidationReport:
    """Error table of attention times, FLOP and bytes of a file."""
    table = read_table(path, COLUMNS)
    rows = AttentionRows(table)
    with jax.enable_x64(True):
        time_s = rows.predicted_s(stacked_costs(rows.devices))
    at = functools.partial(at_rows, len(table), rows.index)
    comparisons = {"time": Comparison(at(rows.time_s), at(time_s))}
    for name, own in (("flops", attention_flop(rows.work)), ("bytes", attention_bytes(rows.work))):
        if name in table.columns:
            given = table.numbers(name, at_least=0.0, may_be_empty=True)
            comparisons[name] = Comparison(given, at(own), 1.0)
    return build_report(
        "attention",
        path,
        comparisons,
        rows_skipped={"device, kernel or format without constants": rows.num_unknown},
        group_by={"device": table.text("device"), "op": table.text("op")},
    )
