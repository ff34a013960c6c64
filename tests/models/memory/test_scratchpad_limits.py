"""Laws of SRAM limits: bytes in flight, busiest scratchpad, spilled scores, and whole designs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hwdse.config import load_chip
from hwdse.evaluation import evaluate
from hwdse.models.memory.scratchpad_limits import (
    COLLECTIVE_FRACTION,
    IN_FLIGHT_FRACTION,
    balanced_sram,
    fused_attention_bytes,
    fused_elementwise_bytes,
    spilled_result_bytes,
    sustained_hbm_bytes_per_s,
    with_spilled_scores,
    with_sustained_links,
)
from hwdse.numerics.jit_compile import quick_jit
from hwdse.search.space.pytree_path import get_path, set_path
from hwdse.workload.gemms import Gemms
from tests.support.designs import BASE, JOB

MIB = 1024.0**2
CHIP = load_chip("trainium2")
CHIPS = ("a100", "b200", "h100", "mi300x", "tpu_v4", "tpu_v6e", "trainium1", "trainium2")
SQUARE = load_chip("tpu_v4").array


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def with_sram(chip, mib):
    return chip.replace(sram=chip.sram.replace(capacity_bytes=mib * MIB))


def scores(heads=4.0, queries=4096.0, head=128.0):
    """Scores and values of fused attention: no probabilities in HBM."""
    one = np.ones(2)
    return Gemms(
        m=queries * one,
        k=np.array([head, queries]),
        n=np.array([queries, head]),
        count=heads * one,
        a_in_hbm=np.array([1.0, 0.0]),
        b_in_hbm=one,
        c_in_hbm=np.array([0.0, 1.0]),
        vector_flop=one,
        extra_bytes=one,
    )


@pytest.mark.parametrize("name", CHIPS)
def test_published_chips_have_room_for_all_bytes_in_flight(name):
    chip = load_chip(name)
    long_streams = chip.hbm_efficiency_fraction * chip.hbm.bandwidth_bytes_per_s
    assert sustained_hbm_bytes_per_s(chip) == pytest.approx(long_streams, rel=2e-3)


def test_littles_law_limits_small_srams():
    small = with_sram(CHIP, 0.1)
    in_flight = sustained_hbm_bytes_per_s(small) * CHIP.hbm_latency_s
    assert in_flight == pytest.approx(IN_FLIGHT_FRACTION * 0.1 * MIB, rel=1e-6)
    streams = CHIP.hbm_efficiency_fraction * 2.9e12
    equal = with_sram(CHIP, 2.0 * streams * 2e-6 / MIB)
    assert sustained_hbm_bytes_per_s(equal) == pytest.approx(streams / 2.0**0.25)


@given(
    mib=st.floats(1e-6, 1e5),
    bandwidth=st.floats(1e6, 1e16),
    more=st.floats(1.0, 100.0),
)
@settings(deadline=None)
def test_more_sram_or_hbm_never_lowers_the_sustained_bandwidth(mib, bandwidth, more):
    with jax.enable_x64(True):
        hbm = CHIP.hbm
        chip = with_sram(CHIP.replace(hbm=hbm.replace(bandwidth_bytes_per_s=bandwidth)), mib)
        faster = chip.replace(hbm=hbm.replace(bandwidth_bytes_per_s=more * bandwidth))
        now = sustained_hbm_bytes_per_s(chip)
        assert 0.0 < now <= bandwidth
        least = now * (1.0 - 1e-12)
        assert sustained_hbm_bytes_per_s(faster) >= least
        assert sustained_hbm_bytes_per_s(with_sram(chip, more * mib)) >= least
        leaves = jax.tree.map(jnp.asarray, chip)
        slopes = jax.grad(sustained_hbm_bytes_per_s)(leaves)
        assert all(bool(jnp.isfinite(x)) for x in jax.tree.leaves(slopes))


def test_gradient_of_the_sustained_bandwidth():
    def of(mib, bandwidth):
        hbm = CHIP.hbm.replace(bandwidth_bytes_per_s=1e12 * bandwidth)
        return 1e-12 * sustained_hbm_bytes_per_s(with_sram(CHIP.replace(hbm=hbm), mib))

    check_grads(of, (8.0, 2.9), order=1)
    check_grads(of, (200.0, 2.9), order=1)


@pytest.mark.parametrize(
    ("arrays", "scratchpads", "used"),
    [(8, 8, 1.0), (8, 1, 1.0), (16, 4, 1.0), (13, 4, 13 / 16), (5, 4, 5 / 8), (4, 8, 0.5)],
)
def test_the_busiest_scratchpad_limits_the_bandwidth(arrays, scratchpads, used):
    array = CHIP.array.replace(num_arrays=float(arrays))
    chip = CHIP.replace(array=array, num_scratchpads=float(scratchpads))
    found = balanced_sram(chip).bandwidth_bytes_per_s
    assert found == pytest.approx(used * chip.sram.bandwidth_bytes_per_s)


def test_working_set_of_fused_attention_by_hand():
    kib = 1024.0
    operands = (16.0 + 4.0 * 16.0 + 16.0) * kib  # queries, twice keys and values, probabilities
    sums = (16.0 + 16.0) * kib + 256.0  # output, scores, maximum and sum
    found = fused_attention_bytes(scores(), SQUARE, 2.0)
    assert found == pytest.approx([2.0 * operands + 4.0 * sums] * 2)


def spilled(chip, gemms):
    return with_spilled_scores(gemms, 1.0, chip.sram, chip.num_scratchpads, chip.array, 2.0)


def test_scores_spill_gradually_and_only_those():
    gemms = scores()
    kept = spilled(CHIP, gemms)
    assert np.array_equal(kept.c_in_hbm, gemms.c_in_hbm)
    shares = []
    for mib in (4.0, 2.0, 1.0, 0.1, 0.0):
        found = spilled(with_sram(CHIP, mib), gemms)
        assert found.c_in_hbm[0] == pytest.approx(found.a_in_hbm[1])
        assert found.c_in_hbm[1] == found.a_in_hbm[0] == 1.0
        shares.append(float(found.c_in_hbm[0]))
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert np.all(np.diff(shares) >= 0.0)
    linear = with_spilled_scores(gemms, 0.0, with_sram(CHIP, 0.1).sram, 8.0, CHIP.array, 2.0)
    assert np.array_equal(linear.c_in_hbm, gemms.c_in_hbm)


def test_a_scratchpad_with_more_arrays_needs_more_working_sets():
    small = with_sram(CHIP, 4.0)
    crowded = small.replace(array=small.array.replace(num_arrays=32.0))
    assert spilled(small, scores()).c_in_hbm[0] == 0.0
    assert spilled(crowded, scores()).c_in_hbm[0] > 0.0


@pytest.mark.parametrize("name", CHIPS)
def test_published_chips_have_room_for_the_chunks_of_collectives(name):
    chip = load_chip(name)
    found = with_sustained_links(chip)
    for port in ("link", "network"):
        given, sustained = (getattr(x, port).bandwidth_bytes_per_s for x in (chip, found))
        assert sustained == pytest.approx(given, rel=1e-3)


def test_littles_law_limits_links_of_small_srams():
    small = with_sustained_links(with_sram(CHIP, 0.1)).link
    rate = small.bandwidth_efficiency_fraction * small.bandwidth_bytes_per_s
    in_flight = rate * (CHIP.hbm_latency_s + CHIP.link.latency_s)
    assert in_flight == pytest.approx(COLLECTIVE_FRACTION * 0.1 * MIB, rel=1e-4)


def product(vector_flop=1.0, extent=4096.0):
    one = np.ones(1)
    size = extent * one
    return Gemms(size, size, size, 2.0 * one, one, one, one, vector_flop * one, one)


def test_results_of_products_spill_without_room_for_fused_elementwise_work():
    """A tile of 128 x 128 with sums and four operand tiles is 192 KiB on each of eight arrays."""
    assert fused_elementwise_bytes(product(), CHIP.array, 2.0) == pytest.approx(192.0 * 1024.0)

    def moved(mib, gemms):
        sram = with_sram(CHIP, mib).sram
        return float(spilled_result_bytes(gemms, sram, 8.0, CHIP.array, 2.0)[0])

    both_ways = 2.0 * 2.0 * 2.0 * 4096.0**2
    assert moved(1.5, product()) == 0.0
    assert moved(0.75, product()) == pytest.approx(0.5 * both_ways)
    assert moved(1e-9, product()) == pytest.approx(both_ways)
    assert moved(0.75, product(vector_flop=0.0)) == 0.0
    assert moved(0.75, product(extent=64.0)) == 0.0


FREE = BASE.replace(chip=BASE.chip.replace(power_limit_w=None))


def step_s(design):
    return evaluate(design, JOB).step_time_s


WHOLE, SLOPES = quick_jit(lambda design: evaluate(design, JOB)), quick_jit(jax.grad(step_s))


def time_s(design):
    return WHOLE(design).step_time_s


LEAVES = {
    "chip.sram.capacity_bytes": [0.1 * MIB * 1.7**i for i in range(16)],
    "chip.sram.bandwidth_bytes_per_s": [1e11 * 2.0**i for i in range(16)],
    "chip.hbm.bandwidth_bytes_per_s": [1e11 * 1.6**i for i in range(16)],
}


@pytest.mark.parametrize("path", sorted(LEAVES))
@pytest.mark.parametrize("mib", [1.0, 8.0, 24.0, 224.0])
def test_more_of_a_resource_never_slows_a_design(path, mib):
    base = FREE.replace(chip=with_sram(FREE.chip, mib))
    times = [float(time_s(set_path(base, path, value))) for value in LEAVES[path]]
    assert np.all(np.diff(times) <= 1e-9 * np.array(times[:-1]))
    assert times[0] > times[-1]


SIZES_MIB = (0.05, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 224.0)


def test_vanishing_sram_makes_the_reference_job_slow_and_dear():
    """Below 8 MiB for eight arrays, half the SRAM costs nearly twice the time or more."""
    found = [WHOLE(FREE.replace(chip=with_sram(FREE.chip, mib))) for mib in SIZES_MIB]
    times = np.array([float(x.step_time_s) for x in found])
    delay = np.array([float(x.step_time_s) ** 2 * float(x.chip_power_w) for x in found])
    assert np.all(np.diff(times) < 0.0)
    exponents = -np.diff(np.log(times)) / np.diff(np.log(SIZES_MIB))
    assert np.all(exponents[: SIZES_MIB.index(4.0)] > 1.0)
    assert times[SIZES_MIB.index(0.1)] > 100.0 * times[-1]
    # No size below 16 MiB has a lower energy-delay product than the preset or the best size.
    assert delay[: SIZES_MIB.index(16.0)].min() > delay[-1]
    assert np.argmin(delay) >= SIZES_MIB.index(16.0)
    assert np.all(np.diff(delay[: np.argmin(delay) + 1]) < 0.0)


def test_arrays_without_scratchpads_are_not_free():
    """13 arrays on 4 scratchpads have 13/16 of the SRAM bandwidth, and need area for ports."""
    base = FREE.replace(chip=FREE.chip.replace(num_scratchpads=4.0))
    slow = set_path(base, "chip.sram.bandwidth_bytes_per_s", 2e12)
    uneven = set_path(slow, "chip.array.num_arrays", 13.0)
    even = set_path(slow, "chip.array.num_arrays", 12.0)
    assert float(time_s(uneven)) > float(time_s(even))


@pytest.mark.parametrize("mib", [0.05, 2.0, 20.0, 224.0])
def test_gradients_are_finite_and_precisions_agree(mib):
    design = FREE.replace(chip=with_sram(FREE.chip, mib))
    slopes = SLOPES(jax.tree.map(jnp.asarray, design))
    assert all(bool(jnp.isfinite(x)) for x in jax.tree.leaves(slopes))
    assert float(get_path(slopes, "chip.sram.capacity_bytes")) <= 0.0
    double = float(time_s(design))
    with jax.enable_x64(False):
        assert float(time_s(design)) == pytest.approx(double, rel=1e-3)
