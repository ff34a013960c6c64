"""Operand delivery of arrays, vector units and unshared MAC units: bytes per FLOP."""

import functools

import jax
import jax.numpy as jnp
import pytest

from hwdse.analysis.operand_delivery import compare_operand_delivery, iso_mac_engine
from hwdse.config import load_chip
from hwdse.config.hardware.cpus import load_simd
from hwdse.models.compute.cpu_simd import register_block
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.hardware.chip import SystolicArray

ENGINE, BYTES = load_simd("graviton3"), 2.0
CHIP = load_chip("trainium2")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def compare(rows, cols, dataflow="output_stationary_overlapped"):
    array = SystolicArray(rows, cols, 8.0, 1e9, dataflow=dataflow)
    return compare_operand_delivery(CHIP.replace(array=array), ENGINE, BYTES)


@functools.cache
def _compiled(dataflow):
    return quick_jit(lambda rows, cols: compare(rows, cols, dataflow))


def delivered(rows, cols, dataflow="output_stationary_overlapped"):
    return _compiled(dataflow)(jnp.asarray(rows, float), jnp.asarray(cols, float))


@pytest.mark.parametrize(("rows", "cols"), [(128.0, 128.0), (64.0, 256.0), (8.0, 32.0)])
def test_array_bytes_follow_its_dimensions(rows, cols):
    """e (1/R + 1/C) / 2 per FLOP, plus sums that drain once."""
    read = delivered(rows, cols).systolic.memory_bytes_per_flop
    sums = 4.0 / (2.0 * 64.0 * max(rows, cols))
    assert read == pytest.approx(BYTES * (1.0 / rows + 1.0 / cols) / 2.0 + sums)


def test_vector_unit_bytes_follow_their_register_block():
    block = register_block(ENGINE, BYTES)
    read = delivered(128.0, 128.0).simd.memory_bytes_per_flop
    operands = BYTES * float(1.0 / block.rows + 1.0 / block.cols) / 2.0
    assert read == pytest.approx(operands, rel=0.03)


def test_unshared_operands_are_two_words_per_two_flop():
    unshared = delivered(128.0, 128.0).unshared
    assert unshared.memory_bytes_per_flop == BYTES
    assert unshared.hop_bytes_per_flop == 0.0


def test_array_bytes_fall_with_its_dimensions():
    """At 128 x 128, 7x less than vector registers and over 100x less than without sharing."""
    fed = delivered(128.0, 128.0)
    mine = fed.systolic.memory_bytes_per_flop
    assert 6.0 < fed.simd.memory_bytes_per_flop / mine < 12.0
    assert fed.unshared.memory_bytes_per_flop / mine > 100.0


@pytest.mark.parametrize("dataflow", ["output_stationary", "weight_stationary", "input_stationary"])
def test_bytes_fall_with_array_size(dataflow):
    reads = [float(delivered(n, n, dataflow).systolic.memory_bytes_per_flop) for n in (8, 32, 128)]
    assert reads[0] > 3.0 * reads[1] > 9.0 * reads[2]


def test_energy_is_the_sum_over_locations():
    for way in ("systolic", "simd", "unshared"):
        one = getattr(delivered(128.0, 128.0), way)
        parts = (
            one.memory_energy_j_per_flop,
            one.register_energy_j_per_flop,
            one.hop_energy_j_per_flop,
        )
        assert one.energy_j_per_flop == pytest.approx(float(sum(parts)))
        assert min(parts) >= 0.0


def test_vector_cores_have_the_macs_of_the_chip():
    engine = iso_mac_engine(ENGINE, CHIP, BYTES)
    array = CHIP.array
    macs = engine.num_cores * engine.num_fma_ports * engine.vector_bytes / BYTES
    assert macs == pytest.approx(array.rows * array.cols * array.num_arrays)
    assert engine.llc.capacity_bytes == CHIP.sram.capacity_bytes


def test_gradients_are_finite_and_negative():
    bytes_of = quick_jit(jax.grad(lambda n: compare(n, n).systolic.memory_bytes_per_flop))
    slope = bytes_of(jnp.asarray(100.0))
    assert jnp.isfinite(slope) & (slope < 0.0)
