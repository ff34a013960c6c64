"""Chip, system, model, task and strategy from files of Calculon.

Calculon (calculon-ai/calculon, version 0.1.0) has three kinds of JSON files: a system, an
application (the model) and an execution (the strategy with its batch). Each becomes files of
hwdse, and all three become a job. A system file has no energies, areas and prices: those of a
preset system are taken. Meaning of the keys: `calculon/system.py`, `network.py`, `llm/llm.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwdse.config.files.errors import ConfigError, ConfigLocation, listed
from hwdse.config.importers.calculon_system import chip_tables, domain_size, system_tables
from hwdse.config.importers.imported_file import (
    SOURCE,
    ImportedFile,
    SourceTable,
    not_expressed,
    read_json,
)
from hwdse.config.importers.preset_base import PresetBase

DEFAULT_BASE = "p4de_24xlarge"
"""Preset system with the values that Calculon lacks."""
ELEMENT_BYTES = {"float8": 1.0, "float16": 2.0, "bfloat16": 2.0, "float32": 4.0}
MARKS: Mapping[str, tuple[str, ...]] = {
    "system": ("matrix", "mem1", "networks"),
    "application": ("attn_heads", "num_blocks"),
    "execution": ("tensor_par", "num_procs"),
}
"""Keys that only this kind of file has."""
USAGE: Mapping[str, str] = {
    "job": "hwdse evaluate {path}",
    "strategy": 'a job with base = "{path}", and system and model in [design]',
    "system": "hwdse evaluate --system {path}:4 --model llama3_8b --batch 128",
    "model": "hwdse evaluate --system p4de_24xlarge:4 --model {path} --batch 64",
}
"""Command that uses the main file, by its kind."""
RECOMPUTE = {"none": (0, 0), "attn_only": (0, 1), "full": (1, 0)}
"""Fraction of layers recomputed in full, and with the attention core only."""


def import_calculon(
    paths: Sequence[Path], stem: str, base: str | None = None
) -> tuple[ImportedFile, ...]:
    """Files of hwdse of a system, an application and an execution, in any order and number.

    The main file is the first one. It has the name `stem` and is the job if all three are given.
    `base` is the preset system with the values that Calculon lacks. Raises `ConfigError` with one
    line for a file that is none of these, and for values that contradict each other.
    """
    found: dict[str, SourceTable] = {}
    for path in paths:
        kind, table = _read(path)
        if kind in found:
            raise ConfigError(f"{path}: expected one {kind} file, found two")
        found[kind] = table
    system, application = found.get("system"), found.get("application")
    execution = found.get("execution")
    names = {"system": f"{stem}_system", "application": f"{stem}_model"}
    names = dict.fromkeys(found, stem) if len(found) == 1 else names
    files: list[ImportedFile] = []
    num_chips = None if execution is None else execution.count("num_procs", at_least=1)
    if application is not None:
        kv_heads = None if execution is None else _attention_type(execution)
        files.append(_model_file(application, names["application"], kv_heads))
    if system is not None:
        preset = PresetBase.of(base or DEFAULT_BASE)
        files += _system_files(system, names["system"], preset, num_chips)
    if execution is not None:
        design = {kind: f"{names[kind]}.toml" for kind in names if kind in found}
        domain = None if system is None else domain_size(system, num_chips)
        layers = None if application is None else application.count("num_blocks", at_least=1)
        files = [*_execution_files(execution, stem, design, domain, layers), *files]
    files[0] = replace(files[0], usage=USAGE[files[0].kind])
    return tuple(files)


def _read(path: Path) -> tuple[str, SourceTable]:
    """Kind of a file and its table. Raises `ConfigError` for a file that Calculon does not have."""
    config, _ = read_json(path, str(path))
    kinds = [kind for kind, keys in MARKS.items() if all(key in config for key in keys)]
    if not kinds:
        marks = "; ".join(f"{kind}: {listed(keys)}" for kind, keys in MARKS.items())
        raise ConfigError(
            f"{path}: expected a JSON file of Calculon with the keys of one kind ({marks})"
        )
    return kinds[0], SourceTable(config, ConfigLocation(str(path)))


def _system_files(
    system: SourceTable, name: str, preset: PresetBase, num_chips: int | None
) -> list[ImportedFile]:
    """System and chip of a system file; `num_chips` are those of the job, if known."""
    chip, lost, notes = chip_tables(system, preset)
    tables, more, origins = system_tables(system, preset, chip, num_chips)
    source = (Path(system.where.file),)
    label = source[0].name
    sources = [f"{label} of Calculon; other values: preset {preset.name}"]
    chip = {"name": f"chip of {label}", "base": preset.chip_name, "sources": sources, **chip}
    tables = {
        "name": f"system of {label}",
        "base": preset.name,
        "sources": sources,
        "chip": f"{name}_chip.toml",
        **tables,
    }
    taken = "values that Calculon lacks (energies, areas, prices, failures) are those of the base"
    lost = (*lost, *more, *system.unread_lines({}))
    return [
        ImportedFile("system", name, tables, lost, {**origins, SOURCE: taken}, source),
        ImportedFile("chip", f"{name}_chip", chip, (), {**notes, SOURCE: taken}, source),
    ]


def _attention_type(execution: SourceTable) -> str:
    return execution.choice("attention_type", ("multihead", "multiquery"))


def _model_file(application: SourceTable, name: str, attention: str | None) -> ImportedFile:
    """Model of an application; Calculon has no embedding and no output projection."""
    heads = application.count("attn_heads", at_least=1)
    values = {
        "num_layers": (application.count("num_blocks", at_least=1), "num_blocks"),
        "hidden": (application.count("hidden", at_least=1), "hidden"),
        "feedforward": (application.count("feedforward", at_least=1), "feedforward"),
        "num_heads": (heads, "attn_heads"),
        "num_kv_heads": (1 if attention == "multiquery" else heads, "attention_type"),
        "head_dim": (application.count("attn_size", at_least=1), "attn_size"),
        "vocabulary": (1, "Calculon has no embedding and no output projection"),
        "num_positions": (0, "no embeddings"),
        "num_mlp_matrices": (2, "GELU without a gate"),
        "num_embeddings": (1, "no embeddings"),
        "num_norm_vectors": (2, "LayerNorm"),
        "num_bias": (0, "Calculon counts no biases"),
    }
    if attention is None:
        values["num_kv_heads"] = (heads, "attn_heads; attention_type is in the execution")
    label = Path(application.where.file).name
    tables = {
        "name": Path(label).stem,
        "sources": [f"{label} of Calculon"],
        "model": {key: value for key, (value, _) in values.items()},
        "pretraining": {"seq_len": application.count("seq_size", at_least=1)},
    }
    notes = {f"model.{key}": origin for key, (_, origin) in values.items()}
    notes |= {"pretraining.seq_len": "seq_size", SOURCE: "comments name keys of the source"}
    source = (Path(application.where.file),)
    return ImportedFile("model", name, tables, application.unread_lines({}), notes, source)


def _execution_files(
    execution: SourceTable,
    stem: str,
    found: Mapping[str, str],
    domain: int | None,
    num_layers: int | None,
) -> list[ImportedFile]:
    """Job (or strategy, if system or model are not given), task and software of an execution."""
    parallelism, notes, lost = _parallelism(execution)
    lost += _uneven_interleaving(execution, parallelism, num_layers)
    element = ELEMENT_BYTES[execution.choice("datatype", ELEMENT_BYTES)]
    num_chips = execution.count("num_procs", at_least=1)
    design: dict[str, Any] = {}
    if domain is not None:
        if num_chips % domain:
            expected = f"a multiple of {domain}, the size of the first network"
            raise execution.error("num_procs", num_chips, expected)
        design |= {"system": found["system"], "num_systems": num_chips // domain}
        notes["design.num_systems"] = f"num_procs / {domain} chips per domain"
    if "application" in found:
        design["model"] = found["application"]
    batch = execution.count("batch_size", at_least=1)
    design |= {
        "global_batch": batch,
        "task": f"{stem}_task.toml",
        "software": f"{stem}_software.toml",
    }
    design["mix"] = {"fp64_flop_fraction": 0, "fp8_flop_fraction": int(element == 1.0)}
    design["parallelism"] = parallelism
    notes |= {"design.global_batch": "batch_size", "design.mix.fp8_flop_fraction": "datatype"}
    notes[SOURCE] = "comments name keys of the execution file of Calculon"
    source = (Path(execution.where.file),)
    is_job = domain is not None and "application" in found
    title = {"title": f"{Path(execution.where.file).stem}, imported from Calculon"}
    job = ImportedFile(
        "job" if is_job else "strategy",
        stem,
        {**(title if is_job else {}), "design": design},
        (*lost, *_execution_losses(execution)),
        notes,
        source,
    )
    return [job, _task_file(stem, element, source), _software_file(stem, source)]


def _parallelism(execution: SourceTable) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Table `[design.parallelism]`, the origin of its values, and what it does not express."""
    tensor = execution.count("tensor_par", at_least=1)
    pipeline = execution.count("pipeline_par", at_least=1)
    data = execution.count("data_par", at_least=1)
    num_chips = execution.count("num_procs", at_least=1)
    if tensor * pipeline * data != num_chips:
        expected = f"tensor_par x pipeline_par x data_par, {tensor * pipeline * data}"
        raise execution.error("num_procs", num_chips, expected)
    full, attention = RECOMPUTE[execution.choice("activation_recompute", RECOMPUTE)]
    message = execution.choice("tensor_par_comm_type", ("ar", "p2p_rs_ag", "rs_ag"))
    overlap = execution.choice("tensor_par_overlap", ("none", "ring", "pipe"))
    hidden_tiles = {"none": 0.0, "ring": 1.0, "pipe": 1.0 - 1.0 / tensor}[overlap]
    is_sharded = int(execution.flag("optimizer_sharding"))
    values = {
        "tensor": (tensor, "tensor_par"),
        "pipeline": (pipeline, "pipeline_par"),
        "micro_batch": (execution.count("microbatch_size", at_least=1), "microbatch_size"),
        "virtual_pipeline": (
            execution.count("pipeline_interleaving", at_least=1),
            "pipeline_interleaving",
        ),
        "recompute_fraction": (full, "activation_recompute"),
        "attention_recompute_fraction": (attention, "activation_recompute"),
        "sequence_parallel_fraction": (int(message == "rs_ag"), "tensor_par_comm_type"),
        "optimizer_shard_fraction": (is_sharded, "optimizer_sharding"),
        "gradient_shard_fraction": (is_sharded, "optimizer_sharding, as in Calculon's memory"),
        "weight_shard_fraction": (0, "Calculon never shards weights"),
        "tensor_overlap_fraction": (
            hidden_tiles,
            f"tensor_par_overlap = {overlap}, if the GEMM tiles take longer than their messages",
        ),
        "data_overlap_fraction": (int(execution.flag("data_par_overlap")), "data_par_overlap"),
    }
    lost = []
    if message == "p2p_rs_ag":
        reason = "pipeline messages of full size: no reduce-scatter before them without SP"
        lost.append(not_expressed("tensor_par_comm_type", message, reason))
    notes = {f"design.parallelism.{key}": origin for key, (_, origin) in values.items()}
    return {key: value for key, (value, _) in values.items()}, notes, lost


def _uneven_interleaving(
    execution: SourceTable, parallelism: dict[str, Any], num_layers: int | None
) -> list[str]:
    """Line about virtual stages of unequal size, which are left out of `parallelism`.

    Virtual pipeline stages of hwdse have equal numbers of layers, and the micro-batches are a
    multiple of the stages.
    """
    stages = execution.count("pipeline_par") * execution.count("pipeline_interleaving")
    per_step = execution.count("data_par") * execution.count("microbatch_size")
    batch = execution.count("batch_size")
    is_even = batch % (per_step * execution.count("pipeline_par")) == 0
    if num_layers is not None:
        is_even = is_even and num_layers % stages == 0
    interleaving = parallelism["virtual_pipeline"]
    if is_even or interleaving == 1:
        return []
    parallelism["virtual_pipeline"] = 1
    reason = "virtual stages need equal layers and whole rounds of micro-batches"
    return [not_expressed("pipeline_interleaving", interleaving, reason)]


def _execution_losses(execution: SourceTable) -> list[str]:
    """Lines about keys of an execution without a counterpart."""
    placed = "hwdse places ranks itself: tensor, context, data, then pipeline, from the innermost"
    offload = "offload into a second memory is not modeled"
    reasons = {
        "tensor_par_net": placed,
        "pipeline_par_net": placed,
        "data_par_net": placed,
        "fused_activation": "the input of the GELU is always saved",
        "seq_par_ag_redo": "gathered inputs are not gathered again in the backward pass",
        "weight_offload": offload,
        "activations_offload": offload,
        "optimizer_offload": offload,
    }
    lost = []
    if not execution.flag("training", default=True):
        lost.append(not_expressed("training", False, "the task of hwdse is training"))
    if execution.choice("datatype", ELEMENT_BYTES) == "float32":
        lost.append(not_expressed("datatype", "float32", "matrix work is 16-bit or FP8"))
    _attention_type(execution)  # part of the model
    return [*lost, *execution.unread_lines(reasons)]


def _task_file(stem: str, element_bytes: float, source: tuple[Path, ...]) -> ImportedFile:
    """Task with Calculon's bytes: all scores are computed, gradients have the weights' format."""
    state = 12.0 if element_bytes < 4.0 else 8.0
    tables = {
        "name": "training as in Calculon",
        "attention_fraction": 1.0,
        "gradient_element": f"{element_bytes:g} B",
        "optimizer_state": f"{state:g} B",
    }
    notes = {
        "attention_fraction": "Calculon computes the scores of all pairs",
        "gradient_element": "datatype",
        "optimizer_state": "FP32 moments, and a master copy of weights below 4 bytes",
    }
    return ImportedFile("task", f"{stem}_task", tables, (), notes, source)


def _software_file(stem: str, source: tuple[Path, ...]) -> ImportedFile:
    """Software of Calculon: scores in memory, one kernel per elementwise operation."""
    tables = {
        "name": "kernels of Calculon",
        "fused_attention_fraction": 0.0,
        "elementwise_overlap_fraction": 0.0,
    }
    notes = {
        "fused_attention_fraction": "scores are written to memory and read",
        "elementwise_overlap_fraction": "one operation after another",
    }
    return ImportedFile("software", f"{stem}_software", tables, (), notes, source)
