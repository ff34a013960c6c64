"""Laws of collectives on rings, tori, switches and full meshes."""

import itertools
from functools import partial

import jax
import numpy as np
import pytest
from jax.test_util import check_grads
from support.fabric_groups import CUBE, FREE, LINE, LINK, domain_group

from hwdse.models.network.topology_collectives import TOPOLOGIES
from hwdse.specs.hardware.cluster import MULTI_DIMENSIONAL
from hwdse.workload.transformer.collective_algorithms import ALGORITHMS

RING, SWITCH = TOPOLOGIES["ring"].time_s, TOPOLOGIES["switch"].time_s
COLLECTIVES = ("all_gather", "all_reduce", "all_to_all", "broadcast")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def fabric(name):
    return CUBE if name in MULTI_DIMENSIONAL else LINE


def group_of(name, num_chips):
    return domain_group(num_chips, 1.0, *fabric(name))


@pytest.mark.parametrize("name", sorted(TOPOLOGIES))
@pytest.mark.parametrize("collective", COLLECTIVES)
def test_one_chip_sends_nothing(name, collective):
    assert TOPOLOGIES[name].time_s(collective, 1e9, group_of(name, 1.0), LINK) == 0.0


@pytest.mark.parametrize("name", sorted(TOPOLOGIES))
@pytest.mark.parametrize("collective", [*COLLECTIVES, "point_to_point"])
def test_time_rises_with_bytes_and_falls_with_bandwidth(name, collective):
    run = partial(TOPOLOGIES[name].time_s, collective)
    group = group_of(name, 16.0)
    times = [float(run(size, group, LINK)) for size in (0.0, 1e3, 1e6, 1e9)]
    assert np.all(np.diff(times) > 0.0)
    faster = LINK.replace(bandwidth_bytes_per_s=2.0 * LINK.bandwidth_bytes_per_s)
    assert run(1e9, group, faster) < times[-1]
    # At most linear: small messages use an algorithm of lower latency.
    assert times[-1] - times[0] <= 1e3 * (times[2] - times[0]) * (1.0 + 1e-9)


@pytest.mark.parametrize("name", sorted(TOPOLOGIES))
def test_all_reduce_is_reduce_scatter_and_all_gather(name):
    topology, group = TOPOLOGIES[name], group_of(name, 16.0)
    both = topology.time_s("reduce_scatter", 1e8, group, LINK) + topology.time_s(
        "all_gather", 1e8, group, LINK
    )
    if topology.own_all_reduce is None:
        assert topology.time_s("all_reduce", 1e8, group, LINK) == both
    assert topology.time_s("all_reduce", 1e8, group, LINK) <= both


@pytest.mark.parametrize("name", sorted(TOPOLOGIES))
@pytest.mark.parametrize("num_chips", [2.0, 4.0, 16.0, 64.0])
def test_never_faster_than_the_receive_rate_of_a_chip(name, num_chips):
    group = group_of(name, num_chips)
    least_s = 1e9 * (num_chips - 1.0) / num_chips / FREE.bandwidth_bytes_per_s
    assert TOPOLOGIES[name].time_s("all_gather", 1e9, group, FREE) >= least_s * (1.0 - 1e-12)


@pytest.mark.parametrize("name", sorted(TOPOLOGIES))
@pytest.mark.parametrize("collective", COLLECTIVES)
@pytest.mark.parametrize("num_chips", [1.0, 64.0])
def test_gradients_are_finite_and_agree_with_differences(name, collective, num_chips):
    run = partial(TOPOLOGIES[name].time_s, collective)

    def time_s(message_bytes, link):
        return 1e3 * run(1e6 * message_bytes, group_of(name, num_chips), link)

    link = LINK

    def scaled(message_bytes, latency, bandwidth):
        scaled_link = link.replace(latency_s=1e-6 * latency, bandwidth_bytes_per_s=1e11 * bandwidth)
        return time_s(message_bytes, scaled_link)

    check_grads(scaled, (2.0, 1.5, 1.0), order=1)
    slope = jax.grad(lambda chips: run(1e9, group_of(name, chips), LINK))(num_chips)
    assert np.isfinite(slope)


def test_ring_by_hand():
    ring = domain_group(8.0, 1.0, (8.0,))
    # 7 hops of 1 µs and 125 MB at 100 GB/s
    assert RING("all_gather", 1e9, ring, LINK) == pytest.approx(7.0 * (1e-6 + 1.25e-3))
    # Every link carries 8 x 7 / 2 messages of 125 MB.
    assert RING("all_to_all", 1e9, ring, FREE) == pytest.approx(28.0 * 1.25e-3)


def test_switch_limits():
    pair, many = (
        domain_group(2.0, 1.0, (64.0,)),
        domain_group(1e6, 1.0, (1e6,)),
    )
    assert SWITCH("all_gather", 1e9, pair, LINK) == pytest.approx(1e-6 + 5e-3)
    assert SWITCH("all_gather", 1e9, many, FREE) == pytest.approx(1e-2, rel=1e-5)


def test_switch_latency_is_independent_of_hops():
    ring, switch = TOPOLOGIES["ring"], TOPOLOGIES["switch"]
    for num_chips, size in itertools.product((2.0, 8.0, 64.0), (0.0, 1e3, 1e9)):
        group = domain_group(num_chips, 1.0, *LINE)
        assert switch.time_s("all_gather", size, group, LINK) <= ring.time_s(
            "all_gather", size, group, LINK
        )
        assert switch.time_s("all_to_all", size, group, LINK) <= ring.time_s(
            "all_to_all", size, group, LINK
        )


def test_in_switch_reduction_saves_bytes_except_for_pairs():
    plain, reducing = TOPOLOGIES["switch"], TOPOLOGIES["reducing_switch"]
    for num_chips in (2.0, 8.0, 64.0):
        group = domain_group(num_chips, 1.0, *LINE)
        times = [float(t.time_s("all_reduce", 1e9, group, FREE)) for t in (plain, reducing)]
        expected = min(2.0 * (1.0 - 1.0 / num_chips), (1.0 + 1.0 / num_chips) / 0.85)
        assert times[0] == pytest.approx(2.0 * (1.0 - 1.0 / num_chips) * 1e-2)
        assert times[1] == pytest.approx(expected * 1e-2)


def test_small_all_reduces_take_one_step_and_large_ones_few_bytes():
    group = domain_group(8.0, 1.0, *LINE)
    mesh = ALGORITHMS["all_reduce"]["mesh"](8.0)
    assert SWITCH("all_reduce", 1.0, group, LINK) == pytest.approx(
        float(mesh.num_steps) * 1e-6, rel=1e-3
    )
    assert SWITCH("all_reduce", 1e12, group, LINK) == pytest.approx(17.5, rel=1e-3)


def test_a_full_mesh_uses_only_the_links_to_the_members():
    whole, part = (
        domain_group(8.0, 1.0, (8.0,)),
        domain_group(4.0, 1.0, (8.0,)),
    )
    run = partial(TOPOLOGIES["fully_connected"].time_s, "all_gather")
    assert run(1e9, whole, FREE) == pytest.approx(7.0 / 8.0 * 1e-2)
    assert run(1e9, part, FREE) == pytest.approx(3.0 / 4.0 * 1e-2 * 7.0 / 3.0)


@pytest.mark.parametrize("kind", sorted(ALGORITHMS))
def test_work_of_algorithms(kind):
    """No chip sends fewer bytes than must arrive, and one chip sends nothing."""
    least = {"all_reduce": 1.0, "broadcast": 1.0, "point_to_point": 1.0}
    for name, work_of in ALGORITHMS[kind].items():
        alone = work_of(1.0)
        if kind != "point_to_point":
            assert float(alone.num_steps) == float(alone.sent_ratio) == 0.0, name
        for num_chips in (2.0, 8.0, 1024.0):
            bound = least.get(kind, (num_chips - 1.0) / num_chips)
            work = work_of(num_chips)
            assert float(work.sent_ratio) >= bound * (1.0 - 1e-12), name
            assert float(work.num_steps) >= 1.0 - 1e-12, name


def test_hops_of_two_way_rings():
    """Half way around: 2 of 4 and of 5 chips."""
    for kind, factor in (("all_gather", 1.0), ("all_reduce", 2.0)):
        hops = [ALGORITHMS[kind]["bidirectional_ring"](p).num_steps for p in (1.0, 2.0, 4.0, 5.0)]
        assert hops == pytest.approx([0.0, factor, 2.0 * factor, 2.0 * factor])
