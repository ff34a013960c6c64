"""Cores of a ZigZag file's rows, and what a mapping costs on them as ZigZag counts it."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.compiling import quick_jit
from hwdse.models.levels import access_energy_j_per_byte, mapping_costs
from hwdse.models.loopnest import nest_traffic
from hwdse.models.stalls import loop_order, turns
from hwdse.shapes import Leaf
from hwdse.specs.accelerator import OPERANDS, Accelerator, Level, Operands
from hwdse.specs.hardware import Process
from hwdse.specs.mapping import Accounting, LevelTraffic, LoopNest, NestTraffic
from hwdse.system.port_waits import latency_s, port_waits
from hwdse.validation.table import ReferenceTable
from hwdse.validation.zigzag_loops import COLS_DIM, ROWS_DIM
from hwdse.workload.operators import Operators

ACCOUNTING = Accounting(fractional_edges=False, elides_first_read=True, drains_outputs=True)
"""First reads come back in `as_zigzag_counts`, which knows where they are counted."""
SCRATCHPAD, ACCUMULATOR, REGISTERS = 1, 2, 3
DRAM_BYTES = 1e15
"""More than any tensor here; ZigZag's DRAM holds everything."""
NO_SILICON = Process(**dict.fromkeys((field.name for field in fields(Process)), 0.0))
"""Area, leakage and price are not asked for."""
CORE_COLUMNS = (
    "rows",
    "cols",
    "clock_hz",
    "in_bits",
    "acc_bits",
    "out_bits",
    "sram_bytes",
    "acc_bytes",
    "dram_bw_bytes_per_cycle",
    "sram_bw_bytes_per_cycle",
    "acc_read_bits_per_cycle_per_col",
    "acc_write_bits_per_cycle_per_col",
    "mac_pj",
    "reg_pj_per_word",
    "acc_pj_per_word",
    "sram_pj_per_byte",
    "dram_pj_per_byte",
)
"""What a core is made of."""


def cores(table: ReferenceTable) -> Accelerator:
    """The cores of all rows, one a row along the last axis of each number."""
    column = {name: table.numbers(name, at_least=0.0) for name in CORE_COLUMNS}
    for name in CORE_COLUMNS:
        for row in np.flatnonzero(column[name] == 0.0)[:1]:
            if not name.endswith(("_pj", "_per_word", "_pj_per_byte")):
                raise table.error(int(row), name, "a number above 0")
    clock, rows, cols = column["clock_hz"], column["rows"], column["cols"]
    data, sums, results = (column[name] / 8.0 for name in ("in_bits", "acc_bits", "out_bits"))
    words = (Operands(data, data, results), Operands(data, data, sums))

    def level(name, keeps, size, rates, energy, word, count, **options):
        read, write = (rate * clock for rate in rates)
        return Level(
            capacity_bytes=size,
            read_bandwidth_bytes_per_s=read,
            write_bandwidth_bytes_per_s=write,
            read_energy_j_per_byte=energy * 1e-12,
            write_energy_j_per_byte=energy * 1e-12,
            energy_slope=0.0 * energy,
            energy_exponent=0.0 * energy,
            word_bytes=word,
            name=name,
            keeps=keeps,
            ports=count,
            banks=count,
            **options,
        )

    dram, sram = (column[f"{name}_bw_bytes_per_cycle"] for name in ("dram", "sram"))
    one, many = {"shares_port": True}, {"shares_port": False, "follows_clock": True}
    column_rates = [column[f"acc_{way}_bits_per_cycle_per_col"] / 8.0 for way in ("read", "write")]
    sum_j, weight_j = column["acc_pj_per_word"] / sums, column["reg_pj_per_word"] / data
    streams, array = ("weights", "inputs"), rows * cols * data
    levels = (
        level("DRAM", OPERANDS, DRAM_BYTES + 0.0 * dram, (dram, dram), column["dram_pj_per_byte"],
              words[0], "one", follows_clock=False, **one),
        level("scratchpad", streams, column["sram_bytes"], (sram, sram),
              column["sram_pj_per_byte"], words[1], "one", follows_clock=True, **one),
        level("accumulator", ("outputs",), column["acc_bytes"], column_rates, sum_j, words[1],
              "cols", **many),
        level("registers", ("weights",), array, (data, data), weight_j, words[1], "elements",
              **many),
    )  # fmt: skip
    return Accelerator(
        rows=rows,
        cols=cols,
        clock_hz=clock,
        nominal_clock_hz=clock,
        mac_energy_j=column["mac_pj"] * 1e-12,
        levels=levels,
        process=jax.tree.map(lambda zero: zero + 0.0 * clock, NO_SILICON),
        fixed_area_mm2=0.0 * clock,
        package_cost_usd=0.0 * clock,
        dram_cost_usd_per_byte=0.0 * clock,
        rows_dims=ROWS_DIM,
        cols_dims=COLS_DIM,
    )


def as_zigzag_counts(
    traffic: NestTraffic, nest: LoopNest, core: Accelerator, num_outputs: Leaf
) -> tuple[NestTraffic, Accelerator]:
    """Traffic of `ACCOUNTING` as ZigZag counts it, and the core with the widths that it takes.

    DRAM keeps partial sums in their own width. The array reads a word once for as long as it uses
    the same one. Where partial sums are read at all, the first read of each is counted too:
    DRAM's reads are partial sums that come back, the accumulator's are those added to and all
    sums that leave. These leave in DRAM's width.
    """
    dram, scratchpad, accumulator, registers = traffic.levels
    result_word, sum_word = (core.levels[x].word_bytes.outputs for x in (0, ACCUMULATOR))
    num_up, num_down = dram.writes.outputs / result_word, dram.reads.outputs / result_word
    is_spilled = num_down > 0.5
    word = jnp.where(is_spilled, sum_word, result_word)
    num_down = num_down + jnp.where(is_spilled, num_outputs, 0.0)
    num_added_to = accumulator.reads.outputs / sum_word - num_up
    num_added_to = num_added_to + jnp.where(num_added_to > 0.5, num_outputs, 0.0)
    num_written = accumulator.writes.outputs / sum_word + jnp.where(is_spilled, num_outputs, 0.0)

    loops = loop_order(nest)

    def once_a_stay(level: LevelTraffic, operand: str) -> LevelTraffic:
        share = turns(loops, operand, loops.num_tiers).num / traffic.compute_cycles
        reads = {operand: getattr(level.reads, operand) * share}
        return replace(level, reads=replace(level.reads, **reads))

    def with_outputs(level: LevelTraffic, reads: Leaf, writes: Leaf) -> LevelTraffic:
        return replace(
            level,
            reads=replace(level.reads, outputs=reads),
            writes=replace(level.writes, outputs=writes),
        )

    levels = (
        with_outputs(dram, num_down * word, num_up * word),
        once_a_stay(scratchpad, "inputs"),
        with_outputs(accumulator, num_added_to * sum_word + num_up * word, num_written * sum_word),
        once_a_stay(registers, "weights"),
    )
    top = core.levels[0]
    top = replace(top, word_bytes=replace(top.word_bytes, outputs=word))
    return replace(traffic, levels=levels), replace(core, levels=(top, *core.levels[1:]))


def energies_pj(traffic: NestTraffic, core: Accelerator) -> dict[str, Leaf]:
    """Energy by memory and operand, in the names of the file's columns."""

    def moved_pj(number: int, operand: str) -> Leaf:
        moved = traffic.levels[number]
        read_j, write_j = access_energy_j_per_byte(core.levels[number], core)
        reads, writes = getattr(moved.reads, operand), getattr(moved.writes, operand)
        return 1e12 * (read_j * reads + write_j * writes)

    energies = {
        "e_mac_pj": 1e12 * core.mac_energy_j * traffic.num_macs,
        "e_reg_W_pj": moved_pj(REGISTERS, "weights"),
        "e_acc_O_pj": moved_pj(ACCUMULATOR, "outputs"),
        "e_sram_W_pj": moved_pj(SCRATCHPAD, "weights"),
        "e_sram_I_pj": moved_pj(SCRATCHPAD, "inputs"),
        "e_dram_W_pj": moved_pj(0, "weights"),
        "e_dram_I_pj": moved_pj(0, "inputs"),
        "e_dram_O_pj": moved_pj(0, "outputs"),
    }
    return {"energy_pj": sum(energies.values(), start=0.0), **energies}


def nest_costs(nest: LoopNest, operators: Operators, core: Accelerator) -> dict[str, Leaf]:
    """Energies and cycles of nests of equal tiers, in the names of the file's columns."""
    counted, core = as_zigzag_counts(
        nest_traffic(nest, operators, core, ACCOUNTING), nest, core, operators.p * operators.k
    )
    waits = port_waits(nest, counted, core, ACCOUNTING, packs_results=True)
    costs = mapping_costs(counted, core)
    cycles = {
        "latency_compute_stall_cycles": counted.compute_cycles + waits.stall_s * core.clock_hz,
        "latency_onload_cycles": waits.load_s * core.clock_hz,
        "latency_offload_cycles": waits.unload_s * core.clock_hz,
        "latency_total_cycles": latency_s(costs, waits) * core.clock_hz,
        "latency_roofline_cycles": costs.time_s * core.clock_hz,
    }
    return {**energies_pj(counted, core), **cycles}


_quick_costs = quick_jit(nest_costs)


def costs_of(
    nests: Sequence[LoopNest], operators: Operators, core: Accelerator
) -> dict[str, np.ndarray]:
    """The same for one nest a row: rows of equal tiers are computed together."""
    columns: dict[str, np.ndarray] = {}
    for tiers in dict.fromkeys(nest.tiers for nest in nests):
        rows = [row for row, nest in enumerate(nests) if nest.tiers == tiers]
        stacked = jax.tree.map(lambda *x: np.stack(x), *(nests[row] for row in rows))
        some, parts = _rows_of((operators, core), rows)
        for name, values in _quick_costs(stacked, some, parts).items():
            columns.setdefault(name, np.full(len(nests), np.nan))[rows] = np.asarray(values)
    return columns


def _rows_of(columns: Any, rows: list[int]) -> Any:
    """Some rows of a pytree of columns."""
    return jax.tree.map(lambda column: np.asarray(column)[rows], columns)
