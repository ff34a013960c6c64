"""Memory balance of a design under a workload: which level starves, and how far from the bound."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from hwdse.evaluation import evaluate
from hwdse.models.memory.io_lower_bound import demand_ratio, gemm_traffic_bound, safe_ratio
from hwdse.models.precision import precision_mix
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import EXACT, Relaxation
from hwdse.specs.design import Design
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.results.balance_results import LevelBalance, MemoryBalance, TrafficBound
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.specs.software import Software
from hwdse.training.gemm_operator_costs import operator_costs, peak_flop_per_s, sum_operators
from hwdse.training.step_collectives import sent_bytes
from hwdse.training.step_time_and_energy import per_step
from hwdse.workload.gemms import ExecutionCounts, Gemms
from hwdse.workload.loops.layer_list import LayerList
from hwdse.workload.transformer.model_config import TransformerTraining
from hwdse.workload.transformer.sharding import ShardedStep, shard

CAPACITY_RANGE_BYTES = (1024.0, 2.0**44)
"""SRAM of a chip among which the balanced one is sought."""
NUM_HALVINGS = 52
"""Of that range, on a logarithmic scale: leaves the rounding of float64."""


@flax.struct.dataclass
class StepTraffic:
    """Bytes of a step and chip at the levels whose traffic the rows or messages make."""

    operands: Leaf
    sram: Leaf
    hbm: Leaf
    link: Leaf
    network: Leaf
    products: Leaf
    """Of the HBM bytes, those of matrix products."""
    flop: Leaf


@flax.struct.dataclass
class LevelElasticities:
    """Elasticities by level, or logarithms of factors of what they are taken of."""

    sram: Leaf
    hbm: Leaf
    link: Leaf
    network: Leaf
    storage: Leaf
    capacity: Leaf
    """Of the SRAM."""


def sustained_flop_per_s(design: Design) -> Scalar:
    """Rate that large matrix products of the mix of formats reach on one chip."""
    chip, mix = design.chip, design.mix
    speedup = precision_mix.mix_matrix_speedup_ratio(mix, chip.fp8_speedup_ratio)
    return chip.matrix_efficiency_fraction * peak_flop_per_s(chip) * speedup


def _moved(step: ShardedStep, design: Design, relaxation: Relaxation) -> StepTraffic:
    layer, head = sum_operators(
        operator_costs(step.gemms, step.executions, design, relaxation), step.executions.is_lm_head
    )
    link_bytes, network_bytes = sent_bytes(step, design)

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
        products=hbm_bytes - other_bytes,
        flop=2.0 * num_macs,
    )


def _elementwise_bytes(gemms: Gemms, runs: ExecutionCounts, software: Software) -> Leaf:
    """HBM bytes of each row, all runs, that are no operand of a product."""
    return runs.total * software.elementwise_traffic_ratio * gemms.count * gemms.extra_bytes


def workload_bound(
    step: ShardedStep, sram_bytes: Scalar, element_bytes: Scalar, num_parts: Scalar = 1.0
) -> tuple[TrafficBound, Scalar]:
    """Bounds of HBM traffic of a step of one chip, summed over rows, and the sum of their maxima.

    Every run of every row by itself; what never leaves the chip between two rows is not counted.
    The SRAM is one memory, or `num_parts` that are private to as much work each.
    """
    each = gemm_traffic_bound(step.gemms, sram_bytes, element_bytes, num_parts)

    def whole(rows: Leaf) -> Scalar:
        rows, is_lm_head = step.executions.total * rows, step.executions.is_lm_head
        return per_step(step, jnp.dot(rows, 1.0 - is_lm_head), jnp.dot(rows, is_lm_head))

    return jax.tree.map(whole, each), whole(each.bytes)


def balanced_sram_bytes(
    design: Design,
    workload: TransformerTraining | LayerList,
    other_hbm_bytes: Scalar = 0.0,
    relaxation: Relaxation = EXACT,
) -> Scalar:
    """Least SRAM of the chip at which HBM takes no longer than the matrix engines; or infinity.

    HBM bytes fall in steps with the SRAM, so the answer is the edge of a step, found by halving to
    the rounding of the float type; no gradient. The lower end of `CAPACITY_RANGE_BYTES` where
    even that is enough. Everything else of the design stays, and so do `other_hbm_bytes` of a step
    that are neither of rows nor of the optimizer.
    """
    other = jax.lax.stop_gradient(other_hbm_bytes)
    design, workload = jax.lax.stop_gradient((design, workload))
    step = shard(workload, design.parallelism, design.cluster.num_chips, design.software)
    chip = design.chip
    rate, bandwidth = sustained_flop_per_s(design), _sustained_bandwidths(chip)["hbm"]

    def is_fed(log_bytes: Leaf) -> Leaf:
        sram = dataclasses.replace(chip.sram, capacity_bytes=jnp.exp(log_bytes))
        resized = dataclasses.replace(chip, sram=sram)
        moved = _moved(step, dataclasses.replace(design, chip=resized), relaxation)
        return demand_ratio(moved.hbm + other, bandwidth, moved.flop, rate) <= 1.0

    def halve(_: Leaf, ends: tuple[Leaf, Leaf]) -> tuple[Leaf, Leaf]:
        low, high = ends
        middle = 0.5 * (low + high)
        fed = is_fed(middle)
        return jnp.where(fed, low, middle), jnp.where(fed, middle, high)

    low, high = (jnp.log(jnp.asarray(end, float)) for end in CAPACITY_RANGE_BYTES)
    can, always = is_fed(high), is_fed(low)
    _, edge = jax.lax.fori_loop(0, NUM_HALVINGS, halve, (low, high))
    return jnp.where(always, jnp.exp(low), jnp.where(can, jnp.exp(edge), jnp.inf))


def _sustained_bandwidths(chip: Chip) -> dict[str, Scalar]:
    """Bytes per second of one chip in long streams."""
    return {
        "sram": chip.sram.bandwidth_bytes_per_s,
        "hbm": chip.hbm_efficiency_fraction * chip.hbm.bandwidth_bytes_per_s,
        "link": chip.link.bandwidth_efficiency_fraction * chip.link.bandwidth_bytes_per_s,
        "network": chip.network.bandwidth_efficiency_fraction * chip.network.bandwidth_bytes_per_s,
    }


def _scaled_design(design: Design, log_factors: LevelElasticities) -> Design:
    """The design with bandwidths and SRAM multiplied; storage means chips and file system both."""
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
    r"""The evaluation, and $d \ln t / d \ln \beta$ of step time and of time per useful token.

    By one backward pass through `evaluate` with two columns; SRAM capacity moves the traffic as if
    tiles were continuous.
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
    """Bytes of remote checkpoints that one chip writes in a step on average, and its rate while it
    does: its own port's, or its share of the file system's."""
    cluster = design.cluster
    saved = step.checkpoint_bytes / cluster.num_chips
    rate = jnp.minimum(
        1.0 * design.chip.checkpoint_bandwidth_bytes_per_s,
        cluster.storage_bandwidth_bytes_per_s / cluster.num_chips,
    )
    return saved * step_time_s / design.checkpoint_interval_s, rate


def _level(
    step_bytes: Scalar, printed: Scalar, sustained: Scalar, work: tuple[Scalar, Scalar]
) -> LevelBalance:
    """A level without its elasticities; `work` is flop of a step and their rate."""
    flop, flop_per_s = work
    ratio = demand_ratio(step_bytes, sustained, flop, flop_per_s)
    return LevelBalance(
        step_bytes=step_bytes,
        bandwidth_bytes_per_s=sustained,
        required_bytes_per_flop=safe_ratio(step_bytes, flop),
        available_bytes_per_flop=safe_ratio(sustained, flop_per_s),
        demand_ratio=ratio,
        intensity_flop_per_byte=safe_ratio(flop, step_bytes),
        balanced_bandwidth_bytes_per_s=printed * ratio,
        step_time_elasticity=0.0 * flop,
        token_time_elasticity=0.0 * flop,
    )


def _levels(
    moved: StepTraffic, storage: tuple[Scalar, Scalar], design: Design
) -> dict[str, LevelBalance]:
    """Every level without its elasticities; `storage` is its bytes and rate."""
    chip, flop_per_s = design.chip, sustained_flop_per_s(design)
    element_bytes = precision_mix.mix_bytes_per_element(design.mix)
    # At the printed rate every element takes its two operands in every cycle.
    handed = element_bytes * flop_per_s / chip.matrix_efficiency_fraction
    sustained = _sustained_bandwidths(chip)
    ports: dict[str, tuple[Scalar, Scalar, Scalar]] = {
        "array": (moved.operands, handed, handed),
        "sram": (moved.sram, chip.sram.bandwidth_bytes_per_s, sustained["sram"]),
        "hbm": (moved.hbm, chip.hbm.bandwidth_bytes_per_s, sustained["hbm"]),
        "link": (moved.link, chip.link.bandwidth_bytes_per_s, sustained["link"]),
        "network": (moved.network, chip.network.bandwidth_bytes_per_s, sustained["network"]),
        "storage": (storage[0], storage[1], storage[1]),
    }
    work = (moved.flop, flop_per_s)
    return {name: _level(*port, work) for name, port in ports.items()}


def memory_balance(
    design: Design, workload: TransformerTraining | LayerList, relaxation: Relaxation = EXACT
) -> MemoryBalance:
    """Every level of memory of a design under a workload, and its HBM traffic beside the bound.

    Compare `demand_ratio` of the levels: the highest is out of balance where it is over 1, far
    below 1 it is paid for and not used. Balanced bandwidths follow from the ratios, the balanced
    SRAM from `balanced_sram_bytes`. Pure; batch it with `vmap`. Elasticities are exact at the
    design: 0 where something else binds.
    """
    result, of_step, of_token = level_elasticities(design, workload, relaxation)
    step = shard(workload, design.parallelism, design.cluster.num_chips, design.software)
    rows, sram_bytes = _moved(step, design, relaxation), design.chip.sram.capacity_bytes
    # Beside rows and optimizer: fp64 work.
    other_bytes = result.hbm_traffic_bytes - rows.hbm
    moved = dataclasses.replace(rows, hbm=result.hbm_traffic_bytes)
    element_bytes = precision_mix.mix_bytes_per_element(design.mix)
    bound, bound_bytes = workload_bound(step, sram_bytes, element_bytes)
    parts = design.chip.num_scratchpads
    private_bytes = workload_bound(step, sram_bytes, element_bytes, parts)[1]
    levels = _levels(moved, _storage(step, design, result.step_time_s), design)
    for name in set(levels) - {"array"}:
        levels[name] = dataclasses.replace(
            levels[name],
            step_time_elasticity=getattr(of_step, name),
            token_time_elasticity=getattr(of_token, name),
        )
    return MemoryBalance(
        **levels,
        flop=moved.flop,
        flop_per_s=sustained_flop_per_s(design),
        gemm_bytes=moved.products,
        bound=bound,
        bound_bytes=bound_bytes,
        traffic_over_bound_ratio=safe_ratio(moved.products, bound_bytes),
        private_bound_bytes=private_bytes,
        traffic_over_private_bound_ratio=safe_ratio(moved.products, private_bytes),
        balanced_sram_bytes=balanced_sram_bytes(design, workload, other_bytes, relaxation),
        sram_bytes_step_time_elasticity=of_step.capacity,
    )
