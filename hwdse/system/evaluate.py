"""A design and a workload go in, an `Evaluation` comes out."""

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.models import area, cost, precision, reliability
from hwdse.numerics import EXACT, SMALLEST, Reading, total
from hwdse.shapes import Leaf, Scalar
from hwdse.specs.design import CoreDesign, Design
from hwdse.specs.evaluation import (
    Evaluation,
)
from hwdse.system.core import evaluate_core
from hwdse.system.rows import RowCosts, peak_flop_per_s, row_costs, sum_rows
from hwdse.system.step import energy_parts, per_step, step_time_s, step_times, time_parts
from hwdse.workload.layers import LayerList
from hwdse.workload.model_shape import TransformerTraining
from hwdse.workload.operators import Operators
from hwdse.workload.sharding import ShardedStep, shard

Workload = TransformerTraining | LayerList | Operators


def goodput(step: ShardedStep, design: Design) -> tuple[Scalar, Scalar, Scalar]:
    """Useful share of wall time, write time of a checkpoint and the interval that is best.

    All chips write their share at once, until the file system is full. A workload that saves
    nothing loses nothing.
    """
    cluster = design.cluster
    rate = jnp.minimum(
        cluster.num_chips * design.chip.checkpoint_bandwidth_bytes_per_s,
        cluster.storage_bandwidth_bytes_per_s,
    )
    write_s = step.checkpoint_bytes / rate
    mtbf_s = reliability.job_mtbf_s(cluster.chip_mtbf_s, cluster.num_chips)
    useful = reliability.useful_time_fraction(
        design.checkpoint_interval_s,
        write_s,
        cluster.restart_time_s,
        cluster.downtime_s,
        mtbf_s,
    )
    best_s = reliability.best_checkpoint_interval_s(write_s, mtbf_s)
    return jnp.where(step.checkpoint_bytes > 0.0, useful, 1.0), write_s, best_s


def evaluate(
    design: Design | CoreDesign,
    workload: Workload,
    reading: Reading = EXACT,
) -> Evaluation:
    """Times, energies, areas and money of one design running one workload.

    A cluster runs a training or a layer list, a core the operators of a network
    (`evaluate_core`). Pure and differentiable in every leaf of `design`; batch it with `vmap`.
    `reading` is exact or smooth (see `numerics`).
    """
    workload = jax.tree.map(_own_copy, workload)
    if isinstance(design, CoreDesign) and isinstance(workload, Operators):
        return evaluate_core(design, workload, reading)
    if isinstance(design, CoreDesign) or isinstance(workload, Operators):
        raise ValueError(
            f"a {type(design).__name__} cannot run a {type(workload).__name__}: a CoreDesign runs "
            "Operators, a Design a TransformerTraining or a LayerList"
        )
    return _evaluate_cluster(design, workload, reading)


def _own_copy(leaf: Leaf) -> Leaf:
    """A NumPy array as a new one of the float type in scope, all else as it is.

    JAX keeps what it made of an array that a program closed over, for other programs as well,
    and a sweep runs in both float types.
    """
    return leaf.astype(jnp.result_type(float)) if isinstance(leaf, np.ndarray) else leaf


def _evaluate_cluster(
    design: Design, workload: TransformerTraining | LayerList, reading: Reading
) -> Evaluation:
    """Wasted work of failures costs the same power as useful work."""
    chip, cluster = design.chip, design.cluster
    step = shard(workload, design.parallelism, cluster.num_chips, design.software)
    rows = row_costs(step.gemms, step.runs, design, reading)
    layer, head = sum_rows(rows, step.runs.is_head)
    rest = step_times(step, layer, head, design)
    elapsed_s = step_time_s(step, rest)
    area_parts = area.area_parts_mm2(chip)
    die_area_mm2 = total(area_parts)
    energy = energy_parts(step, layer, head, rest, elapsed_s, die_area_mm2, design)
    step_energy_j = total(energy)
    goodput_fraction, write_s, best_interval_s = goodput(step, design)
    useful_tokens = jnp.maximum(goodput_fraction, SMALLEST) * step.tokens_per_step
    chip_usd = _chip_cost_usd(die_area_mm2, design)
    return Evaluation(
        time=time_parts(step, layer, head, rest),
        energy=energy,
        area=area_parts,
        hbm=step.held,
        step_time_s=elapsed_s,
        step_energy_j=step_energy_j,
        tokens_per_step=step.tokens_per_step,
        matrix_utilization_fraction=_matrix_utilization(step, layer, head, elapsed_s, design),
        goodput_fraction=goodput_fraction,
        checkpoint_write_time_s=write_s,
        best_checkpoint_interval_s=best_interval_s,
        useful_tokens_per_s=useful_tokens / elapsed_s,
        time_per_token_s=elapsed_s / useful_tokens,
        energy_per_token_j=step_energy_j / useful_tokens,
        chip_power_w=step_energy_j / (elapsed_s * cluster.num_chips),
        die_area_mm2=die_area_mm2,
        chip_cost_usd=chip_usd,
        cost_usd_per_token=cost.step_cost_usd(chip_usd, elapsed_s, step_energy_j, cluster)
        / useful_tokens,
        hbm_used_ratio=total(step.held) / chip.hbm.capacity_bytes,
        hbm_bytes_per_chip=per_step(step, layer.hbm_bytes, head.hbm_bytes)
        + step.optimizer_traffic_bytes,
        flop_per_chip=2.0 * per_step(step, layer.num_macs, head.num_macs),
        peak_flop_per_s=peak_flop_per_s(chip),
    )


def _matrix_utilization(
    step: ShardedStep, layer: RowCosts, head: RowCosts, elapsed_s: Scalar, design: Design
) -> Scalar:
    """FLOP of the batch, without recomputing and padding, over those of the peak of the mix."""
    speedup = precision.mix_matrix_speedup_ratio(design.mix, design.chip.fp8_speedup_ratio)
    run_flop = 2.0 * per_step(step, layer.useful_macs, head.useful_macs)
    useful_flop = run_flop * step.useful_micro_batches / step.num_micro_batches
    return useful_flop / (elapsed_s * peak_flop_per_s(design.chip) * speedup)


def _chip_cost_usd(die_area_mm2: Scalar, design: Design) -> Scalar:
    chip, process = design.chip, design.chip.process
    one_die_mm2 = die_area_mm2 / chip.num_dies
    good = area.die_yield_fraction(one_die_mm2, process.defects_per_mm2, process.defect_clustering)
    return cost.chip_cost_usd(cost.good_die_cost_usd(one_die_mm2, good, process), chip)
