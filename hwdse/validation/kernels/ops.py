"""Times of elementwise kernels, expert layers and parts of a layer against measurements."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.models.compute.elementwise_times import elementwise_time_s
from hwdse.models.compute.expert_times import ExpertWork, expert_flop, expert_time_s
from hwdse.models.compute.gemm_times import gemm_time_s
from hwdse.numerics.array_types import PerOp
from hwdse.numerics.stacking import stacked
from hwdse.specs.hardware.kernel_costs import KernelCosts, KernelRates
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

COLUMNS = ("device", "op", "dtype", "timing", "shape", "rows", "cols", "latency_us")
MICRO = 1e-6
"""Unit of the latencies of the table."""


class Elementwise(NamedTuple):
    """Traffic of one kind of elementwise kernel."""

    bytes_per_element: float
    """Least bytes: operands read and results written once."""
    traffic_ratio: float = 1.0
    """Time on the memory over that of these bytes at the rate of a copy. Fitted, all devices."""
    num_kernels: float = 1.0
    launch_ratio: float = 0.0
    """Host launches of the operator without a graph, over that of a product. Fitted on A100."""


OPS: Mapping[tuple[str, str], Elementwise] = MappingProxyType(
    {
        ("embedding", "legacy"): Elementwise(4.0, 4.05),
        ("residual_add", "legacy"): Elementwise(6.0, 0.742),
        ("rmsnorm", "legacy"): Elementwise(4.0, 1.7),
        ("rope", "legacy"): Elementwise(4.0, 1.4),
        ("silu_mul", "legacy"): Elementwise(6.0, 1.29),
        ("embedding", "graph"): Elementwise(4.0, 0.395),
        ("rmsnorm_add", "graph"): Elementwise(8.0, 0.408),
        ("rope", "graph"): Elementwise(4.0, 0.54),
        ("silu_mul", "graph"): Elementwise(6.0, 0.662),
        ("fp8_static_quantise", "graph"): Elementwise(3.0),
        ("fp8_dynamic_quantise", "graph"): Elementwise(2.0, 1.67, num_kernels=2.0),
        ("gelu", "eager"): Elementwise(4.0, 0.752, launch_ratio=0.83),
        ("layernorm", "eager"): Elementwise(4.0, 0.901, launch_ratio=1.85),
        ("softmax", "eager"): Elementwise(4.0, 1.28, launch_ratio=0.613),
    }
)
"""Elementwise kernels by name and implementation: kernels of 2023 (profiles of Vidur), of 2025, of
PyTorch launched one by one."""
LEGACY_SOURCE = "vidur"
"""Part of the source of rows with kernels of 2023."""
CONV_SEQUENCE_S = 0.87e-9
"""Time per sequence and channel of a causal convolution over prompts, whose states are gathered and
written one by one. Fitted, all devices."""
CONV_WIDTH = 4.0
"""Taps of the convolution of a Mamba-2 layer."""
CONV_FN, CONV_UPDATE, EXPERTS = "mamba2:causal_conv1d_fn", "mamba2:causal_conv1d_update", "moe_ffn"
LAYER = "gpt3_layer_prefill:"
"""Parts of one GPT-3 layer on 4 A100 (tensor parallel), launched one by one."""
LAYER_PARTS = MappingProxyType(
    {
        "qkv_proj": lambda t, d, s, h, p: (t, 3.0 * d / p, d),
        "q_mul_k": lambda t, d, s, h, p: (t * h / p, s, d / h),
        "a_mul_v": lambda t, d, s, h, p: (t * h / p, d / h, s),
        "wo_proj": lambda t, d, s, h, p: (t, d, d / p),
        "w1_proj": lambda t, d, s, h, p: (t, 4.0 * d / p, d),
        "w2_proj": lambda t, d, s, h, p: (t, d, 4.0 * d / p),
        "softmax": lambda t, d, s, h, p: (t * h / p, s, 0.0),
        "layernorm_mha": lambda t, d, s, h, p: (t, d, 0.0),
        "layernorm_ffn": lambda t, d, s, h, p: (t, d, 0.0),
        "gelu": lambda t, d, s, h, p: (t, 4.0 * d / p, 0.0),
    }
)
"""Sizes m, n, k of the parts of that layer from tokens, width, sequence, heads, tensor degree; k is
0 of an elementwise part. Products of heads count as one product with the rows of all heads."""
EXPERT_FORMATS = MappingProxyType(
    {
        "bf16": KERNEL_FORMATS["plain"],
        "fp8": dataclasses.replace(KERNEL_FORMATS["fp8_dynamic"], rate_ratio=1.19),
        "fp8_block": dataclasses.replace(KERNEL_FORMATS["fp8_block"], rate_ratio=0.84),
        "nvfp4": dataclasses.replace(KERNEL_FORMATS["nvfp4"], rate_ratio=0.109),
    }
)
"""Formats of grouped products, with rates over that of 16 bits as fitted. The NVFP4 kernels of the
tables (2025) are slower than those that engines use since."""
POWER_LAW_SHARE = 0.8
"""Largest load of an expert over the tokens in the skewed routing of aiconfigurator."""


FEWEST_TOKENS = 2.0
"""Tokens up to which that routing draws equal loads."""


def shape_of(text: str) -> dict[str, str]:
    """Names and values of a cell such as `tokens=1024;hidden=4096`."""
    return dict(part.split("=", 1) for part in text.split(";") if "=" in part)


def rank_load(shape: Mapping[str, str]) -> tuple[float, float]:
    """Experts with a token, and rows, of the measured rank of an MoE layer.

    Balanced: every expert has the same tokens. Power law: loads of experts are drawn from a power
    law between 1 and `POWER_LAW_SHARE` of the tokens and scaled to the sum; the measured rank is
    the busiest one: mean and standard deviation times sqrt(2 ln r) of r ranks.
    """
    tokens, top, experts, ranks = (float(shape[x]) for x in ("tokens", "topk", "experts", "ep"))
    every, local = tokens * top, experts / ranks
    match = re.fullmatch(r"power_law_([\d.]+)", shape.get("routing", "balanced"))
    if match is None:
        return min(local, every / ranks), every / ranks
    if (
        tokens <= FEWEST_TOKENS
    ):  # equal loads below 1: the first experts, those of one rank, get all
        return min(local, every), every
    low, high = 1.0, POWER_LAW_SHARE * tokens
    power = 1.0 - float(match[1])
    quantiles = (np.arange(experts) + 0.5) / experts
    loads = (low**power + quantiles * (high**power - low**power)) ** (1.0 / power)
    loads *= every / loads.sum()
    excess = loads.std() * np.sqrt(local * 2.0 * np.log(max(ranks, 1.0)))
    rows = min(every / ranks + excess, every)
    return max(np.minimum(loads, 1.0).sum() / ranks, min(1.0, rows)), rows


class OpRows:
    """Rows of a table that the model can express, by kind, as arrays."""

    def __init__(self, table: ReferenceTable) -> None:
        self.table = table
        self.ops, self.devices = table.text("op"), table.text("device")
        self.shapes = [shape_of(text) for text in table.text("shape")]
        self.time_s = MICRO * table.numbers("latency_us", at_least=0.0)
        self.timings = table.text("timing")
        sources = table.text("source") if "source" in table.columns else [""] * len(table)
        self.is_legacy = [LEGACY_SOURCE in source for source in sources]
        known = known_devices(self.devices)
        formats = table.text("dtype")
        kinds = {
            "elementwise": lambda i: self.kernel_of(i) in OPS,
            "conv": lambda i: self.ops[i] in (CONV_FN, CONV_UPDATE),
            "experts": lambda i: self.ops[i] == EXPERTS and formats[i] in EXPERT_FORMATS,
            "layer": lambda i: self.ops[i] in [LAYER + part for part in LAYER_PARTS],
        }
        self.index: dict[str, np.ndarray] = {
            kind: np.array([i for i in range(len(table)) if known[i] and test(i)], int)
            for kind, test in kinds.items()
        }
        self.num_unknown = len(table) - sum(len(rows) for rows in self.index.values())

    def kernel_of(self, row: int) -> tuple[str, str]:
        """Name and implementation of an elementwise kernel."""
        if self.timings[row] == "eager":
            return self.ops[row], "eager"
        return self.ops[row], "legacy" if self.is_legacy[row] else "graph"

    def devices_of(self, kind: str) -> list[str]:
        """Device of each row of a kind."""
        return [self.devices[i] for i in self.index[kind]]

    def numbers(self, kind: str, name: str) -> np.ndarray:
        """Column of the table, or value of the shapes, of the rows of a kind."""
        if name in ("rows", "cols"):
            values = self.table.numbers(name, at_least=0.0, may_be_empty=True)
            return values[self.index[kind]]
        return np.array([float(self.shapes[i][name]) for i in self.index[kind]])

    def elementwise_s(
        self,
        costs: KernelCosts,
        rates: KernelRates,
        ops: Mapping[tuple[str, str], Elementwise] = OPS,
    ) -> PerOp:
        """Times of the elementwise rows."""
        index = self.index["elementwise"]
        each = [ops[self.kernel_of(i)] for i in index]
        moved = self.numbers("elementwise", "rows") * self.numbers("elementwise", "cols")
        moved = moved * np.array([one.bytes_per_element for one in each])
        ratio = jnp.stack([jnp.asarray(one.traffic_ratio, float) for one in each])
        launches = jnp.stack([jnp.asarray(one.launch_ratio, float) for one in each])
        num_kernels = np.array([one.num_kernels for one in each])
        in_graph = elementwise_time_s(moved, rates, costs, 0.0, num_kernels, ratio)
        return in_graph + launches * costs.launch_s

    def conv_s(
        self, costs: KernelCosts, rates: KernelRates, sequence_s: PerOp = CONV_SEQUENCE_S
    ) -> PerOp:
        """Times of the causal convolutions: elements read and written; states of `CONV_WIDTH`."""
        kind = "conv"
        batch, seq = self.numbers(kind, "batch"), self.numbers(kind, "seq")
        channels = self.numbers(kind, "nheads") * self.numbers(kind, "head_dim")
        channels = channels + 2.0 * self.numbers(kind, "groups") * self.numbers(kind, "d_state")
        is_prompt = np.array([self.ops[i] == CONV_FN for i in self.index[kind]])
        states = np.where(is_prompt, 0.0, 4.0 * CONV_WIDTH)
        moved = batch * channels * (4.0 * seq + states)
        return elementwise_time_s(moved, rates, costs) + jnp.where(
            is_prompt, batch * channels * sequence_s, 0.0
        )

    def expert_work(self) -> ExpertWork:
        """Experts of the rows of MoE layers."""
        loads = np.array([rank_load(self.shapes[i]) for i in self.index["experts"]])
        loads = loads.reshape(-1, 2)
        return ExpertWork(
            touched=loads[:, 0],
            rows=loads[:, 1],
            hidden=self.numbers("experts", "hidden"),
            inner=self.numbers("experts", "inter") / self.numbers("experts", "tp"),
        )

    def expert_format(self) -> KernelFormat:
        """Formats of the rows of MoE layers, whose casts are part of the fixed time of a layer."""
        names = self.table.text("dtype")
        return stacked(EXPERT_FORMATS[names[i]] for i in self.index["experts"])

    def experts_s(self, costs: KernelCosts, rates: KernelRates) -> PerOp:
        """Times of the MoE layers. Graphs repeat a layer on the same weights."""
        work, fmt = self.expert_work(), self.expert_format()
        return expert_time_s(work, fmt, rates, costs, is_replayed=1.0)

    def layer_s(self) -> np.ndarray:
        """Times of the parts of the layer, launched one by one."""
        found = []
        for i in self.index["layer"]:
            part = self.ops[i].removeprefix(LAYER)
            size = {name: float(value) for name, value in self.shapes[i].items()}
            tokens = size["batch"] * size["seq"]
            m, n, k = LAYER_PARTS[part](
                tokens, size["d_model"], size["seq"], size["heads"], size["tp"]
            )
            rates, costs = stacked_rates([self.devices[i]]), stacked_costs([self.devices[i]])
            if k > 0.0:
                time_s = gemm_time_s(m, n, k, KERNEL_FORMATS["plain_eager"], rates, costs)
            else:
                one = OPS[part.split("_")[0], "eager"]
                moved = m * n * one.bytes_per_element
                time_s = elementwise_time_s(moved, rates, costs, 0.0, 1.0, one.traffic_ratio)
                time_s = time_s + one.launch_ratio * costs.launch_s
            found.append(float(np.squeeze(time_s)))
        return np.array(found)


def validate(path: Path) -> ValidationReport:
    """Error tables of a file: elementwise kernels, routed experts, parts of a GPT-3 layer.

    `layer_sum` is the sum of the parts of one layer.
    """
    table = read_table(path, COLUMNS)
    rows = OpRows(table)
    with jax.enable_x64(True):
        own = {kind: _times(rows, kind) for kind in ("elementwise", "conv", "experts", "layer")}
        flop = np.asarray(expert_flop(rows.expert_work())) if len(own["experts"]) else np.empty(0)

    def at(values: Mapping[str, np.ndarray]) -> np.ndarray:
        index = np.concatenate([rows.index[kind] for kind in values])
        return at_rows(len(table), index, np.concatenate(list(values.values())))

    measured = {kind: rows.time_s[rows.index[kind]] for kind in own}

    def compared(*kinds: str) -> Comparison:
        return Comparison(
            at({kind: measured[kind] for kind in kinds}), at({kind: own[kind] for kind in kinds})
        )

    comparisons = {
        "time": compared(*own),
        "elementwise_time": compared("elementwise", "conv"),
        "expert_time": compared("experts"),
    }
    if len(own["layer"]):
        total = np.full((2, len(table)), np.nan)
        total[:, rows.index["layer"][0]] = (
            rows.time_s[rows.index["layer"]].sum(),
            own["layer"].sum(),
        )
        comparisons["layer_sum"] = Comparison(*total)
    if "flops" in table.columns:
        given = table.numbers("flops", at_least=0.0, may_be_empty=True)
        balanced = np.array([x.get("routing", "balanced") == "balanced" for x in rows.shapes])
        comparisons["flops"] = Comparison(
            np.where(balanced, given, np.nan), at({"experts": flop}), 1.0
        )
    return build_report(
        "ops",
        path,
        comparisons,
        rows_skipped={"device, operator or format without constants": rows.num_unknown},
        group_by={"device": table.text("device"), "op": rows.ops},
    )


def _times(rows: OpRows, kind: str) -> np.ndarray:
    if not len(rows.index[kind]):
        return np.empty(0)
    if kind == "layer":
        return rows.layer_s()
    devices = rows.devices_of(kind)
    costs, rates = stacked_costs(devices), stacked_rates(devices)
    predict = {"elementwise": rows.elementwise_s, "conv": rows.conv_s, "experts": rows.experts_s}
    return np.asarray(predict[kind](costs, rates))
