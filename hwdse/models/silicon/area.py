"""Die area of a chip by component, from counts and rates of its units."""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.results.evaluation_result import AreaParts

RETICLE_MM2 = 858.0
"""Exposure field of 26 mm x 33 mm (ASML; CATCH, wafer_process_definitions.xml)."""
MULTIPLIER_UM2, ADDER_UM2, ACCUMULATOR_UM2 = 1640.0, 1360.0, 4184.0
"""FP16 multiplier, FP16 adder and FP32 adder at 45 nm (Horowitz, ISSCC 2014): only their ratios are
used."""
WHITE_SPACE_FRACTION = 0.049
"""Share of a die without counted units: 40 of 822.7 mm² of A100 (floorplan of LLMCompass,
ae/figure6)."""
BYTES_PER_OPERAND = 2.0
"""Operands of an array at its ports: 16 bits."""


def datapath_ratio(dot_product_length: Scalar, products: Scalar) -> Scalar:
    r"""Area per multiplier of a matrix engine over that of a PE with its own FP32 accumulation.

    $(M + (s - 1/k) A + F/k) / (M + F)$: one 16-bit multiplier M that splits into s narrow ones;
    each of the s products needs its own alignment and adder A, and k of them share one FP32
    accumulator F. One for a systolic PE of one format (k = s = 1). Areas M, A, F of Horowitz.
    Assumes that registers and wires scale with the arithmetic, and that narrow multipliers need
    no area beyond the wide one that they are parts of.
    """
    adders = (products - 1.0 / dot_product_length) * ADDER_UM2
    units = MULTIPLIER_UM2 + adders + ACCUMULATOR_UM2 / dot_product_length
    return units / (MULTIPLIER_UM2 + ACCUMULATOR_UM2)


def area_parts_mm2(chip: Chip) -> AreaParts:
    r"""Areas of all dies of a chip by component (mm²), spare units included.

    Matrix engines: multipliers (`datapath_ratio`) with accumulators or registers per column. FP64:
    $\kappa$ times the area of the 16-bit datapath for the rate that no matrix multiplier serves
    (`own_fp64_ratio`). Vector engines: units and control per lane. SRAM: capacity, and ports by
    bandwidth. Network: bytes per cycle that enter it. PHYs with controllers by bandwidth. A fixed
    share is white space.

    Constants are those of the process, none is fitted on a die here. Fitted in their source on
    A100 and TPU v4: realized logic density; on the cores of A100 and MI210: control per lane and
    network; derived from floorplans of A100 and MI210: caches and ports; from TPU v4: PE and
    scratchpads. No constant comes from H100, B200, B300 or MI300X, but terms and assumed counts
    were chosen with their errors in view: they are no blind test. `hwdse validate area` has the
    errors.
    """
    process, array, spare = chip.process, chip.array, chip.spare_unit_ratio
    num_macs = array.rows * array.cols * array.num_arrays * spare
    products = jnp.maximum(chip.fp4_speedup_ratio, chip.fp8_speedup_ratio)
    length = chip.dot_product_length
    accumulator_bytes = array.cols * array.num_arrays * spare * chip.accumulator_column_bytes
    matrix = num_macs * process.mac_area_mm2 * datapath_ratio(length, products)
    matrix += accumulator_bytes * process.sram_area_mm2_per_byte
    plain = num_macs * process.mac_area_mm2 * datapath_ratio(length, 1.0)
    fp64 = plain * process.fp64_area_ratio * own_fp64_ratio(chip)
    vector, sram = vector_area_mm2(chip), sram_area_mm2(chip)
    network = network_bytes_per_cycle(chip) * process.network_port_area_mm2_per_byte
    hbm_phy = chip.hbm.bandwidth_bytes_per_s * process.hbm_phy_area_mm2_per_bytes_per_s
    link_phy = chip.link.bandwidth_bytes_per_s * process.link_phy_area_mm2_per_bytes_per_s
    die_links, other = die_link_area_mm2(chip), chip.fixed_area_mm2 + 0.0 * matrix
    white_ratio = WHITE_SPACE_FRACTION / (1.0 - WHITE_SPACE_FRACTION)
    interfaces = hbm_phy + link_phy + other
    units = matrix + fp64 + vector + sram + network + die_links
    # Stacked dies cover their base dies, which have the interfaces beside them.
    base = jnp.where(jnp.asarray(chip.num_base_dies) > 0.0, 1.0 + white_ratio, 0.0) * units
    return AreaParts(
        matrix=matrix,
        fp64=fp64,
        vector=vector,
        sram=sram,
        on_chip_network=network,
        hbm_phy=hbm_phy,
        link_phy=link_phy + die_links,
        other=other,
        white_space=white_ratio * (units + interfaces),
        base_dies=base,
    )


def fp64_cost_ratio(chip: Chip) -> Scalar:
    r"""Area per FP64 FLOP/s over area per 16-bit FLOP/s.

    Dedicated FP64 units over a matrix engine with its accumulators, narrow formats and network
    ports. Assumes that the limit of shared multipliers (`own_fp64_ratio`) does not bind, and no
    ports of arrays beyond the number of scratchpads.
    """
    process, length = chip.process, chip.dot_product_length
    products = jnp.maximum(chip.fp4_speedup_ratio, chip.fp8_speedup_ratio)
    rows_mm2 = chip.array.rows * process.mac_area_mm2
    plain, engine = (rows_mm2 * datapath_ratio(length, x) for x in (1.0, products))
    ports_mm2 = chip.array_port_bytes * process.network_port_area_mm2_per_byte / chip.array.cols
    column = engine + chip.accumulator_column_bytes * process.sram_area_mm2_per_byte + ports_mm2
    return process.fp64_area_ratio * (1.0 - chip.fp64_shared_fraction) * plain / column


def own_fp64_ratio(chip: Chip) -> Scalar:
    r"""FP64 rate of dedicated units over the 16-bit rate.

    A given share of the FP64 rate uses the multipliers of the matrix engines, at most one product
    per $\kappa$ of them (a significand is $\sqrt{\kappa}$ times as long).
    """
    ratio = chip.fp64_per_fp16_ratio
    return ratio - jnp.minimum(
        chip.fp64_shared_fraction * ratio, 1.0 / chip.process.fp64_area_ratio
    )


def vector_area_mm2(chip: Chip) -> Scalar:
    """Vector engines (mm²): FP32 and INT32 units by rate, and control of their lanes.

    With fewer lanes than FP32 units, several operations of a lane are packed in one wide unit. The
    three counts are those of the published block diagrams.
    """
    process, ratio = chip.process, chip.issue_lane_ratio
    given = jnp.asarray(chip.vector_clock_hz)
    clock_hz = jnp.where(given > 0.0, given, chip.nominal_clock_hz)
    per_unit = jnp.minimum(ratio, 1.0) * process.fp32_unit_area_mm2
    per_unit += chip.int32_per_fp32_ratio * process.int32_unit_area_mm2
    per_unit += ratio * process.issue_lane_area_mm2
    return chip.spare_unit_ratio * chip.vector_flop_per_s / clock_hz * per_unit


def sram_area_mm2(chip: Chip) -> Scalar:
    """Scratchpads and caches (mm²): capacity by kind, ports by bytes per nominal cycle."""
    process, cache = chip.process, chip.cache_fraction
    density = (1.0 - cache) * process.sram_area_mm2_per_byte
    density += cache * process.cache_area_mm2_per_byte
    capacity = chip.sram.capacity_bytes * chip.spare_sram_ratio * density
    ports_bytes = chip.sram.bandwidth_bytes_per_s / chip.nominal_clock_hz * chip.spare_unit_ratio
    return capacity + ports_bytes * process.sram_port_area_mm2_per_byte


def network_bytes_per_cycle(chip: Chip) -> Scalar:
    """Bytes per nominal cycle that enter the on-chip network (B).

    Links between dies, and `array_port_bytes` per array if given. Otherwise both operands (rows +
    columns) of every array without a scratchpad of its own, and HBM and links, in and out.
    """
    array, given = chip.array, jnp.asarray(chip.array_port_bytes)
    without_own = jnp.maximum(array.num_arrays - chip.num_scratchpads, 0.0)
    operands = BYTES_PER_OPERAND * (array.rows + array.cols) * without_own
    off_chip = chip.hbm.bandwidth_bytes_per_s + chip.link.bandwidth_bytes_per_s
    derived = operands + 2.0 * off_chip / chip.nominal_clock_hz
    entering = jnp.where(given > 0.0, given * array.num_arrays, derived) * chip.spare_unit_ratio
    return entering + die_link_bytes_per_s(chip) / chip.nominal_clock_hz


def die_link_bytes_per_s(chip: Chip) -> Scalar:
    """Bandwidth between the dies of a package, summed over dies; none for a single die (B/s)."""
    linked_dies = jnp.where(jnp.asarray(chip.num_dies) > 1.0, chip.num_dies, 0.0)
    return linked_dies * chip.die_link_bandwidth_bytes_per_s


def die_link_area_mm2(chip: Chip) -> Scalar:
    """PHYs between the dies of a package, summed over dies (mm²); none for a single die."""
    return die_link_bytes_per_s(chip) * chip.process.die_link_area_mm2_per_bytes_per_s


def reticle_used_ratio(die_area_mm2: Scalar, num_dies: Scalar) -> Scalar:
    """Area of one of `num_dies` equal dies over the exposure field; above 1 it cannot be
    manufactured."""
    return die_area_mm2 / num_dies / RETICLE_MM2
