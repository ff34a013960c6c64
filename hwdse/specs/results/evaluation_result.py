"""Result of `hwdse.evaluate`: times, traffic, energies, areas and costs, with breakdowns."""

from typing import Any

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf
from hwdse.specs.serving.serving_metrics import ServingState


@struct.dataclass
class TimeParts:
    """Time of one step by bounding resource; the sum is `step_time_s`.

    The time of each operator is assigned to the resource that bounds it.
    """

    matrix: Leaf
    """Operators bound by the matrix engines."""
    vector: Leaf
    """Operators bound by the vector engines."""
    sram: Leaf
    """Operators bound by the SRAM bandwidth."""
    hbm: Leaf
    """Operators bound by the HBM bandwidth."""
    launch: Leaf
    """Kernel launch latency."""
    host: Leaf
    """Kernel issue by the host, and host work per step."""
    fp64: Leaf
    """Serialized FP64 phases."""
    tensor_comm: Leaf
    """Exposed tensor-parallel communication."""
    context_comm: Leaf
    """Exposed context-parallel communication."""
    expert_comm: Leaf
    """Exposed expert-parallel communication."""
    pipeline_comm: Leaf
    """Pipeline communication between stages."""
    data_comm: Leaf
    """Exposed data-parallel communication."""
    bubble: Leaf
    """Pipeline bubble."""
    optimizer: Leaf
    """Optimizer update."""


@struct.dataclass
class ServingTimeParts:
    """Mean time of one step of a service by part; the sum is `step_time_s`."""

    products: Leaf
    """Projections, dense MLPs, shared experts, router, LM head."""
    attention: Leaf
    """Fused attention kernels."""
    experts: Leaf
    """Routed experts, with routing and sorting of tokens."""
    elementwise: Leaf
    """Norms, activations, rotary embedding, recurrent states."""
    collectives: Leaf
    """Exposed collectives and sends."""
    layers: Leaf
    """Quantization, and time of layers beyond their kernels."""
    issue: Leaf
    """Kernels waiting for the host that issues the layers of prompts."""
    host: Leaf
    """Host time per step."""
    sampling: Leaf
    """Sampling, and host time per sequence."""

    @property
    def step_s(self) -> Leaf:
        """Time of the step."""
        return (
            self.products
            + self.attention
            + self.experts
            + self.elementwise
            + self.collectives
            + self.layers
            + self.issue
            + self.host
            + self.sampling
        )

    @property
    def busy_s(self) -> Leaf:
        """Time that kernels are resident, sampling included."""
        return self.step_s - self.host - self.issue


@struct.dataclass
class ServiceDetails:
    """State of a service and its two kinds of steps."""

    state: ServingState
    """Rates, latencies with percentiles, waits."""
    decode: ServingTimeParts
    """Step without prompt tokens."""
    mixed: ServingTimeParts
    """Step with the mean prompt tokens of such steps."""
    decode_clock_ratio: Leaf
    """Clock of these steps over the set clock."""
    mixed_clock_ratio: Leaf


@struct.dataclass
class ServingMemoryParts:
    """HBM of a chip of a service in bytes, by use."""

    weights: Leaf
    """Weights."""
    kv_cache: Leaf
    """KV cache and recurrent states of the requests in flight, of one request at least."""
    runtime: Leaf
    """Runtime outside of the tensors: context, graphs, activations."""
    reserve: Leaf
    """Part that the engine does not take."""


@struct.dataclass
class EnergyParts:
    """Energy of one step of all chips; the sum is `step_energy_j`."""

    matrix: Leaf
    """Matrix engines."""
    fp64: Leaf
    """FP64 units, or the engines that emulate them."""
    vector: Leaf
    """Vector engines."""
    sram: Leaf
    """SRAM accesses."""
    hbm: Leaf
    """HBM accesses."""
    link: Leaf
    """Scale-up fabric."""
    network: Leaf
    """Scale-out network."""
    clock: Leaf
    """Clock trees, schedulers and caches while kernels are resident."""
    static: Leaf
    """Idle power: leakage, idle memory."""


@struct.dataclass
class AreaParts:
    """Die area of one chip in mm², all compute dies together; the sum is `die_area_mm2`."""

    matrix: Leaf
    """Matrix engines with accumulators and registers."""
    fp64: Leaf
    """FP64 units."""
    vector: Leaf
    """Vector engines."""
    sram: Leaf
    """SRAM with its ports."""
    on_chip_network: Leaf
    """Network between scratchpads, arrays and interfaces."""
    hbm_phy: Leaf
    """HBM interfaces."""
    link_phy: Leaf
    """Scale-up and die-to-die interfaces."""
    other: Leaf
    """Area that no design parameter changes: host interface."""
    white_space: Leaf
    """Area without counted units: channels, edges, test structures."""
    base_dies: Leaf
    """Active dies below the compute dies."""


@struct.dataclass
class MemoryParts:
    """Peak HBM footprint in bytes of a chip of the most loaded stage, by use."""

    weights: Leaf
    """Weights."""
    gradients: Leaf
    """Gradients."""
    optimizer: Leaf
    """Optimizer state."""
    activations: Leaf
    """Activations kept for the backward pass."""
    buffers: Leaf
    """Working buffers: gradients in transit, logits, gathered weights."""
    runtime: Leaf = 0.0
    """Runtime outside of the tensors: driver context, buffers of communicators."""


PARTS = ("time", "energy", "area", "hbm", "service")
"""Fields of an evaluation that are no scalars."""


@struct.dataclass
class Evaluation:
    """Metrics of one design under one workload. All fields are scalars (arrays under `vmap`).

    >>> import hwdse
    >>> found = hwdse.job(core="gemmini", layers="bert_base").evaluate().evaluation
    >>> abs(sum(vars(found.time).values()) / found.step_time_s - 1.0) < 1e-9
    True
    """

    time: Any
    """Step time by bounding resource, `TimeParts`; of a service by part, `ServingTimeParts`."""
    energy: EnergyParts
    """Step energy by component."""
    area: AreaParts
    """Die area by component."""
    hbm: Any
    """Peak HBM footprint by kind of tensor, `MemoryParts`; of a service `ServingMemoryParts`."""
    step_time_s: Leaf
    """Time of one optimizer step (training) or one pass (layer list, core), without failures."""
    step_energy_j: Leaf
    """Energy of one step of all chips."""
    tokens_per_step: Leaf
    """Tokens per step. For a layer list: passes, one per chip, so that metrics per token are per
    pass."""
    mfu_fraction: Leaf
    """Model FLOP utilization: model FLOP (no recomputation) over step time and peak matrix rate."""
    goodput_fraction: Leaf
    """Productive time over wall time, after failures, restarts and checkpoints."""
    checkpoint_write_time_s: Leaf
    """Time to write one checkpoint."""
    optimal_checkpoint_interval_s: Leaf
    """Checkpoint interval with the highest goodput."""
    effective_tokens_per_s: Leaf
    """Effective throughput of the cluster, after failures and checkpoints."""
    time_per_token_s: Leaf
    """Wall time of the cluster per effective token."""
    energy_per_token_j: Leaf
    """Chip energy per effective token, facility excluded."""
    chip_power_w: Leaf
    """Mean chip power during a step."""
    die_area_mm2: Leaf
    """Die area per chip, all compute dies together."""
    chip_cost_usd: Leaf
    """Chip manufacturing cost: dies, HBM, package, without margin."""
    cost_per_token_usd: Leaf
    """Cost per effective token: depreciation and electricity, facility included."""
    hbm_used_ratio: Leaf
    """Peak HBM usage over capacity; above 1 the design does not fit. Of a core: largest footprint
    over capacity of all operators and memories."""
    hbm_traffic_bytes: Leaf
    """HBM traffic per step and chip."""
    hardware_flop: Leaf
    """Matrix FLOP per step and chip, recomputation included."""
    peak_flop_per_s: Leaf
    """Peak 16-bit rate of the matrix engines of one chip, at the set clock."""
    throttled_clock_ratio: Leaf = 1.0
    """Clock over set clock: lower if the power limit or the greatest voltage binds."""
    supply_voltage_v: Leaf = 0.0
    """Supply voltage of the engines and scratchpads at that clock."""
    reticle_used_ratio: Leaf = 0.0
    """Die area over the reticle limit of 858 mm²; above 1 the die cannot be manufactured."""
    chip_operating_cost_usd_per_s: Leaf = 0.0
    """Operating cost per chip: depreciation with its share of the server, and electricity."""
    chip_carbon_g: Leaf = 0.0
    """CO2 equivalent of manufacturing one accelerator package."""
    carbon_per_token_g: Leaf = 0.0
    """CO2 equivalent per effective token: depreciated manufacturing and electricity."""
    ttft_s: Leaf = 0.0
    """Serving: mean time from sending a request to its first token."""
    ttft_p99_s: Leaf = 0.0
    """Serving: 99th percentile of the time to first token over requests."""
    tpot_s: Leaf = 0.0
    """Serving: mean over requests of the time per output token after the first one."""
    tpot_p99_s: Leaf = 0.0
    """Serving: 99th percentile of the time per output token over requests."""
    request_latency_s: Leaf = 0.0
    """Serving: mean time from sending a request to its last token."""
    request_latency_p99_s: Leaf = 0.0
    """Serving: 99th percentile of that time."""
    interactivity_tokens_per_s: Leaf = 0.0
    """Serving: output tokens per second that a user sees, the inverse of `tpot_s`."""
    chip_tokens_per_s: Leaf = 0.0
    """Serving: output tokens per second and chip."""
    requests_per_s: Leaf = 0.0
    """Serving: answered requests per second of all replicas."""
    decode_sequences: Leaf = 0.0
    """Serving: mean sequences of a replica that decode."""
    load_ratio: Leaf = 0.0
    """Serving: offered over highest request rate; above 1 the load cannot be served."""
    kv_used_ratio: Leaf = 0.0
    """Serving: mean KV cache in use over its capacity."""
    capacity_requests_per_s: Leaf = 0.0
    """Serving: highest request rate that all replicas can serve."""
    service: Any = None
    """Serving: percentiles, waits and steps, `ServiceDetails`."""

    @property
    def energy_delay_j_s(self) -> Leaf:
        """Energy-delay product: chip energy times wall time of the cluster per effective token."""
        return self.energy_per_token_j * self.time_per_token_s
