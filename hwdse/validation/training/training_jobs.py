"""Published training runs as designs and workloads: chip, network, software, parallelism, job."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from hwdse.config import load_chip, load_software, load_system
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.hardware.cluster import Cluster
from hwdse.validation.training.training_cells import cell_number
from hwdse.validation.training.training_models import adapter_fraction, model_of, model_problem
from hwdse.validation.training.training_recipes import (
    mix_of,
    recipe_of,
    recomputation_of,
    software_of,
)
from hwdse.workload.transformer.dense_transformer import num_parameters
from hwdse.workload.transformer.model_config import Transformer, TransformerTraining

GBIT_PER_S = 1e9 / 8.0
CHECKPOINT_INTERVAL_S = 3600.0
"""Without effect on the step time."""


@dataclass(frozen=True)
class Source:
    """Properties of all runs of a source that the rows do not contain."""

    software: str | None
    """Preset of configs/software; None for the stack of the chip's years."""
    network_gbit_per_s: float | None = None
    """Bandwidth per chip between servers, if different from the chip preset."""
    gradient_bytes: float = 2.0
    """Bytes per gradient element in communication."""
    virtual_pipeline: float | None = None
    """Virtual pipeline stages, if not stated in the rows."""
    zero3_software: str | None = None
    """Stack of the ZeRO-3 rows, if different."""
    chip_software: Mapping[str, str] = field(default_factory=dict)
    """Stacks by accelerator, if different."""
    is_block_parallel: bool = False
    """True for parallel attention and MLP with one shared norm and one pair of collectives."""
    number_format: str = ""
    """Format of rows that state none."""
    adapter_rank: float = 16.0
    """Rank of the adapters of LoRA rows."""
    segment_tokens: float = 0.0
    """Tokens per document of packed rows, mean over tokens; 0: as long as the sequence."""


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        # 8 x 200 Gb/s HDR per DGX A100; FP16 gradients, FP32 accumulators (arXiv 2104.04473, 5.1).
        "narayanan2021": Source("megatron_lm", 200.0, zero3_software="deepspeed_zero3"),
        "korthikanti2022": Source("megatron_lm", 200.0),
        "vtrain_multi": Source("megatron_deepspeed", 100.0),
        "vtrain_single": Source("megatron_deepspeed", 100.0),
        # 200 Gb/s per GPU (arXiv 2402.15627, 3.6); 6 virtual pipeline stages (6.1).
        "megascale2024": Source("megatron_lm", 200.0, virtual_pipeline=6.0),
        "mosaicml_llm_foundry": Source(
            "llm_foundry", 200.0, chip_software={"H100-80GB": "llm_foundry_h100"}
        ),
        "torchtitan": Source("torchtitan", 400.0),
        # Stages of one layer (arXiv 2407.21783, 3.3.2).
        "llama3": Source("llama3", 400.0, virtual_pipeline=8.0),
        "simumax_b200": Source("megatron_core", gradient_bytes=4.0),
        # Parallel attention and MLP (arXiv 2204.02311, section 2).
        "palm2022": Source("compiled", is_block_parallel=True),
        "deepseekv3": Source("deepseek", 400.0),
        # Documents of SQuAD, about 200 tokens with their question (assumed).
        "megatron_bridge": Source(None, segment_tokens=200.0),
        # LoRA of rank 16 on the attention, documents cut to the sequence length; closed-division
        # runs that name no format are in eight bits (mlcommons/training, llama2_70b_lora).
        "mlperf_training_5.1": Source("mlperf_training", number_format="float8 tensorwise"),
        "tpu_recipes": Source(None),
    }
)
OWN_STACKS: Mapping[str, Source] = MappingProxyType(
    {
        # Parallel blocks (arXiv 2402.15627, section 3.1).
        "MegaScale": Source(
            "megascale",
            200.0,
            virtual_pipeline=6.0,
            is_block_parallel=True,
        )
    }
)
"""Sources by the stack at the end of a model name, if different from the source of the row."""
OTHER = Source(None)
"""Default for sources not in the list."""


class Machine(NamedTuple):
    """Presets of an accelerator."""

    system: str
    """Preset of configs/systems; rows give the chips of a scale-up domain."""
    chip: str
    """Preset of configs/chips."""
    software: str
    """Preset of configs/software: usual training stack of the chip's years."""


SYSTEMS: Mapping[str, Machine] = MappingProxyType(
    {
        "A100": Machine("dgx_a100", "a100", "megatron_lm"),
        "A100-80GB": Machine("dgx_a100", "a100", "megatron_lm"),
        "A100 (Ampere)": Machine("dgx_a100", "a100", "megatron_lm"),
        "A100-40GB": Machine("dgx_a100", "a100_40", "megatron_lm"),
        "H100-80GB": Machine("dgx_h100", "h100", "megatron_bridge"),
        "H100-96GB (500 W, 2.4 TB/s)": Machine("dgx_h100", "h100_96gb", "megatron_bridge"),
        "H200-SXM": Machine("dgx_h200", "h200", "megatron_bridge"),
        "H800": Machine("dgx_h100", "h800", "megatron_bridge"),
        "B200-SXM": Machine("p6_b200", "b200", "megatron_bridge"),
        "B300-SXM": Machine("p6_b300", "b300", "megatron_bridge"),
        "GB200": Machine("gb200_nvl72", "gb200", "megatron_bridge"),
        "GB300": Machine("gb300_nvl72", "gb300", "megatron_bridge"),
        "MI300X": Machine("mi300x_platform", "mi300x", "megatron_bridge"),
        "MI350X": Machine("mi350x_platform", "mi350x", "megatron_bridge"),
        "MI355X": Machine("mi355x_platform", "mi355x", "megatron_bridge"),
        "TPUv4": Machine("tpu_v4_pod", "tpu_v4", "compiled"),
        "TPUv5p": Machine("tpu_v5p_pod", "tpu_v5p", "maxtext"),
        "TPUv6e": Machine("tpu_v6e_pod", "tpu_v6e", "maxtext"),
        "TPUv7x": Machine("tpu_v7x_pod", "tpu_v7x", "maxtext"),
    }
)
"""Presets by the accelerator name in reference files."""


@dataclass(frozen=True)
class Job:
    """A run as design and workload."""

    design: Design
    workload: TransformerTraining


LORA = "LoRA iteration, packed"
"""Scope of rows whose weights are frozen, with low-rank adapters on the attention."""
PACKED = (LORA, "fine-tuning iteration, packed")
"""Scopes of rows whose sequences hold several documents."""
SCOPES = (
    "iteration",
    "whole pre-training",
    "iteration of a mixture of experts",
    "iteration with windowed attention",
    "iteration of another architecture",
    *PACKED,
)
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


def problem_of(row: Mapping[str, str]) -> str | None:
    """Reason why the model cannot represent a row; None if it can."""
    if row["scope"] not in SCOPES:
        return f"scope {row['scope']}"
    for column, known in WORDS.items():
        if row[column] not in known:
            return f"{column} {row[column]}"
    if row["accelerator"] not in SYSTEMS:
        return f"no preset for accelerator {row['accelerator']}"
    problem = model_problem(row)
    if problem:
        return problem
    num_chips = cell_number(row["num_chips"])
    ranks = math.prod(cell_number(row[degree], 1.0) for degree in ("tp", "pp", "cp"))
    if ranks > num_chips:
        return "more ranks than chips"
    experts = cell_number(row["ep"], 1.0) * cell_number(row["pp"], 1.0)
    return "more expert ranks than chips" if experts > num_chips else None


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
    is_sequence_parallel = row["sequence_parallel"] == "true"
    experts = cell_number(row["ep"], 1.0)
    strategy = Parallelism(
        tensor=cell_number(row["tp"], 1.0),
        pipeline=pipeline,
        micro_batch=cell_number(row["micro_batch"], 1.0),
        recompute_fraction=float(row["recompute"] == "full"),
        context=_context(row),
        expert=experts,
        # Megatron Core: an expert group spans tensor ranks, which have whole experts.
        expert_tensor=(
            1.0 if row["sequence_parallel"] == "true" and cell_number(row["ep"], 1.0) > 1.0 else 0.0
        ),
        virtual_pipeline=num_virtual if pipeline > 1.0 else 1.0,
        attention_recompute_fraction=float(selective),
        sequence_parallel_fraction=float(is_sequence_parallel),
        optimizer_shard_fraction=float(sharding != "none"),
        gradient_shard_fraction=float(keeps_weights),
        weight_shard_fraction=float(has_sharded_weights),
    )
    return replace(strategy, **recomputation_of(row))


def _context(row: Mapping[str, str]) -> float:
    """Context ranks of a row, and enough that no replica is without a sequence: rows that do not
    state their degrees are read so."""
    others = cell_number(row["tp"], 1.0) * cell_number(row["pp"], 1.0)
    sharing = cell_number(row["num_chips"]) / (others * cell_number(row["global_batch"]))
    return max(cell_number(row["cp"], 1.0), sharing)


def software_name(row: Mapping[str, str]) -> str:
    """Preset of the training stack of a row."""
    source = source_of(row)
    if row["data_sharding"] == "zero3" and source.zero3_software:
        return source.zero3_software
    own = source.chip_software.get(row["accelerator"]) or source.software
    return own or SYSTEMS[row["accelerator"]].software


def source_of(row: Mapping[str, str]) -> Source:
    """Source of a row, or the stack of its model."""
    own = OWN_STACKS.get(row["model"].rpartition("/")[2])
    return own or SOURCES.get(row["source_id"], OTHER)


@cache
def preset_of(accelerator: str) -> tuple[Cluster, Any]:
    """Cluster and chip of an accelerator of `SYSTEMS`."""
    machine = SYSTEMS[accelerator]
    return load_system(machine.system).cluster, load_chip(machine.chip)


def slice_sizes(sizes: tuple[float, ...], num_chips: float) -> tuple[float, ...]:
    """Dimensions of the torus of a job: a slice of one pod, or equal slices of several.

    Slices of a pod are as near to a cube as their chips allow, the largest dimension last: 128
    chips are 4 x 4 x 8 (Google Cloud TPU documentation). Slices of several pods have whole planes:
    PaLM trained on 2 x 3072 chips of two TPU v4 pods, 16 x 16 x 12 each (arXiv 2204.02311, 4.1).
    """
    num_pods = math.ceil(num_chips / math.prod(sizes))
    if num_pods > 1:
        return (*sizes[:-1], num_chips / num_pods / math.prod(sizes[:-1]))
    slices, left = [], num_chips
    for dimensions in range(len(sizes), 0, -1):
        largest = left ** (1.0 / dimensions) + 1e-9
        slices.append(max(n for n in range(1, int(largest) + 1) if left % n == 0))
        left /= slices[-1]
    return tuple(map(float, slices))


def domain_chips(per_node: float, num_chips: float) -> float:
    """Chips that a job uses in each scale-up domain.

    All of them if they divide the job, else the largest power of two that does: jobs on racks of
    72 GPUs use 64 of each (2560 and 5120 GPUs in MLPerf Training v5.1, 512 in the v5.1 8B runs).
    """
    if num_chips <= per_node or num_chips % per_node == 0.0:
        return per_node
    power = 2.0 ** math.floor(math.log2(per_node))
    return power if num_chips % power == 0.0 else per_node


def trainable_fraction(row: Mapping[str, str], model: Transformer, source: Source) -> float:
    """Fraction of the weights that a row trains: all, or the adapters of LoRA."""
    if row["scope"] != LORA:
        return 1.0
    return adapter_fraction(model, source.adapter_rank, float(num_parameters(model)))


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
        cluster = replace(cluster, torus_sizes=(domain_chips(per_node, num_chips),))
    else:
        cluster = replace(cluster, torus_sizes=slice_sizes(cluster.torus_sizes, num_chips))
    model = model_of(row, source.is_block_parallel)
    design = Design(
        chip=chip,
        cluster=replace(cluster, num_chips=num_chips),
        mix=mix_of(row, source.number_format),
        parallelism=parallelism_of(row, source),
        checkpoint_interval_s=CHECKPOINT_INTERVAL_S,
        software=software_of(row, load_software(software_name(row))),
    )
    job = TransformerTraining(
        model=model,
        seq_len=cell_number(row["seq_len"]),
        global_batch=cell_number(row["global_batch"]),
        attention_fraction=0.5,
        gradient_element_bytes=source.gradient_bytes,
        optimizer_state_bytes_per_parameter=recipe_of(row).state_bytes,
        trainable_fraction=trainable_fraction(row, model, source),
        segment_tokens=source.segment_tokens if row["scope"] in PACKED else 0.0,
    )
    return Job(design, job)
