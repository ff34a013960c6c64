"""Cores of the rows of a ZigZag file, and costs of mappings under ZigZag's counting rules."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.core.ports.mapping_stalls import latency_s, port_waits
from hwdse.models.memory.loop_nest_traffic import nest_traffic
from hwdse.models.memory.memory_level_costs import access_energy_j_per_byte, mapping_costs
from hwdse.models.memory.port_stalls import loop_order, tile_replacements
from hwdse.numerics.array_types import Leaf
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator, Level, Operands
from hwdse.specs.hardware.chip import Process
from hwdse.specs.mappings.loop_nest import Accounting, LevelTraffic, LoopNest, NestTraffic
from hwdse.validation.shared.reference_table import ReferenceTable
from hwdse.validation.simulators.zigzag_loops import COLS_DIM, ROWS_DIM
from hwdse.workload.loops.operators import Operators

ACCOUNTING = Accounting(fractional_edges=False, elides_first_read=True, drains_outputs=True)
"""First reads are added back in `as_zigzag_counts`, where ZigZag counts them."""
SCRATCHPAD, ACCUMULATOR, REGISTERS = 1, 2, 3
DRAM_BYTES = 1e15
"""Larger than all tensors; ZigZag's DRAM is unlimited."""
NO_PROCESS = Process(**dict.fromkeys((field.name for field in fields(Process)), 0.0))
"""Area, leakage and cost are not used."""
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
"""Parameters of a core."""


def cores(table: ReferenceTable) -> Accelerator:
    """Cores of all rows, one per row along the last axis of each leaf."""
    column = {name: table.numbers(name, at_least=0.0) for name in CORE_COLUMNS}
    for name in CORE_COLUMNS:
        for row in np.flatnonzero(column[name] == 0.0)[:1]:
            if "_pj" not in name:
                raise table.error(int(row), name, "a number above 0")
    zero = 0.0 * column["clock_hz"]
    return Accelerator(
        rows=column["rows"],
        cols=column["cols"],
        clock_hz=column["clock_hz"],
        nominal_clock_hz=column["clock_hz"],
        mac_energy_j=column["mac_pj"] * 1e-12,
        levels=_levels(column),
        process=jax.tree.map(lambda number: number + zero, NO_PROCESS),
        fixed_area_mm2=zero,
        package_cost_usd=zero,
        dram_cost_usd_per_byte=zero,
        rows_dims=ROWS_DIM,
        cols_dims=COLS_DIM,
    )


def _levels(column: dict[str, np.ndarray]) -> tuple[Level, ...]:
    """DRAM and scratchpad with one port each, accumulators and registers with two ports."""
    clock, dram = column["clock_hz"], column["dram_bw_bytes_per_cycle"]
    data, sums, results = (column[name] / 8.0 for name in ("in_bits", "acc_bits", "out_bits"))
    sram = column["sram_bw_bytes_per_cycle"]
    read, write = (column[f"acc_{way}_bits_per_cycle_per_col"] / 8.0 for way in ("read", "write"))
    inner = Operands(data, data, sums)

    def level(
        size: Leaf, rates: tuple[Leaf, Leaf], energy_pj: Leaf, name: str, keeps: tuple[str, ...]
    ) -> Level:
        count = {"accumulator": "cols", "registers": "pes"}.get(name, "one")
        return Level(
            capacity_bytes=size,
            read_bandwidth_bytes_per_s=rates[0] * clock,
            write_bandwidth_bytes_per_s=rates[1] * clock,
            read_energy_j_per_byte=energy_pj * 1e-12,
            write_energy_j_per_byte=energy_pj * 1e-12,
            energy_slope=0.0 * clock,
            energy_exponent=0.0 * clock,
            word_bytes=Operands(data, data, results) if name == "DRAM" else inner,
            name=name,
            keeps=keeps,
            ports=count,
            banks=count,
            shares_port=count == "one",
            follows_clock=name != "DRAM",
        )

    sizes = DRAM_BYTES + 0.0 * clock, column["rows"] * column["cols"] * data
    weight_pj, sum_pj = column["reg_pj_per_word"] / data, column["acc_pj_per_word"] / sums
    streams = ("weights", "inputs")
    return (
        level(sizes[0], (dram, dram), column["dram_pj_per_byte"], "DRAM", OPERANDS),
        level(
            column["sram_bytes"], (sram, sram), column["sram_pj_per_byte"], "scratchpad", streams
        ),
        level(column["acc_bytes"], (read, write), sum_pj, "accumulator", ("outputs",)),
        level(sizes[1], (data, data), weight_pj, "registers", ("weights",)),
    )


def as_zigzag_counts(
    traffic: NestTraffic, nest: LoopNest, core: Accelerator, num_outputs: Leaf
) -> tuple[NestTraffic, Accelerator]:
    """Traffic of `ACCOUNTING` under ZigZag's counting rules, and the core with its word widths.

    DRAM keeps partial sums in their own width. The array reads a word once for as long as it uses
    this word. If partial sums are read at all, the first read of each is counted too. DRAM reads
    are returning partial sums. Accumulator reads are sums that are added to, and all leaving
    sums. These leave in DRAM width.
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

    def once_per_residence(level: LevelTraffic, operand: str) -> LevelTraffic:
        share = tile_replacements(loops, operand, loops.num_tiers).num / traffic.compute_cycles
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
        once_per_residence(scratchpad, "inputs"),
        with_outputs(accumulator, num_added_to * sum_word + num_up * word, num_written * sum_word),
        once_per_residence(registers, "weights"),
    )
    top = core.levels[0]
    top = replace(top, word_bytes=replace(top.word_bytes, outputs=word))
    return replace(traffic, levels=levels), replace(core, levels=(top, *core.levels[1:]))


def energies_pj(traffic: NestTraffic, core: Accelerator) -> dict[str, Leaf]:
    """Energy by memory and operand, with the column names of the file."""

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
    """Energies and cycles of nests with equal tiers, with the column names of the file.

    `used_ratio` is the larger occupancy of scratchpad and accumulator.
    """
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
    used_ratio = jnp.maximum(costs.used_ratio[SCRATCHPAD], costs.used_ratio[ACCUMULATOR])
    return {**energies_pj(counted, core), **cycles, "used_ratio": used_ratio}


_quick_costs = quick_jit(nest_costs)


def batch_costs(
    nests: Sequence[LoopNest], operators: Operators, core: Accelerator
) -> dict[str, np.ndarray]:
    """`nest_costs` of one nest per row; rows with equal tiers are computed together."""
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
