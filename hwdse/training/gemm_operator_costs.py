"""Time, memory traffic and operation counts of GEMM operators on one chip.

Each operator takes as long as its slowest resource: matrix engines, vector engines, SRAM or HBM
(roofline with full overlap). `operator_work` counts what no clock changes; `costs_at_clock` turns
it into times, multiplies the costs of one execution by the execution counts (forward, backward,
recompute) and assigns the time to the bounding resource.
`Design.mapping` selects the HBM traffic model: closed-form tilings or the mapper.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from hwdse.core.mapper.chip_gemm_mapper import mapped_traffic_bytes
from hwdse.models.compute.systolic import (
    accumulator_words,
    cycles_of,
    num_rounds,
    scratchpad_words,
)
from hwdse.models.memory import hbm_traffic, scratchpad_limits
from hwdse.models.precision import precision_mix
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp, Scalar
from hwdse.numerics.relaxation import (
    Relaxation,
    is_known,
    materialize,
    materialize_in_gradients,
)
from hwdse.specs.design import Design
from hwdse.specs.hardware.chip import Chip, Memory, SystolicArray
from hwdse.specs.software import Software
from hwdse.workload.gemms import ExecutionCounts, Gemms


@struct.dataclass
class OperatorCosts:
    """Costs of operators, or their sums.

    `time_s` is the sum of `matrix_s`, `vector_s`, `sram_s`, `hbm_s` (time by bounding resource) and
    `launch_s`.
    """

    time_s: Leaf
    forward_s: Leaf
    """Part of `time_s` in one forward pass."""
    weight_gradient_s: Leaf
    """Part of `time_s` of weight gradients."""
    matrix_s: Leaf
    vector_s: Leaf
    sram_s: Leaf
    hbm_s: Leaf
    launch_s: Leaf
    num_macs: Leaf
    model_macs: Leaf
    vector_flop: Leaf
    hbm_bytes: Leaf
    sram_bytes: Leaf
    accumulator_bytes: Leaf


def peak_flop_per_s(chip: Chip) -> Scalar:
    """16-bit peak of the matrix engines in FLOP/s.

    $2 R C P f$: P arrays of R x C PEs at clock f. No other engine counts.
    """
    array = chip.array
    return 2.0 * array.rows * array.cols * array.num_arrays * array.clock_hz


def vector_rate_flop_per_s(chip: Chip) -> Scalar:
    """Rate of the vector engines in FLOP/s; their clock scales with the array clock."""
    return chip.vector_flop_per_s * chip.array.clock_hz / chip.nominal_clock_hz


WIDE_BYTES = 2.0
"""Bytes per operand element of the products that no low precision is for."""


@struct.dataclass
class OperatorInputs:
    """Design values that operator costs depend on, one element per operator."""

    array: SystolicArray
    num_scratchpads: Leaf
    sram: Memory
    hbm: Memory
    bytes_per_element: Leaf
    """Operands in the formats of the mix."""
    cast_bytes_per_element: Leaf
    """HBM bytes to bring one activation into them."""
    matrix_efficiency_fraction: Leaf
    attention_efficiency_fraction: Leaf
    matrix_speedup_ratio: Leaf
    """MAC rate of the format mix over the 16-bit rate."""
    hbm_bytes_per_s: Leaf
    """Sustained HBM bandwidth."""
    vector_flop_per_s: Leaf
    launch_latency_s: Leaf
    software: Software


def _operator_inputs(design: Design, num_operators: int, relaxation: Relaxation) -> OperatorInputs:
    """Design values repeated for every operator; plain Python numbers stay scalars.

    Every leaf is repeated by its own matmul. Its derivative is a sum over operators that XLA on
    CPU never fuses (see `materialize`). Slices of one common matmul would have a sum of padded
    slices as derivative: one fusion that computes the backward pass once per leaf, also for leaves
    without a gradient.
    """
    chip, mix = design.chip, design.mix
    inputs = OperatorInputs(
        array=chip.array,
        num_scratchpads=chip.num_scratchpads,
        sram=scratchpad_limits.balanced_sram(chip, relaxation),
        hbm=chip.hbm,
        bytes_per_element=precision_mix.mix_bytes_per_element(mix),
        cast_bytes_per_element=precision_mix.mix_cast_bytes_per_element(mix),
        matrix_efficiency_fraction=chip.matrix_efficiency_fraction,
        attention_efficiency_fraction=chip.attention_efficiency_fraction,
        matrix_speedup_ratio=precision_mix.mix_matrix_speedup_ratio(mix, chip),
        hbm_bytes_per_s=scratchpad_limits.sustained_hbm_bytes_per_s(chip),
        vector_flop_per_s=vector_rate_flop_per_s(chip),
        launch_latency_s=chip.launch_latency_s,
        software=design.software,
    )
    ones = jnp.ones((1, num_operators))

    def repeated(leaf: Leaf) -> PerOp:
        if isinstance(leaf, int | float):
            return float(leaf)
        number = jnp.reshape(jnp.asarray(leaf, dtype=float), (1,))
        return jnp.matmul(number, ones, precision="highest")

    return jax.tree.map(repeated, inputs)


def _closed_form_bytes(
    gemms: Gemms, inputs: OperatorInputs, design: Design, relaxation: Relaxation
) -> PerOp:
    """HBM bytes and derivative of the best of nine tilings (`models/memory/hbm_traffic`)."""
    size = inputs.bytes_per_element
    return hbm_traffic.hbm_traffic_bytes(
        gemms, inputs.sram, inputs.num_scratchpads, size, relaxation
    )


def _mapped_bytes(
    gemms: Gemms, inputs: OperatorInputs, design: Design, relaxation: Relaxation
) -> PerOp:
    """HBM bytes of the best mapping on one core of the chip (`core/mapper`)."""
    speedup = precision_mix.mix_matrix_speedup_ratio(design.mix, design.chip)
    size = precision_mix.mix_bytes_per_element(design.mix)
    return mapped_traffic_bytes(gemms, design.chip, speedup, size, relaxation)


MAPPINGS: Mapping[str, Callable[[Gemms, OperatorInputs, Design, Relaxation], PerOp]] = (
    MappingProxyType({"closed_form": _closed_form_bytes, "optimize": _mapped_bytes})
)
"""Model of the HBM traffic of all executions of an operator, by `Design.mapping`."""


@struct.dataclass
class OperatorWork:
    """Work, traffic and times at the set clock of one execution of each operator.

    A power limit is met by a root search over the clock (`power_cap`), which repeats only
    `costs_at_clock`.
    """

    num_macs: Leaf
    vector_flop: Leaf
    hbm_bytes: Leaf
    sram_bytes: Leaf
    accumulator_bytes: Leaf
    matrix_s: Leaf
    vector_s: Leaf
    sram_s: Leaf
    fused_s: Leaf
    """Slowest of matrix engines, vector engines and SRAM."""
    gemm_s: Leaf
    """Slowest of matrix engines and SRAM."""
    gemm_hbm_s: Leaf
    """HBM time of the operands of the products, at any clock."""
    elementwise_hbm_s: Leaf
    """HBM time of the elementwise work, at any clock."""
    launch_s: Leaf
    overlap_fraction: Leaf
    """Fraction of the elementwise work fused into the kernels of the products."""


def operator_work(
    gemms: Gemms, executions: ExecutionCounts, design: Design, relaxation: Relaxation
) -> OperatorWork:
    """Operations, bytes and times at the set clock of one execution of each operator."""
    inputs = _operator_inputs(design, jnp.asarray(gemms.m).shape[0], relaxation)
    array, software, is_low = inputs.array, inputs.software, executions.is_low_precision
    size = WIDE_BYTES + is_low * (inputs.bytes_per_element - WIDE_BYTES)
    inputs = dataclasses.replace(inputs, bytes_per_element=size)
    gemms = materialize(
        scratchpad_limits.with_spilled_scores(
            gemms, 1.0 - executions.is_linear, inputs.sram, inputs.num_scratchpads, array, size
        )
    )
    cycles = cycles_of(gemms, array, relaxation)
    elementwise_bytes = software.elementwise_traffic_ratio * gemms.count * gemms.extra_bytes
    cast_bytes = software.cast_traffic_ratio * inputs.cast_bytes_per_element
    num_cast = is_low * executions.casts_input * gemms.m * gemms.k * gemms.count
    elementwise_bytes = elementwise_bytes + cast_bytes * num_cast
    elementwise_bytes = elementwise_bytes + scratchpad_limits.spilled_result_bytes(
        gemms, inputs.sram, inputs.num_scratchpads, array, size
    )
    gemm_bytes = MAPPINGS[design.mapping](gemms, inputs, design, relaxation)
    hbm_bytes = gemm_bytes + elementwise_bytes
    # Bytes from HBM are written to the scratchpad and then read into the array.
    sram_bytes = materialize_in_gradients(
        hbm_bytes + size * scratchpad_words(gemms, array, relaxation)
    )
    vector_flop = gemms.vector_flop * gemms.count
    matrix_s = cycles / (array.clock_hz * _matrix_rate_ratio(inputs, executions))
    if not is_known(array.fold_overhead_cycles, 0.0):
        rounds = num_rounds(gemms, array, relaxation)
        matrix_s = matrix_s + rounds * array.fold_overhead_cycles / array.clock_hz
    vector_s = vector_flop / inputs.vector_flop_per_s
    sram_s = sram_bytes / inputs.sram.bandwidth_bytes_per_s
    gemm_s = hbm_traffic.roofline_time_s(matrix_s, sram_s, relaxation=relaxation)
    return OperatorWork(
        num_macs=gemms.num_macs,
        vector_flop=vector_flop,
        hbm_bytes=hbm_bytes,
        sram_bytes=sram_bytes,
        accumulator_bytes=hbm_traffic.ACCUMULATOR_BYTES
        * accumulator_words(gemms, array, relaxation),
        matrix_s=matrix_s,
        vector_s=vector_s,
        sram_s=sram_s,
        fused_s=hbm_traffic.roofline_time_s(gemm_s, vector_s, relaxation=relaxation),
        gemm_s=gemm_s,
        gemm_hbm_s=gemm_bytes / inputs.hbm_bytes_per_s,
        elementwise_hbm_s=elementwise_bytes / inputs.hbm_bytes_per_s,
        launch_s=inputs.launch_latency_s,
        overlap_fraction=software.elementwise_overlap_fraction,
    )


@struct.dataclass
class BoundTimes:
    """Seconds of one execution of each operator, in total and by bounding resource."""

    total_s: Leaf
    matrix_s: Leaf
    vector_s: Leaf
    sram_s: Leaf
    hbm_s: Leaf


def _assigned(
    total_s: PerOp, matrix_s: PerOp, vector_s: PerOp, sram_s: PerOp, hbm_s: PerOp
) -> BoundTimes:
    """All of a time, assigned to the slowest resource."""
    slowest = jnp.maximum(jnp.maximum(matrix_s, vector_s), jnp.maximum(sram_s, hbm_s))
    is_matrix = matrix_s >= slowest
    is_vector = ~is_matrix & (vector_s >= slowest)
    is_sram = ~is_matrix & ~is_vector & (sram_s >= slowest)
    is_hbm = ~(is_matrix | is_vector | is_sram)
    return BoundTimes(
        total_s,
        jnp.where(is_matrix, total_s, 0.0),
        jnp.where(is_vector, total_s, 0.0),
        jnp.where(is_sram, total_s, 0.0),
        jnp.where(is_hbm, total_s, 0.0),
    )


def _bound_times(work: OperatorWork, clock_ratio: PerOp, relaxation: Relaxation) -> BoundTimes:
    """Times at a clock, with full overlap inside a kernel.

    The fused part of the elementwise work runs in the kernels of the products, the remainder in
    separate kernels.
    """
    period = 1.0 / clock_ratio
    matrix_s, vector_s, sram_s = (period * x for x in (work.matrix_s, work.vector_s, work.sram_s))
    hbm_s, elementwise_hbm_s, gemm_hbm_s = (
        work.gemm_hbm_s + work.elementwise_hbm_s,
        work.elementwise_hbm_s,
        work.gemm_hbm_s,
    )

    def slowest_s(*times_s: PerOp) -> PerOp:
        return hbm_traffic.roofline_time_s(*times_s, relaxation=relaxation)

    fused = _assigned(slowest_s(period * work.fused_s, hbm_s), matrix_s, vector_s, sram_s, hbm_s)
    if is_known(work.overlap_fraction, 1.0):
        return fused
    none = jnp.zeros_like(hbm_s)
    gemm = _assigned(
        slowest_s(period * work.gemm_s, gemm_hbm_s), matrix_s, none, sram_s, gemm_hbm_s
    )
    elementwise = _assigned(
        slowest_s(vector_s, elementwise_hbm_s), none, vector_s, none, elementwise_hbm_s
    )
    overlap = work.overlap_fraction
    return jax.tree.map(
        lambda both, first, second: overlap * both + (1.0 - overlap) * (first + second),
        fused,
        gemm,
        elementwise,
    )


def costs_at_clock(
    work: OperatorWork, executions: ExecutionCounts, clock_ratio: PerOp, relaxation: Relaxation
) -> OperatorCosts:
    """Costs of each operator times its execution counts, at `clock_ratio` times the set clock.

    Matrix engines, vector engines and SRAM follow the clock; HBM and launches do not.
    """
    bound_times = _bound_times(work, clock_ratio, relaxation)
    time_s = bound_times.total_s + work.launch_s
    once = OperatorCosts(
        time_s=time_s,
        forward_s=time_s,
        weight_gradient_s=time_s,
        matrix_s=bound_times.matrix_s,
        vector_s=bound_times.vector_s,
        sram_s=bound_times.sram_s,
        hbm_s=bound_times.hbm_s,
        launch_s=work.launch_s,
        num_macs=work.num_macs,
        model_macs=work.num_macs,
        vector_flop=work.vector_flop,
        hbm_bytes=work.hbm_bytes,
        sram_bytes=work.sram_bytes,
        accumulator_bytes=work.accumulator_bytes,
    )
    costs = jax.tree.map(lambda x: executions.total * x, once)
    return dataclasses.replace(
        costs,
        model_macs=executions.model * work.num_macs,
        forward_s=executions.forward * time_s,
        weight_gradient_s=_weight_gradients(executions) * time_s,
    )


def _weight_gradients(executions: ExecutionCounts) -> PerOp:
    """Executions of each operator that are weight gradients."""
    return executions.backward * executions.is_weight_gradient


def operator_costs(
    gemms: Gemms, executions: ExecutionCounts, design: Design, relaxation: Relaxation
) -> OperatorCosts:
    """Costs of each operator times its execution counts, on one chip at its set clock."""
    work = operator_work(gemms, executions, design, relaxation)
    return costs_at_clock(work, executions, 1.0, relaxation)


def _matrix_rate_ratio(inputs: OperatorInputs, executions: ExecutionCounts) -> PerOp:
    """Sustained MAC rate of an operator over the peak rate of the arrays at 16 bits."""
    software = inputs.software
    fused = software.fused_attention_fraction
    kernel = software.attention_efficiency_fraction * inputs.attention_efficiency_fraction
    attention = fused * kernel + (1.0 - fused)
    linear = inputs.matrix_speedup_ratio
    is_low, is_linear = executions.is_low_precision, executions.is_linear
    by_kind = is_low * linear + (is_linear - is_low) + (1.0 - is_linear) * attention
    return software.matrix_efficiency_fraction * inputs.matrix_efficiency_fraction * by_kind


def sum_operators(costs: OperatorCosts, is_lm_head: PerOp) -> tuple[OperatorCosts, OperatorCosts]:
    """Sums over the operators of one layer and of the LM head.

    Dot products with a mask, since XLA on CPU never fuses them (see `materialize`).
    """
    layer = jax.tree.map(lambda x: jnp.dot(x, 1.0 - is_lm_head), costs)
    head = jax.tree.map(lambda x: jnp.dot(x, is_lm_head), costs)
    return layer, head


def layer_and_head_seconds(
    work: OperatorWork, executions: ExecutionCounts, relaxation: Relaxation
) -> Callable[[Scalar], tuple[Scalar, Scalar, Scalar, Scalar]]:
    """Sums of `time_s`, `forward_s` and `weight_gradient_s` of a layer and `time_s` of the LM head.

    Those sums of `costs_at_clock` that the step time depends on, by clock, in one product.
    """
    in_layer = 1.0 - executions.is_lm_head
    weights = jnp.stack(
        [
            executions.total * in_layer,
            executions.forward * in_layer,
            _weight_gradients(executions) * in_layer,
            executions.total * executions.is_lm_head,
        ],
        axis=-1,
    )

    def seconds(clock_ratio: Scalar) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        time_s = _bound_times(work, clock_ratio, relaxation).total_s + work.launch_s
        layer_s, forward_s, gradient_s, head_s = jnp.unstack(time_s @ weights)
        return layer_s, forward_s, gradient_s, head_s

    return seconds
