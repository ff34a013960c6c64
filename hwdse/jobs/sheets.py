"""Sheets of single items: a chip, a system, a model, a task, a core, as tables."""

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from hwdse.config.design.model_and_task import load_model_file, load_task_file
from hwdse.config.files.errors import ConfigError
from hwdse.config.files.named_items import Item, systems_with
from hwdse.config.hardware.accelerators import load_accelerator_file
from hwdse.config.hardware.load_specs import (
    Published,
    load_chip_file,
    load_software_file,
    load_system,
)
from hwdse.config.provenance import origins
from hwdse.config.schema.user_paths import format_value, leaf_paths, short_path
from hwdse.evaluation import evaluate_exact
from hwdse.jobs.composed_job import Job, job
from hwdse.jobs.job_results import ResultTable
from hwdse.report.parameter_words import LEVEL_WORDS
from hwdse.search.space.pytree_path import get_path
from hwdse.workload.gemms import Gemms, LayerList
from hwdse.workload.transformer.dense_transformer import num_active_parameters, num_parameters
from hwdse.workload.transformer.layer_stacks import layer_stacks

GEMM_EXTENT = 16384.0
"""Rows, columns and reduction of the GEMM that loads a chip fully."""
DEFAULT_SYSTEM = "dgx_h100"
"""System of a chip that no preset has, and of the memory table of a model."""
BF16_BYTES = 2.0
MAX_NOTE = 72
"""Largest number of printed characters of an assumption."""
MEMORY_STRATEGIES = (
    (1, "TP1, ZeRO-0"),
    (1, "TP1, ZeRO-1"),
    (1, "TP1, ZeRO-3"),
    (1, "TP8, ZeRO-1"),
    (8, "TP8, ZeRO-1"),
    (8, "TP8 PP8, ZeRO-1"),
    (8, "TP1, ZeRO-3"),
    (64, "TP8 PP8, ZeRO-1"),
    (64, "TP1, ZeRO-3"),
)
"""Number of systems of eight chips and strategy of the memory table."""


@dataclass(frozen=True, repr=False)
class Sheet:
    """Tables of one item, and its values in SI base units."""

    title: str
    tables: tuple[ResultTable, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    not_modeled: tuple[str, ...] = ()
    """Parts of an imported file that are not modeled."""

    def __repr__(self) -> str:
        notes = "\n".join(f"not modeled: {note}" for note in self.not_modeled)
        parts = [self.title, *map(repr, self.tables), notes]
        return "\n\n".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables)


def sheet(item: Item) -> Sheet:
    """Sheet of a preset or file. Raises `ConfigError` for kinds without one."""
    if item.kind not in SHEETS:
        raise ConfigError(f"{item.name} is a {item.kind}: expected one of {', '.join(SHEETS)}")
    with jax.enable_x64(True):
        return SHEETS[item.kind](item.name)


def chip_sheet(name: str) -> Sheet:
    """Peaks, balance points, power, area and cost of a chip."""
    file = load_chip_file(name)
    known = systems_with(name) or [DEFAULT_SYSTEM]
    smallest = min(known, key=_num_chips)
    one = _job_on(smallest, chip=name)
    found = _chip_sheet(file.name, one.design, file.published)
    return _with_assumptions(found, one, "chip.")


def _with_assumptions(found: Sheet, one: Job, *heads: str) -> Sheet:
    """The sheet with a table of the assumed constants below some paths, and a count of defaults."""
    known = {path: origin for path, origin in origins(one.loaded).items() if path.startswith(heads)}
    assumed = {path: origin for path, origin in known.items() if origin.kind == "assumed"}
    rows = []
    for path, origin in assumed.items():
        value = get_path(one.design, path)
        shown = format_value(path, value) if isinstance(value, float) else str(value)
        note = origin.note.removeprefix("assumed").lstrip(": ")
        rows.append((short_path(path), shown, textwrap.shorten(note, MAX_NOTE, placeholder="...")))
    defaults = [path for path, origin in known.items() if origin.kind == "default"]
    rows.append((f"{len(defaults)} defaults", "-", "hwdse explain PATH"))
    table = _table("assumed", ("parameter", "value", "assumption"), rows)
    notes = {path: origin.note for path, origin in assumed.items()}
    values = {**found.values, "assumed": notes, "defaults": defaults}
    return replace(found, tables=(*found.tables, table), values=values)


def _num_chips(system: str) -> int:
    return int(load_system(system).cluster.num_chips)


def _job_on(system: str, chip: str | None = None) -> Job:
    """Some valid job on a system: one sequence per chip."""
    batch = _num_chips(system)
    return job(system=system, chip=chip, model="llama3_8b", strategy="TP1", batch=batch)


def _chip_sheet(title: str, design: Any, published: Published) -> Sheet:
    chip = design.chip
    loaded = evaluate_exact(design, _large_gemm())
    peak, tdp = float(loaded.peak_flop_per_s), published.get("tdp_w")
    rates = _peak_rates(chip, peak)
    area = {part.name: float(getattr(loaded.area, part.name)) for part in fields(loaded.area)}
    summary = [
        ("sustained BF16 in large GEMMs (TFLOP/s)", f"{_rate(loaded) / 1e12:,.1f}"),
        ("power in large GEMMs (W)", f"{float(loaded.chip_power_w):,.0f}"),
        *([("TDP, published (W)", f"{tdp:,.0f}")] if tdp else []),
        ("manufacturing cost (USD)", f"{float(loaded.chip_cost_usd):,.0f}"),
        ("dies", f"{chip.num_dies:g}"),
        ("reticle usage (%)", f"{100 * float(loaded.reticle_used_ratio):.0f}"),
    ]
    values = {
        **rates,
        "sustained_flop_per_s": _rate(loaded),
        "gemm_power_w": float(loaded.chip_power_w),
        "die_area_mm2": float(loaded.die_area_mm2),
        "area_mm2": area,
        "chip_cost_usd": float(loaded.chip_cost_usd),
        "balance_flop_per_byte": _balance(chip, peak),
        "published": dict(published),
    }
    tables = (
        _rate_table(rates, published, is_native=chip.fp64_per_fp16_ratio > 0.0),
        _memory_table(chip, peak),
        _area_table(area, published.get("die_area_mm2")),
        _table("summary", ("quantity", "value"), summary),
    )
    return Sheet(title, tables, values)


def _peak_rates(chip: Any, peak: float) -> dict[str, float]:
    """FLOP/s by format; FP64 in software on a chip without FP64 units."""
    fp32 = float(chip.vector_flop_per_s)
    fp64 = peak * float(chip.fp64_per_fp16_ratio) or fp32 / float(chip.software_fp64_flop_ratio)
    return {
        "bf16_flop_per_s": peak,
        "fp8_flop_per_s": peak * float(chip.fp8_speedup_ratio),
        "fp32_flop_per_s": fp32,
        "fp64_flop_per_s": fp64,
    }


def _rate_table(
    rates: Mapping[str, float], published: Published, *, is_native: bool
) -> ResultTable:
    labels = {
        "bf16_flop_per_s": "BF16, matrix engines",
        "fp8_flop_per_s": "FP8, matrix engines",
        "fp32_flop_per_s": "FP32, vector engines",
        "fp64_flop_per_s": "FP64, native" if is_native else "FP64, emulated in FP32",
    }
    rows = []
    for key, value in rates.items():
        printed = published.get(key) if key != "fp32_flop_per_s" else None
        shown = f"{printed / 1e12:,.1f}" if printed else "-"
        rows.append((labels[key], f"{value / 1e12:,.1f}", shown))
    return _table("peak rates", ("format", "model (TFLOP/s)", "published (TFLOP/s)"), rows)


def _area_table(area: Mapping[str, float], published_mm2: float | None) -> ResultTable:
    total = sum(area.values())
    cells = [
        (name.replace("_", " "), f"{value:,.0f}", f"{100 * value / total:.0f}")
        for name, value in sorted(area.items(), key=lambda item: -item[1])
        if value > 0.0
    ]
    cells.append(("total", f"{total:,.0f}", "100"))
    if published_mm2:
        cells.append(("published", f"{published_mm2:,.0f}", "-"))
    return _table("die area", ("part", "area (mm²)", "share (%)"), cells)


def _rate(loaded: Any) -> float:
    return float(loaded.mfu_fraction) * float(loaded.peak_flop_per_s)


def _balance(chip: Any, peak: float) -> dict[str, float]:
    """FLOP per byte at which the matrix engines and a memory or port are equally busy."""
    return {
        name: peak / float(getattr(chip, name).bandwidth_bytes_per_s)
        for name in ("sram", "hbm", "link", "network")
    }


def _memory_table(chip: Any, peak: float) -> ResultTable:
    rows = []
    for name, flop_per_byte in _balance(chip, peak).items():
        part = getattr(chip, name)
        has_size = hasattr(part, "capacity_bytes")
        size = format_value(f"{name}.capacity_bytes", part.capacity_bytes) if has_size else "-"
        rate = format_value(f"{name}.bandwidth_bytes_per_s", part.bandwidth_bytes_per_s)
        rows.append((LEVEL_WORDS[name], size, rate, f"{flop_per_byte:,.0f}"))
    heads = ("level", "capacity", "bandwidth", "balance point (FLOP/B, BF16)")
    return _table("memories and ports", heads, rows)


def _large_gemm() -> LayerList:
    one = jnp.ones(1)
    side = GEMM_EXTENT * one
    gemms = Gemms(side, side, side, one, one, one, one, 0.0 * one, 0.0 * one)
    return LayerList(gemms, ("GEMM",))


def system_sheet(name: str) -> Sheet:
    """Chips, fabric, failures and cost of a system, and its chip."""
    one = _job_on(name)
    cluster, chip = one.design.cluster, one.design.chip
    chip_part = _chip_sheet(one.loaded.labels["chip"], one.design, {})
    rows = [
        (short_path(path), format_value(path, value) if isinstance(value, float) else str(value))
        for path, value in leaf_paths(cluster).items()
        if value is not None
    ]
    count = float(cluster.num_chips)
    totals = [
        ("chips", f"{count:g}"),
        ("BF16 peak (PFLOP/s)", f"{count * chip_part.values['bf16_flop_per_s'] / 1e15:,.2f}"),
        ("HBM (TB)", f"{count * float(chip.hbm.capacity_bytes) / 1e12:,.2f}"),
        ("HBM bandwidth (TB/s)", f"{count * float(chip.hbm.bandwidth_bytes_per_s) / 1e12:,.1f}"),
    ]
    tables = (
        _table("totals", ("quantity", "value"), totals),
        _table("cluster", ("parameter", "value"), rows),
        *chip_part.tables,
    )
    title = f"{one.loaded.labels['system']}: {count:g} x {one.loaded.labels['chip']}"
    values = {"num_chips": count, "chip": dict(chip_part.values)}
    return _with_assumptions(Sheet(title, tables, values), one, "chip.", "cluster.")


def model_sheet(name: str) -> Sheet:
    """Parameters, active parameters, FLOP and KV cache per token, memory by strategy of a model."""
    file = load_model_file(name)
    model = file.model
    total, active = float(num_parameters(model)), float(num_active_parameters(model))
    kv = kv_bytes_per_token(model)
    published = file.published.get("num_parameters")
    one = job(system=DEFAULT_SYSTEM, model=name, strategy="TP1", batch=8, seq=_context(file))
    result = one.evaluate()
    flop = float(result.mfu_fraction) * float(result.peak_flop_per_s)
    flop *= float(one.design.cluster.num_chips) * float(result.step_time_s)
    flop /= float(result.tokens_per_step)
    seq = float(one.workload.seq_len)
    rows = [
        ("parameters", f"{total:,.0f}"),
        *([("parameters, published", f"{published:,.0f}")] if published else []),
        ("active parameters per token", f"{active:,.0f}"),
        (f"training FLOP per token (G, sequences of {seq:g})", f"{flop / 1e9:,.1f}"),
        ("6 x active parameters (GFLOP)", f"{6 * active / 1e9:,.1f}"),
        ("KV cache per token, BF16 (KiB)", f"{kv / 1024:,.1f}"),
        ("weights, BF16 (GB)", f"{BF16_BYTES * total / 1e9:,.1f}"),
    ]
    values = {
        "num_parameters": total,
        "num_active_parameters": active,
        "training_flop_per_token": flop,
        "seq_len": seq,
        "kv_bytes_per_token": kv,
    }
    layers = [
        (
            f"{float(stack.count):g}",
            "latent" if stack.kind.is_latent else "grouped-query",
            "mixture of experts" if stack.kind.is_mixture else "dense",
        )
        for stack in layer_stacks(model)
    ]
    tables = (
        _table("model", ("quantity", "value"), rows),
        _table("layers", ("number", "attention", "MLP"), layers),
        _memory_by_strategy(name, _context(file)),
    )
    return Sheet(file.name, tables, values, file.notes)


def _context(file: Any) -> int | None:
    """Sequence length for a model whose source gives none."""
    return None if "seq_len" in file.recipe else 4096


def kv_bytes_per_token(model: Any) -> float:
    """Bytes of keys and values of one token in all layers, in BF16.

    Latent attention caches the latent and the rotary key of all heads.
    """
    total = 0.0
    for stack in layer_stacks(model):
        one = stack.model
        elements = 2.0 * one.num_kv_heads * one.head_dim
        if stack.kind.is_latent:
            elements = one.kv_lora_rank + one.qk_rope_head_dim
        total += float(stack.count) * float(elements) * BF16_BYTES
    return total


def _memory_by_strategy(name: str, seq: int | None) -> ResultTable:
    rows = []
    for count, text in MEMORY_STRATEGIES:
        try:
            one = job(
                system=DEFAULT_SYSTEM, count=count, model=name, strategy=text, batch=8 * count,
                seq=seq,
            )  # fmt: skip
        except ConfigError:  # heads or layers that the degrees do not divide
            continue
        held = one.evaluate().hbm
        parts = [float(getattr(held, key)) for key in ("weights", "gradients", "optimizer")]
        rest = float(held.activations) + float(held.buffers)
        cells = [f"{value / 1e9:,.1f}" for value in (*parts, rest, sum(parts) + rest)]
        rows.append((f"{8 * count} chips, {text}", *cells))
    heads = ("strategy, micro-batch 1", "weights (GB)", "gradients (GB)", "optimizer (GB)",
             "activations (GB)", "all (GB)")  # fmt: skip
    return _table("memory per chip in training", heads, rows)


def accelerator_sheet(name: str) -> Sheet:
    """All parameters of a core."""
    file = load_accelerator_file(name)
    return _parameters(file.name, file.accelerator)


def task_sheet(name: str) -> Sheet:
    """Values of a task."""
    file = load_task_file(name)
    rows = [(short_path(key), format_value(key, value)) for key, value in file.values.items()]
    return Sheet(file.name, (_table("task", ("key", "value"), rows),), dict(file.values))


def software_sheet(name: str) -> Sheet:
    """All parameters of a training stack."""
    file = load_software_file(name)
    return _parameters(file.name, file.software)


def _parameters(title: str, spec: Any) -> Sheet:
    leaves = {path: value for path, value in leaf_paths(spec).items() if value is not None}
    rows = [
        (short_path(path), format_value(path, value) if isinstance(value, float) else str(value))
        for path, value in leaves.items()
    ]
    return Sheet(title, (_table("parameters", ("parameter", "value"), rows),), leaves)


def _table(title: str, heads: tuple[str, ...], rows: Any) -> ResultTable:
    cells = tuple(tuple(row) for row in rows)
    columns = {head: [row[i] for row in cells] for i, head in enumerate(heads)}
    return ResultTable(title, heads, cells, columns)


SHEETS: Mapping[str, Callable[[str], Sheet]] = MappingProxyType(
    {
        "chip": chip_sheet,
        "system": system_sheet,
        "model": model_sheet,
        "accelerator": accelerator_sheet,
        "task": task_sheet,
        "software": software_sheet,
    }
)
"""Sheet by kind of item."""
