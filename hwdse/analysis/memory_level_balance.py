"""Required and available bytes per FLOP of every memory level, and HBM traffic over its bound.

Levels: MAC array, SRAM, HBM, scale-up fabric, scale-out network, storage. A demand ratio
(required over available) above 1 means that the level limits the matrix engines unless it is
overlapped. Also computed: bandwidth at ratio 1, smallest SRAM at which HBM does not limit,
elasticities of step time, and HBM traffic relative to the red-blue pebble game bound.
"""

import dataclasses

import jax
import jax.numpy as jnp

from hwdse.evaluation import evaluate
from hwdse.models.memory.io_lower_bound import demand_ratio, gemm_traffic_bound, safe_ratio
from hwdse.models.memory.scratchpad_limits import sustained_hbm_bytes_per_s
from hwdse.models.precision import precision_mix
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import EXACT, Relaxation
from hwdse.specs.design import Design
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.results.balance_results import LevelBalance, MemoryBalance, TrafficBound
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.specs.software import Software
from hwdse.training.gemm_operator_costs import operator_costs, peak_flop_per_s, sum_operators
from hwdse.training.step_collectives import RankGroups, sent_bytes
from hwdse.training.step_time_and_energy import per_step
from hwdse.workload.gemms import ExecutionCounts, Gemms, LayerList
from hwdse.workload.transformer.model_config import TransformerTraining
from hwdse.workload.transformer.sharding import ShardedStep, shard

CAPACITY_RANGE_BYTES = (1024.0, 2.0**44)
"""Range of the search for the balanced SRAM capacity of a chip."""
NUM_HALVINGS = 52
"""Bisection steps of this range on a logarithmic scale, down to the rounding of float64."""


@struct.dataclass
class StepTraffic:
    """Traffic in bytes per step and chip of the levels used by operators or messages."""

    operands: Leaf
    sram: Leaf
    hbm: Leaf
    link: Leaf
    network: Leaf
    gemms: Leaf
    """HBM bytes of GEMM operands only."""
    flop: Leaf
    """FLOP of the matrix engines, recompute included."""


@struct.dataclass
class LevelElasticities:
    """Elasticities by level, or logarithms of the factors that they refer to."""

    sram: Leaf
    hbm: Leaf
    link: Leaf
    network: Leaf
    storage: Leaf
    capacity: Leaf
    """SRAM capacity; all other fields are bandwidths."""


def sustained_flop_per_s(design: Design) -> Scalar:
    """Sustained FLOP/s of large GEMMs in the format mix on one chip."""
    chip, mix = design.chip, design.mix
    speedup = precision_mix.mix_matrix_speedup_ratio(mix, chip)
    return chip.matrix_efficiency_fraction * peak_flop_per_s(chip) * speedup


def _step_traffic(step: ShardedStep, design: Design, relaxation: Relaxation) -> StepTraffic:
    layer, head = sum_operators(
        operator_costs(step.gemms, step.executions, design, relaxation), step.executions.is_lm_head
    )
    link_bytes, network_bytes = sent_bytes(step, design, RankGroups.of(step, design))

    def work(name: str) -> Leaf:
        return per_step(step, getattr(layer, name), getattr(head, name))

    other = _elementwise_bytes(step.gemms, step.executions, design.software)
    other_bytes = per_step(
        step,
        jnp.dot(other, 1.0 - step.executions.is_lm_head),
        jnp.dot(other, step.executions.is_lm_head),
    )
    num_macs, hbm_bytes = work("num_macs"), work("hbm_bytes")
    return StepTraffic(
        operands=2.0 * precision_mix.mix_bytes_per_element(design.mix) * num_macs,
        sram=work("sram_bytes"),
        hbm=hbm_bytes + step.optimizer_traffic_bytes,
        link=link_bytes,
        network=network_bytes,
        gemms=hbm_bytes - other_bytes,
        flop=2.0 * num_macs,
    )


def _elementwise_bytes(gemms: Gemms, runs: ExecutionCounts, software: Software) -> Leaf:
    """HBM bytes of each operator, over all executions, that are not GEMM operands."""
    return runs.total * software.elementwise_traffic_ratio * gemms.count * gemms.extra_bytes


def workload_bound(
    step: ShardedStep, sram_bytes: Scalar, element_bytes: Scalar, num_parts: Scalar = 1.0
) -> tuple[TrafficBound, Scalar]:
    """Lower bounds of the HBM traffic per step and chip, and the sum of the largest bounds.

    Bounds are summed over operators, each execution by itself; reuse between operators is not
    included. The SRAM is one memory, or `num_parts` private memories with equal shares of work.
    """
    each = gemm_traffic_bound(step.gemms, sram_bytes, element_bytes, num_parts)

    def step_total(per_operator: Leaf) -> Scalar:
        num_bytes, is_lm_head = step.executions.total * per_operator, step.executions.is_lm_head
        return per_step(step, jnp.dot(num_bytes, 1.0 - is_lm_head), jnp.dot(num_bytes, is_lm_head))

    return jax.tree.map(step_total, each), step_total(each.bytes)


def balanced_sram_bytes(
    design: Design,
    workload: TransformerTraining | LayerList,
    other_hbm_bytes: Scalar = 0.0,
    relaxation: Relaxation = EXACT,
) -> Scalar:
    """Smallest SRAM of the chip at which HBM takes no longer than the matrix engines, or infinity.

    HBM bytes are a step function of the SRAM capacity. The result is the edge of a step, from
    bisection to the rounding of the float type, without a gradient. The lower end of
    `CAPACITY_RANGE_BYTES` is returned if it suffices. All other parameters are fixed, also
    `other_hbm_bytes` per step that belong neither to operators nor to the optimizer.
    """
    other = jax.lax.stop_gradient(other_hbm_bytes)
    design, workload = jax.lax.stop_gradient((design, workload))
    step = shard(
        workload, design.parallelism, design.cluster.num_chips, design.software, design.mix
    )
    chip = design.chip
    rate, bandwidth = sustained_flop_per_s(design), _sustained_bandwidths(chip)["hbm"]

    def is_sufficient(log_bytes: Leaf) -> Leaf:
        sram = dataclasses.replace(chip.sram, capacity_bytes=jnp.exp(log_bytes))
        resized = dataclasses.replace(chip, sram=sram)
        traffic = _step_traffic(step, dataclasses.replace(design, chip=resized), relaxation)
        return demand_ratio(traffic.hbm + other, bandwidth, traffic.flop, rate) <= 1.0

    def halve(_: Leaf, ends: tuple[Leaf, Leaf]) -> tuple[Leaf, Leaf]:
        low, high = ends
        middle = 0.5 * (low + high)
        suffices = is_sufficient(middle)
        return jnp.where(suffices, low, middle), jnp.where(suffices, middle, high)

    low, high = (jnp.log(jnp.asarray(end, float)) for end in CAPACITY_RANGE_BYTES)
    is_possible, is_always = is_sufficient(high), is_sufficient(low)
    _, edge = jax.lax.fori_loop(0, NUM_HALVINGS, halve, (low, high))
    return jnp.where(is_always, jnp.exp(low), jnp.where(is_possible, jnp.exp(edge), jnp.inf))


def _sustained_bandwidths(chip: Chip) -> dict[str, Scalar]:
    """Sustained bandwidths of one chip in bytes per second."""
    return {
        "sram": chip.sram.bandwidth_bytes_per_s,
        "hbm": sustained_hbm_bytes_per_s(chip),
        "link": chip.link.bandwidth_efficiency_fraction * chip.link.bandwidth_bytes_per_s,
        "network": chip.network.bandwidth_efficiency_fraction * chip.network.bandwidth_bytes_per_s,
    }


def _scaled_design(design: Design, log_factors: LevelElasticities) -> Design:
    """Design with scaled bandwidths and SRAM; storage scales chip ports and file system alike."""
    factor = jax.tree.map(jnp.exp, log_factors)
    chip, cluster = design.chip, design.cluster

    def faster(port: Leaf, ratio: Leaf) -> Leaf:
        return dataclasses.replace(port, bandwidth_bytes_per_s=ratio * port.bandwidth_bytes_per_s)

    sram = dataclasses.replace(chip.sram, capacity_bytes=factor.capacity * chip.sram.capacity_bytes)
    faster_chip = dataclasses.replace(
        chip,
        sram=faster(sram, factor.sram),
        hbm=faster(chip.hbm, factor.hbm),
        link=faster(chip.link, factor.link),
        network=faster(chip.network, factor.network),
        checkpoint_bandwidth_bytes_per_s=factor.storage * chip.checkpoint_bandwidth_bytes_per_s,
    )
    written = factor.storage * cluster.storage_bandwidth_bytes_per_s
    faster_cluster = dataclasses.replace(cluster, storage_bandwidth_bytes_per_s=written)
    return dataclasses.replace(design, chip=faster_chip, cluster=faster_cluster)


def level_elasticities(
    design: Design, workload: TransformerTraining | LayerList, relaxation: Relaxation = EXACT
) -> tuple[Evaluation, LevelElasticities, LevelElasticities]:
    r"""Evaluation, and $d \ln t / d \ln \beta$ of step time and of time per effective token.

    One backward pass through `evaluate` with two columns. The elasticity to SRAM capacity is that
    of continuous tiles.
    """
    zero = 0.0 * jnp.asarray(design.chip.sram.capacity_bytes, float)
    factors = LevelElasticities(*[zero] * len(dataclasses.fields(LevelElasticities)))

    def log_times(log_factors: LevelElasticities) -> tuple[Leaf, Evaluation]:
        result = evaluate(_scaled_design(design, log_factors), workload, relaxation)
        return jnp.log(jnp.stack([result.step_time_s, result.time_per_token_s])), result

    times, pull_back, result = jax.vjp(log_times, factors, has_aux=True)
    columns = jax.vmap(pull_back)(jnp.eye(2, dtype=times.dtype))[0]
    of_step, of_token = (jax.tree.map(lambda column, at=at: column[at], columns) for at in (0, 1))
    return result, of_step, of_token


def _storage(step: ShardedStep, design: Design, step_time_s: Scalar) -> tuple[Scalar, Scalar]:
    """Mean bytes of remote checkpoints that one chip writes per step, and its write bandwidth.

    The bandwidth is that of the chip port or the chip's share of the file system.
    """
    cluster = design.cluster
    shard_bytes = step.checkpoint_bytes / cluster.num_chips
    rate = jnp.minimum(
        1.0 * design.chip.checkpoint_bandwidth_bytes_per_s,
        cluster.storage_bandwidth_bytes_per_s / cluster.num_chips,
    )
    return shard_bytes * step_time_s / design.checkpoint_interval_s, rate


def _level(
    step_bytes: Scalar, nominal: Scalar, sustained: Scalar, work: tuple[Scalar, Scalar]
) -> LevelBalance:
    """Balance of a level without elasticities; `work` is FLOP per step and their rate."""
    flop, flop_per_s = work
    ratio = demand_ratio(step_bytes, sustained, flop, flop_per_s)
    return LevelBalance(
        step_bytes=step_bytes,
        bandwidth_bytes_per_s=sustained,
        required_bytes_per_flop=safe_ratio(step_bytes, flop),
        available_bytes_per_flop=safe_ratio(sustained, flop_per_s),
        demand_ratio=ratio,
        intensity_flop_per_byte=safe_ratio(flop, step_bytes),
        balanced_bandwidth_bytes_per_s=nominal * ratio,
        step_time_elasticity=0.0 * flop,
        token_time_elasticity=0.0 * flop,
    )


def _levels(
    traffic: StepTraffic, storage: tuple[Scalar, Scalar], design: Design
) -> dict[str, LevelBalance]:
    """Balances of all levels without elasticities; `storage` is its bytes and bandwidth."""
    chip, flop_per_s = design.chip, sustained_flop_per_s(design)
    element_bytes = precision_mix.mix_bytes_per_element(design.mix)
    # At the peak rate every PE takes two operands per cycle.
    operand_rate = element_bytes * flop_per_s / chip.matrix_efficiency_fraction
    sustained = _sustained_bandwidths(chip)
    ports: dict[str, tuple[Scalar, Scalar, Scalar]] = {
        "array": (traffic.operands, operand_rate, operand_rate),
        "sram": (traffic.sram, chip.sram.bandwidth_bytes_per_s, sustained["sram"]),
        "hbm": (traffic.hbm, chip.hbm.bandwidth_bytes_per_s, sustained["hbm"]),
        "link": (traffic.link, chip.link.bandwidth_bytes_per_s, sustained["link"]),
        "network": (traffic.network, chip.network.bandwidth_bytes_per_s, sustained["network"]),
        "storage": (storage[0], storage[1], storage[1]),
    }
    work = (traffic.flop, flop_per_s)
    return {name: _level(*port, work) for name, port in ports.items()}


def memory_balance(
    design: Design, workload: TransformerTraining | LayerList, relaxation: Relaxation = EXACT
) -> MemoryBalance:
    """Balance of every memory level of a design under a workload, and HBM traffic over its bound.

    A level with a `demand_ratio` above 1 limits the matrix engines; a level far below 1 is
    oversized. Balanced bandwidths follow from the ratios, the balanced SRAM from
    `balanced_sram_bytes`. Elasticities are exact at the design: 0 if another resource binds.
    Pure; use `vmap` for batches.
    """
    result, of_step, of_token = level_elasticities(design, workload, relaxation)
    step = shard(
        workload, design.parallelism, design.cluster.num_chips, design.software, design.mix
    )
    operator_traffic, sram_bytes = (
        _step_traffic(step, design, relaxation),
        design.chip.sram.capacity_bytes,
    )
    # HBM traffic beyond operators and optimizer: FP64 work.
    other_bytes = result.hbm_traffic_bytes - operator_traffic.hbm
    traffic = dataclasses.replace(operator_traffic, hbm=result.hbm_traffic_bytes)
    element_bytes = precision_mix.mix_bytes_per_element(design.mix)
    bound, bound_bytes = workload_bound(step, sram_bytes, element_bytes)
    num_parts = design.chip.num_scratchpads
    private_bytes = workload_bound(step, sram_bytes, element_bytes, num_parts)[1]
    levels = _levels(traffic, _storage(step, design, result.step_time_s), design)
    for name in set(levels) - {"array"}:
        levels[name] = dataclasses.replace(
            levels[name],
            step_time_elasticity=getattr(of_step, name),
            token_time_elasticity=getattr(of_token, name),
        )
    return MemoryBalance(
        **levels,
        flop=traffic.flop,
        flop_per_s=sustained_flop_per_s(design),
        gemm_bytes=traffic.gemms,
        bound=bound,
        bound_bytes=bound_bytes,
        traffic_over_bound_ratio=safe_ratio(traffic.gemms, bound_bytes),
        private_bound_bytes=private_bytes,
        traffic_over_private_bound_ratio=safe_ratio(traffic.gemms, private_bytes),
        balanced_sram_bytes=balanced_sram_bytes(design, workload, other_bytes, relaxation),
        sram_bytes_step_time_elasticity=of_step.capacity,
    )
