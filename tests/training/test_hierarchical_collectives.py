"""Collectives of groups on whole clusters: placement, tiers, protocols, limits, gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hwdse.config import load_system
from hwdse.models.network.topology_collectives import TOPOLOGIES
from hwdse.numerics.jit_compile import quick_jit
from hwdse.training.hierarchical_collectives import (
    COLLECTIVES,
    NUM_PIECES,
    collective_bytes,
    collective_time_s,
    fabric_tiers,
    place_on_tiers,
)

P5, ULTRA = load_system("p5_48xlarge"), load_system("trn2_ultraserver")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def seconds(kind, size, num_chips, inner, system=P5):
    return float(collective_time_s(kind, size, num_chips, inner, system.chip, system.cluster))


def counts(num_chips, inner, system=P5):
    groups = place_on_tiers(num_chips, inner, fabric_tiers(system.chip, system.cluster))
    return tuple(float(group.num_chips) for group in groups)


def ideal(system):
    """The same ports without start-up time, latency or loss."""
    free = {
        "latency_s": 0.0,
        "collective_launch_s": 0.0,
        "rendezvous_s": 0.0,
        "bandwidth_efficiency_fraction": 1.0,
        "eager_fraction": 1.0,
    }
    chip = system.chip
    return chip.replace(link=chip.link.replace(**free), network=chip.network.replace(**free))


def test_group_placement_matches_hand_calculation():
    assert counts(16.0, 1.0) == (8.0, 2.0, 1.0)  # tensor parallel over two servers
    assert counts(16.0, 8.0) == (1.0, 16.0, 1.0)  # one member per server
    assert counts(16.0, 4.0) == (2.0, 8.0, 1.0)  # two members per server
    assert counts(40000.0, 1.0) == (8.0, 2500.0, 2.0)  # beyond a pod of 20,000
    assert counts(8.0, 20000.0) == (1.0, 1.0, 8.0)  # one member per pod
    assert counts(256.0, 1.0, ULTRA) == (64.0, 4.0, 1.0)


@pytest.mark.parametrize(("inner", "ports"), [(1.0, 8.0), (4.0, 2.0), (8.0, 1.0)])
def test_a_group_uses_the_ports_of_all_its_members(inner, ports):
    """All-reduce over two servers with `ports` members each: 2 n / 2 through these ports."""
    chip = ideal(P5)
    chip = chip.replace(link=chip.link.replace(bandwidth_bytes_per_s=1e14))
    time_s = collective_time_s("all_reduce", 1e12, 2.0 * ports, inner, chip, P5.cluster)
    across_s = 1e12 / (ports * chip.network.bandwidth_bytes_per_s)
    # Pipelined: the intra-domain time overlaps with the network except for one piece.
    assert across_s <= float(time_s) <= across_s * (1.0 + 1.0 / NUM_PIECES)


def test_large_messages_overlap_inside_and_across():
    total_s = seconds("all_reduce", 1e10, 64.0, 1.0)
    inside_s = seconds("all_reduce", 1e10, 8.0, 1.0)
    across_s = seconds("all_reduce", 1e10 / 8.0, 8.0, 8.0)
    assert max(inside_s, across_s) < total_s < 0.8 * (inside_s + across_s)


def test_an_oversubscribed_network_is_slower_between_pods_only():
    cluster = P5.cluster.replace(pod_chips=64.0, network_oversubscription_ratio=4.0)
    for num_chips, ratio in ((8.0, 1.0), (64.0, 4.0)):
        chip = ideal(P5)
        full_s = collective_time_s("all_gather", 1e12, num_chips, 8.0, chip, P5.cluster)
        time_s = collective_time_s("all_gather", 1e12, num_chips, 8.0, chip, cluster)
        # 64 members in 8 pods of 8: one eighth per position, of which 7/8 crosses pods.
        slow_s = 7.0 / 8.0 * 1e12 / 8.0 * ratio / chip.network.bandwidth_bytes_per_s
        assert float(time_s) >= (float(full_s) if ratio == 1.0 else slow_s) * (1.0 - 1e-12)
        assert float(time_s) == pytest.approx(float(full_s), rel=1e-9) or ratio > 1.0


def test_start_up_counts_once_and_protocols_trade_it_for_bandwidth():
    link = P5.chip.link
    tiny_s = seconds("all_gather", 1.0, 2.0, 1.0)
    assert tiny_s == pytest.approx(link.collective_launch_s + link.latency_s, rel=1e-6)
    large_s = seconds("all_gather", 1e12, 2.0, 1.0)
    rate = link.bandwidth_bytes_per_s * link.bandwidth_efficiency_fraction
    assert large_s == pytest.approx(0.5e12 / rate, rel=1e-3)


def test_sends_use_the_outermost_tier_of_the_group():
    """16 stages of 8 tensor-parallel ranks leave the server; 2 stages of 4 do not."""
    size = 1e9
    chip = ideal(P5)
    run = lambda p, inner: float(  # noqa: E731
        collective_time_s("point_to_point", size, p, inner, chip, P5.cluster)
    )
    assert run(16.0, 8.0) == pytest.approx(size / chip.network.bandwidth_bytes_per_s)
    assert run(2.0, 4.0) == pytest.approx(size / chip.link.bandwidth_bytes_per_s)


@pytest.mark.parametrize("kind", COLLECTIVES)
def test_one_chip_or_an_empty_message_takes_no_time(kind):
    assert seconds(kind, 1e9, 1.0, 1.0) == 0.0
    assert seconds(kind, 1e9, 1.0, 64.0) == 0.0
    assert seconds(kind, 0.0, 64.0, 1.0) == 0.0
    assert sum(collective_bytes(kind, 1e9, 1.0, 1.0, P5.chip, P5.cluster)) == 0.0


@pytest.mark.parametrize("kind", COLLECTIVES)
def test_time_rises_with_bytes_and_falls_with_bandwidth(kind):
    sizes = jnp.asarray(10.0 ** np.arange(1.0, 13.0))

    def run(size, num_chips, inner):
        return collective_time_s(kind, size, num_chips, inner, P5.chip, P5.cluster)

    compiled = quick_jit(jax.vmap(run, (0, None, None)))
    for num_chips, inner in ((8.0, 1.0), (64.0, 1.0), (64.0, 8.0)):
        times = compiled(sizes, num_chips, inner)
        assert np.all(np.diff(times) > 0.0)
        chip = P5.chip.replace(
            link=P5.chip.link.replace(bandwidth_bytes_per_s=1e12),
            network=P5.chip.network.replace(bandwidth_bytes_per_s=1e12),
        )
        faster_s = collective_time_s(kind, 1e12, num_chips, inner, chip, P5.cluster)
        assert faster_s < times[-1]


def test_sent_bytes_match_hand_calculation():
    chip, cluster = P5.chip, P5.cluster
    inside, across = collective_bytes("all_reduce", 8e9, 16.0, 1.0, chip, cluster)
    assert inside == pytest.approx(2.0 * 7.0 / 8.0 * 8e9)
    assert across == pytest.approx(1e9)  # an eighth, twice the half of it
    assert collective_bytes("point_to_point", 1e9, 4.0, 8.0, chip, cluster) == (0.0, 1e9)
    inside, across = collective_bytes("all_to_all", 16e9, 16.0, 1.0, chip, cluster)
    assert (float(inside), float(across)) == pytest.approx((7e9, 8e9))


def test_batch_of_groups_equals_single_groups():
    chips = jnp.array([1.0, 2.0, 8.0, 16.0, 64.0])
    inner = jnp.array([1.0, 4.0, 1.0, 8.0, 2.0])

    def run(p, i):
        return collective_time_s("all_reduce", 1e8, p, i, ULTRA.chip, ULTRA.cluster)

    single = [float(run(p, i)) for p, i in zip(chips, inner, strict=True)]
    assert quick_jit(jax.vmap(run))(chips, inner) == pytest.approx(single, rel=1e-12)


def slopes_of(kind):
    def time_s(size, num_chips, inner, chip, cluster):
        return collective_time_s(kind, size, num_chips, inner, chip, cluster)

    return quick_jit(jax.vmap(jax.grad(time_s, (0, 1, 2, 3, 4)), (0, 0, 0, None, None)))


@pytest.mark.parametrize(
    ("kind", "topology", "is_double"),
    [
        ("all_reduce", "torus", True),
        ("all_gather", "reducing_switch", False),
        ("point_to_point", "torus", False),
    ],
)
def test_gradients_are_finite(kind, topology, is_double):
    system = ULTRA if topology == "torus" else P5
    cluster = system.cluster.replace(topology=topology)
    cases = itertools.product((0.0, 1.0, 1e8, 1e15), (1.0, 2.0, 64.0, 1e5), (1.0, 8.0, 128.0))
    with jax.enable_x64(is_double):
        size, chips, inner = (jnp.array(column) for column in zip(*cases, strict=True))
        found = slopes_of(kind)(size, chips, inner, system.chip, cluster)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


def test_gradient_matches_finite_differences():
    for size in (1e5, 1e9):
        step = 1e-4 * size
        high, low = (seconds("all_reduce", size + d, 64.0, 1.0) for d in (step, -step))
        slope = jax.grad(collective_time_s, 1)("all_reduce", size, 64.0, 1.0, P5.chip, P5.cluster)
        assert float(slope) == pytest.approx((high - low) / (2.0 * step), rel=1e-5)


@pytest.mark.parametrize("topology", sorted(TOPOLOGIES))
def test_every_topology_has_every_collective(topology):
    cluster = P5.cluster.replace(topology=topology)
    for kind in ("all_reduce", "broadcast", "point_to_point"):
        time_s = collective_time_s(kind, 1e8, 16.0, 1.0, P5.chip, cluster)
        assert np.isfinite(time_s)
        assert time_s > 0.0


def test_preset_systems():
    """A larger scale-up domain speeds up the all-to-all of a large group; Rainier loads."""
    chip = P5.chip
    small = P5.cluster
    big = small.replace(torus_sizes=(64.0,))
    times = [float(collective_time_s("all_to_all", 1e9, 64.0, 1.0, chip, c)) for c in (small, big)]
    assert times[1] < 0.25 * times[0]
    rainier = load_system("rainier")
    assert rainier.cluster.num_chips == 7812 * 64
    time_s = seconds("all_reduce", 1e9, rainier.cluster.num_chips, 1.0, rainier)
    assert 1e-3 < time_s < 0.1
