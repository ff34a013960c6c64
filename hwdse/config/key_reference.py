"""Reference of all TOML keys: unit, allowed values, default and meaning of every key.

`key_tables` derives the reference from the checked tables themselves. Meanings are the docstrings
below the fields of the spec classes; keys without a spec field take theirs from `MEANINGS`.
"""

import ast
import functools
import inspect
import itertools
import textwrap
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hwdse.config.design.cluster_design_table import CLUSTER
from hwdse.config.design.core_design_table import CORE
from hwdse.config.design.model_and_task import LAYERS_TABLE, MODEL_TABLES, TASK_TABLES
from hwdse.config.design.serving_design_table import SERVING
from hwdse.config.design.serving_files import ENGINE_TABLES, SERVING_TASK_TABLES
from hwdse.config.hardware.accelerators import ACCELERATOR_TABLES, LEVEL_TABLE
from hwdse.config.hardware.cpus import CPU_TABLES
from hwdse.config.hardware.failure_rates import RELIABILITY_TABLES
from hwdse.config.hardware.load_specs import (
    CHIP_TABLES,
    CLASS_FIELDS,
    CLASS_TABLES,
    DEFAULT_CLASS,
    PROCESS_TABLES,
    SOFTWARE_TABLES,
    SYSTEM_TABLES,
    DesignKind,
)
from hwdse.config.hardware.neuron_cores import NEURON_CORE_TABLES
from hwdse.config.schema.allowed_names import limit_names, objective_names
from hwdse.config.schema.field_rules import LARGEST, FieldRule, rule_of
from hwdse.config.schema.metric_fields import metric_field
from hwdse.config.search.search_file import (
    CHOICE_TABLE,
    MEMORY_LIMITS,
    OBJECTIVE_TABLE,
    SEARCH_TABLES,
    VARIABLE_TABLE,
    VARIANT_TABLE,
)
from hwdse.config.search.uncertain_table import UNCERTAIN_TABLE
from hwdse.search.uncertainty.uncertain_constants import DISTRIBUTIONS
from hwdse.specs.checkpointing import Checkpointing
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.hardware.accelerator import Accelerator, Level
from hwdse.specs.hardware.chip import Chip, Process
from hwdse.specs.hardware.cluster import Cluster
from hwdse.specs.hardware.cpu import SimdEngine
from hwdse.specs.hardware.neuron_core import NeuronCore
from hwdse.specs.number_formats import PrecisionMix
from hwdse.specs.serving.engine import ServingDesign, ServingEngine
from hwdse.specs.serving.requests import Requests
from hwdse.specs.software import Software
from hwdse.units.format_units import format_quantity
from hwdse.units.parse_units import split_field
from hwdse.workload.transformer.model_config import (
    LayerOverrides,
    Transformer,
    TransformerTraining,
)

REQUIRED = "required"
"""Default of a key that must be given."""


@dataclass(frozen=True)
class KeyRow:
    """One key of a TOML table."""

    key: str
    """Short name, without the unit."""
    field: str
    """Name with the unit, as in Python. Also accepted as a key."""
    unit: str
    """Base unit, that of a number under `field`; "1" without one, "" for texts, lists, tables."""
    allowed: str
    is_whole: bool
    default: str
    """Value of an omitted key, "none", or `REQUIRED`."""
    meaning: str


@dataclass(frozen=True)
class KeyTable:
    """The keys of one TOML table of one kind of file."""

    kind: str
    """Kind of file: "chip", "system", "model", "search", ..."""
    name: str
    """TOML table such as "hbm" or "design.mix"; "" for the top-level keys."""
    is_list: bool
    """True if the table is repeated, as in `[[levels]]`."""
    meaning: str
    rows: tuple[KeyRow, ...]
    job: DesignKind | None = None
    """Kind of job that a table of [design] belongs to; None for tables of all jobs."""

    @property
    def heading(self) -> str:
        """The table as written in TOML: `[hbm]`, `[[levels]]`, or "" for top-level keys."""
        return f"[[{self.name}]]" if self.is_list else f"[{self.name}]" if self.name else ""


MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "name": "Title of the preset in tables and plots.",
        "sources": "Publications and documents of the numbers.",
        "bands": "Least and greatest value of each constant among the fitted chips.",
        "published": "Published values of the vendor. Not part of the model.",
        "chip": "Chip preset or path of a chip file.",
        "kernels": "Constants of the kernels of the chip in services: a row of "
        "configs/libraries/kernels.csv. any: the common ones.",
        "system": "System preset or path of a system file.",
        "num_systems": "Number of systems; the cluster has this many times the chips of one.",
        "accelerator": "Accelerator preset or path of an accelerator file.",
        "base": "Preset or file of the same kind. Omitted keys take its values.",
        "model": "Model preset or path: TOML, or a config.json of Hugging Face.",
        "task": "Task preset or path. Omitted: the recipe of the model, then pretraining.",
        "layers": "CSV of layers or operators in place of a model: preset or path.",
        "design.chip": "Chip preset or path in place of the chip of the system.",
        "design.seq_len": "Tokens per sequence, in place of the value of the task.",
        "design.global_batch": "Sequences per step, in place of the value of the task.",
        "strategy": "The best strategy that fits the HBM, or a text such as TP8 PP4, ZeRO-1. "
        "Keys of [design.parallelism] are kept. Omitted: best, unless there is this table.",
        "pretraining": "Recipe of the source of the model: values of the task that it gives.",
        "software": "Training-stack preset or path of a software file.",
        "engine": "Serving-engine preset or path; its key makes the job a service.",
        "precision": "Formats of weights, products and KV cache: bf16, fp8, fp8_kv8, nvfp4, mxfp4, "
        "int8_weights, int4_weights.",
        "formats": "Formats that replace those of the name precision.",
        "parallelism": "Strategy of one replica.",
        "reliability": "Failure-rate preset or path. Replaces the failure rate of the system.",
        "failures_per_1000_node_days": "Failures of one node in 1,000 days.",
        "chips_per_node": "Chips of one node; each has an equal part of the failure rate.",
        "cluster": "Further keys of [cluster] that the failure rates replace.",
        "overrides": "Values by path that replace those of the files named above.",
        "title": "Title of the search in tables and plots.",
        "seed": "Seed of every random number of a search.",
        "design.mapping": "Mapping policy of every operator: best mapping (optimize), or tiles of "
        "the search file (explicit).",
        "design": "Base design: the baseline of the search and the value of all other parameters.",
        "limits": "Upper limits. Omitted keys impose no limit, but the memory must suffice.",
        "objective": "Objective of `hwdse optimize`, and objectives of the Pareto front.",
        "minimize": "Objective to be minimized.",
        "front": "Two or more objectives of the Pareto front.",
        "robust": "Statistic of objective and limits over the sample of the uncertain constants.",
        "robust_samples": "Size of that sample.",
        "variables": "Numeric parameters of the search.",
        "choices": "Parameters that change together, such as parallelism strategies.",
        "variants": "Names that select code, such as dataflows.",
        "uncertain": "Uncertain constants. Also written as [uncertain] with paths as keys.",
        "path": "Dotted path of the parameter; `*` in a path matches every name at that level.",
        "low": "Lower end of the range.",
        "high": "Upper end of the range.",
        "step": "Step to whose multiples values are rounded.",
        "scale": "Scale on which the search moves.",
        "uncertain.path": "Dotted path of the constant.",
        "relative": "Uncertainty relative to the nominal value. 30 %: lognormal, plus or minus one "
        "standard deviation is a factor of 1.3 (σ of ln = ln 1.3 = 0.262); normal, one standard "  # noqa: RUF001
        "deviation is 30 %; uniform and triangular, ends at 30 % below and above.",
        "uncertain.low": "Lower end, together with high, in place of relative.",
        "uncertain.high": "Upper end, together with low, in place of relative.",
        "distribution": "Distribution of the constant; lognormal with relative, else uniform.",
        "choices.path": "Dotted path of a number or of a table such as parallelism.",
        "values": "Rows of values or numbers; for parallelism also the words all and best.",
        "variants.path": "Dotted path of the name.",
        "variants.values": "Names to search.",
        "labels": "Names of the rows in tables, one per row.",
        "micro_batch": "Micro-batch sizes to enumerate.",
        "recompute_fraction": "Recomputed fractions of the layers to enumerate (all).",
        "tensor": "Tensor-parallel degrees to enumerate (best).",
        "pipeline": "Pipeline-parallel degrees to enumerate (best).",
        "context": "Context-parallel degrees to enumerate.",
        "expert": "Expert-parallel degrees to enumerate.",
        "expert_tensor": "Ranks that shard each routed expert to enumerate; 0: the tensor ranks. "
        "Default of best: 0 and 1.",
        "schedule": "Pipeline schedules to enumerate: 1f1b, zero_bubble (ZB-H1), dual_pipe.",
        "virtual_pipeline": "Numbers of virtual pipeline stages to enumerate.",
        "recompute": "Recomputation policies to enumerate (best): none, selective, full.",
        "zero": "ZeRO stages to enumerate.",
        "design.parallelism.zero": "ZeRO stage; sets optimizer_shard_fraction, "
        "gradient_shard_fraction and weight_shard_fraction.",
        "sequence": "1 with sequence parallelism, 0 without it.",
        "keep": "Number of strategies that are kept when more are possible.",
    }
)
"""Meanings of keys that are no field of a spec; `table.key` is preferred to `key`."""
ALLOWED: Mapping[str, str] = MappingProxyType(
    {
        "strategy": "best, or parts such as TP8, PP4, ZeRO-1, full recompute",
        "seed": "whole number, 0 to 4294967295",
        "robust": "mean, worst or quantile Q",
        "robust_samples": "whole number, 2 to 4096",
        "scale": "log, linear",
        "low": "value of the path, with its unit",
        "high": "value of the path, with its unit, above low",
        "step": "value of the path, with its unit, above 0",
        "relative": "number, or percentage such as 30 %",
        "distribution": ", ".join(DISTRIBUTIONS),
        "values": "list of tables or numbers, all, best",
        "keep": "whole number, >= 1",
        "recompute": "list of none, selective, full",
        "zero": "list of 0, 1, 2, 3",
        "design.parallelism.zero": "0, 1, 2, 3",
        "sequence": "list of 0, 1",
        "uncertain": "table of paths, or list of tables",
    }
)
"""Allowed values where the type of a key does not contain them."""
DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "levels.energy_slope": "0",
        "levels.energy_exponent": "0",
        "levels.read_bandwidth_bytes_per_s": "value of bandwidth",
        "levels.write_bandwidth_bytes_per_s": "value of bandwidth",
        "levels.read_energy_j_per_byte": "value of energy",
        "levels.write_energy_j_per_byte": "value of energy",
        **{
            f"layers.{name}": "value of [model]"
            for name in LayerOverrides.__dataclass_fields__
            if name != "count"
        },
        **{f"chip:.{name}": "value of class" for name in CLASS_FIELDS},
    }
)
"""Defaults of keys that may be left out only together, for a short form, or for the value of
another file; `table.key`, after `kind:` where only one kind of file has it."""
_WITH_BASE = (
    "chip",
    "system",
    "model",
    "task",
    "software",
    "process",
    "reliability",
    "accelerator",
    "engines",
    "simd",
    "search",
)
_CLASS = KeyRow(
    key="class",
    field="class",
    unit="",
    allowed="text",
    is_whole=False,
    default=DEFAULT_CLASS,
    meaning="Class preset or path: efficiencies, with bands, that the chip does not give: matured, "
    "new, own.",
)
_BASE = KeyRow("base", "base", "", "text", False, "none", MEANINGS["base"])
SHORT_FORMS: Mapping[tuple[str, str], tuple[KeyRow, ...]] = MappingProxyType(
    {
        (kind, "process"): (
            KeyRow(
                key="preset",
                field="preset",
                unit="",
                allowed="text",
                is_whole=False,
                default="none",
                meaning="Process preset or path. Omitted keys take its values.",
            ),
        )
        for kind in ("chip", "accelerator")
    }
    | {(kind, ""): (_BASE,) for kind in _WITH_BASE}
    | {("chip", ""): (_BASE, _CLASS)}
    | {
        ("accelerator", "levels"): (
            KeyRow(
                key="bandwidth",
                field="bandwidth_bytes_per_s",
                unit="B/s",
                allowed='> 0, also per cycle: "2 B/cycle"',
                is_whole=False,
                default="none",
                meaning="Bandwidth of reads and writes together, in place of read_bandwidth and "
                "write_bandwidth; with shares_port.",
            ),
            KeyRow(
                key="energy",
                field="energy_j_per_byte",
                unit="J/B",
                allowed=">= 0",
                is_whole=False,
                default="none",
                meaning="Energy of a read or a write, in place of read_energy and write_energy.",
            ),
            KeyRow(
                key="word",
                field="word_bytes",
                unit="B",
                allowed="> 0",
                is_whole=False,
                default="none",
                meaning="Width of a stored value of every operand, in place of [levels.word].",
            ),
        )
    }
)
"""Keys that stand for others, by kind of file and table."""


@functools.cache
def field_docs(spec: type) -> Mapping[str, str]:
    """Docstrings below the fields of a spec class, by field name; fields without one are absent."""
    source = ast.parse(textwrap.dedent(inspect.getsource(spec)))
    body = next(node.body for node in source.body if isinstance(node, ast.ClassDef))
    found: dict[str, str] = {}
    for field, text in itertools.pairwise(body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[field.target.id] = " ".join(str(text.value.value).split())
    return MappingProxyType(found)


def _words(name: str) -> str:
    """The words of a field's name: `sram_area_mm2_per_byte` gives `SRAM area per B`."""
    short, unit = split_field(name)
    per = unit.partition("/")[2] if not unit.startswith(("B", "FLOP")) else ""
    words = [_SPELLED.get(word, word) for word in short.split("_")]
    text = " ".join([*words, *(["per", per] if per else [])])
    return f"{text[0].upper()}{text[1:]}"


_SPELLED: Mapping[str, str] = MappingProxyType(
    {
        **{word: word.upper() for word in ("fp64", "fp32", "fp16", "fp8", "fp4", "bf16")},
        **{word: word.upper() for word in ("hbm", "sram", "dram", "phy", "kv", "mtbf", "tdp")},
        "num": "number of",
        "cols": "columns",
        "seq": "sequence",
        "len": "length",
        "dim": "dimension",
    }
)
"""Words of names in prose."""


def _meaning(name: str, table: str, spec: type | None) -> str:
    """Docstring of the field, else an entry of `MEANINGS`, else the words of the name."""
    if spec is not None and name in spec.__dataclass_fields__:
        own = field_docs(spec).get(name) or field_docs(_SAME_FIELDS.get(spec, spec)).get(name)
        return own or f"{_words(name)}."
    return MEANINGS.get(f"{table}.{name}") or MEANINGS.get(name) or f"{_words(name)}."


_SAME_FIELDS: Mapping[type, type] = MappingProxyType({LayerOverrides: Transformer})
"""Specs whose fields without a docstring are those of another spec."""


def _checks(info: FieldInfo) -> Iterator[Any]:
    """Functions that check a key, those of the items of a list among them."""
    pending = [*info.metadata, info.annotation]
    while pending:
        item = pending.pop(0)
        if getattr(item, "func", None) is not None:
            yield item.func
        pending += [*getattr(item, "__metadata__", ()), *typing.get_args(item)]


def _rule(info: FieldInfo) -> FieldRule | None:
    owners = (getattr(check, "__self__", None) for check in _checks(info))
    return next((owner for owner in owners if isinstance(owner, FieldRule)), None)


def _range(rule: FieldRule) -> str:
    """Allowed numbers of a rule: `> 0`, `0 to 1`, `whole number, >= 1`."""
    if rule.high < LARGEST:
        return "0 to 1" if rule.is_low_allowed else "> 0, <= 1"
    if rule.is_whole:
        return f"whole number, >= {rule.low if rule.is_low_allowed else 1:g}"
    return f"{'>=' if rule.is_low_allowed else '>'} {rule.low:g}"


def _allowed(name: str, table: str, info: FieldInfo, rule: FieldRule | None) -> str:
    text = str(info.annotation)
    listed = ALLOWED.get(f"{table}.{name}") or ALLOWED.get(name)
    if listed and rule is None and not (name == "values" and "list" in text):
        return listed
    is_list = "list[" in text
    if rule is not None:
        return f"list of numbers, each {_range(rule)}" if is_list else _range(rule)
    if name in ("minimize", "front"):
        return f"{'list of ' if is_list else ''}{', '.join(objective_names())}"
    for check in _checks(info):
        if isinstance(check, functools.partial):
            return ", ".join(check.args[0]())
    if "bool" in text:
        return "true, false"
    if "dict" in text:
        return "list of tables" if is_list else "table"
    if is_list:
        return "list of texts" if "str" in text else "list of numbers"
    return "text"


def _default(info: FieldInfo, unit: str) -> str:
    value = info.default
    if value is PydanticUndefined:
        return REQUIRED
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, float) and unit:
        return format_quantity(value, unit, 4)
    return str(value)


def _row(kind: str, name: str, info: FieldInfo, table: str, spec: type | None) -> KeyRow:
    rule = _rule(info)
    unit = rule.unit if rule is not None else ""
    return KeyRow(
        key=name if unit == "FLOP/s" else split_field(name)[0],
        field=name,
        unit=unit,
        allowed=_allowed(name, table, info, rule),
        is_whole=rule is not None and rule.is_whole,
        default=DEFAULTS.get(f"{kind}:{table}.{name}")
        or DEFAULTS.get(f"{table}.{name}")
        or _default(info, unit),
        meaning=_meaning(name, table, spec),
    )


def _inner(info: FieldInfo) -> type[BaseModel] | None:
    """The table model of a key that holds a table, or None."""
    options = (info.annotation, *typing.get_args(info.annotation))
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _first_paragraph(spec: type | None) -> str:
    return " ".join((inspect.getdoc(spec) or "").split("\n\n")[0].split()) if spec else ""


_SPECS: Mapping[str, type] = MappingProxyType(
    {
        "cluster": Cluster,
        "mix": PrecisionMix,
        "parallelism": Parallelism,
        "checkpointing": Checkpointing,
    }
)
"""Specs of tables whose parent table has no spec."""


def _tables(
    kind: str,
    name: str,
    model: type[BaseModel],
    spec: type | None = None,
    meaning: str = "",
    *,
    is_list: bool = False,
    left_out: tuple[str, ...] = (),
) -> Iterator[KeyTable]:
    """The table of a model and those within it, in the order of a file."""
    hints = typing.get_type_hints(spec) if spec is not None else {}
    rows, below = [], []
    for key, info in model.model_fields.items():
        if key in left_out:
            continue
        inner = _inner(info)
        if inner is None:
            rows.append(_row(kind, key, info, name, spec))
            continue
        short = split_field(key)[0]
        own = hints.get(key) if isinstance(hints.get(key), type) else _SPECS.get(key)
        known = field_docs(spec).get(key) if spec is not None else None
        text = known or (MEANINGS.get(key, "") if own is None else "")
        below.append((f"{name}.{short}" if name else short, inner, own, text))
    rows += SHORT_FORMS.get((kind, name), ())
    text = " ".join(part for part in (meaning, _first_paragraph(spec)) if part)
    yield KeyTable(kind, name, is_list, text, tuple(rows))
    for inner_name, inner, own, inner_text in below:
        yield from _tables(kind, inner_name, inner, own, inner_text)


def _limits() -> KeyTable:
    rows = []
    for name in limit_names():
        field = metric_field(name)
        rule = rule_of(field)
        key = split_field(field)[0]
        meaning, default = f"{_words(key)}, upper limit.", "none"
        if name in MEMORY_LIMITS:
            meaning, default = f'{meaning} "off" drops it.', "1"
        rows.append(KeyRow(key, field, rule.unit, _range(rule), False, default, meaning))
    return KeyTable("search", "limits", False, MEANINGS["limits"], tuple(rows))


def _search_tables() -> Iterator[KeyTable]:
    kinds = {
        CLUSTER: ("Chips of one kind in a cluster.", Design),
        CORE: ("One core that runs the operators of a network.", None),
        SERVING: ("A service: chips that answer requests to a model.", ServingDesign),
    }
    top = SEARCH_TABLES[CLUSTER]
    own = ("design", "objective", "limits", "variables", "choices", "variants", "uncertain")
    yield from _tables("search", "", top, left_out=own)
    for kind, (text, spec) in kinds.items():
        first, *rest = _tables("search", "design", kind.table, spec)
        top_meaning = f"{MEANINGS['design']} {text}"
        for table in (replace(first, meaning=top_meaning), *rest):
            yield replace(table, job=kind)
    yield from _tables("search", "objective", OBJECTIVE_TABLE, None, MEANINGS["objective"])
    yield _limits()
    for name, model in (
        ("variables", VARIABLE_TABLE),
        ("choices", CHOICE_TABLE),
        ("variants", VARIANT_TABLE),
        ("uncertain", UNCERTAIN_TABLE),
    ):
        yield from _tables("search", name, model, None, MEANINGS[name], is_list=True)


@functools.cache
def key_tables() -> tuple[KeyTable, ...]:
    """All TOML tables with their keys, by kind of file: presets first, then search files."""
    return (
        *_tables("chip", "", CHIP_TABLES, Chip),
        *_tables("system", "", SYSTEM_TABLES),
        *_tables("model", "", MODEL_TABLES, TransformerTraining, left_out=("layers",)),
        *_tables("model", "layers", LAYERS_TABLE, LayerOverrides, is_list=True),
        *_tables("task", "", TASK_TABLES, TransformerTraining),
        *_tables("software", "", SOFTWARE_TABLES, Software),
        *_tables("requests", "", SERVING_TASK_TABLES, Requests),
        *_tables("engine", "", ENGINE_TABLES, ServingEngine),
        *_tables("process", "", PROCESS_TABLES, Process),
        *_tables("class", "", CLASS_TABLES, Chip),
        *_tables("reliability", "", RELIABILITY_TABLES),
        *_tables("accelerator", "", ACCELERATOR_TABLES, Accelerator, left_out=("levels",)),
        *_tables("accelerator", "levels", LEVEL_TABLE, Level, is_list=True),
        *_tables("engines", "", NEURON_CORE_TABLES, NeuronCore),
        *_tables("simd", "", CPU_TABLES, SimdEngine),
        *_search_tables(),
    )
