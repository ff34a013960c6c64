"""Rows of matrix products on one chip: time, traffic and work, summed over rows."""

import flax.struct
import jax
import jax.numpy as jnp

from hwdse.models import memory, precision
from hwdse.models.systolic import DATAFLOWS, accumulator_words, scratchpad_words
from hwdse.numerics import Reading, materialize
from hwdse.shapes import Leaf, PerOp, Scalar
from hwdse.specs.design import Design
from hwdse.specs.hardware import Chip
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


def _spread(leaf: Leaf, like: PerOp) -> PerOp:
    """A number of the design once for every row, as a product whose transpose is not fused."""
    leaf = jnp.asarray(leaf)
    return jnp.dot(jnp.reshape(leaf, (1,)), jnp.ones((1, jnp.shape(like)[0]), leaf.dtype))


def row_costs(
    gemms: Gemms, runs: PerOp, useful_runs: PerOp, design: Design, reading: Reading
) -> RowCosts:
    """Costs of each row times its runs, on one chip. Each row's time goes to what bounds it."""
    gemms = jax.tree.map(materialize, gemms)
    chip, mix = jax.tree.map(lambda x: _spread(x, gemms.m), (design.chip, design.mix))
    bytes_per_element = precision.mix_bytes_per_element(mix)
    speedup = precision.mix_matrix_speedup_ratio(mix, chip.fp8_speedup_ratio)
    cycles = DATAFLOWS[chip.array.dataflow](gemms, chip.array, reading)
    hbm_bytes = memory.hbm_traffic_bytes(
        gemms, chip.sram, chip.array.num_arrays, bytes_per_element, reading
    )
    # What comes from HBM is written to the scratchpad, then read into the array.
    sram_bytes = hbm_bytes + bytes_per_element * scratchpad_words(gemms, chip.array, reading)
    matrix_s = cycles / (chip.array.clock_hz * speedup)
    vector_flop = gemms.vector_flop * gemms.count
    vector_s = vector_flop / vector_rate_flop_per_s(chip)
    sram_s = sram_bytes / chip.sram.bandwidth_bytes_per_s
    hbm_s = hbm_bytes / chip.hbm.bandwidth_bytes_per_s
    busy_s = runs * memory.roofline_time_s(matrix_s, vector_s, sram_s, hbm_s, reading)
    launch_s = runs * chip.launch_latency_s
    slowest = jnp.maximum(jnp.maximum(matrix_s, vector_s), jnp.maximum(sram_s, hbm_s))
    is_matrix = matrix_s >= slowest
    is_vector = ~is_matrix & (vector_s >= slowest)
    is_sram = ~is_matrix & ~is_vector & (sram_s >= slowest)
    is_hbm = ~(is_matrix | is_vector | is_sram)
    return RowCosts(
        time_s=busy_s + launch_s,
        matrix_s=jnp.where(is_matrix, busy_s, 0.0),
        vector_s=jnp.where(is_vector, busy_s, 0.0),
        sram_s=jnp.where(is_sram, busy_s, 0.0),
        hbm_s=jnp.where(is_hbm, busy_s, 0.0),
        launch_s=launch_s,
        num_macs=runs * gemms.num_macs,
        useful_macs=useful_runs * gemms.num_macs,
        vector_flop=runs * vector_flop,
        hbm_bytes=runs * hbm_bytes,
        sram_bytes=runs * sram_bytes,
        accumulator_bytes=runs
        * memory.ACCUMULATOR_BYTES
        * accumulator_words(gemms, chip.array, reading),
    )


def sum_rows(rows: RowCosts, is_head: PerOp) -> tuple[RowCosts, RowCosts]:
    """Sums over the rows of a layer and over those of the head (products, see `materialize`)."""
    layer = jax.tree.map(lambda x: jnp.dot(x, 1.0 - is_head), rows)
    head = jax.tree.map(lambda x: jnp.dot(x, is_head), rows)
    return layer, head
