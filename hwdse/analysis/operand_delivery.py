"""Bytes and energy of operand delivery: systolic array, vector units, no operand sharing."""

import dataclasses

import jax
import jax.numpy as jnp

from hwdse.analysis.operand_reuse import EYERISS_ENERGIES, simd_reuse, systolic_reuse
from hwdse.models.compute.cpu_simd import lanes, simd_words
from hwdse.models.compute.systolic import accumulator_words, scratchpad_words
from hwdse.models.energy.voltage_and_leakage import ACCUMULATOR_MACRO_BYTES, sram_energy_j_per_byte
from hwdse.models.memory.hbm_traffic import ACCUMULATOR_BYTES
from hwdse.numerics.array_types import PerOp, Scalar
from hwdse.numerics.relaxation import EXACT, Relaxation
from hwdse.specs.hardware.chip import Chip, SystolicArray
from hwdse.specs.hardware.cpu import SimdEngine
from hwdse.specs.results.access_counts import AccessCounts, AccessEnergies
from hwdse.specs.results.balance_results import DeliveryComparison, OperandDelivery
from hwdse.workload.gemms import Gemms

LARGE_GEMM_FOLDS = 64.0
"""Extents of `large_gemm` over the array dimensions; partial tiles and drains are negligible."""


def large_gemm(array: SystolicArray) -> Gemms:
    """GEMM of many full array tiles in each dimension, for machine balances."""
    longer = jnp.maximum(array.rows, array.cols)
    one = jnp.ones_like(jnp.asarray(longer, float))
    m, k, n = (LARGE_GEMM_FOLDS * x for x in (array.rows, longer, array.cols))
    return Gemms(m * one, k * one, n * one, one, one, one, one, 0.0 * one, 0.0 * one)


def iso_mac_engine(engine: SimdEngine, chip: Chip, bytes_per_element: Scalar) -> SimdEngine:
    """Vector cores like `engine` with the MACs per cycle of the chip.

    The SRAM of the chip is their last-level cache.
    """
    array = chip.array
    per_core = engine.num_fma_ports * lanes(engine, bytes_per_element)
    num_macs = array.rows * array.cols * array.num_arrays
    llc = dataclasses.replace(engine.llc, capacity_bytes=chip.sram.capacity_bytes)
    return dataclasses.replace(engine, num_cores=num_macs / per_core, llc=llc)


def _delivery(
    words: AccessCounts,
    memory: tuple[PerOp, PerOp],
    size: Scalar,
    energies: AccessEnergies,
    flop: PerOp,
) -> OperandDelivery:
    """Bytes and energy per FLOP from words by location and from bytes and energy of memories."""
    memory_bytes, memory_j = memory
    return OperandDelivery(
        memory_bytes_per_flop=memory_bytes / flop,
        register_bytes_per_flop=size * words.registers / flop,
        hop_bytes_per_flop=size * words.array / flop,
        memory_energy_j_per_flop=memory_j / flop,
        register_energy_j_per_flop=energies.registers_j * words.registers / flop,
        hop_energy_j_per_flop=energies.array_j * words.array / flop,
    )


def _array_memory(
    gemms: Gemms, chip: Chip, size: Scalar, relaxation: Relaxation
) -> tuple[PerOp, PerOp]:
    """Bytes and energy of the scratchpad and, for sums, of the accumulator SRAM."""
    operand_bytes = size * scratchpad_words(gemms, chip.array, relaxation)
    sum_bytes = ACCUMULATOR_BYTES * accumulator_words(gemms, chip.array, relaxation)
    macro, reference = chip.sram.capacity_bytes / chip.num_scratchpads, chip.sram.energy_j_per_byte
    operand_j = sram_energy_j_per_byte(macro, reference) * operand_bytes
    sum_j = sram_energy_j_per_byte(ACCUMULATOR_MACRO_BYTES, reference) * sum_bytes
    return operand_bytes + sum_bytes, operand_j + sum_j


def _vector_memory(
    gemms: Gemms, engine: SimdEngine, chip: Chip, size: Scalar, relaxation: Relaxation
) -> tuple[PerOp, PerOp]:
    """Bytes of L1, and energy of all caches; the last-level cache is one scratchpad of the chip."""
    words, reference = simd_words(gemms, engine, size, relaxation), chip.sram.energy_j_per_byte
    macro = chip.sram.capacity_bytes / chip.num_scratchpads
    levels = (
        (engine.l1.capacity_bytes, words.l1),
        (engine.l2.capacity_bytes, words.l2),
        (macro, words.llc),
    )
    energy_j = sum(
        sram_energy_j_per_byte(capacity_bytes, reference) * size * num_words
        for capacity_bytes, num_words in levels
    )
    return size * words.l1, energy_j


def compare_operand_delivery(
    chip: Chip,
    engine: SimdEngine,
    bytes_per_element: Scalar,
    gemms: Gemms | None = None,
    energies: AccessEnergies = EYERISS_ENERGIES,
    relaxation: Relaxation = EXACT,
) -> DeliveryComparison:
    r"""Operand delivery with the MAC units of the chip as arrays, as vector units, without reuse.

    Bytes per FLOP from the SRAM next to the MAC units, for element size e (bytes):
    R x C array, output stationary: $e (1/R + 1/C) / 2$, since a word serves C or R MACs (partial
    sums that leave a fold add to it in the other dataflows); vector unit like `engine`:
    $e (1/m_r + 1/n_r) / 2$, since L1 is read once per block of sums in registers; no sharing: $e$,
    both operands for every MAC. For `gemms`, or for `large_gemm`.

    Energy at the nominal clock. Memories follow `models/energy/voltage_and_leakage`: one scratchpad
    of the chip for the array and without sharing; L1, L2 and one scratchpad as last-level cache for
    vector units. Registers and hops follow `energies`, in units of the MAC of the chip (65 nm; a
    hop of one pipeline register is probably cheaper than the 2 of the Eyeriss network).
    Instructions are excluded: see `operand_reuse.instruction_energy_j`.
    """
    gemm = large_gemm(chip.array) if gemms is None else gemms
    flop, size = 2.0 * gemm.num_macs, bytes_per_element
    in_joules = jax.tree.map(lambda ratio: ratio * chip.process.mac_energy_j, energies)
    macro = chip.sram.capacity_bytes / chip.num_scratchpads
    sram_j = sram_energy_j_per_byte(macro, chip.sram.energy_j_per_byte)
    vector_cores = iso_mac_engine(engine, chip, size)
    none, both = 0.0 * flop, size * flop
    return DeliveryComparison(
        systolic=_delivery(
            systolic_reuse(gemm, chip.array, chip.sram, size, relaxation),
            _array_memory(gemm, chip, size, relaxation),
            size,
            in_joules,
            flop,
        ),
        simd=_delivery(
            simd_reuse(gemm, vector_cores, size, relaxation),
            _vector_memory(gemm, vector_cores, chip, size, relaxation),
            size,
            in_joules,
            flop,
        ),
        unshared=_delivery(
            AccessCounts(flop, none, flop, none), (both, sram_j * both), size, in_joules, flop
        ),
    )
