"""Rows of matrix products on one chip: time, traffic and work, summed over rows."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import flax.struct
import jax
import jax.numpy as jnp

from hwdse.core.mapper.chip_gemm_mapper import mapped_traffic_bytes
from hwdse.models.compute.systolic import DATAFLOWS, accumulator_words, scratchpad_words
from hwdse.models.memory import hbm_traffic
from hwdse.models.precision import precision_mix
from hwdse.numerics.array_types import Leaf, PerOp, Scalar
from hwdse.numerics.relaxation import Relaxation, materialize
from hwdse.specs.design import Design
from hwdse.specs.hardware.chip import Chip, Memory, SystolicArray
from hwdse.specs.software import Software
from hwdse.workload.gemms import ExecutionCounts, Gemms


@flax.struct.dataclass
class OperatorCosts:
    """Costs of rows, or their sums. `time_s` is also given by the resource that bounds a row."""

    time_s: Leaf
    forward_s: Leaf
    """Of `time_s`, one forward pass."""
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
    """16-bit peak of the matrix engines, $2 R C P f$; no other engine is counted."""
    array = chip.array
    return 2.0 * array.rows * array.cols * array.num_arrays * array.clock_hz


def vector_rate_flop_per_s(chip: Chip) -> Scalar:
    """Rate of the vector engines, whose clock moves with that of the array."""
    return chip.vector_flop_per_s * chip.array.clock_hz / chip.nominal_clock_hz


@flax.struct.dataclass
class OperatorInputs:
    """What the cost of a row depends on, once for every row."""

    array: SystolicArray
    num_scratchpads: Leaf
    sram: Memory
    hbm: Memory
    bytes_per_element: Leaf
    matrix_efficiency_fraction: Leaf
    attention_efficiency_fraction: Leaf
    matrix_speedup_ratio: Leaf
    """Multiply-adds of the mix of formats over those of 16 bits."""
    hbm_bytes_per_s: Leaf
    """Sustained."""
    vector_flop_per_s: Leaf
    launch_latency_s: Leaf
    software: Software


def _operator_inputs(design: Design, num_rows: int) -> OperatorInputs:
    """Numbers of the design repeated for every row; plain ones stay as they are.

    Each by a product of its own, whose derivative is a sum over rows that XLA on CPU never fuses
    (see `materialize`). Rows sliced from one product of them all would give their derivatives
    back as a sum of padded slices: one fusion that computes the whole backward pass once for
    each leaf, also for those that nothing is searched in.
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
    ones = jnp.ones((1, num_rows))

    def spread(leaf: Leaf) -> PerOp:
        if isinstance(leaf, int | float):
            return float(leaf)
        number = jnp.reshape(jnp.asarray(leaf, dtype=float), (1,))
        return jnp.matmul(number, ones, precision="highest")

    return jax.tree.map(spread, inputs)


def _closed_form_bytes(
    gemms: Gemms, inputs: OperatorInputs, design: Design, relaxation: Relaxation
) -> PerOp:
    """The least of the nine tilings of `models.memory`, with the derivative of the winner."""
    size = inputs.bytes_per_element
    return hbm_traffic.hbm_traffic_bytes(
        gemms, inputs.sram, inputs.num_scratchpads, size, relaxation
    )


def _mapped_bytes(
    gemms: Gemms, inputs: OperatorInputs, design: Design, relaxation: Relaxation
) -> PerOp:
    """That of the best mapping on one of the chip's cores."""
    speedup = precision_mix.mix_matrix_speedup_ratio(design.mix, design.chip.fp8_speedup_ratio)
    size = precision_mix.mix_bytes_per_element(design.mix)
    return mapped_traffic_bytes(gemms, design.chip, speedup, size, relaxation)


MAPPINGS: Mapping[str, Callable[[Gemms, OperatorInputs, Design, Relaxation], PerOp]] = (
    MappingProxyType({"closed_form": _closed_form_bytes, "optimize": _mapped_bytes})
)
"""Where the HBM bytes of rows, all counts, come from, by `Design.mapping`."""


@flax.struct.dataclass
class BoundTimes:
    """Seconds of one run of each row: whole, and what of it each resource bounds."""

    total_s: Leaf
    matrix_s: Leaf
    vector_s: Leaf
    sram_s: Leaf
    hbm_s: Leaf


def _overlapped_times(
    matrix_s: PerOp, vector_s: PerOp, sram_s: PerOp, hbm_s: PerOp, relaxation: Relaxation
) -> BoundTimes:
    """Engines and memories side by side: all the time goes to the slowest."""
    total_s = hbm_traffic.roofline_time_s(matrix_s, vector_s, sram_s, hbm_s, relaxation)
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
    """`overlap` of the elementwise work beside the products, the rest in kernels of its own.

    `hbm_s` is the traffic of the products, then that of the elementwise work.
    """
    product_hbm_s, other_hbm_s = hbm_s
    none = jnp.zeros_like(matrix_s)
    beside = _overlapped_times(matrix_s, vector_s, sram_s, product_hbm_s + other_hbm_s, relaxation)
    products = _overlapped_times(matrix_s, none, sram_s, product_hbm_s, relaxation)
    others = _overlapped_times(none, vector_s, none, other_hbm_s, relaxation)
    return jax.tree.map(
        lambda both, first, second: overlap * both + (1.0 - overlap) * (first + second),
        beside,
        products,
        others,
    )


def operator_costs(
    gemms: Gemms, runs: ExecutionCounts, design: Design, relaxation: Relaxation
) -> OperatorCosts:
    """Costs of each row times its runs, on one chip. Each row's time goes to what bounds it."""
    gemms = materialize(gemms)
    inputs = _operator_inputs(design, jnp.asarray(gemms.m).shape[0])
    array, size, software = inputs.array, inputs.bytes_per_element, inputs.software
    cycles = DATAFLOWS[array.dataflow](gemms, array, relaxation)
    other_bytes = software.elementwise_traffic_ratio * gemms.count * gemms.extra_bytes
    gemm_bytes = MAPPINGS[design.mapping](gemms, inputs, design, relaxation)
    hbm_bytes = gemm_bytes + other_bytes
    # What comes from HBM is written to the scratchpad, then read into the array.
    sram_bytes = hbm_bytes + size * scratchpad_words(gemms, array, relaxation)
    accumulator_bytes = hbm_traffic.ACCUMULATOR_BYTES * accumulator_words(gemms, array, relaxation)
    vector_flop = gemms.vector_flop * gemms.count
    bound_times = _bound_times(
        cycles / (array.clock_hz * _matrix_rate_ratio(inputs, runs)),
        vector_flop / inputs.vector_flop_per_s,
        sram_bytes / inputs.sram.bandwidth_bytes_per_s,
        (gemm_bytes / inputs.hbm_bytes_per_s, other_bytes / inputs.hbm_bytes_per_s),
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
    costs = jax.tree.map(lambda x: runs.total * x, once)
    return dataclasses.replace(
        costs, model_macs=runs.model * gemms.num_macs, forward_s=runs.forward * time_s
    )


def _matrix_rate_ratio(inputs: OperatorInputs, runs: ExecutionCounts) -> PerOp:
    """Matrix rate of a row over that of the arrays at their clock."""
    software = inputs.software
    fused = software.fused_attention_fraction
    attention = fused * inputs.attention_efficiency_fraction + (1.0 - fused)
    linear = inputs.matrix_speedup_ratio
    of_kind = runs.is_linear * linear + (1.0 - runs.is_linear) * attention
    return inputs.matrix_efficiency_fraction * of_kind


def sum_operators(rows: OperatorCosts, is_lm_head: PerOp) -> tuple[OperatorCosts, OperatorCosts]:
    """Sums over the rows of a layer and over those of the head (products, see `materialize`)."""
    layer = jax.tree.map(lambda x: jnp.dot(x, 1.0 - is_lm_head), rows)
    head = jax.tree.map(lambda x: jnp.dot(x, is_lm_head), rows)
    return layer, head
