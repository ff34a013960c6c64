"""Port stalls and best mappings against runs of ZigZag 3.9.1 on Gemmini-like arrays.

Two comparisons. Given mapping: ZigZag's loops evaluated by this model, with the column names of
the file; tests traffic, energy and port stalls. Best mapping (`best_...`): result of
`core/mapper/mapper.py` on the same core, with the smallest energy-delay product of the roofline.
`best_energy_above_pj` is the larger of both energies; its `max_ape` is the largest excess of a
best mapping over ZigZag. `..._roofline_cycles` are compared with the total of ZigZag; the
difference is the effect of the port terms.

Counting follows the header of the file. ZigZag's array reads a word once for as long as it uses
this word: a weight in its register, an input at the scratchpad port. A finished sum leaves the
accumulator in output width, several per access. If partial sums are read at all, they are also
read at the start of a sum. For ragged array passes (`passes=ragged`), ZigZag uses their mean size
rounded down, this model the mean. Data loaded only once waits for idle cycles of a port in this
model, and for idle width in ZigZag.
"""

from pathlib import Path

import jax
import numpy as np

from hwdse.core.mapper.mapper import OVERFLOW_TOLERANCE, BestMapping, best_mapping, operator_nest
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.mappings.loop_nest import LoopNest
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    printed_resolution,
    read_table,
)
from hwdse.validation.simulators.zigzag_costs import CORE_COLUMNS, batch_costs, cores
from hwdse.validation.simulators.zigzag_loops import loop_nest, parse_loops
from hwdse.workload.loops.operators import Operators, gemm_operators

SIZE_COLUMNS = ("M", "K", "N")
ENERGY_COLUMNS = (
    "energy_pj",
    "e_mac_pj",
    "e_reg_W_pj",
    "e_acc_O_pj",
    "e_sram_W_pj",
    "e_sram_I_pj",
    "e_dram_W_pj",
    "e_dram_I_pj",
    "e_dram_O_pj",
)
CYCLE_COLUMNS = (
    "latency_compute_stall_cycles",
    "latency_onload_cycles",
    "latency_total_cycles",
)
COLUMNS = (*SIZE_COLUMNS, *CORE_COLUMNS, *ENERGY_COLUMNS, *CYCLE_COLUMNS, "loops")


def validate(path: Path) -> ValidationReport:
    """Error table of energies and cycles, with ZigZag's mapping and with the best mapping."""
    table = read_table(path, COLUMNS)
    m, k, n = (table.numbers(name, at_least=1.0, whole=True) for name in SIZE_COLUMNS)
    reference = {
        name: table.numbers(name, at_least=0.0) for name in (*ENERGY_COLUMNS, *CYCLE_COLUMNS)
    }
    compute, load, total = (reference[name] for name in CYCLE_COLUMNS)
    with jax.enable_x64(True):
        core = cores(table)
        operators = gemm_operators(m, k, n, np.ones(len(table)))
        nests = given_nests(table, [m, k, n]) + best_nests(operators, core)
        twice = jax.tree.map(lambda x: np.concatenate([x, x]), (operators, core))
        costs = batch_costs(nests, *twice)
    given, best = ({name: x[half] for name, x in costs.items()} for half in _halves(len(table)))
    overflows = best["used_ratio"] > 1.0 + OVERFLOW_TOLERANCE
    best = {name: np.where(overflows, np.nan, values) for name, values in best.items()}
    comparisons = {
        name: Comparison(values, given[name], printed_resolution(table.text(name)))
        for name, values in reference.items()
    }
    unload = total - compute - load
    comparisons |= {
        "latency_offload_cycles": Comparison(unload, given["latency_offload_cycles"]),
        "latency_roofline_cycles": Comparison(total, given["latency_roofline_cycles"]),
        "best_energy_pj": Comparison(reference["energy_pj"], best["energy_pj"]),
        "best_energy_above_pj": Comparison(
            reference["energy_pj"], np.maximum(best["energy_pj"], reference["energy_pj"])
        ),
        "best_latency_total_cycles": Comparison(total, best["latency_total_cycles"]),
        "best_latency_roofline_cycles": Comparison(total, best["latency_roofline_cycles"]),
    }
    return build_report(
        "zigzag",
        path,
        comparisons,
        rows_partly_scored={"no mapping found that fits": int(overflows.sum())},
        group_by={"passes": _passes(nests[: len(m)])},
    )


def _passes(nests: list[LoopNest]) -> list[str]:
    """Label of each nest: `even` if all array passes have equal integer sizes, else `ragged`."""
    is_even = [np.all(np.asarray(nest.spatial) % 1.0 == 0.0) for nest in nests]
    return ["even" if even else "ragged" for even in is_even]


def _halves(num_rows: int) -> tuple[slice, slice]:
    return slice(num_rows), slice(num_rows, None)


def best_nests(operators: Operators, core: Accelerator) -> list[LoopNest]:
    """Best mapping of each row on its own core."""
    best = _best_mappings(operators, core)
    num_rows = len(np.asarray(operators.p))
    return [
        operator_nest(best, operators, jax.tree.map(lambda x, row=row: x[row], core), row)
        for row in range(num_rows)
    ]


@quick_jit
def _best_mappings(operators: Operators, core: Accelerator) -> BestMapping:
    return best_mapping(operators, core)


def given_nests(table: ReferenceTable, sizes: list[np.ndarray]) -> list[LoopNest]:
    """ZigZag's mappings of all rows; a mapping inconsistent with its row raises an error."""
    rows, cols = table.numbers("rows"), table.numbers("cols")
    nests = []
    for row, text in enumerate(table.text("loops")):
        try:
            mapping = parse_loops(text)
        except ValueError as error:
            raise table.error(row, "loops", str(error)) from error
        m, k, n = (float(size[row]) for size in sizes)
        unrolled = {"rows": k / mapping.trips("D2"), "cols": n / mapping.trips("D1")}
        if mapping.trips("D0") != m:
            raise table.error(row, "loops", f"loops over D0 that make M = {m:g}")
        for name, limit in (("rows", rows[row]), ("cols", cols[row])):
            if not 0.0 < unrolled[name] <= limit:
                dim, size = ("D2", f"K = {k:g}") if name == "rows" else ("D1", f"N = {n:g}")
                raise table.error(
                    row, "loops", f"loops over {dim} that leave at most {limit:g} of {size}"
                )
        nests.append(loop_nest(mapping, **unrolled))
    return nests
