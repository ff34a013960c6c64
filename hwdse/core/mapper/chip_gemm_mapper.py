"""HBM traffic of the GEMMs of a chip under the best mapping on its cores.

Alternative to the closed-form tilings of `models/memory/hbm_traffic`. A core is the part of a chip
that belongs to one scratchpad: its arrays, the scratchpad and its share of the HBM.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hwdse.core.mapper.mapper import best_mapping
from hwdse.models.energy import voltage_and_leakage
from hwdse.models.memory import hbm_traffic
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.numerics.relaxation import Relaxation, floor_ste, materialize, num_tiles, total
from hwdse.specs.hardware.accelerator import Accelerator, Level, Operands
from hwdse.specs.hardware.chip import Chip
from hwdse.workload.gemms import Gemms
from hwdse.workload.loops.operators import Operators, gemm_operators

UNLIMITED_BYTES_PER_S = 1e18
"""Bandwidth of memories without a time model in the chip model."""
IDLE_SCRATCHPAD_PENALTY = 1e3
"""Factor on the traffic of a split with fewer GEMMs than scratchpads, as in `hbm_traffic`."""


def chip_core(
    chip: Chip, matrix_speedup_ratio: Leaf, bytes_per_element: Leaf, in_hbm: Operands
) -> Accelerator:
    """One core of a chip: DRAM, scratchpad, accumulators of 2 MiB per array, registers.

    The arrays of a core are modeled as one array with the clock times their number, since all have
    the same mapping. `in_hbm` is the fraction of each operand's traffic that goes to HBM.
    """
    array = chip.array
    clock_hz = array.clock_hz * matrix_speedup_ratio * array.num_arrays / chip.num_scratchpads
    return Accelerator(
        rows=array.rows,
        cols=array.cols,
        clock_hz=clock_hz,
        nominal_clock_hz=clock_hz,
        mac_energy_j=chip.process.mac_energy_j,
        levels=_levels(chip, bytes_per_element, in_hbm),
        process=chip.process,
        fixed_area_mm2=0.0,
        package_cost_usd=0.0,
        dram_cost_usd_per_byte=0.0,
        rows_dims="C",
        cols_dims="K",
    )


def _levels(chip: Chip, size: Leaf, in_hbm: Operands) -> tuple[Level, ...]:
    """Memory levels of a core.

    A fraction `RESIDENT_FRACTION` of the scratchpad holds tiles in use, the remainder streamed data
    and what arrives. Registers are part of the MAC energy.
    """
    share, num_arrays = 1.0 / chip.num_scratchpads, chip.array.num_arrays / chip.num_scratchpads
    slope = (
        chip.sram.energy_j_per_byte
        / voltage_and_leakage.SRAM_REFERENCE_BYTES**voltage_and_leakage.SRAM_EXPONENT
    )
    words = Operands(size, size, hbm_traffic.ACCUMULATOR_BYTES)
    dram = _level(
        "hbm",
        ("weights", "inputs", "outputs"),
        share * chip.hbm.capacity_bytes,
        share * chip.hbm.bandwidth_bytes_per_s,
        jax.tree.map(lambda fraction: size * fraction, in_hbm),
        energy_j_per_byte=chip.hbm.energy_j_per_byte,
    )
    scratchpad = _level(
        "scratchpad",
        ("weights", "inputs"),
        hbm_traffic.RESIDENT_FRACTION * share * chip.sram.capacity_bytes,
        share * chip.sram.bandwidth_bytes_per_s,
        words,
        energy_slope=slope,
    )
    accumulator_bytes = num_arrays * voltage_and_leakage.ACCUMULATOR_MACRO_BYTES
    accumulator = _level(
        "accumulator",
        ("outputs",),
        accumulator_bytes,
        UNLIMITED_BYTES_PER_S,
        words,
        energy_slope=slope,
    )
    register_bytes = chip.array.rows * chip.array.cols * size
    return (
        dram,
        scratchpad,
        accumulator,
        _level("registers", ("weights",), register_bytes, UNLIMITED_BYTES_PER_S, words),
    )


def _level(
    name: str,
    keeps: tuple[str, ...],
    capacity_bytes: Leaf,
    bandwidth_bytes_per_s: Leaf,
    word_bytes: Operands,
    *,
    energy_j_per_byte: Leaf = 0.0,
    energy_slope: Leaf = 0.0,
) -> Level:
    return Level(
        capacity_bytes=capacity_bytes,
        read_bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        write_bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        read_energy_j_per_byte=energy_j_per_byte,
        write_energy_j_per_byte=energy_j_per_byte,
        energy_slope=energy_slope,
        energy_exponent=voltage_and_leakage.SRAM_EXPONENT,
        word_bytes=word_bytes,
        name=name,
        keeps=keeps,
        ports="one",
        banks="one",
        shares_port=True,
        follows_clock=False,
    )


def mapped_traffic_bytes(
    gemms: Gemms,
    chip: Chip,
    matrix_speedup_ratio: Leaf,
    bytes_per_element: Leaf,
    relaxation: Relaxation,
) -> PerOp:
    """HBM bytes of each GEMM operator under the best mapping of its parts on the cores.

    GEMMs are partitioned over the scratchpads by rows, by columns, or as whole GEMMs
    (`hbm_traffic.SPLITS`). Each part gets the mapping with the lowest energy-delay product on a
    core; the split with the least traffic counts. Unlike the closed-form tilings, the mapper
    includes accumulators, on-chip energy and time, so its traffic is not always minimal.
    """
    partitions = partition_gemms(gemms, chip, matrix_speedup_ratio, bytes_per_element)
    dram = best_mapping(partitions.parts, partitions.core, relaxation).costs.traffic.levels[0]
    idle = hbm_traffic.scratchpads_per_gemm(chip.num_scratchpads, partitions.parts.count)
    penalty = jnp.where(
        partitions.is_distributed & (idle > 1.0), IDLE_SCRATCHPAD_PENALTY * idle, 1.0
    )
    traffic_bytes = partitions.copies * penalty * total((dram.reads, dram.writes))
    least = jnp.min(traffic_bytes.reshape(len(hbm_traffic.SPLITS), -1), axis=0)
    return materialize(gemms.count * least)


class GemmPartitions(NamedTuple):
    """GEMMs partitioned over the cores of a chip in all ways of `hbm_traffic.SPLITS`."""

    parts: Operators
    """Parts of all GEMMs, one split after another; `count` is that of the GEMMs."""
    copies: PerOp
    """Parts per GEMM, one per core; 1 if whole GEMMs are distributed."""
    is_distributed: Leaf
    """True where whole GEMMs are distributed over the cores."""
    core: Accelerator


def partition_gemms(
    gemms: Gemms, chip: Chip, matrix_speedup_ratio: Leaf, bytes_per_element: Leaf
) -> GemmPartitions:
    """GEMMs split by rows, by columns, or distributed whole, and the core that runs the parts.

    A split by rows divides the lines of outputs of all images over the cores, and single lines over
    the cores that remain.
    """
    shape, cores = jnp.shape(gemms.m), chip.num_scratchpads
    splits = [
        (
            cores if by_rows else 1.0,
            cores if by_cols else 1.0,
            not (by_rows or by_cols),
        )
        for by_rows, by_cols in hbm_traffic.SPLITS.values()
    ]

    def repeated(x: Leaf) -> Leaf:
        return jnp.tile(jnp.broadcast_to(x, shape), len(splits))

    def of_splits(values: Iterable[Leaf]) -> Leaf:
        return jnp.concatenate([jnp.broadcast_to(x, shape) for x in values])

    whole = jax.tree.map(repeated, gemms)
    by_rows, by_cols, is_distributed = map(of_splits, zip(*splits, strict=True))
    in_hbm = Operands(whole.b_in_hbm, whole.a_in_hbm, whole.c_in_hbm)
    return GemmPartitions(
        parts=_parts(whole, by_rows, by_cols),
        copies=by_rows * by_cols,
        is_distributed=is_distributed,
        core=chip_core(chip, matrix_speedup_ratio, bytes_per_element, in_hbm),
    )


def _parts(gemms: Gemms, row_parts: Leaf, col_parts: Leaf) -> Operators:
    """Largest part of each GEMM that is divided into `row_parts` by `col_parts` parts."""
    columns, count = num_tiles(gemms.n, col_parts), gemms.count
    w = gemms.windows
    if w is None:
        return gemm_operators(num_tiles(gemms.m, row_parts), gemms.k, columns, count)
    num_lines = gemms.m / w.q
    line_parts = jnp.minimum(row_parts, num_lines)
    lines = num_tiles(num_lines, line_parts)
    images = num_tiles(lines, w.p)
    cores_per_line = floor_ste(row_parts / line_parts * (1.0 + 1e-6))
    return Operators(
        r=w.r,
        s=w.s,
        p=num_tiles(lines, images),
        q=num_tiles(w.q, cores_per_line),
        c=gemms.k / (w.r * w.s),
        k=columns,
        n=images,
        stride_p=w.stride_p,
        stride_q=w.stride_q,
        dilation_r=w.dilation_r,
        dilation_s=w.dilation_s,
        count=count,
        names=(),
    )
