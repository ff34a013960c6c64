"""Evaluation of one core that runs an operator network, one operator after another."""

import dataclasses

import jax.numpy as jnp

from hwdse.core.mapper.mapper import BestMapping
from hwdse.core.mapping_policies import MAPPINGS, network_sum
from hwdse.models.energy import voltage_and_leakage
from hwdse.models.silicon import area, cost, die_yield
from hwdse.numerics.array_types import PerOp, Scalar
from hwdse.numerics.relaxation import EXACT, Relaxation, total
from hwdse.specs.design import CoreDesign
from hwdse.specs.hardware.accelerator import Accelerator, Level
from hwdse.specs.mappings.loop_nest import MappingCosts
from hwdse.specs.results.evaluation_result import (
    AreaParts,
    EnergyParts,
    Evaluation,
    MemoryParts,
    TimeParts,
)
from hwdse.workload.loops.operators import Operators


def core_area_mm2(accelerator: Accelerator) -> AreaParts:
    """Die area of a core in mm²: MAC units with PE registers, SRAM, DRAM interface.

    Levels with one bank per PE (registers) are part of the area of a MAC unit. The DRAM interface
    is the HBM PHY of the process for the bandwidth of the outermost level.
    """
    process, dram = accelerator.process, accelerator.levels[0]
    sram_bytes = [level.capacity_bytes for level in accelerator.levels[1:] if _is_shared(level)]
    zero = 0.0 * accelerator.rows
    return AreaParts(
        matrix=accelerator.rows * accelerator.cols * process.mac_area_mm2,
        fp64=zero,
        vector=zero,
        sram=sum(sram_bytes, start=zero) * process.sram_area_mm2_per_byte,
        on_chip_network=zero,
        hbm_phy=dram.read_bandwidth_bytes_per_s * process.hbm_phy_area_mm2_per_bytes_per_s,
        link_phy=zero,
        other=accelerator.fixed_area_mm2 + zero,
        white_space=zero,
        base_dies=zero,
    )


def _is_shared(level: Level) -> bool:
    """True if PEs share a level, so that its capacity is a free parameter."""
    return level.banks != "pes"


def at_clock_voltage(accelerator: Accelerator) -> Accelerator:
    """Core with the energies at the supply voltage of its clock; DRAM energies are unchanged."""
    clock_ratio = accelerator.clock_hz / accelerator.nominal_clock_hz
    ratio = voltage_and_leakage.dynamic_energy_ratio(clock_ratio, accelerator.process)

    def scaled(level: Level) -> Level:
        if not level.follows_clock:
            return level
        return dataclasses.replace(
            level,
            read_energy_j_per_byte=ratio * level.read_energy_j_per_byte,
            write_energy_j_per_byte=ratio * level.write_energy_j_per_byte,
            energy_slope=ratio * level.energy_slope,
        )

    return dataclasses.replace(
        accelerator,
        mac_energy_j=ratio * accelerator.mac_energy_j,
        levels=tuple(scaled(level) for level in accelerator.levels),
    )


def _voltage_v(accelerator: Accelerator) -> Scalar:
    """Supply voltage of the clock of the core."""
    ratio = accelerator.clock_hz / accelerator.nominal_clock_hz
    return voltage_and_leakage.supply_voltage_v(ratio, accelerator.process)


def leakage_w(accelerator: Accelerator) -> Scalar:
    """Static power of the core in W at the supply voltage of its clock."""
    process = accelerator.process
    voltage_ratio = _voltage_v(accelerator) / process.nominal_voltage_v
    area_mm2 = total(core_area_mm2(accelerator))
    return voltage_and_leakage.leakage_power_w(area_mm2, voltage_ratio, process)


def core_mappings(
    design: CoreDesign, operators: Operators, relaxation: Relaxation = EXACT
) -> BestMapping:
    """Mapping of each operator of a network and costs of ONE execution, without static energy.

    Energies are at the supply voltage of the clock of the core.
    """
    at_voltage = dataclasses.replace(design, accelerator=at_clock_voltage(design.accelerator))
    return MAPPINGS[design.mapping](
        at_voltage, operators, leakage_w(design.accelerator), relaxation
    )


def bound_masks(costs: MappingCosts) -> tuple[PerOp, PerOp, PerOp]:
    """1 for operators bound by MAC units, by on-chip memories, by DRAM (three masks), else 0."""
    dram_s = costs.level_s[0]
    inner_s = costs.level_s[1]
    for level_s in costs.level_s[2:]:
        inner_s = jnp.maximum(inner_s, level_s)
    is_matrix = costs.compute_s >= jnp.maximum(inner_s, dram_s)
    is_inner = ~is_matrix & (inner_s >= dram_s)
    return 1.0 * is_matrix, 1.0 * is_inner, 1.0 * ~(is_matrix | is_inner)


def _time_parts(costs: MappingCosts, operators: Operators) -> TimeParts:
    matrix, inner, dram = (
        network_sum(bound * costs.time_s, operators) for bound in bound_masks(costs)
    )
    zeros = dict.fromkeys(TimeParts.__dataclass_fields__, 0.0 * matrix)
    return TimeParts(**{**zeros, "matrix": matrix, "sram": inner, "hbm": dram})


def _energy_parts(costs: MappingCosts, operators: Operators, static_j: Scalar) -> EnergyParts:
    dram_j, *inner_j = (network_sum(level_j, operators) for level_j in costs.level_j)
    zero = 0.0 * dram_j
    return EnergyParts(
        matrix=network_sum(costs.mac_j, operators),
        fp64=zero,
        vector=zero,
        sram=sum(inner_j, start=zero),
        hbm=dram_j,
        link=zero,
        network=zero,
        clock=zero,
        static=static_j,
    )


def _memory_parts(costs: MappingCosts) -> MemoryParts:
    """DRAM footprint of the operator with the largest one."""
    used = costs.traffic.levels[0].used
    largest = jnp.argmax(used.weights + used.inputs + used.outputs)
    weights = jnp.take(jnp.broadcast_to(used.weights, jnp.shape(costs.time_s)), largest)
    activations = jnp.broadcast_to(used.inputs + used.outputs, jnp.shape(costs.time_s))
    zero = 0.0 * weights
    return MemoryParts(weights, zero, zero, jnp.take(activations, largest), zero)


def memory_used_ratio(costs: MappingCosts, accelerator: Accelerator) -> Scalar:
    """Largest footprint over capacity, over all operators and shared memories.

    PE registers are excluded: their number follows from the array.
    """
    pairs = zip(costs.used_ratio, accelerator.levels, strict=True)
    largest = [jnp.max(ratio) for ratio, level in pairs if _is_shared(level)]
    return jnp.max(jnp.stack(largest))


def _cost_usd(die_area_mm2: Scalar, accelerator: Accelerator) -> Scalar:
    """Manufacturing cost of die, package and DRAM in USD, without margin."""
    process = accelerator.process
    good = die_yield.die_yield_fraction(
        die_area_mm2, process.defects_per_mm2, process.defect_clustering
    )
    dram_usd = accelerator.dram_cost_usd_per_byte * accelerator.levels[0].capacity_bytes
    die_usd = cost.good_die_cost_usd(die_area_mm2, good, process)
    return die_usd + accelerator.package_cost_usd + dram_usd


_ZERO_FIELDS = (
    "checkpoint_write_time_s",
    "optimal_checkpoint_interval_s",
    "cost_per_token_usd",
    "chip_operating_cost_usd_per_s",
    "chip_carbon_g",
    "carbon_per_token_g",
)
"""Fields of an `Evaluation` that are not defined for a single core."""


def evaluate_core(
    design: CoreDesign, operators: Operators, relaxation: Relaxation = EXACT
) -> Evaluation:
    """Time, energy, area and cost of a core that runs a network once.

    Pure and differentiable in every leaf. One pass replaces the token, hence `energy_delay` is (sum
    of time x count) x (sum of energy x count). HBM fields describe the outermost level, SRAM fields
    all other levels; `hbm_used_ratio` is `memory_used_ratio`. Fields for network, failures and
    hosts are zero and goodput is 1. Cost and carbon per token are zero: no lifetime is given.
    """
    accelerator = design.accelerator
    costs = core_mappings(design, operators, relaxation).costs
    time_s = network_sum(costs.time_s, operators)
    area_parts = core_area_mm2(accelerator)
    die_area_mm2 = total(area_parts)
    energy_parts = _energy_parts(costs, operators, leakage_w(accelerator) * time_s)
    energy_j = total(energy_parts)
    flop = 2.0 * network_sum(operators.num_macs, operators)
    peak = 2.0 * accelerator.rows * accelerator.cols * accelerator.clock_hz
    dram = costs.traffic.levels[0]
    zero, one = 0.0 * time_s, 0.0 * time_s + 1.0
    return Evaluation(
        time=_time_parts(costs, operators),
        energy=energy_parts,
        area=area_parts,
        hbm=_memory_parts(costs),
        step_time_s=time_s,
        step_energy_j=energy_j,
        tokens_per_step=one,
        mfu_fraction=flop / (time_s * peak),
        goodput_fraction=one,
        effective_tokens_per_s=1.0 / time_s,
        time_per_token_s=time_s,
        energy_per_token_j=energy_j,
        chip_power_w=energy_j / time_s,
        die_area_mm2=die_area_mm2,
        chip_cost_usd=_cost_usd(die_area_mm2, accelerator),
        hbm_used_ratio=memory_used_ratio(costs, accelerator),
        hbm_traffic_bytes=network_sum(total(dram.reads) + total(dram.writes), operators),
        hardware_flop=flop,
        peak_flop_per_s=peak,
        throttled_clock_ratio=one,
        supply_voltage_v=one * _voltage_v(accelerator),
        reticle_used_ratio=area.reticle_used_ratio(die_area_mm2, 1.0),
        **dict.fromkeys(_ZERO_FIELDS, zero),
    )
