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
from hwdse.numerics.relaxation import Reading, materialize
from hwdse.specs.design import Design
from hwdse.specs.hardware.chip import Chip, Memory, SystolicArray
from hwdse.specs.software import Software
from hwdse.workload.gemms import Gemms, Runs


@flax.struct.dataclass
class RowCosts:
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
    useful_macs: Leaf
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
class Machine:
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


def _machine(design: Design, num_rows: int) -> Machine:
    """Numbers of the design repeated for every row; plain ones stay as they are.

    Each by a product of its own, whose derivative is a sum over rows that XLA on CPU never fuses
    (see `materialize`). Rows sliced from one product of them all would give their derivatives
    back as a sum of padded slices: one fusion that computes the whole backward pass once for
    each leaf, also for those that nothing is searched in.
    """
    chip, mix = design.chip, design.mix
    machine = Machine(
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

    return jax.tree.map(spread, machine)


def _closed_form_bytes(gemms: Gemms, machine: Machine, design: Design, reading: Reading) -> PerOp:
    """The least of the nine tilings of `models.memory`, with the derivative of the winner."""
    size = machine.bytes_per_element
    return hbm_traffic.hbm_traffic_bytes(
        gemms, machine.sram, machine.num_scratchpads, size, reading
    )


def _mapped_bytes(gemms: Gemms, machine: Machine, design: Design, reading: Reading) -> PerOp:
    """That of the best mapping on one of the chip's cores."""
    speedup = precision_mix.mix_matrix_speedup_ratio(design.mix, design.chip.fp8_speedup_ratio)
    size = precision_mix.mix_bytes_per_element(design.mix)
    return mapped_traffic_bytes(gemms, design.chip, speedup, size, reading)


MAPPINGS: Mapping[str, Callable[[Gemms, Machine, Design, Reading], PerOp]] = MappingProxyType(
    {"closed_form": _closed_form_bytes, "optimise": _mapped_bytes}
)
"""Where the HBM bytes of rows, all counts, come from, by `Design.mapping`."""


@flax.struct.dataclass
class Busy:
    """Seconds of one run of each row: whole, and what of it each resource bounds."""

    whole_s: Leaf
    matrix_s: Leaf
    vector_s: Leaf
    sram_s: Leaf
    hbm_s: Leaf


def _together(
    matrix_s: PerOp, vector_s: PerOp, sram_s: PerOp, hbm_s: PerOp, reading: Reading
) -> Busy:
    """Engines and memories side by side: all the time goes to the slowest."""
    whole_s = hbm_traffic.roofline_time_s(matrix_s, vector_s, sram_s, hbm_s, reading)
    slowest = jnp.maximum(jnp.maximum(matrix_s, vector_s), jnp.maximum(sram_s, hbm_s))
    is_matrix = matrix_s >= slowest
    is_vector = ~is_matrix & (vector_s >= slowest)
    is_sram = ~is_matrix & ~is_vector & (sram_s >= slowest)
    is_hbm = ~(is_matrix | is_vector | is_sram)
    return Busy(
        whole_s,
        jnp.where(is_matrix, whole_s, 0.0),
        jnp.where(is_vector, whole_s, 0.0),
        jnp.where(is_sram, whole_s, 0.0),
        jnp.where(is_hbm, whole_s, 0.0),
    )


def _busy(
    matrix_s: PerOp,
    vector_s: PerOp,
    sram_s: PerOp,
    hbm_s: tuple[PerOp, PerOp],
    overlap: PerOp,
    reading: Reading,
) -> Busy:
    """`overlap` of the elementwise work beside the products, the rest in kernels of its own.

    `hbm_s` is the traffic of the products, then that of the elementwise work.
    """
    product_hbm_s, other_hbm_s = hbm_s
    none = jnp.zeros_like(matrix_s)
    beside = _together(matrix_s, vector_s, sram_s, product_hbm_s + other_hbm_s, reading)
    products = _together(matrix_s, none, sram_s, product_hbm_s, reading)
    others = _together(none, vector_s, none, other_hbm_s, reading)
    return jax.tree.map(
        lambda both, first, second: overlap * both + (1.0 - overlap) * (first + second),
        beside,
        products,
        others,
    )


def row_costs(gemms: Gemms, runs: Runs, design: Design, reading: Reading) -> RowCosts:
    """Costs of each row times its runs, on one chip. Each row's time goes to what bounds it."""
    gemms = materialize(gemms)
    machine = _machine(design, jnp.asarray(gemms.m).shape[0])
    array, size, software = machine.array, machine.bytes_per_element, machine.software
    cycles = DATAFLOWS[array.dataflow](gemms, array, reading)
    other_bytes = software.elementwise_traffic_ratio * gemms.count * gemms.extra_bytes
    product_bytes = MAPPINGS[design.mapping](gemms, machine, design, reading)
    hbm_bytes = product_bytes + other_bytes
    # What comes from HBM is written to the scratchpad, then read into the array.
    sram_bytes = hbm_bytes + size * scratchpad_words(gemms, array, reading)
    accumulator_bytes = hbm_traffic.ACCUMULATOR_BYTES * accumulator_words(gemms, array, reading)
    vector_flop = gemms.vector_flop * gemms.count
    busy = _busy(
        cycles / (array.clock_hz * _rate_ratio(machine, runs)),
        vector_flop / machine.vector_flop_per_s,
        sram_bytes / machine.sram.bandwidth_bytes_per_s,
        (product_bytes / machine.hbm_bytes_per_s, other_bytes / machine.hbm_bytes_per_s),
        software.elementwise_overlap_fraction,
        reading,
    )
    time_s = busy.whole_s + machine.launch_latency_s
    once = RowCosts(
        time_s=time_s,
        forward_s=time_s,
        matrix_s=busy.matrix_s,
        vector_s=busy.vector_s,
        sram_s=busy.sram_s,
        hbm_s=busy.hbm_s,
        launch_s=machine.launch_latency_s,
        num_macs=gemms.num_macs,
        useful_macs=gemms.num_macs,
        vector_flop=vector_flop,
        hbm_bytes=hbm_bytes,
        sram_bytes=sram_bytes,
        accumulator_bytes=accumulator_bytes,
    )
    costs = jax.tree.map(lambda x: runs.whole * x, once)
    return dataclasses.replace(
        costs, useful_macs=runs.useful * gemms.num_macs, forward_s=runs.forward * time_s
    )


def _rate_ratio(machine: Machine, runs: Runs) -> PerOp:
    """Matrix rate of a row over that of the arrays at their clock."""
    software = machine.software
    fused = software.fused_attention_fraction
    attention = fused * machine.attention_efficiency_fraction + (1.0 - fused)
    linear = machine.matrix_speedup_ratio
    of_kind = runs.is_linear * linear + (1.0 - runs.is_linear) * attention
    return machine.matrix_efficiency_fraction * of_kind


def sum_rows(rows: RowCosts, is_head: PerOp) -> tuple[RowCosts, RowCosts]:
    """Sums over the rows of a layer and over those of the head (products, see `materialize`)."""
    layer = jax.tree.map(lambda x: jnp.dot(x, 1.0 - is_head), rows)
    head = jax.tree.map(lambda x: jnp.dot(x, is_head), rows)
    return layer, head
