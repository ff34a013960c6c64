"""Loop nest model against Timeloop and Accelergy: cycles and energy of given mappings.

The file has one mapping of one layer a row, in the columns of `COLUMNS`, on an array like
Gemmini's in 40 nm: L3 is DRAM, L2 a scratchpad, L1 an accumulator for each column, L0 a register
for each element. `area_mm2` comes from CACTI's tables and is not scored.
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
"""8-bit integer multiply-accumulate at 40 nm (Accelergy), as DOSA prints it: github.com/ucb-bar/
dosa, dataset/dse/energy_model.py."""
DRAM_ENERGY_J_PER_BYTE = 100e-12
"""The same file. 200 units of 1 pJ for 16 bits, see `SRAM_POINTS`."""
SRAM_POINTS = ((512.0, 0.5e-12), (100.0 * 1024.0, 3.0e-12))
"""Capacity in bytes and energy of a byte between which, and beyond, energy is linear.

Per 16-bit word, in units of 1 pJ, these are the 1 of a register file of 0.5 kB and the 6 of a
buffer of 100 kB in Eyeriss (Chen, Emer and Sze, ISCA 2016, table IV), whose DRAM is 200. That it
is this line was read off rows of Timeloop's data, which lie on it in all digits. The regressions
that DOSA publishes for the same data (0.49 + 0.02513 pJ a KiB for a byte, 1.94 + 0.1005 for 32
bits) are this line rounded: with them energies are 0.026 % off on average, 0.24 % at most."""
DRAM_BURST_BYTES = 64.0
"""Accesses of each operand come in whole bursts: `block_size` of dataset/hw/gemmini/arch/arch.yaml
there. Timeloop rounds what energy is charged for, not what takes time."""
DRAM_BYTES_PER_CYCLE = 8.0
SCRATCHPAD_BYTES_PER_CYCLE = 2.0
"""For each column of the mesh; a row of the scratchpad is as wide as the mesh."""
ACCUMULATOR_WORDS_PER_CYCLE = 2.0
"""Of one instance, in words of 32 bits (the same yaml and gemmini_config.py)."""
UNLIMITED = 1e18
"""Bytes a cycle of registers, which the yaml gives no bandwidth."""
SUM_BYTES = 4.0
EXACT_QUOTIENT = 1.0 - 1e-12
"""Factor that keeps a whole number whole where a quotient of floats is rounded up."""
KEEPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"L3": OPERANDS, "L2": ("weights", "inputs"), "L1": ("outputs",), "L0": ("weights",)}
)


def validate(path: Path) -> ValidationReport:
    """Error table of cycles, energy and their product; by mesh, kernel and stride.

    Cycles agree if they differ by at most one: Timeloop rounds up a quotient of floats, which may
    lie above a whole number. Energies agree in the digits printed. No constant is fitted here;
    `SRAM_POINTS` says where its line comes from.
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
    """The layers of a file, each run once; W steps belong to R and P, H steps to S and Q."""
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
    """Row numbers and mappings of the rows with equal tiers; a bad mapping is an error."""
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
    """Cycles and microjoules of mappings with the same tiers."""
    accelerator = _used_part(nest, array, base)
    traffic = nest_traffic(nest, operators, accelerator, TIMELOOP)
    cycles = mapping_costs(traffic, accelerator).time_s * accelerator.clock_hz
    charged = _in_whole_rows(traffic, array["mesh_x"])
    energy_j = mapping_costs(charged, accelerator).energy_j
    return jnp.ceil(cycles * EXACT_QUOTIENT), 1e6 * energy_j


def _used_part(nest: LoopNest, array: dict[str, Leaf], base: Accelerator) -> Accelerator:
    """Rows and columns that a mapping uses, with their memories, at one cycle a second.

    The accumulators and registers of idle columns serve nobody.
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
    """A memory with one bank and one shared port for each of `ports`."""
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
    """Accesses rounded up to whole bursts of DRAM and whole rows of the scratchpad."""

    def rounded(level: LevelTraffic, row_bytes: Leaf) -> LevelTraffic:
        return jax.tree.map(
            lambda moved: jnp.ceil(moved / row_bytes * EXACT_QUOTIENT) * row_bytes, level
        )

    dram, scratchpad, *others = traffic.levels
    levels = (rounded(dram, DRAM_BURST_BYTES), rounded(scratchpad, mesh_x), *others)
    return replace(traffic, levels=levels)
