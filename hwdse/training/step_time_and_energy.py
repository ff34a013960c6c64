"""Time and energy of one training step without failures.

Combines operator costs with collectives, pipeline, FP64 work and optimizer. Operators of one
micro-batch run one after another; communication is exposed as far as the overlap fractions of the
parallelism strategy do not hide it. Times are those of the chip of the most loaded pipeline stage,
energies are sums over all chips.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hwdse.models.energy import chip_energy
from hwdse.models.energy.chip_energy import ChipWork
from hwdse.models.energy.voltage_and_leakage import OperatingPoint
from hwdse.models.memory.scratchpad_limits import (
    sustained_hbm_bytes_per_s,
    with_sustained_links,
)
from hwdse.models.network import pipeline_and_overlap
from hwdse.models.precision import precision_mix
from hwdse.models.silicon import area
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import SMALLEST, Relaxation, is_known, positive_part, total
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.results.evaluation_result import EnergyParts, TimeParts
from hwdse.training.fp64_work import Fp64Work, fp64_work
from hwdse.training.gemm_operator_costs import (
    OperatorCosts,
    OperatorWork,
    costs_at_clock,
    layer_and_head_seconds,
    operator_work,
    sum_operators,
    vector_rate_flop_per_s,
)
from hwdse.training.step_collectives import Collectives, RankGroups, collectives, sent_bytes
from hwdse.workload.gemms import LayerList
from hwdse.workload.transformer.model_config import TransformerTraining
from hwdse.workload.transformer.sharding import ShardedStep, shard

BACKWARD_ELEMENTWISE_KERNELS = 1.5
"""Elementwise kernels of a backward pass over those of a forward pass: every norm, activation and
dropout has a gradient kernel; residuals and biases have sums."""


@struct.dataclass
class PassTimes:
    """Seconds of one micro-batch in one layer, forward or backward, by cause.

    The fields add up: kernels, exposed collectives, waits for the host, exposed weight gathers.
    """

    kernels_s: Leaf
    tensor_s: Leaf
    context_s: Leaf
    expert_s: Leaf
    host_s: Leaf
    data_s: Leaf

    @property
    def total_s(self) -> Leaf:
        """Sum of the fields."""
        return total(self)


@struct.dataclass
class StepTimes:
    """Seconds of one step on one chip, beyond the operator costs."""

    layer: PassTimes
    """One micro-batch in one layer, forward and backward together."""
    head: PassTimes
    """One micro-batch in the LM head, forward and backward together."""
    head_share: Leaf
    """Fraction of `head` that the last stage takes longer than the slowest one without it."""
    pipeline_s: Leaf
    data_s: Leaf
    bubble_s: Leaf
    fp64: Fp64Work
    optimizer_s: Leaf
    overhead_s: Leaf


@struct.dataclass
class StepRun:
    """One step: sharding, operator costs and times of one chip, energy of all chips."""

    step: ShardedStep
    point: OperatingPoint
    layer: OperatorCosts
    head: OperatorCosts
    times: StepTimes
    step_time_s: Leaf
    energy: EnergyParts

    def chip_power_w(self, design: Design) -> Scalar:
        """Mean power of one chip during the step."""
        return total(self.energy) / (self.step_time_s * design.cluster.num_chips)


@struct.dataclass
class StepWork:
    """Parts of a step that no clock changes: sharding, operators, collectives, die area."""

    step: ShardedStep
    operators: OperatorWork
    collectives: Collectives
    link_bytes: Leaf
    """Bytes that one chip sends per step over the scale-up fabric."""
    network_bytes: Leaf
    """Bytes that one chip sends per step over the scale-out network."""
    die_area_mm2: Leaf


def step_work(
    design: Design, workload: TransformerTraining | LayerList, relaxation: Relaxation
) -> StepWork:
    """Sharded step of a workload with the work of its operators and its collectives."""
    step = shard(
        workload, design.parallelism, design.cluster.num_chips, design.software, design.mix
    )
    fabric = dataclasses.replace(design, chip=with_sustained_links(design.chip))
    groups = RankGroups.of(step, fabric)
    link_bytes, network_bytes = sent_bytes(step, fabric, groups)
    return StepWork(
        step=step,
        operators=operator_work(step.gemms, step.executions, design, relaxation),
        collectives=collectives(step, fabric, groups),
        link_bytes=link_bytes,
        network_bytes=network_bytes,
        die_area_mm2=total(area.area_parts_mm2(design.chip)),
    )


def run_step(
    work: StepWork, design: Design, relaxation: Relaxation, point: OperatingPoint
) -> StepRun:
    """Times and energy of a step without failures, at an operating point of its chips."""
    costs = costs_at_clock(work.operators, work.step.executions, point.clock_ratio, relaxation)
    layer, head = sum_operators(costs, work.step.executions.is_lm_head)
    times = step_times(work, layer, head, with_clock_ratio(design, point.clock_ratio))
    elapsed_s = step_time_s(work.step, times)
    one_chip = _chip_work(work, layer, head, times, elapsed_s)
    energy = jax.tree.map(
        lambda joules: joules * design.cluster.num_chips,
        chip_energy_parts(one_chip, work, design, point),
    )
    return StepRun(work.step, point, layer, head, times, elapsed_s, energy)


def chip_work_by_clock(
    work: StepWork, design: Design, relaxation: Relaxation
) -> Callable[[Scalar], ChipWork]:
    """Work of one chip in one step by its clock ratio; only the two times depend on it."""
    executions = work.step.executions
    costs = costs_at_clock(work.operators, executions, 1.0, relaxation)
    set_layer, set_head = sum_operators(costs, executions.is_lm_head)
    seconds = layer_and_head_seconds(work.operators, executions, relaxation)

    def at_clock(clock_ratio: Scalar) -> ChipWork:
        layer_s, forward_s, gradient_s, head_s = seconds(clock_ratio)
        layer = dataclasses.replace(
            set_layer, time_s=layer_s, forward_s=forward_s, weight_gradient_s=gradient_s
        )
        head = dataclasses.replace(set_head, time_s=head_s)
        times = step_times(work, layer, head, with_clock_ratio(design, clock_ratio))
        return _chip_work(work, layer, head, times, step_time_s(work.step, times))

    return at_clock


def chip_energy_parts(
    one_chip: ChipWork, work: StepWork, design: Design, point: OperatingPoint
) -> EnergyParts:
    """Energy of the work of one chip in one step at an operating point (J)."""
    mac_ratio = precision_mix.mix_mac_energy_ratio(design.mix)
    return chip_energy.energy_parts(one_chip, design.chip, mac_ratio, work.die_area_mm2, point)


def with_clock_ratio(design: Design, ratio: Scalar) -> Design:
    """Design with the clock of its engines and SRAM, and the voltage, scaled."""
    chip = design.chip
    array = dataclasses.replace(chip.array, clock_hz=chip.array.clock_hz * ratio)
    bandwidth = chip.sram.bandwidth_bytes_per_s * ratio
    sram = dataclasses.replace(chip.sram, bandwidth_bytes_per_s=bandwidth)
    return dataclasses.replace(design, chip=dataclasses.replace(chip, array=array, sram=sram))


def step_times(
    work: StepWork, layer: OperatorCosts, head: OperatorCosts, design: Design
) -> StepTimes:
    """Exposed times of one step, beyond the operator costs."""
    step, each, parallelism = work.step, work.collectives, design.parallelism
    forward, backward = _layer_passes(step, layer, each, design)
    both = jax.tree.map(jnp.add, forward, backward)
    passes_s = (
        step.layers_per_stage * forward.total_s,
        step.layers_per_stage * backward.total_s,
    )
    head_pass = _head_pass(head, each, design)
    trains = jnp.where(step.checkpoint_bytes > 0.0, 1.0, 0.0)
    return StepTimes(
        layer=both,
        head=head_pass,
        head_share=_head_share(step, both, head_pass),
        pipeline_s=pipeline_and_overlap.pipeline_send_time_s(
            each.send_s,
            step.num_micro_batches,
            (step.pipeline, parallelism.virtual_pipeline),
            passes_s,
            design.software.send_overlap_fraction,
        ),
        data_s=pipeline_and_overlap.exposed_data_parallel_time_s(
            each.reduce_s,
            each.update_gather_s,
            passes_s,
            step.layers_per_stage,
            free_overlap_fractions(design).data,
        )
        + _ends_of_prefetch_s(each, forward, backward),
        bubble_s=_bubble_s(step, passes_s, layer, parallelism),
        fp64=fp64_work(2.0 * per_step(step, layer.model_macs, head.model_macs), design),
        optimizer_s=_optimizer_s(step, design.chip),
        overhead_s=trains * design.software.step_overhead_s,
    )


def _bubble_s(
    step: ShardedStep,
    passes_s: tuple[Scalar, Scalar],
    layer: OperatorCosts,
    parallelism: Parallelism,
) -> Scalar:
    """Bubble of the pipeline schedule; fractions of schedules mix their bubbles."""
    zero_bubble, dual_pipe = parallelism.zero_bubble_fraction, parallelism.dual_pipe_fraction
    one_f_one_b_s = pipeline_and_overlap.bubble_time_s(
        sum(passes_s), step.pipeline, parallelism.virtual_pipeline
    )
    if is_known(zero_bubble, 0.0) and is_known(dual_pipe, 0.0):
        return one_f_one_b_s
    times_s = (*passes_s, step.layers_per_stage * layer.weight_gradient_s)
    return (
        (1.0 - zero_bubble - dual_pipe) * one_f_one_b_s
        + zero_bubble * pipeline_and_overlap.zero_bubble_time_s(times_s, step.pipeline)
        + dual_pipe * pipeline_and_overlap.dual_pipe_bubble_time_s(times_s, step.pipeline)
    )


def _head_share(step: ShardedStep, layer: PassTimes, head: PassTimes) -> Scalar:
    """Fraction of the LM head that no spare layers of the last stage make up for."""
    if is_known(step.last_stage_slack, 0.0):
        return 1.0
    longer_s = positive_part(head.total_s - step.last_stage_slack * layer.total_s)
    return longer_s / jnp.maximum(head.total_s, SMALLEST)


class OverlapFractions(NamedTuple):
    """Fraction of each kind of collective that costs no time next to enough compute."""

    tensor: Leaf
    """Tensor- and context-parallel collectives."""
    data: Leaf
    expert: Leaf


def free_overlap_fractions(design: Design) -> OverlapFractions:
    """Overlap of the strategy where it states a fraction, else that of the software stack."""
    given, software = design.parallelism, design.software
    sliced = pipeline_and_overlap.sliced_overlap_fraction(software.num_tensor_slices)

    def free(own: Leaf | None, computed: Scalar) -> Leaf:
        if own is not None:
            return own
        engines = software.collective_engine_fraction
        return pipeline_and_overlap.free_overlap_fraction(computed, engines)

    return OverlapFractions(
        free(given.tensor_overlap_fraction, sliced),
        free(given.data_overlap_fraction, software.data_overlap_fraction),
        free(given.expert_overlap_fraction, software.expert_overlap_fraction),
    )


def _ends_of_prefetch_s(each: Collectives, forward: PassTimes, backward: PassTimes) -> Scalar:
    """Exposed once per step with sharded weights: first gather and last reduce-scatter.

    Weights are gathered one layer ahead, and gradients are scattered one layer behind. The first
    layer of a step has none before it, the last one none after it. Zero without sharded weights.
    """
    hidden_s = each.layer_gather_s + each.layer_reduce_s - backward.data_s
    first_s = each.layer_gather_s - forward.data_s
    return first_s + jnp.minimum(each.layer_reduce_s, hidden_s)


def _layer_passes(
    step: ShardedStep, layer: OperatorCosts, each: Collectives, design: Design
) -> tuple[PassTimes, PassTimes]:
    """Forward and backward pass of one micro-batch through one layer."""
    messages, parallelism, software = step.messages, design.parallelism, design.software
    recompute = parallelism.recompute_fraction
    overlap = free_overlap_fractions(design)
    spread = 1.0 + software.dispatch_spread_ratio * jnp.log2(step.tensor)
    dispatch_s = software.dispatch_time_s * spread
    unfused = (1.0 - software.elementwise_overlap_fraction) * design.chip.launch_latency_s
    kernels_s = unfused * software.num_elementwise_kernels
    backward_kernels_s = (BACKWARD_ELEMENTWISE_KERNELS + recompute) * kernels_s
    # Forward: all-to-alls to the experts and back. Backward: the same, plus the recomputed ones.
    expert_s = messages.num_expert * each.expert_s / (2.0 + recompute)
    wait_s = messages.num_expert / (2.0 * (1.0 + recompute) + 2.0) * software.expert_sync_s
    exposed_s = pipeline_and_overlap.exposed_time_s
    forward_s = layer.forward_s + kernels_s
    backward_s = layer.time_s - layer.forward_s + backward_kernels_s
    forward = _pass_times(
        forward_s,
        (
            exposed_s(messages.num_tensor_forward * each.tensor_s, forward_s, overlap.tensor),
            exposed_s(each.context_s, forward_s, overlap.tensor),
            exposed_s(expert_s, forward_s, overlap.expert),
        ),
        (dispatch_s, wait_s),
        each.layer_gather_s,
        design,
    )
    backward = _pass_times(
        backward_s,
        (
            exposed_s(messages.num_tensor_backward * each.tensor_s, backward_s, overlap.tensor),
            exposed_s((2.0 + recompute) * each.context_s, backward_s, overlap.tensor),
            exposed_s((1.0 + recompute) * expert_s, backward_s, overlap.expert),
        ),
        ((1.0 + recompute) * dispatch_s, recompute * wait_s),
        each.layer_gather_s + each.layer_reduce_s,
        design,
    )
    return forward, backward


def _head_pass(head: OperatorCosts, each: Collectives, design: Design) -> PassTimes:
    """Forward and backward pass of the LM head and the loss.

    The tensor-parallel ranks gather the input of the head and sum its gradient.
    """
    overlap = free_overlap_fractions(design).tensor
    tensor_s = pipeline_and_overlap.exposed_time_s(2.0 * each.tensor_s, head.time_s, overlap)
    none = 0.0 * each.tensor_s
    return _pass_times(
        head.time_s,
        (tensor_s, none, none),
        (design.software.dispatch_time_s, 0.0),
        2.0 * each.head_gather_s + each.head_reduce_s,
        design,
    )


def _pass_times(
    kernels_s: Scalar,
    exposed_s: tuple[Scalar, Scalar, Scalar],
    host_s: tuple[Scalar, Scalar],
    gather_s: Scalar,
    design: Design,
) -> PassTimes:
    """Times of one pass through a layer.

    Kernels and exposed collectives run one after another. The pass takes at least the dispatch time
    of the host, and waits for it (`host_s`: dispatch, waits). It takes as well, as far as the two
    overlap, the time to gather the weights.
    """
    dispatch_s, wait_s = host_s
    issued_s = kernels_s + sum(exposed_s)
    paced_s = pipeline_and_overlap.paced_time_s(issued_s, dispatch_s) + wait_s
    overlap = free_overlap_fractions(design).data
    data_s = pipeline_and_overlap.exposed_time_s(gather_s, paced_s, overlap)
    return PassTimes(kernels_s, *exposed_s, paced_s - issued_s, data_s)


def _optimizer_s(step: ShardedStep, chip: Chip) -> Scalar:
    """Time to update a chip's share of the parameters, bound by vector engines or HBM."""
    return jnp.maximum(
        step.optimizer_flop / vector_rate_flop_per_s(chip),
        step.optimizer_traffic_bytes / sustained_hbm_bytes_per_s(chip),
    )


def per_step(step: ShardedStep, layer: Leaf, head: Leaf) -> Leaf:
    """Mean over stages of a quantity per step, from its value per layer and per head.

    For work and energy. Times follow the most loaded stage instead.
    """
    per_pass = step.mean_layers_per_stage * layer + head / step.pipeline
    return step.num_micro_batches * per_pass


def step_time_s(step: ShardedStep, times: StepTimes) -> Scalar:
    """Seconds of one step of the most loaded stage; the LM head is on the last stage.

    Equals the sum of `time_parts` without the assignment to bounding resources.
    """
    pass_s = step.layers_per_stage * times.layer.total_s + times.head_share * times.head.total_s
    once_s = (
        times.fp64.time_s + times.pipeline_s + times.data_s + times.bubble_s + times.optimizer_s
    )
    return step.num_micro_batches * pass_s + once_s + times.overhead_s


def time_parts(
    step: ShardedStep, layer: OperatorCosts, head: OperatorCosts, times: StepTimes
) -> TimeParts:
    """Seconds of one step of the most loaded stage, by bounding resource or cause."""

    def in_stage(in_layer: Leaf, in_head: Leaf) -> Leaf:
        in_both = step.layers_per_stage * in_layer + times.head_share * in_head
        return step.num_micro_batches * in_both

    def of_operators(name: str) -> Leaf:
        return in_stage(getattr(layer, name), getattr(head, name))

    def of_passes(name: str) -> Leaf:
        return in_stage(getattr(times.layer, name), getattr(times.head, name))

    operators_s = in_stage(layer.time_s, head.time_s)
    return TimeParts(
        matrix=of_operators("matrix_s"),
        vector=of_operators("vector_s"),
        sram=of_operators("sram_s"),
        hbm=of_operators("hbm_s"),
        launch=of_operators("launch_s") + of_passes("kernels_s") - operators_s,
        host=of_passes("host_s") + times.overhead_s,
        fp64=times.fp64.time_s,
        tensor_comm=of_passes("tensor_s"),
        context_comm=of_passes("context_s"),
        expert_comm=of_passes("expert_s"),
        pipeline_comm=times.pipeline_s,
        data_comm=of_passes("data_s") + times.data_s,
        bubble=times.bubble_s,
        optimizer=times.optimizer_s,
    )


def _chip_work(
    work: StepWork, layer: OperatorCosts, head: OperatorCosts, times: StepTimes, elapsed_s: Scalar
) -> ChipWork:
    """Operations, bytes and times of one chip in one step, mean over the stages."""
    step = work.step

    def of_step(name: str) -> Leaf:
        return per_step(step, getattr(layer, name), getattr(head, name))

    return ChipWork(
        num_macs=of_step("num_macs"),
        vector_flop=of_step("vector_flop") + step.optimizer_flop,
        sram_bytes=of_step("sram_bytes"),
        accumulator_bytes=of_step("accumulator_bytes"),
        hbm_bytes=of_step("hbm_bytes") + step.optimizer_traffic_bytes + times.fp64.traffic_bytes,
        link_bytes=work.link_bytes,
        network_bytes=work.network_bytes,
        fp64_j=times.fp64.energy_j,
        elapsed_s=elapsed_s,
        resident_s=elapsed_s - waiting_time_s(step, times),
    )


def waiting_time_s(step: ShardedStep, times: StepTimes) -> Scalar:
    """Seconds of a step without a resident kernel: pipeline bubble and waits for the host.

    A chip of a less loaded stage waits longer; this is left out.
    """
    host_s = step.num_micro_batches * (
        step.layers_per_stage * times.layer.host_s + times.head_share * times.head.host_s
    )
    return times.bubble_s + host_s + times.overhead_s
