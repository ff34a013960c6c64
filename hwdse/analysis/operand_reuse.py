"""Words per storage location of a GEMM on systolic arrays, vector units and row-stationary arrays.

A systolic array reads an operand from its scratchpad once and forwards it between PEs. A vector
unit reads it from registers for every MAC, and from L1 once per block that fits its registers.
Counts are per location of `specs/results/access_counts`, so one table of energies serves all
engines.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp

from hwdse.core.mapper.row_stationary import (
    hop_words,
    row_stationary_costs,
    row_stationary_memories,
)
from hwdse.models.compute.cpu_simd import lanes, register_block, simd_words
from hwdse.models.compute.systolic import FOLDS, Folds, accumulator_words, operand_words
from hwdse.models.memory.hbm_traffic import hbm_traffic_bytes
from hwdse.numerics.array_types import PerOp
from hwdse.numerics.relaxation import EXACT, Relaxation, total
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.hardware.chip import Memory, SystolicArray
from hwdse.specs.hardware.cpu import SimdEngine
from hwdse.specs.mappings.row_stationary_mapping import RowStationaryMapping
from hwdse.specs.results.access_counts import AccessCounts, AccessEnergies
from hwdse.workload.gemms import Gemms
from hwdse.workload.loops.operators import Operators

EYERISS_ENERGIES = AccessEnergies(
    mac_j=1.0, registers_j=1.0, array_j=2.0, buffer_j=6.0, dram_j=200.0, instruction_j=0.0
)
"""Energies in units of a 16-bit MAC: register file of 0.5 KiB, network between PEs, buffer above
100 KiB, DRAM. Source: Chen, Emer and Sze, ISCA 2016, table IV (65 nm)."""
INSTRUCTION_MACS = 20.0
"""Energy of an instruction over that of its half-precision MAC: 30 pJ over 1.5 pJ for an HFMA.
Source: Dally, Trends in Deep Learning Hardware (Hot Chips slides, 2000 % overhead), for a GPU at
45 nm. An out-of-order core needs more."""


def _output_stationary(gemms: Gemms, folds: Folds, rows: PerOp) -> tuple[PerOp, PerOp]:
    """Words in registers (sums, read and written) and over wires (A and B, drained sums)."""
    macs = gemms.num_macs / gemms.count
    entering = folds.a_passes * gemms.m * gemms.k + folds.b_passes * gemms.k * gemms.n
    drained = gemms.m * gemms.n * (rows - 1.0) / 2.0
    return 2.0 * macs, 2.0 * macs - entering + drained


def _operand_stationary(
    gemms: Gemms, stationary: PerOp, entering: PerOp, folds: Folds, rows: PerOp
) -> tuple[PerOp, PerOp]:
    """Words in registers (stationary operand) and over wires (its load, streamed operand, sums)."""
    macs = gemms.num_macs / gemms.count
    loaded = stationary * (rows - 1.0) / 2.0
    forwarded = (macs - entering) + (macs - folds.c_passes * gemms.m * gemms.n)
    return macs + stationary, forwarded + loaded


def _weight_stationary(gemms: Gemms, folds: Folds, rows: PerOp) -> tuple[PerOp, PerOp]:
    entering = folds.a_passes * gemms.m * gemms.k
    return _operand_stationary(gemms, gemms.k * gemms.n, entering, folds, rows)


def _input_stationary(gemms: Gemms, folds: Folds, rows: PerOp) -> tuple[PerOp, PerOp]:
    entering = folds.b_passes * gemms.k * gemms.n
    return _operand_stationary(gemms, gemms.m * gemms.k, entering, folds, rows)


_DATAFLOWS = (
    ("output_stationary", _output_stationary, ("", "_drained", "_overlapped")),
    ("weight_stationary", _weight_stationary, ("", "_overlapped")),
    ("input_stationary", _input_stationary, ("", "_overlapped")),
)
WIRES: Mapping[str, Callable[[Gemms, Folds, PerOp], tuple[PerOp, PerOp]]] = MappingProxyType(
    {f"{name}{ending}": words for name, words, endings in _DATAFLOWS for ending in endings}
)
"""Words in registers and over wires of one GEMM of each operator, by dataflow. The schedule of a
dataflow (drained, overlapped) does not change them."""


def systolic_reuse(
    gemms: Gemms,
    array: SystolicArray,
    scratchpad: Memory,
    bytes_per_element: PerOp,
    relaxation: Relaxation = EXACT,
) -> AccessCounts:
    r"""Words of GEMMs on a systolic array, times their counts.

    Each MAC takes its streamed operands from a neighbor PE; only the first PE of a row or column
    reads them from the scratchpad. Loaded and drained words pass $(R - 1) / 2$ PEs on average. Sums
    of different folds are added in the scratchpad. DRAM traffic as in `models/memory/hbm_traffic`.
    Assumes equal width of all words.
    """
    folds = FOLDS[array.dataflow](gemms, array, relaxation)
    registers, wires = WIRES[array.dataflow](gemms, folds, array.rows)
    a_words, b_words = operand_words(gemms, array, relaxation)
    dram_bytes = hbm_traffic_bytes(gemms, scratchpad, 1.0, bytes_per_element, relaxation)
    return AccessCounts(
        registers=gemms.count * registers,
        array=gemms.count * wires,
        buffer=a_words + b_words + accumulator_words(gemms, array, relaxation),
        dram=dram_bytes / bytes_per_element,
    )


def simd_reuse(
    gemms: Gemms, engine: SimdEngine, bytes_per_element: PerOp, relaxation: Relaxation = EXACT
) -> AccessCounts:
    """Words of GEMMs on vector units, times counts; the buffer is L1, nothing is forwarded."""
    words = simd_words(gemms, engine, bytes_per_element, relaxation)
    return AccessCounts(
        registers=words.register_reads + words.register_writes,
        array=0.0 * words.l1,
        buffer=words.l1,
        dram=words.dram,
    )


def row_stationary_reuse(
    operators: Operators, accelerator: Accelerator, mapping: RowStationaryMapping
) -> AccessCounts:
    """Words of convolutions on a row-stationary array, times their counts.

    Buffer words are those between buffer and array, as for the other engines.
    """
    names = row_stationary_memories(accelerator)
    traffic = row_stationary_costs(operators, accelerator, mapping).traffic
    levels = zip(accelerator.levels, traffic.levels, strict=True)
    reads, writes = {}, {}
    for level, level_traffic in levels:
        reads[level.name] = jax.tree.map(jnp.divide, level_traffic.reads, level.word_bytes)
        writes[level.name] = jax.tree.map(jnp.divide, level_traffic.writes, level.word_bytes)
    scratchpads = (names.filters, names.inputs, names.sums)
    registers = sum(total(reads[name]) + total(writes[name]) for name in scratchpads)
    buffer = total(reads[names.buffer]) + writes[names.buffer].outputs
    words = AccessCounts(
        registers=registers,
        array=hop_words(operators, mapping),
        buffer=buffer,
        dram=total(reads[names.dram]) + total(writes[names.dram]),
    )
    return jax.tree.map(lambda x: operators.count * x, words)


def reuse_energy_j(words: AccessCounts, energies: AccessEnergies) -> AccessCounts:
    """Energy per storage location, without MACs and instructions."""
    return AccessCounts(
        registers=energies.registers_j * words.registers,
        array=energies.array_j * words.array,
        buffer=energies.buffer_j * words.buffer,
        dram=energies.dram_j * words.dram,
    )


def instruction_energy_j(
    gemms: Gemms, engine: SimdEngine, bytes_per_element: PerOp, energies: AccessEnergies
) -> PerOp:
    """Energy to issue the vector instructions of GEMMs, times their counts.

    One instruction per vector MAC and per loaded vector; loop control is excluded. An array has no
    such energy: its control is a shift register.
    """
    block = register_block(engine, bytes_per_element)
    loads_per_mac = 1.0 / block.rows + 1.0 / block.cols
    vectors = gemms.num_macs / lanes(engine, bytes_per_element) * (1.0 + loads_per_mac)
    return energies.instruction_j * vectors
