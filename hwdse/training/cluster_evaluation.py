"""Evaluation of a cluster that trains a workload: time, energy, area, cost, carbon, goodput."""

import dataclasses

import jax.numpy as jnp

from hwdse.models.precision import precision_mix
from hwdse.models.silicon import area, carbon, cost
from hwdse.models.silicon.manufacturing import manufacturing
from hwdse.numerics.array_types import Scalar
from hwdse.numerics.relaxation import SMALLEST, Relaxation, total
from hwdse.specs.design import Design
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.training.gemm_operator_costs import OperatorCosts, peak_flop_per_s
from hwdse.training.job_goodput import checkpoint_storage_cost_usd, goodput
from hwdse.training.power_cap import run_within_limit
from hwdse.training.step_time_and_energy import (
    StepRun,
    per_step,
    step_work,
    time_parts,
)
from hwdse.workload.gemms import LayerList
from hwdse.workload.transformer.model_config import TransformerTraining
from hwdse.workload.transformer.sharding import ShardedStep


def evaluate_cluster(
    design: Design, workload: TransformerTraining | LayerList, relaxation: Relaxation
) -> Evaluation:
    """`Evaluation` of a design under a training workload.

    Runs the step at the clock allowed by the power limit (`run_within_limit`) and divides by
    goodput. Assumes that time lost to failures draws the same power as productive time.
    """
    chip = design.chip
    work = step_work(design, workload, relaxation)
    run = run_within_limit(work, design, relaxation)
    step, layer, head, times = run.step, run.layer, run.head, run.times
    elapsed_s, energy = run.step_time_s, run.energy
    area_parts, die_area_mm2 = area.area_parts_mm2(chip), work.die_area_mm2
    step_energy_j = total(energy)
    job = goodput(step, design)
    runtime_bytes = design.software.runtime_memory_bytes
    memory = dataclasses.replace(step.memory, runtime=runtime_bytes)
    effective_tokens = jnp.maximum(job.fraction, SMALLEST) * step.tokens_per_step
    return Evaluation(
        time=time_parts(step, layer, head, times),
        energy=energy,
        area=area_parts,
        hbm=memory,
        step_time_s=elapsed_s,
        step_energy_j=step_energy_j,
        tokens_per_step=step.tokens_per_step,
        mfu_fraction=_mfu_fraction(step, layer, head, elapsed_s, design),
        goodput_fraction=job.fraction,
        checkpoint_write_time_s=job.write_time_s,
        optimal_checkpoint_interval_s=job.optimal_interval_s,
        effective_tokens_per_s=effective_tokens / elapsed_s,
        time_per_token_s=elapsed_s / effective_tokens,
        energy_per_token_j=step_energy_j / effective_tokens,
        chip_power_w=run.chip_power_w(design),
        die_area_mm2=die_area_mm2,
        hbm_used_ratio=total(memory) / chip.hbm.capacity_bytes,
        hbm_traffic_bytes=per_step(step, layer.hbm_bytes, head.hbm_bytes)
        + step.optimizer_traffic_bytes
        + times.fp64.traffic_bytes,
        hardware_flop=2.0 * per_step(step, layer.num_macs, head.num_macs),
        peak_flop_per_s=peak_flop_per_s(chip),
        throttled_clock_ratio=run.point.clock_ratio + 0.0 * elapsed_s,
        supply_voltage_v=run.point.voltage_v + 0.0 * elapsed_s,
        reticle_used_ratio=area.reticle_used_ratio(die_area_mm2, chip.num_dies),
        **_cost_and_carbon(run, die_area_mm2, effective_tokens, design),
    )


def _cost_and_carbon(
    run: StepRun, die_area_mm2: Scalar, effective_tokens: Scalar, design: Design
) -> dict[str, Scalar]:
    """Cost and carbon fields of an `Evaluation`, per chip and per token."""
    cluster, elapsed_s, energy_j = design.cluster, run.step_time_s, total(run.energy)
    chip_usd, chip_g = manufacturing(design.chip, die_area_mm2)
    step_usd = cost.step_cost_usd(chip_usd, elapsed_s, energy_j, cluster)
    step_usd = step_usd + checkpoint_storage_cost_usd(run.step, design, elapsed_s)
    step_g = carbon.step_carbon_g(chip_g, elapsed_s, energy_j, cluster)
    return {
        "chip_cost_usd": chip_usd,
        "cost_per_token_usd": step_usd / effective_tokens,
        "chip_operating_cost_usd_per_s": cost.chip_operating_cost_usd_per_s(
            chip_usd, run.chip_power_w(design), cluster
        ),
        "chip_carbon_g": chip_g,
        "carbon_per_token_g": step_g / effective_tokens,
    }


def _mfu_fraction(
    step: ShardedStep, layer: OperatorCosts, head: OperatorCosts, elapsed_s: Scalar, design: Design
) -> Scalar:
    """Model FLOP utilization (MFU) relative to the peak rate of the format mix.

    Recomputed and padded work does not count.
    """
    speedup = precision_mix.mix_matrix_speedup_ratio(design.mix, design.chip)
    model_flop = 2.0 * per_step(step, layer.model_macs, head.model_macs)
    batch_flop = model_flop * step.full_micro_batches / step.num_micro_batches
    return batch_flop / (elapsed_s * peak_flop_per_s(design.chip) * speedup)
