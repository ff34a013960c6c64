"""Best mappings against the optimal mappings of AccelForge, under its counting rules.

The file has one GEMM on one array per row, with all energies, bandwidths and capacities in the
columns of `CORE_COLUMNS`. Rows without an accumulator have one scratchpad for all operands. If
`imperfect_factors` is False, both mappers use exact divisors only. Different tiles can have equal
EDP (energy-delay product), so DRAM traffic may differ where EDP agrees.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np

from hwdse.config.hardware.accelerators import load_accelerator
from hwdse.core.mapper.mapper import BestMapping, best_mapping, tile_to_loop_nest
from hwdse.models.memory.largest_tile import divisors_of
from hwdse.models.memory.loop_nest_traffic import nest_traffic
from hwdse.models.memory.memory_level_costs import mapping_costs
from hwdse.numerics.array_types import Leaf
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import total
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator, Level, Operands
from hwdse.specs.mappings.loop_nest import Accounting, LoopNest, MappingCosts
from hwdse.specs.mappings.tiles import RESIDENCIES, Divisors
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    read_table,
)
from hwdse.workload.loops.operators import Operators, gemm_operators

ACCELFORGE = Accounting(fractional_edges=True, elides_first_read=True, drains_outputs=True)
"""Array passes are fractional by the PEs in use; outermost tiles count as full tiles."""
TOLERANCE = 0.01
"""Relative EDP error above which a row counts as a mismatch."""
NEST_TOLERANCE = 1e-9
"""Tolerance for a mapping re-evaluated as a loop nest: rounding only."""
UNLIMITED = 1e30
"""Capacity (B) or bandwidth (B/s) without a limit in the file: DRAM size, register ports."""
EXTENT_COLUMNS = ("M", "K", "N", "rows", "cols")
WIDTH_COLUMNS = ("in_bits", "acc_bits")
LIMIT_COLUMNS = (
    "sram_bytes",
    "dram_bw_bytes_per_s",
    "sram_read_bw_bytes_per_s",
    "sram_write_bw_bytes_per_s",
)
ENERGY_COLUMNS = (
    "mac_pj",
    "reg_pj_per_bit",
    "acc_pj_per_bit",
    "sram_read_pj_per_bit",
    "sram_write_pj_per_bit",
    "dram_pj_per_bit",
)
CORE_COLUMNS = (*EXTENT_COLUMNS, *WIDTH_COLUMNS, "clock_hz", *LIMIT_COLUMNS, *ENERGY_COLUMNS)
ACCUMULATOR_COLUMNS = ("acc_bytes", "acc_bw_bytes_per_s")
"""Zero without an accumulator."""
DRAM_COLUMNS = (
    "dram_read_A_bytes",
    "dram_read_B_bytes",
    "dram_read_C_bytes",
    "dram_write_C_bytes",
)
RESULT_COLUMNS = ("latency_s", "energy_j")
LEVELS: Mapping[str, tuple[tuple[str, ...], str, str, str]] = MappingProxyType(
    {
        "dram": (OPERANDS, "dram_pj_per_bit", "dram_pj_per_bit", "in_bits"),
        "scratchpad": (OPERANDS, "sram_read_pj_per_bit", "sram_write_pj_per_bit", "acc_bits"),
        "accumulator": (("outputs",), "acc_pj_per_bit", "acc_pj_per_bit", "acc_bits"),
        "registers": (("weights",), "reg_pj_per_bit", "reg_pj_per_bit", "in_bits"),
    }
)
"""Operands kept by each memory, and the columns of its energies and of its sum width."""
COLUMNS = (
    *CORE_COLUMNS,
    *ACCUMULATOR_COLUMNS,
    *RESULT_COLUMNS,
    *DRAM_COLUMNS,
    "sram_ports",
    "imperfect_factors",
)


Columns = dict[str, np.ndarray]


def validate(path: Path) -> ValidationReport:
    """Error table of EDP, latency, energy and DRAM traffic of the best mapping of each row.

    An EDP error above 1 % is a mismatch; the groups `edp=...` contain its sign. `edp_as_nest`
    compares each EDP with that of the same mapping as a loop nest, evaluated by
    `models/memory/loop_nest_traffic.py`. Groups: family, sign of the error, exact divisors.
    """
    table = read_table(path, COLUMNS)
    columns = _columns(table)
    reference = {name: columns[name] for name in RESULT_COLUMNS}
    reference["edp_js"] = columns["latency_s"] * columns["energy_j"]
    reference["dram_bytes"] = np.sum([columns[name] for name in DRAM_COLUMNS], axis=0)
    model = {name: np.empty(len(table)) for name in (*reference, "edp_as_nest")}
    kinds = _kinds(table, columns)
    with jax.enable_x64(True):
        for kind in sorted(set(kinds)):
            rows = np.flatnonzero([other == kind for other in kinds])
            found = _score({name: values[rows] for name, values in columns.items()}, *kind)
            for name, values in found.items():
                model[name][rows] = values
    edp, as_nest = model["edp_js"], model.pop("edp_as_nest")
    comparisons = {
        name: Comparison(values, model[name], 2.0 * TOLERANCE * values)
        for name, values in reference.items()
    }
    comparisons["edp_as_nest"] = Comparison(edp, as_nest, 2.0 * NEST_TOLERANCE * edp)
    groups = {"edp": _sides(edp / reference["edp_js"])}
    if "family" in table.columns:
        groups["family"] = table.text("family")
    groups["imperfect"] = table.text("imperfect_factors")
    return build_report("accelforge", path, comparisons, group_by=groups)


def _columns(table: ReferenceTable) -> Columns:
    """All numbers of a file; divisors must be above zero."""
    columns = {name: table.numbers(name, at_least=1.0, whole=True) for name in EXTENT_COLUMNS}
    for name in (*WIDTH_COLUMNS, "clock_hz", *LIMIT_COLUMNS, *RESULT_COLUMNS):
        columns[name] = table.numbers(name, at_least=1e-30)
    for name in (*ENERGY_COLUMNS, *ACCUMULATOR_COLUMNS, *DRAM_COLUMNS):
        columns[name] = table.numbers(name, at_least=0.0)
    for row in np.flatnonzero(columns["acc_bytes"] > 0.0):
        if columns["acc_bw_bytes_per_s"][row] == 0.0:
            expected = "a bandwidth above 0 for an accumulator of more than 0 bytes"
            raise table.error(int(row), "acc_bw_bytes_per_s", expected)
    return columns


def _kinds(table: ReferenceTable, columns: Columns) -> list[tuple[bool, bool, bool]]:
    """Flags of each row: has an accumulator, shares ports, requires exact divisors."""
    ports = table.text("sram_ports", ("shared", "separate"))
    imperfect = table.text("imperfect_factors", ("True", "False"))
    has_accumulator = (columns["acc_bytes"] > 0.0).tolist()
    shares, perfect = [x == "shared" for x in ports], [x == "False" for x in imperfect]
    return list(zip(has_accumulator, shares, perfect, strict=True))


def _sides(ratios: np.ndarray) -> list[str]:
    """Label of the EDP error of each row: equal, above or below."""
    near = np.where(ratios > 1.0, "above by more than 1 %", "below by more than 1 %")
    return np.where(np.abs(ratios - 1.0) <= TOLERANCE, "equal within 1 %", near).tolist()


def accelerators(
    columns: Columns, has_accumulator: bool = True, shares_port: bool = True
) -> Accelerator:
    """Arrays of rows of one kind as one accelerator, with one leaf element per row."""
    dram_bw = columns["dram_bw_bytes_per_s"]
    sram_bw = (columns["sram_read_bw_bytes_per_s"], columns["sram_write_bw_bytes_per_s"])
    unlimited = UNLIMITED + 0.0 * dram_bw
    sram = _level(columns, "scratchpad", columns["sram_bytes"], sram_bw, shares_port)
    levels = [_level(columns, "dram", unlimited, (dram_bw, dram_bw)), sram]
    if has_accumulator:
        acc_bw = columns["acc_bw_bytes_per_s"]
        levels[1] = replace(sram, keeps=("weights", "inputs"))
        levels.append(_level(columns, "accumulator", columns["acc_bytes"], (acc_bw, acc_bw)))
    levels.append(_level(columns, "registers", unlimited, (unlimited, unlimited)))
    return replace(
        load_accelerator("gemmini"),
        rows=columns["rows"],
        cols=columns["cols"],
        clock_hz=columns["clock_hz"],
        nominal_clock_hz=columns["clock_hz"],
        mac_energy_j=1e-12 * columns["mac_pj"],
        levels=tuple(levels),
        rows_dims="C",
        cols_dims="K",
    )


def _level(
    columns: Columns,
    name: str,
    capacity_bytes: np.ndarray,
    bandwidths_bytes_per_s: tuple[np.ndarray, np.ndarray],
    shares_port: bool = True,
) -> Level:
    """One memory level of all rows; its name selects the energy columns."""
    keeps, read_pj, write_pj, sums = LEVELS[name]
    word, zero = columns["in_bits"] / 8.0, 0.0 * capacity_bytes
    return Level(
        capacity_bytes,
        *bandwidths_bytes_per_s,
        read_energy_j_per_byte=8e-12 * columns[read_pj],
        write_energy_j_per_byte=8e-12 * columns[write_pj],
        energy_slope=zero,
        energy_exponent=zero,
        word_bytes=Operands(word, word, columns[sums] / 8.0),
        name=name,
        keeps=keeps,
        ports="one",
        banks="one",
        shares_port=shares_port,
        follows_clock=False,
    )


def _score(columns: Columns, has_accumulator: bool, shares_port: bool, perfect: bool) -> Columns:
    """Costs of the best mappings of rows of one kind, and their EDP as loop nests."""
    core = accelerators(columns, has_accumulator, shares_port)
    ones = np.ones(len(columns["M"]))
    operators = gemm_operators(columns["M"], columns["K"], columns["N"], ones)
    divisors = divisors_of(operators) if perfect else None
    best = _best(operators, core, divisors)
    dram = best.costs.traffic.levels[0]
    return {
        "latency_s": np.asarray(best.costs.time_s),
        "energy_j": np.asarray(best.costs.energy_j),
        "edp_js": np.asarray(best.costs.time_s * best.costs.energy_j),
        "dram_bytes": np.asarray(total(dram.reads) + total(dram.writes)),
        "edp_as_nest": _as_nests(best, operators, core),
    }


@quick_jit
def _best(operators: Operators, core: Accelerator, divisors: Divisors | None) -> BestMapping:
    return best_mapping(operators, core, accounting=ACCELFORGE, divisors=divisors)


def _as_nests(best: BestMapping, operators: Operators, core: Accelerator) -> np.ndarray:
    """EDP of the mappings evaluated as loop nests, one residency at a time."""
    edp = np.empty(len(np.asarray(operators.p)))
    for index, residency in enumerate(RESIDENCIES):
        rows = np.flatnonzero(np.asarray(best.residency) == index)
        if not rows.size:
            continue
        some = (replace(best.tile, residency=None), replace(operators, names=()), core)
        tile, chosen, cores = jax.tree.map(lambda x, rows=rows: _at(x, rows), some)
        nest = tile_to_loop_nest(tile, residency, chosen, cores)
        costs = _nest_costs(nest, chosen, cores)
        edp[rows] = np.asarray(costs.time_s * costs.energy_j)
    return edp


def _at(leaf: Leaf, rows: np.ndarray) -> np.ndarray:
    """Some rows of a leaf, or the value shared by all rows."""
    values = np.asarray(leaf)
    return values if values.ndim == 0 else values[rows]


@quick_jit
def _nest_costs(nest: LoopNest, operators: Operators, core: Accelerator) -> MappingCosts:
    return mapping_costs(nest_traffic(nest, operators, core, ACCELFORGE), core)
