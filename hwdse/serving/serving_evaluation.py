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
from hwdse.serving.queues.request_means import request_means
from hwdse.serving.queues.steady_state import steady_state
from hwdse.serving.replica_limits import longest_tokens, replica_limits, token_cache_bytes
from hwdse.serving.steps.step_power import StepRun, fabric_of, step_run, step_time_of
from hwdse.specs.results.evaluation_result import (
    Evaluation,
    ServiceDetails,
    ServingMemoryParts,
    ServingTimeParts,
)
from hwdse.specs.serving.engine import ServingDesign
from hwdse.specs.serving.requests import StepLoad
from hwdse.specs.serving.serving_metrics import ReplicaLimits, ServingState
from hwdse.workload.serving.serving_memory import weight_bytes
from hwdse.workload.serving.serving_task import ServingTask
from hwdse.workload.transformer.dense_transformer import num_active_parameters


@struct.dataclass
class ServedTask:
    """Steady state of a service with the runs of its two kinds of steps."""

    state: ServingState
    decode: StepRun
    """Step without prompt tokens."""
    mixed: StepRun
    """Step with the mean prompt tokens of such steps."""
    limits: ReplicaLimits
    busy_fraction: Leaf
    """Share of the time in which an engine runs steps."""

    def mean(self, of_decode: Scalar, of_mixed: Scalar) -> Scalar:
        """Mean over the steps of a quantity of a step."""
        share = self.state.prefill_step_fraction
        return of_decode + share * (of_mixed - of_decode)


def served_task(design: ServingDesign, task: ServingTask) -> ServedTask:
    """Steady state of a task on a design, see `steady_state`."""
    requests, model = task.requests, task.model
    limits = replica_limits(design, task)
    fabric = fabric_of(model, design)
    step_time = step_time_of(model, design, fabric)
    state = steady_state(requests, step_time, limits, design.num_replicas)
    busy = busy_fraction(state, task, limits, design.num_replicas)
    decode_load, mixed_load = step_loads(state, task, limits, busy)
    loads = jax.tree.map(
        lambda one, other: jnp.stack([jnp.asarray(one, float), jnp.asarray(other, float)]),
        decode_load,
        mixed_load,
    )
    runs = jax.vmap(lambda load: step_run(model, load, design, fabric))(loads)
    decode, mixed = (jax.tree.map(lambda x, row=row: x[row], runs) for row in (0, 1))
    return ServedTask(
        state=state,
        decode=decode,
        mixed=mixed,
        limits=limits,
        busy_fraction=busy,
    )


def busy_fraction(
    state: ServingState, task: ServingTask, limits: ReplicaLimits, num_replicas: Scalar
) -> Scalar:
    r"""Share of the time that an engine has a request: $1 - e^{-N}$ of an open loop.

    N is the mean number of requests in the engine (Little's law); those of a closed loop are spread
    evenly, $\min(N, 1)$.
    """
    in_engine_s = state.latency.mean_s - limits.request_host_s
    number = state.request_rate_per_s / num_replicas * in_engine_s
    requests = task.requests
    is_closed = jnp.asarray(requests.concurrency) > 0.0
    return jnp.where(is_closed, jnp.minimum(number, 1.0), -jnp.expm1(-number))


def step_loads(
    state: ServingState, task: ServingTask, limits: ReplicaLimits, busy: Scalar
) -> tuple[StepLoad, StepLoad]:
    """Loads of the mean step without and with prompt tokens, of an engine that is busy."""
    means = request_means(task.requests, limits)
    share = jnp.maximum(state.prefill_step_fraction, SMALLEST)
    tokens = state.prefill_tokens / share
    decode = StepLoad(
        decode_sequences=state.decode_sequences / busy,
        decode_context=means.decode_context,
        prefill_tokens=0.0,
        prefill_context=means.prompt_context,
        prefill_sequences=0.0,
    )
    mixed = dataclasses.replace(
        decode, prefill_tokens=tokens, prefill_sequences=tokens / means.prompt_tokens
    )
    return decode, mixed


def evaluate_serving(
    design: ServingDesign, task: ServingTask, relaxation: Relaxation = EXACT
) -> Evaluation:
    """`Evaluation` of a service: a token is an output token, a step a step of one replica.

    Idle time of an open loop costs idle power. The model is smooth in all but the p-norms of its
    kernels: `relaxation` changes nothing.
    """
    served = served_task(design, task)
    chip, cluster, state = design.chip, design.cluster, served.state
    area_parts = area.area_parts_mm2(chip)
    die_area_mm2 = total(area_parts)
    step_s = served.mean(served.decode.times.step_s, served.mixed.times.step_s)
    energy = jax.tree.map(served.mean, served.decode.energy, served.mixed.energy)
    replica_chips, busy = design.strategy.replica_chips, served.busy_fraction
    tokens_per_step = state.output_tokens_per_s / design.num_replicas * step_s / busy
    idle_w = energy.static / step_s
    power_w = busy * total(energy) / step_s + (1.0 - busy) * idle_w
    tokens_per_s = jnp.maximum(state.output_tokens_per_s, SMALLEST)
    chips = cluster.num_chips
    chip_usd, chip_g = manufacturing(chip, die_area_mm2)
    memory = _memory(served, design, task)
    flop_per_token = _model_flop_per_token(design, task)
    peak = kernel_rates(chip, design.kernels).matrix_flop_per_s
    return Evaluation(
        time=_time_parts(served),
        energy=jax.tree.map(lambda x: replica_chips * x, energy),
        area=area_parts,
        hbm=memory,
        step_time_s=step_s,
        step_energy_j=replica_chips * total(energy),
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
        hbm_used_ratio=total(memory) / chip.hbm.capacity_bytes,
        hbm_traffic_bytes=energy.hbm / chip.hbm.energy_j_per_byte,
        hardware_flop=flop_per_token * tokens_per_step / replica_chips,
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
        service=_details(served),
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


def _details(served: ServedTask) -> ServiceDetails:
    """State and steps of a service."""
    return ServiceDetails(
        state=served.state,
        decode=served.decode.times,
        mixed=served.mixed.times,
        decode_clock_ratio=served.decode.clock_ratio,
        mixed_clock_ratio=served.mixed.clock_ratio,
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
