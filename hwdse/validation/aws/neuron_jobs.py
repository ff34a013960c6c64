"""Training runs on Trainium as designs of this model, in NeuronCores.

A rank of Neuron's stacks is a NeuronCore, so here one "chip" of a design is one core: its share of
the arrays, the scratchpads, the HBM and the network port of a chip. Cores of one chip talk through
their HBM and those of a server over NeuronLink, in rings of one of a chip's links each way; a
core's ring has the rate of one that passes the chip, and the cores of a server are one ring.
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
from hwdse.validation.measured.training_jobs import Job, cell_number
from hwdse.workload.transformer.model_config import TransformerTraining, with_kinds

SOFTWARE = "neuron"
TENSOR_OVERLAP_FRACTION = 0.321
"""Of the tensor-parallel collectives, behind products. Fitted (hwdse.calibration.neuron_fit)."""
CHECKPOINT_INTERVAL_S = 3600.0
"""Plays no part in the time of a step."""

SERVERS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "trainium1": (("trn1.", "trn1_32xlarge"), ("trn1n.", "trn1n_32xlarge")),
        "trainium2": (("trn2", "trn2_48xlarge"),),
    }
)
"""Presets of configs/clusters by chip and start of the instance's name."""


@dataclass(frozen=True)
class Stack:
    """What a training stack keeps of a parameter, and how it runs attention."""

    optimizer_bytes: float
    gradient_bytes: float
    is_shared: bool
    """Optimizer state over replicas (ZeRO stage 1)."""
    fused_attention_fraction: float
    """0 where scores go through memory."""


# With stochastic rounding weights, gradients and both moments have 16 bits, on every rank: NeMo
# Megatron and the data-parallel Hugging Face scripts, whose attention is the framework's. AMP keeps
# fp32 weights, which are their own master. NeuronX Distributed trains with an fp32 optimizer, which
# replicas share, and a flash attention kernel. Sources: aws-neuron/neuronx-nemo-megatron,
# aws-neuron-samples (dp_bert_hf_pretrain), neuronx-distributed (examples/training).
ROUNDED = Stack(4.0, 2.0, is_shared=False, fused_attention_fraction=0.0)
AMP = Stack(12.0, 4.0, is_shared=False, fused_attention_fraction=0.0)
DISTRIBUTED = Stack(12.0, 4.0, is_shared=True, fused_attention_fraction=1.0)


def stack_of(row: Mapping[str, str]) -> Stack | None:
    """The stack by the column `precision`; nothing for formats that the model lacks."""
    words = row["precision"].upper()
    if "BF16" not in words:
        return None
    if "FP32OPTIMIZER" in words or "MIXED" in words:
        return DISTRIBUTED
    stack = AMP if "AMP" in words else ROUNDED
    return replace(stack, is_shared="ZERO" in (row["parallelism"] + row["detail"]).upper())


def degree(row: Mapping[str, str], name: str) -> float:
    """A parallel degree of the column `parallelism` (`TP=8 PP=4 DP=16`), 1 where not named."""
    found = re.search(rf"\b{name}=(\d+)", row["parallelism"])
    return float(found.group(1)) if found else 1.0


def problem_of(row: Mapping[str, str]) -> str | None:
    """Why the model cannot express a training row, or nothing."""
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
    """One of `num_cores` equal cores of a chip; its ring over NeuronLink keeps the chip's rate."""

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
    """Preset of the servers of a row; the first where it names several."""
    presets = SERVERS[row["chip"].lower()]
    return next((name for start, name in presets if start in row["instance"]), presets[0][1])


@cache
def published_flop_per_s(server: str) -> float:
    """16-bit peak that the vendor prints for a chip of that server: what utilizations refer to."""
    return load_system(server).chip_published["bf16_flop_per_s"]


@cache
def _system(server: str, cores_per_chip: float) -> tuple[Chip, Cluster]:
    """A core of the chip and a cluster of them, whose domains are the servers."""
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


def layout_of(row: Mapping[str, str], model: NeuronModel, stack: Stack) -> Parallelism:
    """Degrees of the row; norms cut by tokens, and gradients summed after the last micro-batch.

    NeuronX Distributed, which trains with an fp32 optimizer, recomputes attention.
    """
    recompute = "selective" if stack is DISTRIBUTED and model.is_causal else model.recompute
    return Parallelism(
        tensor=degree(row, "TP"),
        pipeline=degree(row, "PP"),
        micro_batch=cell_number(row["batch"]),
        recompute_fraction=float(recompute == "full"),
        attention_recompute_fraction=float(recompute == "selective"),
        tensor_overlap_fraction=TENSOR_OVERLAP_FRACTION,
        sequence_parallel_fraction=1.0,
        optimizer_shard_fraction=float(stack.is_shared),
        data_overlap_fraction=0.0,
    )


def job_of(row: Mapping[str, str]) -> Job:
    """Design and workload of a row that `problem_of` finds nothing wrong with."""
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
        parallelism=layout_of(row, model, stack),
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
    return Job(design, with_kinds(workload))
