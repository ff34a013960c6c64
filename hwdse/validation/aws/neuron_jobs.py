"""Training runs on Trainium as designs of this model, in NeuronCores.

A rank of the Neuron stacks is a NeuronCore, so one "chip" of a design is one core: its share of
the arrays, scratchpads, HBM and network port of a chip. Cores of one chip communicate through HBM,
cores of a server over NeuronLink, in rings of one link per chip and direction. All cores of a
server form one ring; a ring through the cores of a chip has the rate of a ring through the chip.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

from hwdse.config import load_software, load_system
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.hardware.chip import Chip, Link, Memory
from hwdse.specs.hardware.cluster import Cluster
from hwdse.specs.number_formats import PrecisionMix
from hwdse.validation.aws.neuron_models import NeuronModel, find_model, unexpressed_reason
from hwdse.validation.training.training_cells import cell_number
from hwdse.validation.training.training_jobs import Job
from hwdse.workload.transformer.model_config import TransformerTraining

SOFTWARE = "neuron"
CHECKPOINT_INTERVAL_S = 3600.0
"""Without effect on the step time."""

SERVERS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "trainium1": (("trn1.", "trn1_32xlarge"), ("trn1n.", "trn1n_32xlarge")),
        "trainium2": (("trn2", "trn2_48xlarge"),),
    }
)
"""Presets of configs/systems by chip and prefix of the instance name."""


@dataclass(frozen=True)
class Stack:
    """Bytes per parameter of a training stack, and its attention kernel."""

    optimizer_bytes: float
    gradient_bytes: float
    is_shared: bool
    """True if the optimizer state is sharded over replicas (ZeRO stage 1)."""
    fused_attention_fraction: float
    """0 if scores are written to memory."""


# With stochastic rounding, weights, gradients and both moments have 16 bits on every rank: NeMo
# Megatron and the data-parallel Hugging Face scripts, with the attention of the framework. AMP
# keeps FP32 weights, which are also the master copy. NeuronX Distributed has an FP32 optimizer
# state sharded over replicas and a flash attention kernel. Sources:
# aws-neuron/neuronx-nemo-megatron, aws-neuron-samples (dp_bert_hf_pretrain), neuronx-distributed
# (examples/training).
ROUNDED = Stack(4.0, 2.0, is_shared=False, fused_attention_fraction=0.0)
AMP = Stack(12.0, 4.0, is_shared=False, fused_attention_fraction=0.0)
DISTRIBUTED = Stack(12.0, 4.0, is_shared=True, fused_attention_fraction=1.0)


def stack_of(row: Mapping[str, str]) -> Stack | None:
    """Training stack by the column `precision`; None for formats outside the model."""
    words = row["precision"].upper()
    if "BF16" not in words:
        return None
    if "FP32OPTIMIZER" in words or "MIXED" in words:
        return DISTRIBUTED
    stack = AMP if "AMP" in words else ROUNDED
    return replace(stack, is_shared="ZERO" in (row["parallelism"] + row["detail"]).upper())


def degree(row: Mapping[str, str], name: str) -> float:
    """Parallel degree in the column `parallelism` (`TP=8 PP=4 DP=16`); 1 if missing."""
    found = re.search(rf"\b{name}=(\d+)", row["parallelism"])
    return float(found.group(1)) if found else 1.0


def problem_of(row: Mapping[str, str]) -> str | None:
    """Reason why the model cannot represent a training row; None if it can."""
    if row["chip"].lower() not in SERVERS:
        return f"chip {row['chip']}: only Trainium runs are modeled"
    if re.search("suspect|inconsistent", row["notes"]):
        return "the notes call the row suspect"
    model = find_model(row["model"])
    if model is None:
        return unexpressed_reason(row["model"])
    if stack_of(row) is None:
        return f"no matrix rate for {row['precision'] or 'a row without precision'}"
    for column in ("cores", "chips", "batch", "global_batch"):
        if not row[column]:
            return f"no {column}"
    if not row["seq_len"] and model.seq_len is None:
        return "no seq_len"
    ranks = degree(row, "TP") * degree(row, "PP") * degree(row, "DP")
    if ranks != cell_number(row["cores"]):
        return "parallel degrees do not multiply to the number of cores"
    return None


def core_of(chip: Chip, num_cores: float) -> Chip:
    """One of `num_cores` equal cores of a chip, with the NeuronLink rate of the chip."""

    def part(memory: Memory) -> Memory:
        return replace(
            memory,
            capacity_bytes=memory.capacity_bytes / num_cores,
            bandwidth_bytes_per_s=memory.bandwidth_bytes_per_s / num_cores,
        )

    def port(link: Link) -> Link:
        return replace(link, bandwidth_bytes_per_s=link.bandwidth_bytes_per_s / num_cores)

    return replace(
        chip,
        array=replace(chip.array, num_arrays=chip.array.num_arrays / num_cores),
        sram=part(chip.sram),
        num_scratchpads=chip.num_scratchpads / num_cores,
        hbm=part(chip.hbm),
        network=port(chip.network),
        vector_flop_per_s=chip.vector_flop_per_s / num_cores,
        checkpoint_bandwidth_bytes_per_s=chip.checkpoint_bandwidth_bytes_per_s / num_cores,
    )


def server_name(row: Mapping[str, str]) -> str:
    """Server preset of a row; the first if it contains several."""
    presets = SERVERS[row["chip"].lower()]
    return next((name for start, name in presets if start in row["instance"]), presets[0][1])


@cache
def published_flop_per_s(server: str) -> float:
    """Published 16-bit peak of a chip of the server, the reference of MFU."""
    return load_system(server).chip_published["bf16_flop_per_s"]


@cache
def _system(server: str, cores_per_chip: float) -> tuple[Chip, Cluster]:
    """Core of the chip, and cluster of cores with one domain per server."""
    system = load_system(server)
    domain = math.prod(float(size) for size in system.cluster.torus_sizes) * cores_per_chip
    cluster = replace(
        system.cluster,
        topology="ring",
        torus_sizes=(domain,),
        torus_bandwidth_fractions=(1.0,),
        torus_latency_ratios=(1.0,),
        pod_chips=system.cluster.pod_chips * cores_per_chip,
    )
    return core_of(system.chip, cores_per_chip), cluster


def parallelism_of(row: Mapping[str, str], model: NeuronModel, stack: Stack) -> Parallelism:
    """Parallelism of a row: sequence-parallel norms.

    NeuronX Distributed, with an FP32 optimizer, recomputes attention.
    """
    recompute = "selective" if stack is DISTRIBUTED and model.is_causal else model.recompute
    return Parallelism(
        tensor=degree(row, "TP"),
        pipeline=degree(row, "PP"),
        micro_batch=cell_number(row["batch"]),
        recompute_fraction=float(recompute == "full"),
        attention_recompute_fraction=float(recompute == "selective"),
        sequence_parallel_fraction=1.0,
        optimizer_shard_fraction=float(stack.is_shared),
    )


def job_of(row: Mapping[str, str]) -> Job:
    """Design and workload of a row for which `problem_of` returns None."""
    model, stack = find_model(row["model"]), stack_of(row)
    if model is None or stack is None:
        raise ValueError(f"{row['case_id']}: {problem_of(row)}")
    cores = cell_number(row["cores"])
    cores_per_chip = cores / cell_number(row["chips"])
    core, cluster = _system(server_name(row), cores_per_chip)
    design = Design(
        chip=core,
        cluster=replace(cluster, num_chips=cores),
        mix=PrecisionMix(fp64_flop_fraction=0.0, fp8_flop_fraction=0.0),
        parallelism=parallelism_of(row, model, stack),
        checkpoint_interval_s=CHECKPOINT_INTERVAL_S,
        software=replace(
            load_software(SOFTWARE), fused_attention_fraction=stack.fused_attention_fraction
        ),
    )
    workload = TransformerTraining(
        model=model.shape,
        seq_len=model.seq_len or cell_number(row["seq_len"]),
        global_batch=cell_number(row["global_batch"]),
        attention_fraction=0.5 if model.is_causal else 1.0,
        gradient_element_bytes=stack.gradient_bytes,
        optimizer_state_bytes_per_parameter=stack.optimizer_bytes,
    )
    return Job(design, workload)
