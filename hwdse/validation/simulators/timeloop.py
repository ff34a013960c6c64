"""Loop nest model against Timeloop and Accelergy: cycles and energy of given mappings.

The file has one mapping of one layer per row, in the columns of `COLUMNS`, on a Gemmini-like
array in 40 nm. L3 is DRAM, L2 a scratchpad, L1 one accumulator per column, L0 one register per
PE. `area_mm2` comes from CACTI tables and is not scored.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.config.hardware.accelerators import load_accelerator
from hwdse.models.memory.loop_nest_traffic import TIMELOOP, nest_traffic
from hwdse.models.memory.memory_level_costs import mapping_costs
from hwdse.numerics.array_types import Leaf
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator, Level, Operands
from hwdse.specs.mappings.loop_nest import LevelTraffic, LoopNest, NestTier, NestTraffic
from hwdse.specs.mappings.loop_nest_text import parse_nest
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    printed_resolution,
    read_table,
)
from hwdse.workload.loops.operators import DIMS, Operators

STEP_COLUMNS = ("Wstride", "Hstride", "Wdilation", "Hdilation")
ARRAY_COLUMNS = ("mesh_x", "accumulator_entries", "scratchpad_entries")
COLUMNS = ("cycles", "energy_uj", "mapping", *ARRAY_COLUMNS, *DIMS, *STEP_COLUMNS)

MAC_ENERGY_J = 0.5608e-12
"""8-bit integer MAC at 40 nm (Accelergy). Source: DOSA, github.com/ucb-bar/dosa,
dataset/dse/energy_model.py."""
DRAM_ENERGY_J_PER_BYTE = 100e-12
"""200 units of 1 pJ per 16 bits, see `SRAM_POINTS`. Source: DOSA, energy_model.py."""
SRAM_POINTS = ((512.0, 0.5e-12), (100.0 * 1024.0, 3.0e-12))
"""Two points of the linear energy per byte (J) over capacity (B).

Per 16-bit word, in units of 1 pJ: 1 for a register file of 0.5 kB and 6 for a buffer of 100 kB in
Eyeriss (Chen, Emer and Sze, ISCA 2016, table IV), with DRAM at 200. The line was read from
Timeloop's data, which agree in all digits. The regressions published by DOSA for the same data
(0.49 + 0.02513 pJ per KiB for a byte, 1.94 + 0.1005 for 32 bits) are roundings of this line. They
give energies with an error of 0.026 % on average, 0.24 % at most."""
DRAM_BURST_BYTES = 64.0
"""Accesses of each operand are full bursts: `block_size` of DOSA's
dataset/hw/gemmini/arch/arch.yaml. Timeloop rounds accesses for energy, not for time."""
DRAM_BYTES_PER_CYCLE = 8.0
SCRATCHPAD_BYTES_PER_CYCLE = 2.0
"""Per column of the mesh; a row of the scratchpad has the width of the mesh."""
ACCUMULATOR_WORDS_PER_CYCLE = 2.0
"""Per accumulator, in words of 32 bits. Source: DOSA, arch.yaml and gemmini_config.py."""
UNLIMITED = 1e18
"""Bytes per cycle of registers; arch.yaml contains no bandwidth."""
SUM_BYTES = 4.0
EXACT_QUOTIENT = 1.0 - 1e-12
"""Factor that preserves integers when a quotient of floats is rounded up."""
KEEPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"L3": OPERANDS, "L2": ("weights", "inputs"), "L1": ("outputs",), "L0": ("weights",)}
)


def validate(path: Path) -> ValidationReport:
    """Error table of cycles, energy and their product; by mesh, kernel and stride.

    Cycles agree if they differ by at most one, because Timeloop rounds up a quotient of floats
    that can exceed an integer. Energies agree in the printed digits. No constant is fitted here;
    `SRAM_POINTS` contains the source of its line.
    """
    table = read_table(path, COLUMNS)
    cycles = table.numbers("cycles", at_least=1.0)
    energy_uj = table.numbers("energy_uj", at_least=1e-300)
    array = {name: table.numbers(name, at_least=1.0, whole=True) for name in ARRAY_COLUMNS}
    operators = _operators(table)
    model_cycles, model_energy_uj = np.empty(len(table)), np.empty(len(table))
    groups = _nests(table)
    base = load_accelerator("gemmini")
    with jax.enable_x64(True):
        for rows, nest in groups:
            some = jax.tree.map(lambda column, rows=rows: column[rows], (operators, array))
            found = _score(nest, *some, base)
            model_cycles[rows], model_energy_uj[rows] = (np.asarray(x) for x in found)
    unit = printed_resolution(table.text("energy_uj"))
    comparisons = {
        "cycles": Comparison(cycles, model_cycles, 2.0),
        "energy_uj": Comparison(energy_uj, model_energy_uj, unit),
        "edp_uj_cycles": Comparison(
            energy_uj * cycles, model_energy_uj * model_cycles, unit * cycles + 2.0 * energy_uj
        ),
    }
    return build_report("timeloop", path, comparisons, group_by=_groups(table))


def _groups(table: ReferenceTable) -> dict[str, list[str]]:
    columns = {name: table.text(name) for name in ("R", "S", "Wstride", "Hstride")}
    pairs = (("kernel", "R", "S"), ("stride", "Wstride", "Hstride"))
    groups = {
        name: [f"{a}x{b}" for a, b in zip(columns[first], columns[second], strict=True)]
        for name, first, second in pairs
    }
    return {"mesh_x": table.text("mesh_x"), **groups}


def _operators(table: ReferenceTable) -> Operators:
    """Layers of a file, each with count 1; W steps belong to R and P, H steps to S and Q."""
    sizes = {d.lower(): table.numbers(d, at_least=1.0, whole=True) for d in DIMS}
    stride_p, stride_q, dilation_r, dilation_s = (
        table.numbers(name, at_least=1.0, whole=True) for name in STEP_COLUMNS
    )
    return Operators(
        **sizes,
        stride_p=stride_p,
        stride_q=stride_q,
        dilation_r=dilation_r,
        dilation_s=dilation_s,
        count=np.ones(len(table)),
        names=(),
    )


def _nests(table: ReferenceTable) -> list[tuple[np.ndarray, LoopNest]]:
    """Row indices and mappings of rows with equal tiers; a bad mapping raises an error."""
    sizes = np.stack([table.numbers(letter) for letter in DIMS], axis=-1)
    by_tiers: dict[tuple[NestTier, ...], list[tuple[int, LoopNest]]] = {}
    for row, text in enumerate(table.text("mapping")):
        try:
            nest = parse_nest(text)
        except ValueError as error:
            raise table.error(row, "mapping", f"a loop nest ({error})") from error
        for operand in OPERANDS:
            if operand not in nest.tiers[0].keeps:
                raise table.error(row, "mapping", "an outermost tier that keeps W, I and O")
        unknown = {tier.memory for tier in nest.tiers} - set(KEEPS)
        if unknown:
            raise table.error(row, "mapping", f"memories of {', '.join(KEEPS)}")
        covered = np.prod(nest.temporal, axis=0) * np.prod(nest.spatial, axis=0)
        if not np.array_equal(covered, sizes[row]):
            wanted = " ".join(f"{d}{x:g}" for d, x in zip(DIMS, sizes[row], strict=True))
            raise table.error(row, "mapping", f"loops that multiply to {wanted}")
        by_tiers.setdefault(nest.tiers, []).append((row, nest))
    return [_stacked(pairs) for pairs in by_tiers.values()]


def _stacked(pairs: list[tuple[int, LoopNest]]) -> tuple[np.ndarray, LoopNest]:
    rows = np.array([row for row, _ in pairs])
    return rows, jax.tree.map(lambda *arrays: np.stack(arrays), *(nest for _, nest in pairs))


@quick_jit
def _score(
    nest: LoopNest, operators: Operators, array: dict[str, Leaf], base: Accelerator
) -> tuple[Leaf, Leaf]:
    """Cycles and energy (µJ) of mappings with the same tiers."""
    accelerator = _used_part(nest, array, base)
    traffic = nest_traffic(nest, operators, accelerator, TIMELOOP)
    cycles = mapping_costs(traffic, accelerator).time_s * accelerator.clock_hz
    charged = _in_whole_rows(traffic, array["mesh_x"])
    energy_j = mapping_costs(charged, accelerator).energy_j
    return jnp.ceil(cycles * EXACT_QUOTIENT), 1e6 * energy_j


def _used_part(nest: LoopNest, array: dict[str, Leaf], base: Accelerator) -> Accelerator:
    """Used rows and columns of a mapping with their memories, at one cycle per second.

    The accumulators and registers of idle columns are left out.
    """
    names = [tier.memory for tier in nest.tiers]
    outside = names.index("L1") if "L1" in names else len(names)
    cols = jnp.prod(nest.spatial[..., :outside, :], axis=(-2, -1))
    rows = jnp.prod(nest.spatial[..., outside:, :], axis=(-2, -1))
    accumulator_bytes = SUM_BYTES * array["accumulator_entries"] * cols
    sums_per_cycle = SUM_BYTES * ACCUMULATOR_WORDS_PER_CYCLE
    scratchpad_bandwidth = SCRATCHPAD_BYTES_PER_CYCLE * array["mesh_x"]
    levels = (
        _level("L3", 1.0, DRAM_BYTES_PER_CYCLE, "one"),
        _level("L2", array["scratchpad_entries"], scratchpad_bandwidth, "one"),
        _level("L1", accumulator_bytes, sums_per_cycle, "cols"),
        _level("L0", rows * cols, UNLIMITED, "pes"),
    )
    return replace(
        base,
        rows=rows,
        cols=cols,
        clock_hz=1.0,
        nominal_clock_hz=1.0,
        mac_energy_j=MAC_ENERGY_J,
        levels=levels,
    )


def _level(name: str, capacity_bytes: Leaf, bandwidth: Leaf, ports: str) -> Level:
    """Memory level with one bank and one shared port per instance of `ports`."""
    (small_bytes, small_j), (large_bytes, large_j) = SRAM_POINTS
    slope = (large_j - small_j) / (large_bytes - small_bytes)
    energy_j = small_j - slope * small_bytes
    if name == "L3":
        slope, energy_j = 0.0, DRAM_ENERGY_J_PER_BYTE
    return Level(
        capacity_bytes=capacity_bytes,
        read_bandwidth_bytes_per_s=bandwidth,
        write_bandwidth_bytes_per_s=bandwidth,
        read_energy_j_per_byte=energy_j,
        write_energy_j_per_byte=energy_j,
        energy_slope=slope,
        energy_exponent=1.0,
        word_bytes=Operands(1.0, 1.0, SUM_BYTES if name == "L1" else 1.0),
        name=name,
        keeps=KEEPS[name],
        ports=ports,
        banks=ports,
        shares_port=True,
        follows_clock=True,
    )


def _in_whole_rows(traffic: NestTraffic, mesh_x: Leaf) -> NestTraffic:
    """Accesses rounded up to full DRAM bursts and full scratchpad rows."""

    def rounded(level: LevelTraffic, row_bytes: Leaf) -> LevelTraffic:
        return jax.tree.map(
            lambda moved: jnp.ceil(moved / row_bytes * EXACT_QUOTIENT) * row_bytes, level
        )

    dram, scratchpad, *others = traffic.levels
    levels = (rounded(dram, DRAM_BURST_BYTES), rounded(scratchpad, mesh_x), *others)
    return replace(traffic, levels=levels)
