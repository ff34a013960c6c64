"""Time, memory traffic and operation counts of GEMM operators on one chip.

Each operator takes as long as its slowest resource: matrix engines, vector engines, SRAM or HBM
(roofline with full overlap). `operator_costs` multiplies the costs of one execution by the
execution counts (forward, backward, recompute) and assigns the time to the bounding resource.
`Design.mapping` selects the HBM traffic model: closed-form tilings or the mapper.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from hwdse.core.mapper.chip_gemm_mapper import mapped_traffic_bytes
from hwdse.models.compute.systolic import accumulator_words, cycles_of, scratchpad_words
from hwdse.models.memory import hbm_traffic
from hwdse.models.precision import precision_mix
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp, Scalar
from hwdse.numerics.relaxation import Relaxation, materialize, materialize_in_gradients
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


@struct.dataclass
class OperatorInputs:
    """Design values that operator costs depend on, one element per operator."""

    array: SystolicArray
    num_scratchpads: Leaf
    sram: Memory
    hbm: Memory
    bytes_per_element: Leaf
    matrix_efficiency_fraction: Leaf
    attention_efficiency_fraction: Leaf
    matrix_speedup_ratio: Leaf
    """MAC rate of the format mix over the 16-bit rate."""
    hbm_bytes_per_s: Leaf
    """Sustained HBM bandwidth."""
    vector_flop_per_s: Leaf
    launch_latency_s: Leaf
    software: Software


def _operator_inputs(design: Design, num_operators: int) -> OperatorInputs:
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
        sram=chip.sram,
        hbm=chip.hbm,
        bytes_per_element=precision_mix.mix_bytes_per_element(mix),
        matrix_efficiency_fraction=chip.matrix_efficiency_fraction,
        attention_efficiency_fraction=chip.attention_efficiency_fraction,
        matrix_speedup_ratio=precision_mix.mix_matrix_speedup_ratio(mix, chip.fp8_speedup_ratio),
        hbm_bytes_per_s=chip.hbm_efficiency_fraction * chip.hbm.bandwidth_bytes_per_s,
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
    speedup = precision_mix.mix_matrix_speedup_ratio(design.mix, design.chip.fp8_speedup_ratio)
    size = precision_mix.mix_bytes_per_element(design.mix)
    return mapped_traffic_bytes(gemms, design.chip, speedup, size, relaxation)


MAPPINGS: Mapping[str, Callable[[Gemms, OperatorInputs, Design, Relaxation], PerOp]] = (
    MappingProxyType({"closed_form": _closed_form_bytes, "optimize": _mapped_bytes})
)
"""Model of the HBM traffic of all executions of an operator, by `Design.mapping`."""


@struct.dataclass
class BoundTimes:
    """Seconds of one execution of each operator, in total and by bounding resource."""

    total_s: Leaf
    matrix_s: Leaf
    vector_s: Leaf
    sram_s: Leaf
    hbm_s: Leaf


def _overlapped_times(
    matrix_s: PerOp | None,
    vector_s: PerOp | None,
    sram_s: PerOp | None,
    hbm_s: PerOp,
    relaxation: Relaxation,
) -> BoundTimes:
    """Times with full overlap; all time is assigned to the slowest resource. None: not used."""
    times_s = [x for x in (matrix_s, vector_s, sram_s, hbm_s) if x is not None]
    total_s = hbm_traffic.roofline_time_s(*times_s, relaxation=relaxation)
    none = jnp.zeros_like(total_s)
    matrix_s, vector_s, sram_s = (none if x is None else x for x in (matrix_s, vector_s, sram_s))
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


def _bound_times(
    matrix_s: PerOp,
    vector_s: PerOp,
    sram_s: PerOp,
    hbm_s: tuple[PerOp, PerOp],
    overlap: PerOp,
    relaxation: Relaxation,
) -> BoundTimes:
    """Times with a fraction `overlap` of the elementwise work fused into the GEMM kernels.

    The remaining elementwise work runs in separate kernels. `hbm_s` holds the HBM time of the GEMM
    operands and the HBM time of the elementwise work.
    """
    gemm_hbm_s, elementwise_hbm_s = hbm_s
    fused = _overlapped_times(
        matrix_s, vector_s, sram_s, gemm_hbm_s + elementwise_hbm_s, relaxation
    )
    gemm = _overlapped_times(matrix_s, None, sram_s, gemm_hbm_s, relaxation)
    elementwise = _overlapped_times(None, vector_s, None, elementwise_hbm_s, relaxation)
    return jax.tree.map(
        lambda both, first, second: overlap * both + (1.0 - overlap) * (first + second),
        fused,
        gemm,
        elementwise,
    )


def operator_costs(
    gemms: Gemms, executions: ExecutionCounts, design: Design, relaxation: Relaxation
) -> OperatorCosts:
    """Costs of each operator times its execution counts, on one chip."""
    gemms = materialize(gemms)
    inputs = _operator_inputs(design, jnp.asarray(gemms.m).shape[0])
    array, size, software = inputs.array, inputs.bytes_per_element, inputs.software
    cycles = cycles_of(gemms, array, relaxation)
    elementwise_bytes = software.elementwise_traffic_ratio * gemms.count * gemms.extra_bytes
    gemm_bytes = MAPPINGS[design.mapping](gemms, inputs, design, relaxation)
    hbm_bytes = gemm_bytes + elementwise_bytes
    # Bytes from HBM are written to the scratchpad and then read into the array.
    sram_bytes = materialize_in_gradients(
        hbm_bytes + size * scratchpad_words(gemms, array, relaxation)
    )
    accumulator_bytes = hbm_traffic.ACCUMULATOR_BYTES * accumulator_words(gemms, array, relaxation)
    vector_flop = gemms.vector_flop * gemms.count
    bound_times = _bound_times(
        cycles / (array.clock_hz * _matrix_rate_ratio(inputs, executions)),
        vector_flop / inputs.vector_flop_per_s,
        sram_bytes / inputs.sram.bandwidth_bytes_per_s,
        (gemm_bytes / inputs.hbm_bytes_per_s, elementwise_bytes / inputs.hbm_bytes_per_s),
        software.elementwise_overlap_fraction,
        relaxation,
    )
    time_s = bound_times.total_s + inputs.launch_latency_s
    once = OperatorCosts(
        time_s=time_s,
        forward_s=time_s,
        matrix_s=bound_times.matrix_s,
        vector_s=bound_times.vector_s,
        sram_s=bound_times.sram_s,
        hbm_s=bound_times.hbm_s,
        launch_s=inputs.launch_latency_s,
        num_macs=gemms.num_macs,
        model_macs=gemms.num_macs,
        vector_flop=vector_flop,
        hbm_bytes=hbm_bytes,
        sram_bytes=sram_bytes,
        accumulator_bytes=accumulator_bytes,
    )
    costs = jax.tree.map(lambda x: executions.total * x, once)
    return dataclasses.replace(
        costs, model_macs=executions.model * gemms.num_macs, forward_s=executions.forward * time_s
    )


def _matrix_rate_ratio(inputs: OperatorInputs, executions: ExecutionCounts) -> PerOp:
    """Sustained MAC rate of an operator over the peak rate of the arrays at 16 bits."""
    software = inputs.software
    fused = software.fused_attention_fraction
    attention = fused * inputs.attention_efficiency_fraction + (1.0 - fused)
    linear = inputs.matrix_speedup_ratio
    by_kind = executions.is_linear * linear + (1.0 - executions.is_linear) * attention
    return inputs.matrix_efficiency_fraction * by_kind


def sum_operators(costs: OperatorCosts, is_lm_head: PerOp) -> tuple[OperatorCosts, OperatorCosts]:
    """Sums over the operators of one layer and of the LM head.

    Dot products with a mask, since XLA on CPU never fuses them (see `materialize`).
    """
    layer = jax.tree.map(lambda x: jnp.dot(x, 1.0 - is_lm_head), costs)
    head = jax.tree.map(lambda x: jnp.dot(x, is_lm_head), costs)
    return layer, head
