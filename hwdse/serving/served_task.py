"""Steady state of a service with the steps that its engines run."""

import dataclasses

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import SMALLEST, total
from hwdse.serving.queues.request_means import request_means
from hwdse.serving.queues.steady_state import steady_state
from hwdse.serving.replica_limits import replica_limits
from hwdse.serving.steps.message_costs import MessageCosts
from hwdse.serving.steps.step_power import StepRun, fabric_of, step_run, step_time_of
from hwdse.specs.results.evaluation_result import EnergyParts
from hwdse.specs.serving.engine import ServingDesign
from hwdse.specs.serving.requests import StepLoad
from hwdse.specs.serving.serving_metrics import ReplicaLimits, ServingState
from hwdse.workload.serving.serving_task import ServingTask


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

    @property
    def step_s(self) -> Scalar:
        """Time of the mean step."""
        return self.mean(self.decode.times.step_s, self.mixed.times.step_s)

    @property
    def energy(self) -> EnergyParts:
        """Energy of one chip in the mean step."""
        return jax.tree.map(self.mean, self.decode.energy, self.mixed.energy)

    @property
    def power_w(self) -> Scalar:
        """Mean power of one chip: idle power between the steps."""
        energy, busy = self.energy, self.busy_fraction
        return (busy * total(energy) + (1.0 - busy) * energy.static) / self.step_s


def service_state(
    design: ServingDesign, task: ServingTask
) -> tuple[ServingState, ReplicaLimits, MessageCosts]:
    """Steady state of a task on a design, see `steady_state`; with the limits and the fabric."""
    limits, fabric = replica_limits(design, task), fabric_of(task.model, design)
    step_time = step_time_of(task.model, design, fabric)
    state = steady_state(task.requests, step_time, limits, design.num_replicas)
    return state, limits, fabric


def served_task(design: ServingDesign, task: ServingTask) -> ServedTask:
    """Steady state of a task on a design with its steps."""
    state, limits, fabric = service_state(design, task)
    busy = busy_fraction(state, task, limits, design.num_replicas)
    decode_load, mixed_load = step_loads(state, task, limits, busy)
    loads = jax.tree.map(
        lambda one, other: jnp.stack([jnp.asarray(one, float), jnp.asarray(other, float)]),
        decode_load,
        mixed_load,
    )
    runs = jax.vmap(lambda load: step_run(task.model, load, design, fabric))(loads)
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
