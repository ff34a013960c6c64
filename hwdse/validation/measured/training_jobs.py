"""Published training runs as designs and workloads: chip, network, software, parallelism, job."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any

from hwdse.config import load_chip, load_software, load_system, load_workload
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.hardware.cluster import Cluster
from hwdse.specs.number_formats import PrecisionMix
from hwdse.workload.transformer.model_config import Transformer, TransformerTraining

GBIT_PER_S = 1e9 / 8.0
CHECKPOINT_INTERVAL_S = 3600.0
"""Without effect on the step time."""


@dataclass(frozen=True)
class Source:
    """Properties of all runs of a source that the rows do not contain."""

    software: str
    """Preset of configs/software."""
    network_gbit_per_s: float | None = None
    """Bandwidth per chip between servers, if different from the chip preset."""
    gradient_bytes: float = 2.0
    """Bytes per gradient element in communication."""
    virtual_pipeline: float | None = None
    """Virtual pipeline stages, if not stated in the rows."""
    zero3_software: str | None = None
    """Stack of the ZeRO-3 rows, if different."""
    weight_overlap_fraction: float = 1.0
    """Fraction of the weight all-gathers that is overlapped with compute."""
    tensor_overlap_fraction: float = 0.0
    expert_overlap_fraction: float = 0.0
    data_overlap_fraction: float = 0.0
    """Fraction of the gradient reductions that is overlapped, for unsharded weights."""
    is_block_parallel: bool = False
    """True for parallel attention and MLP with one shared norm and one pair of collectives."""


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        # 8 x 200 Gb/s HDR per DGX A100; FP16 gradients, FP32 accumulators (arXiv 2104.04473, 5.1).
        "narayanan2021": Source(
            "megatron_lm", 200.0, zero3_software="deepspeed_zero3", weight_overlap_fraction=0.7
        ),
        "korthikanti2022": Source("megatron_lm", 200.0),
        "vtrain_multi": Source("megatron_deepspeed", 100.0),
        "vtrain_single": Source("megatron_deepspeed", 100.0),
        # 200 Gb/s per GPU (arXiv 2402.15627, 3.6); 6 virtual pipeline stages (6.1).
        "megascale2024": Source("megatron_lm", 200.0, virtual_pipeline=6.0),
        "mosaicml_llm_foundry": Source("llm_foundry", 200.0),
        "torchtitan": Source("torchtitan", 400.0),
        # Overlapped gradient reductions, stages of one layer (arXiv 2407.21783, 3.3.2).
        "llama3": Source("llama3", 400.0, virtual_pipeline=8.0, data_overlap_fraction=1.0),
        "simumax_b200": Source("megatron_core", gradient_bytes=4.0),
        # Parallel attention and MLP (arXiv 2204.02311, section 2).
        "palm2022": Source("compiled", is_block_parallel=True),
        # DualPipe overlaps all-to-alls and gradient reductions (arXiv 2412.19437, section 3.2.1).
        "deepseekv3": Source(
            "deepseek", 400.0, expert_overlap_fraction=1.0, data_overlap_fraction=1.0
        ),
    }
)
OWN_STACKS: Mapping[str, Source] = MappingProxyType(
    {
        # Parallel blocks, TP collectives overlapped with GEMMs, gradient reductions with the
        # backward pass (arXiv 2402.15627, sections 3.1 and 3.2).
        "MegaScale": Source(
            "megascale",
            200.0,
            virtual_pipeline=6.0,
            tensor_overlap_fraction=1.0,
            data_overlap_fraction=1.0,
            is_block_parallel=True,
        )
    }
)
"""Sources by the stack at the end of a model name, if different from the source of the row."""
OTHER = Source("megatron_lm")
"""Default for sources not in the list."""

SYSTEMS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "A100": ("dgx_a100", "a100"),
        "A100-80GB": ("dgx_a100", "a100"),
        "A100 (Ampere)": ("dgx_a100", "a100"),
        "A100-40GB": ("dgx_a100", "a100_40"),
        "H100-80GB": ("dgx_h100", "h100"),
        "H100-96GB (500 W, 2.4 TB/s)": ("dgx_h100", "h100_96gb"),
        "H800": ("dgx_h100", "h800"),
        "B200-SXM": ("p6_b200", "b200"),
        "TPUv4": ("tpu_v4_pod", "tpu_v4"),
    }
)
"""Presets of configs/systems and configs/chips by the accelerator name in reference files."""


@dataclass(frozen=True)
class Job:
    """A run as design and workload."""

    design: Design
    workload: TransformerTraining


SCOPES = ("iteration", "whole pre-training")
WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "recompute": ("", "none", "selective", "full"),
        "sequence_parallel": ("", "true", "false"),
        "data_sharding": (
            "",
            "none",
            "zero1",
            "zero2",
            "zero3",
            "fsdp",
            "zero2-like FSDP",
            "2D weight sharding",
        ),
    }
)
"""Allowed texts by column."""
WEIGHT_SHARDING = ("zero3", "2D weight sharding")


def cell_number(cell: str, default: float = math.nan) -> float:
    """Number in a cell, or the default if empty."""
    return float(cell) if cell else default


def problem_of(row: Mapping[str, str]) -> str | None:
    """Reason why the model cannot represent a row; None if it can."""
    if row["scope"] not in SCOPES:
        return f"scope {row['scope']}"
    for column, known in WORDS.items():
        if row[column] not in known:
            return f"{column} {row[column]}"
    if row["accelerator"] not in SYSTEMS:
        return f"no preset for accelerator {row['accelerator']}"
    for column in ("num_layers", "hidden", "num_heads", "seq_len", "global_batch", "num_chips"):
        if not row[column]:
            return f"no {column}"
    ranks = math.prod(cell_number(row[degree], 1.0) for degree in ("tp", "pp", "cp"))
    return "more ranks than chips" if ranks > cell_number(row["num_chips"]) else None


def parallelism_of(row: Mapping[str, str], source: Source) -> Parallelism:
    """Parallelism of a row: degrees, recomputation and data-parallel sharding."""
    sharding = row["data_sharding"]
    # "ZeRO-2-like" keeps the gathered weights for the backward pass (arXiv 2407.21783, 3.3.2).
    keeps_weights = sharding.startswith("zero2")
    has_sharded_weights = not keeps_weights and (
        "fsdp" in sharding.lower() or sharding in WEIGHT_SHARDING
    )
    num_virtual = cell_number(row["pp_interleave"], source.virtual_pipeline or 1.0)
    pipeline = cell_number(row["pp"], 1.0)
    selective = row["recompute"] == "selective"
    return Parallelism(
        tensor=cell_number(row["tp"], 1.0),
        pipeline=pipeline,
        micro_batch=cell_number(row["micro_batch"], 1.0),
        recompute_fraction=float(row["recompute"] == "full"),
        tensor_overlap_fraction=source.tensor_overlap_fraction,
        context=cell_number(row["cp"], 1.0),
        expert=cell_number(row["ep"], 1.0),
        virtual_pipeline=num_virtual if pipeline > 1.0 else 1.0,
        attention_recompute_fraction=float(selective),
        sequence_parallel_fraction=float(row["sequence_parallel"] == "true"),
        optimizer_shard_fraction=float(sharding != "none"),
        gradient_shard_fraction=float(keeps_weights),
        weight_shard_fraction=float(has_sharded_weights),
        data_overlap_fraction=(
            source.weight_overlap_fraction if has_sharded_weights else source.data_overlap_fraction
        ),
        expert_overlap_fraction=source.expert_overlap_fraction,
    )


def software_name(row: Mapping[str, str]) -> str:
    """Preset of the training stack of a row."""
    source = source_of(row)
    if row["data_sharding"] == "zero3" and source.zero3_software:
        return source.zero3_software
    return source.software


def source_of(row: Mapping[str, str]) -> Source:
    """Source of a row, or the stack of its model."""
    own = OWN_STACKS.get(row["model"].rpartition("/")[2])
    return own or SOURCES.get(row["source_id"], OTHER)


NAMED_MODELS = MappingProxyType({"deepseekv2": "deepseek_v2", "deepseekv3": "deepseek_v3"})
"""Presets of models with more parameters than the columns, by the start of the name without
hyphens."""
TRUNCATED_DENSE_LAYERS = 1.0
"""Dense layers of a mixture of experts with reduced depth."""


@cache
def _named_model(name: str) -> Any:
    workload: Any = load_workload(NAMED_MODELS[name])
    return workload.model


def _preset_model(row: Mapping[str, str]) -> Transformer | None:
    """Preset of the model of a row with the depth of the row; None for other models."""
    name = row["model"].lower().replace("-", "").partition(" ")[0]
    if name not in NAMED_MODELS:
        return None
    model, num_layers = _named_model(name), cell_number(row["num_layers"])
    if num_layers == model.num_layers:
        return model
    return replace(model, num_layers=num_layers, num_dense_layers=TRUNCATED_DENSE_LAYERS)


def model_of(row: Mapping[str, str]) -> Transformer:
    """Model of a row: a preset by name, else a dense decoder with the sizes of the row."""
    preset = _preset_model(row)
    if preset is not None:
        return preset
    heads, hidden = cell_number(row["num_heads"]), cell_number(row["hidden"])
    matrices = cell_number(row["mlp_matrices"], 2.0)
    is_gated = matrices > 2.5
    vocabulary = cell_number(row["vocab"], 51200.0)
    return Transformer(
        num_layers=cell_number(row["num_layers"]),
        hidden=hidden,
        feedforward=cell_number(row["feedforward"], 4.0 * hidden),
        num_heads=heads,
        num_kv_heads=cell_number(row["num_kv_heads"], heads),
        head_dim=cell_number(row["head_dim"], hidden / heads),
        vocabulary=vocabulary,
        num_positions=0.0 if is_gated else cell_number(row["seq_len"]),
        num_mlp_matrices=matrices,
        num_embeddings=2.0 if is_gated else 1.0,
        num_norm_vectors=1.0 if is_gated else 2.0,
        num_bias=0.0 if is_gated else 1.0,
        num_layer_norms=1.0 if source_of(row).is_block_parallel else 2.0,
    )


@cache
def preset_of(accelerator: str) -> tuple[Cluster, Any]:
    """Cluster and chip of an accelerator of `SYSTEMS`."""
    cluster, chip = SYSTEMS[accelerator]
    return load_system(cluster).cluster, load_chip(chip)


def slice_sizes(sizes: tuple[float, ...], num_chips: float) -> tuple[float, ...]:
    """Dimensions of the equal slices of a job that spans several tori, of whole planes each.

    PaLM trained on 2 x 3072 chips of two TPU v4 pods, 16 x 16 x 12 each (arXiv 2204.02311, 4.1).
    """
    num_pods = math.ceil(num_chips / math.prod(sizes))
    if num_pods == 1:
        return sizes
    return (*sizes[:-1], num_chips / num_pods / math.prod(sizes[:-1]))


def job_of(row: Mapping[str, str]) -> Job:
    """Design and workload of a row for which `problem_of` returns None."""
    source = source_of(row)
    cluster, chip = preset_of(row["accelerator"])
    if source.network_gbit_per_s is not None:
        bandwidth = source.network_gbit_per_s * GBIT_PER_S
        chip = replace(chip, network=replace(chip.network, bandwidth_bytes_per_s=bandwidth))
    num_chips = cell_number(row["num_chips"])
    per_node = cell_number(row["chips_per_node"], 8.0)
    if len(cluster.torus_sizes) == 1:
        cluster = replace(cluster, torus_sizes=(per_node,))
    else:
        cluster = replace(cluster, torus_sizes=slice_sizes(cluster.torus_sizes, num_chips))
    is_fp8 = "8" in row["number_format"]
    design = Design(
        chip=chip,
        cluster=replace(cluster, num_chips=num_chips),
        mix=PrecisionMix(fp64_flop_fraction=0.0, fp8_flop_fraction=float(is_fp8)),
        parallelism=parallelism_of(row, source),
        checkpoint_interval_s=CHECKPOINT_INTERVAL_S,
        software=load_software(software_name(row)),
    )
    job = TransformerTraining(
        model=model_of(row),
        seq_len=cell_number(row["seq_len"]),
        global_batch=cell_number(row["global_batch"]),
        attention_fraction=0.5,
        gradient_element_bytes=source.gradient_bytes,
        optimizer_state_bytes_per_parameter=12.0,
    )
    return Job(design, job)
