"""Evaluation of a service: steady state of its requests, energy, memory, cost, carbon."""

import dataclasses

import jax
import jax.numpy as jnp

from hwdse.models.compute.kernel_rates import kernel_rates
from hwdse.models.silicon import area, carbon, cost
from hwdse.models.silicon.manufacturing import manufacturing
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import EXACT, SMALLEST, Relaxation, total
from hwdse.serving.replica_limits import longest_tokens, token_cache_bytes
from hwdse.serving.separate_pools import ServedApart, served_apart
from hwdse.serving.served_task import ServedTask, served_task
from hwdse.specs.results.evaluation_result import (
    EnergyParts,
    Evaluation,
    ServiceDetails,
    ServingMemoryParts,
    ServingTimeParts,
)
from hwdse.specs.serving.engine import ServingDesign
from hwdse.specs.serving.serving_metrics import ServingState
from hwdse.workload.serving.serving_memory import weight_bytes
from hwdse.workload.serving.serving_task import ServingTask
from hwdse.workload.transformer.dense_transformer import num_active_parameters


@struct.dataclass
class ServedUnit:
    """State, steps and energy of a replica, or of one that decodes with those of its prompts."""

    state: ServingState
    steps: ServedTask
    """Steps of the replica that decodes."""
    details: ServiceDetails
    energy: EnergyParts
    """Energy of all chips of the unit in the time of one such step."""
    power_w: Leaf
    """Mean power of one chip."""
    memory: ServingMemoryParts
    memory_bytes: Leaf
    """Memory of the fullest chip."""


def served_unit(design: ServingDesign, task: ServingTask) -> ServedUnit:
    """Steady state of a service, on replicas that do both or on two pools."""
    strategy = design.strategy
    if strategy.prefill_pool_ratio is None:
        served = served_task(design, task)
        memory = _memory(served, design, task)
        return ServedUnit(
            state=served.state,
            steps=served,
            details=_details(served.state, served, served),
            energy=jax.tree.map(lambda x: strategy.replica_chips * x, served.energy),
            power_w=served.power_w,
            memory=memory,
            memory_bytes=total(memory),
        )
    apart = served_apart(design, task)
    replica, prompts = strategy.decoding, strategy.prefilling
    prompt_chips = strategy.prefill_pool_ratio * prompts.replica_chips
    memory = _memory(apart.decode, dataclasses.replace(design, strategy=replica), task)
    of_prompts = _memory(apart.prefill, dataclasses.replace(design, strategy=prompts), task)
    power_w, energy = _prompt_power(apart)
    step_s = apart.decode.step_s
    return ServedUnit(
        state=apart.state,
        steps=apart.decode,
        details=_details(apart.state, apart.decode, apart.prefill),
        energy=jax.tree.map(
            lambda own, other: replica.replica_chips * own + prompt_chips * step_s * other,
            apart.decode.energy,
            energy,
        ),
        power_w=(replica.replica_chips * apart.decode.power_w + prompt_chips * power_w)
        / strategy.unit_chips,
        memory=memory,
        memory_bytes=jnp.maximum(total(memory), total(of_prompts)),
    )


def _prompt_power(apart: ServedApart) -> tuple[Scalar, EnergyParts]:
    """Power of a chip that processes prompts, and its parts in watts: idle between its steps."""
    served = apart.prefill
    mixed_s = served.mixed.times.step_s
    share = jnp.minimum(served.state.prefill_step_fraction * mixed_s / served.step_s, 1.0)
    parts = jax.tree.map(lambda x: share * x / mixed_s, served.mixed.energy)
    idle_w = (1.0 - share) * served.mixed.energy.static / mixed_s
    parts = dataclasses.replace(parts, static=parts.static + idle_w)
    return total(parts), parts


def evaluate_serving(
    design: ServingDesign, task: ServingTask, relaxation: Relaxation = EXACT
) -> Evaluation:
    """`Evaluation` of a service: a token is an output token, a step a step of one replica.

    Idle time of an open loop costs idle power. The model is smooth in all but the p-norms of its
    kernels: `relaxation` changes nothing.
    """
    unit = served_unit(design, task)
    served, state, power_w = unit.steps, unit.state, unit.power_w
    chip, cluster = design.chip, design.cluster
    area_parts = area.area_parts_mm2(chip)
    die_area_mm2 = total(area_parts)
    step_s, unit_chips = served.step_s, design.strategy.unit_chips
    tokens_per_step = state.output_tokens_per_s / design.num_replicas
    tokens_per_step = tokens_per_step * step_s / served.busy_fraction
    tokens_per_s = jnp.maximum(state.output_tokens_per_s, SMALLEST)
    chips = cluster.num_chips
    chip_usd, chip_g = manufacturing(chip, die_area_mm2)
    flop_per_token = _model_flop_per_token(design, task)
    peak = kernel_rates(chip, design.kernels).matrix_flop_per_s
    return Evaluation(
        time=_time_parts(served),
        energy=unit.energy,
        area=area_parts,
        hbm=unit.memory,
        step_time_s=step_s,
        step_energy_j=total(unit.energy),
        tokens_per_step=tokens_per_step,
        mfu_fraction=flop_per_token * tokens_per_s / (chips * peak),
        effective_tokens_per_s=tokens_per_s,
        time_per_token_s=1.0 / tokens_per_s,
        energy_per_token_j=chips * power_w / tokens_per_s,
        chip_power_w=power_w,
        die_area_mm2=die_area_mm2,
        chip_cost_usd=chip_usd,
        cost_per_token_usd=cost.step_cost_usd(chip_usd, 1.0, chips * power_w, cluster)
        / tokens_per_s,
        hbm_used_ratio=unit.memory_bytes / chip.hbm.capacity_bytes,
        hbm_traffic_bytes=unit.energy.hbm / unit_chips / chip.hbm.energy_j_per_byte,
        hardware_flop=flop_per_token * tokens_per_step / unit_chips,
        peak_flop_per_s=peak,
        throttled_clock_ratio=served.mean(served.decode.clock_ratio, served.mixed.clock_ratio),
        supply_voltage_v=served.mean(served.decode.voltage_v, served.mixed.voltage_v),
        reticle_used_ratio=area.reticle_used_ratio(die_area_mm2, chip.num_dies),
        chip_operating_cost_usd_per_s=cost.chip_operating_cost_usd_per_s(
            chip_usd, power_w, cluster
        ),
        chip_carbon_g=chip_g,
        carbon_per_token_g=carbon.step_carbon_g(chip_g, 1.0, chips * power_w, cluster)
        / tokens_per_s,
        **_service_fields(state, chips),
        service=unit.details,
    )


def _service_fields(state: ServingState, num_chips: Scalar) -> dict[str, Leaf]:
    """Fields of an `Evaluation` that only a service has, or that it has not."""
    nothing = 0.0 * state.request_rate_per_s
    return {
        "goodput_fraction": 1.0 + nothing,
        "checkpoint_write_time_s": nothing,
        "optimal_checkpoint_interval_s": nothing,
        "ttft_s": state.ttft.mean_s,
        "ttft_p99_s": state.ttft.p99_s,
        "tpot_s": state.tpot.mean_s,
        "tpot_p99_s": state.tpot.p99_s,
        "request_latency_s": state.latency.mean_s,
        "request_latency_p99_s": state.latency.p99_s,
        "interactivity_tokens_per_s": 1.0 / state.tpot.mean_s,
        "chip_tokens_per_s": jnp.maximum(state.output_tokens_per_s, SMALLEST) / num_chips,
        "requests_per_s": state.request_rate_per_s,
        "decode_sequences": state.decode_sequences,
        "load_ratio": state.utilization_ratio,
        "kv_used_ratio": state.kv_used_ratio,
        "capacity_requests_per_s": state.capacity_rate_per_s,
    }


def _details(state: ServingState, decoding: ServedTask, prompts: ServedTask) -> ServiceDetails:
    """State and steps of a service: those that only decode, and those with prompts."""
    return ServiceDetails(
        state=state,
        decode=decoding.decode.times,
        mixed=prompts.mixed.times,
        decode_clock_ratio=decoding.decode.clock_ratio,
        mixed_clock_ratio=prompts.mixed.clock_ratio,
    )


def _time_parts(served: ServedTask) -> ServingTimeParts:
    """Parts of the mean step."""
    decode, mixed = served.decode.times, served.mixed.times
    return ServingTimeParts(
        **{
            name: served.mean(getattr(decode, name), getattr(mixed, name))
            for name in ServingTimeParts.__dataclass_fields__
        }
    )


def _memory(served: ServedTask, design: ServingDesign, task: ServingTask) -> ServingMemoryParts:
    """Bytes of one chip; requests in flight hold what they hold on average, at least one whole."""
    engine, limits = design.engine, served.limits
    held = jnp.minimum(served.state.kv_used_ratio, 1.0) * limits.kv_capacity_tokens
    held = jnp.maximum(held, longest_tokens(task.requests) + 0.5 * engine.page_tokens)
    weights = weight_bytes(task.model, design.formats, design.strategy)
    return ServingMemoryParts(
        weights=weights,
        kv_cache=held * token_cache_bytes(design, task),
        runtime=engine.runtime_memory_bytes,
        reserve=(1.0 - engine.memory_fraction) * design.chip.hbm.capacity_bytes,
    )


def _model_flop_per_token(design: ServingDesign, task: ServingTask) -> Scalar:
    """FLOP of a request over its output tokens: two per active parameter and token."""
    requests = task.requests
    computed = requests.input_tokens - requests.cached_input_tokens + requests.output_tokens
    return 2.0 * num_active_parameters(task.model) * computed / requests.output_tokens
