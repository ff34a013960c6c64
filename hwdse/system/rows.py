"""Rows of matrix products on one chip: time, traffic and work, summed over rows."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import flax.struct
import jax
import jax.numpy as jnp

from hwdse.models import memory, precision
from hwdse.models.systolic import DATAFLOWS, accumulator_words, scratchpad_words
from hwdse.numerics import Reading, materialize
from hwdse.shapes import Leaf, PerOp, Scalar
from hwdse.specs.design import Design
from hwdse.specs.hardware import Chip, Memory, SystolicArray
from hwdse.system.chip_core import mapped_traffic_bytes
from hwdse.workload.gemms import Gemms


@flax.struct.dataclass
class RowCosts:
    """Costs of rows, or their sums. `time_s` is also given by the resource that bounds a row."""

    time_s: Leaf
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
    matrix_speedup_ratio: Leaf
    vector_flop_per_s: Leaf
    launch_latency_s: Leaf


def _machine(design: Design, num_rows: int) -> Machine:
    """Numbers of the design repeated for every row, as products (see `materialize`)."""
    chip, mix = design.chip, design.mix
    machine = Machine(
        array=chip.array,
        num_scratchpads=chip.num_scratchpads,
        sram=chip.sram,
        hbm=chip.hbm,
        bytes_per_element=precision.mix_bytes_per_element(mix),
        matrix_speedup_ratio=precision.mix_matrix_speedup_ratio(mix, chip.fp8_speedup_ratio),
        vector_flop_per_s=vector_rate_flop_per_s(chip),
        launch_latency_s=chip.launch_latency_s,
    )
    leaves, structure = jax.tree.flatten(machine)
    column = jnp.stack([jnp.asarray(leaf, dtype=float) for leaf in leaves])[:, None]
    ones = jnp.ones((1, num_rows), column.dtype)
    spread = jnp.matmul(column, ones, precision="highest")
    return jax.tree.unflatten(structure, list(spread))


def _closed_form_bytes(gemms: Gemms, machine: Machine, design: Design, reading: Reading) -> PerOp:
    """The least of the nine tilings of `models.memory`, with the derivative of the winner."""
    size = machine.bytes_per_element
    return memory.hbm_traffic_bytes(gemms, machine.sram, machine.num_scratchpads, size, reading)


def _mapped_bytes(gemms: Gemms, machine: Machine, design: Design, reading: Reading) -> PerOp:
    """That of the best mapping on one of the chip's cores."""
    speedup = precision.mix_matrix_speedup_ratio(design.mix, design.chip.fp8_speedup_ratio)
    size = precision.mix_bytes_per_element(design.mix)
    return mapped_traffic_bytes(gemms, design.chip, speedup, size, reading)


MAPPINGS: Mapping[str, Callable[[Gemms, Machine, Design, Reading], PerOp]] = MappingProxyType(
    {"closed_form": _closed_form_bytes, "optimise": _mapped_bytes}
)
"""Where the HBM bytes of rows, all counts, come from, by `Design.mapping`."""


def row_costs(
    gemms: Gemms, runs: PerOp, useful_runs: PerOp, design: Design, reading: Reading
) -> RowCosts:
    """Costs of each row times its runs, on one chip. Each row's time goes to what bounds it."""
    gemms = materialize(gemms)
    machine = _machine(design, jnp.asarray(gemms.m).shape[0])
    array, size = machine.array, machine.bytes_per_element
    cycles = DATAFLOWS[array.dataflow](gemms, array, reading)
    hbm_bytes = MAPPINGS[design.mapping](gemms, machine, design, reading)
    # What comes from HBM is written to the scratchpad, then read into the array.
    sram_bytes = hbm_bytes + size * scratchpad_words(gemms, array, reading)
    accumulator_bytes = memory.ACCUMULATOR_BYTES * accumulator_words(gemms, array, reading)
    vector_flop = gemms.vector_flop * gemms.count
    matrix_s = cycles / (array.clock_hz * machine.matrix_speedup_ratio)
    vector_s = vector_flop / machine.vector_flop_per_s
    sram_s = sram_bytes / machine.sram.bandwidth_bytes_per_s
    hbm_s = hbm_bytes / machine.hbm.bandwidth_bytes_per_s
    busy_s = memory.roofline_time_s(matrix_s, vector_s, sram_s, hbm_s, reading)
    slowest = jnp.maximum(jnp.maximum(matrix_s, vector_s), jnp.maximum(sram_s, hbm_s))
    is_matrix = matrix_s >= slowest
    is_vector = ~is_matrix & (vector_s >= slowest)
    is_sram = ~is_matrix & ~is_vector & (sram_s >= slowest)
    is_hbm = ~(is_matrix | is_vector | is_sram)
    once = RowCosts(
        time_s=busy_s + machine.launch_latency_s,
        matrix_s=jnp.where(is_matrix, busy_s, 0.0),
        vector_s=jnp.where(is_vector, busy_s, 0.0),
        sram_s=jnp.where(is_sram, busy_s, 0.0),
        hbm_s=jnp.where(is_hbm, busy_s, 0.0),
        launch_s=machine.launch_latency_s,
        num_macs=gemms.num_macs,
        useful_macs=gemms.num_macs,
        vector_flop=vector_flop,
        hbm_bytes=hbm_bytes,
        sram_bytes=sram_bytes,
        accumulator_bytes=accumulator_bytes,
    )
    costs = jax.tree.map(lambda x: runs * x, once)
    return costs.replace(useful_macs=useful_runs * gemms.num_macs)


def sum_rows(rows: RowCosts, is_head: PerOp) -> tuple[RowCosts, RowCosts]:
    """Sums over the rows of a layer and over those of the head (products, see `materialize`)."""
    layer = jax.tree.map(lambda x: jnp.dot(x, 1.0 - is_head), rows)
    head = jax.tree.map(lambda x: jnp.dot(x, is_head), rows)
    return layer, head
