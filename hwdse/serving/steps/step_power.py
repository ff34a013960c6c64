r"""Step of an inference engine at the clock that the power limit leaves, with its energy.

Work of the operators of one chip: FLOP by format, bytes from HBM, bytes on links. The power law is
that of training (`models.energy.chip_energy`): idle, clocks while kernels are resident, switching,
memory, links. A step whose mean power exceeds the limit runs at the clock $r < 1$ with
$E(r) / T(r) = P_{max}$; its time is $T(r) = T_m + T_c / r$, with the part $T_c$ that follows the
clock from a second evaluation at `SLOW_CLOCK_RATIO`.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from hwdse.models.compute.attention_times import attention_bytes, attention_flop
from hwdse.models.compute.expert_times import expert_bytes, padded_rows
from hwdse.models.compute.gemm_times import gemm_flop
from hwdse.models.energy.chip_energy import ChipWork, energy_parts
from hwdse.models.energy.voltage_and_leakage import OperatingPoint, operating_points
from hwdse.models.precision.precision_mix import FP4_ENERGY_RATIO, FP8_ENERGY_RATIO
from hwdse.models.silicon.area import area_parts_mm2
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp, Scalar
from hwdse.numerics.relaxation import total
from hwdse.serving.steps.message_costs import (
    MessageCosts,
    message_costs,
    messages_sent_bytes,
    messages_time_s,
)
from hwdse.serving.steps.step_time import (
    expert_work,
    operator_times,
)
from hwdse.specs.results.evaluation_result import EnergyParts, ServingTimeParts
from hwdse.specs.serving.engine import ServingDesign
from hwdse.specs.serving.requests import StepLoad
from hwdse.workload.serving.step_operators import StepOperators, step_operators
from hwdse.workload.transformer.model_config import Transformer

CACHED_SHARE = 0.5
"""Share of the shared cache in which activations stay between kernels. Assumed."""
SLOW_CLOCK_RATIO = 0.7
"""Clock of the evaluation that separates the time which follows the clock."""
NUM_STEPS = 5
"""Newton steps on the log of the power; an explicit function of the operating point."""
LOWEST = -3.5
"""Lower end of ln of the supply above the threshold over that of the set clock: 2 % of the clock.
"""
SMALLEST_SLOPE = 1e-3
"""Lower bound of d ln P / dz. Power hardly depends on the clock of memory-bound steps."""


@struct.dataclass
class StepRun:
    """One step of a replica, seen from one of its chips."""

    times: ServingTimeParts
    energy: EnergyParts
    """Energy of one chip (J)."""
    clock_ratio: Leaf
    """Clock over the set clock."""
    voltage_v: Leaf

    @property
    def power_w(self) -> Leaf:
        """Mean power of one chip."""
        return total(self.energy) / self.times.step_s


def mac_energy_ratio(math_bits: PerOp) -> PerOp:
    """Energy of a MAC over that of 16 bits."""
    narrow = jnp.where(math_bits > 4.0, FP8_ENERGY_RATIO, FP4_ENERGY_RATIO)
    return jnp.where(math_bits > 8.0, 1.0, narrow)


def step_chip_work(
    operators: StepOperators, times: ServingTimeParts, design: ServingDesign, fabric: MessageCosts
) -> ChipWork:
    """Work of one chip in one step, with the times of the step.

    MACs are in units of the energy of a 16-bit one. Weights, caches and recurrent states come from
    HBM; activations as far as the shared cache does not hold them. Bytes from HBM pass the
    scratchpads twice, operands of the arrays once per row and column of an array.
    """
    chip, engine = design.chip, design.engine
    products, attentions = operators.products, operators.attentions
    cached = CACHED_SHARE * chip.sram.capacity_bytes * chip.cache_fraction
    flop = products.count * gemm_flop(products.m, products.n, products.k)
    fmt = products.fmt
    macs = jnp.sum(0.5 * flop * mac_energy_ratio(fmt.math_bits))
    operand_bytes = jnp.sum(0.5 * flop * fmt.activation_bytes)
    activations = products.m * (products.k * fmt.activation_bytes + products.n * fmt.output_bytes)
    weights = products.n * products.k * fmt.weight_bytes
    hbm = jnp.sum(products.count * (weights + jnp.maximum(activations - cached, 0.0)))
    for experts in operators.experts:
        work = expert_work(experts, design)
        layer_macs = experts.num_matrices * padded_rows(work) * work.hidden * work.inner
        macs = macs + experts.count * layer_macs * mac_energy_ratio(experts.fmt.math_bits)
        operand_bytes = operand_bytes + experts.count * layer_macs * experts.fmt.activation_bytes
        weights, activations = expert_bytes(work, experts.fmt)
        hbm = hbm + experts.count * (weights + jnp.maximum(activations - cached, 0.0))
    core = attentions.work
    core_macs = 0.5 * attentions.count * attention_flop(core)
    macs = macs + jnp.sum(core_macs * mac_energy_ratio(core.math_bits))
    operand_bytes = operand_bytes + jnp.sum(core_macs * core.math_bits / 8.0)
    hbm = hbm + jnp.sum(attentions.count * attention_bytes(core))
    beside = operators.elementwise
    macs = macs + jnp.sum(0.5 * beside.count * beside.matrix_flop)
    hbm = hbm + jnp.sum(beside.count * jnp.maximum(beside.hbm_bytes - cached, 0.0))
    sampled = operators.sampled_sequences * operators.vocabulary
    hbm = hbm + engine.logit_traffic_bytes * sampled
    link, network = messages_sent_bytes(operators.messages, fabric)
    reads = 1.0 / chip.array.rows + 1.0 / chip.array.cols
    return ChipWork(
        num_macs=macs,
        vector_flop=jnp.sum(beside.count * beside.vector_flop),
        sram_bytes=2.0 * hbm + operand_bytes * reads,
        accumulator_bytes=0.0,
        hbm_bytes=hbm,
        link_bytes=link,
        network_bytes=network,
        fp64_j=0.0,
        elapsed_s=times.step_s,
        resident_s=times.busy_s,
    )


def fabric_of(model: Transformer, design: ServingDesign) -> MessageCosts:
    """Costs of the collectives of the steps of a model on a design."""
    return message_costs(design, model.experts_per_token)


def step_run(
    model: Transformer, load: StepLoad, design: ServingDesign, fabric: MessageCosts
) -> StepRun:
    """Times and energy of one step at the clock that the power limit leaves.

    `fabric` is `fabric_of` the model and the design.
    """
    chip = design.chip
    operators = step_operators(model, load, design.formats, design.strategy)
    messages_s = messages_time_s(operators.messages, fabric)
    points = operating_points(chip)
    die_area_mm2 = total(area_parts_mm2(chip))
    limit_w = chip.power_limit_w
    full = points(0.0)
    if limit_w is None:
        times = operator_times(operators, load, design, messages_s, full.clock_ratio)
        work = step_chip_work(operators, times, design, fabric)
        parts = energy_parts(work, chip, 1.0, die_area_mm2, full)
        return StepRun(times, parts, full.clock_ratio, full.voltage_v)
    # Both clocks in one batch: the operators are compiled once.
    clock_ratios = full.clock_ratio * jnp.array([1.0, SLOW_CLOCK_RATIO])
    both = jax.vmap(lambda ratio: operator_times(operators, load, design, messages_s, ratio))(
        clock_ratios
    )
    times, slow = (jax.tree.map(lambda x, row=row: x[row], both) for row in (0, 1))
    work = step_chip_work(operators, times, design, fabric)

    def energy(work: ChipWork, point: OperatingPoint) -> EnergyParts:
        return energy_parts(work, chip, 1.0, die_area_mm2, point)

    per_period = (slow.step_s - times.step_s) / (1.0 / SLOW_CLOCK_RATIO - 1.0)
    busy_per_period = (slow.busy_s - times.busy_s) / (1.0 / SLOW_CLOCK_RATIO - 1.0)

    def at(z: Scalar) -> tuple[ChipWork, OperatingPoint]:
        point = points(z)
        longer = full.clock_ratio / point.clock_ratio - 1.0
        moved = dataclasses.replace(
            work,
            elapsed_s=times.step_s + per_period * longer,
            resident_s=times.busy_s + busy_per_period * longer,
        )
        return moved, point

    z = _highest_point(lambda z: _log_power(energy, at(z)) - jnp.log(limit_w), times.step_s)
    found, point = at(z)
    share = (full.clock_ratio / point.clock_ratio - 1.0) / (1.0 / SLOW_CLOCK_RATIO - 1.0)
    throttled = _between(times, slow, share)
    return StepRun(throttled, energy(found, point), point.clock_ratio, point.voltage_v)


def _between(full: ServingTimeParts, slow: ServingTimeParts, share: Scalar) -> ServingTimeParts:
    """Times on the line through those of two clock periods."""
    names = ServingTimeParts.__dataclass_fields__
    return ServingTimeParts(
        **{
            name: getattr(full, name) + share * (getattr(slow, name) - getattr(full, name))
            for name in names
        }
    )


def _log_power(
    energy: Callable[[ChipWork, OperatingPoint], EnergyParts],
    at: tuple[ChipWork, OperatingPoint],
) -> Scalar:
    work, point = at
    return jnp.log(total(energy(work, point)) / work.elapsed_s)


def _highest_point(residual: Callable[[Scalar], Scalar], like: Scalar) -> Scalar:
    """Root z <= 0 of an increasing function by Newton's method; 0 if it is below zero there.

    The last step, from the root, gives the derivative of the implicit function.
    """

    def step(z: Scalar) -> Scalar:
        value, slope = jax.jvp(residual, (z,), (jnp.ones_like(z),))
        slope = jax.lax.stop_gradient(jnp.maximum(slope, SMALLEST_SLOPE))
        return jnp.clip(z - value / slope, LOWEST, 0.0)

    start = jnp.zeros_like(jnp.asarray(like))
    z = jax.lax.fori_loop(0, NUM_STEPS, lambda _, z: jax.lax.stop_gradient(step(z)), start)
    return step(jax.lax.stop_gradient(z))


def step_time_of(
    model: Transformer, design: ServingDesign, fabric: MessageCosts
) -> Callable[[StepLoad], Scalar]:
    """Time of a step as a function of its load alone, at the clock that the power limit leaves."""
    return lambda load: step_run(model, load, design, fabric).times.step_s
