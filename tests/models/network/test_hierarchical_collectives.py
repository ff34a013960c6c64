"""Collectives of groups on whole clusters: placement, ports, pods, protocols, gradients."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.fabric_groups import counted_parts

from hwdse.config import load_system
from hwdse.models.network.hierarchical_collectives import (
    COLLECTIVES,
    NUM_PIECES,
    Copies,
    collective_bytes,
    collective_time_s,
    copy_ratios,
    distinct_places,
    place_on_cluster,
    placed_bytes,
    placed_time_s,
)
from hwdse.models.network.topology_collectives import TOPOLOGIES
from hwdse.numerics.jit_compile import quick_jit

P5, ULTRA = load_system("p5_48xlarge"), load_system("trn2_ultraserver")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def seconds(kind, size, num_chips, inner, system=P5):
    return float(collective_time_s(kind, size, num_chips, inner, system.chip, system.cluster))


def counts(num_chips, inner, system=P5):
    """Members in a domain, domains, pods."""
    group = place_on_cluster(num_chips, inner, system.cluster)
    network = group.network
    found = (group.domain.num_chips, network.domains.num_blocks, network.pods.num_blocks)
    return tuple(float(x) for x in found)


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
    assert counts(40000.0, 1.0) == (8.0, 5000.0, 2.0)  # beyond a pod of 20,000
    assert counts(8.0, 20000.0) == (1.0, 8.0, 8.0)  # one member per pod
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


# Laws of ports -----------------------------------------------------------------------------------

SIZE, PORT = 1e9, 50e9
IDEAL = ideal(P5).replace(
    link=ideal(P5).link.replace(bandwidth_bytes_per_s=1e18),
    network=ideal(P5).network.replace(bandwidth_bytes_per_s=PORT),
)
"""Ports without latency or loss; the scale-up domain takes no time."""
DEGREES, DOMAINS = st.integers(1, 64), st.integers(1, 16)


@partial(quick_jit, static_argnames=("kind",))
def _ideal_s(num_chips, inner, cluster, chip, *, kind):
    return collective_time_s(kind, SIZE, num_chips, inner, chip, cluster)


def fleet(num_chips, domain, *, pod=10**6, ratio=1.0, topology="switch"):
    """Cluster of so many chips in domains of a switch."""
    return P5.cluster.replace(
        num_chips=float(num_chips),
        torus_sizes=(float(domain),),
        pod_chips=float(pod),
        network_oversubscription_ratio=float(ratio),
        topology=topology,
    )


def ideal_s(kind, num_chips, inner, cluster, chip=IDEAL):
    with jax.enable_x64(True):
        numbers = jax.tree.map(float, (num_chips, inner, cluster, chip))
        return float(_ideal_s(*numbers, kind=kind))


@partial(quick_jit, static_argnames=("kind",))
def _across_bytes(num_chips, inner, cluster, *, kind):
    return collective_bytes(kind, SIZE, num_chips, inner, IDEAL, cluster)[1]


def across_bytes(kind, num_chips, inner, cluster):
    """Mean bytes that a chip sends over the network."""
    with jax.enable_x64(True):
        return float(_across_bytes(*jax.tree.map(float, (num_chips, inner, cluster)), kind=kind))


def port_bound_s(kind, parts, num_chips):
    """Bytes through a port of the domain with the fewest members, over its bandwidth."""
    fewest = parts["fewest"]
    ratios = {
        "all_gather": 1.0 / fewest - 1.0 / num_chips,
        "reduce_scatter": 1.0 / fewest - 1.0 / num_chips,
        "all_reduce": 1.0 / fewest,
        "all_to_all": 1.0 - fewest / num_chips,
        "broadcast": 1.0 / fewest,
        "point_to_point": 1.0,
    }
    return ratios[kind] * SIZE / PORT if parts["num_blocks"] > 1 else 0.0


@settings(max_examples=150, deadline=None)
@given(DEGREES, DEGREES, DOMAINS)
def test_no_group_beats_the_ports_of_its_smallest_part(num_chips, inner, domain):
    """Every kind of groups on whole domains: even, ragged, apart."""
    total = math.lcm(num_chips * inner, domain)
    assume(total <= 20_000)
    parts = counted_parts(num_chips, inner, total, domain)
    for kind in COLLECTIVES:
        time_s = ideal_s(kind, num_chips, inner, fleet(total, domain))
        bound_s = port_bound_s(kind, parts, num_chips)
        assert time_s >= bound_s * (1.0 - 1e-9), kind
        if kind not in ("all_reduce", "broadcast"):
            assert time_s == pytest.approx(bound_s, rel=1e-6, abs=1e-9), kind
        # Reductions gather once more; a domain receives a broadcast no slower than its scatter.
        elif parts["num_blocks"] > 1:
            assert time_s <= 2.0 * bound_s * (1.0 + 1e-6), kind
        assert time_s >= across_bytes(kind, num_chips, inner, fleet(total, domain)) / PORT * (
            1.0 - 1e-9
        ), kind


@settings(max_examples=60, deadline=None)
@given(DEGREES, DEGREES, DOMAINS, st.sampled_from(sorted(TOPOLOGIES)))
def test_no_group_beats_its_scale_up_port(num_chips, inner, domain, topology):
    """With a network that takes no time."""
    total = math.lcm(num_chips * inner, domain)
    assume(total <= 20_000)
    most = counted_parts(num_chips, inner, total, domain)["most"]
    chip = IDEAL.replace(link=IDEAL.network, network=IDEAL.link)
    cluster = fleet(total, domain, topology=topology)
    share = 1.0 - 1.0 / most
    bounds = {"all_gather": share, "all_to_all": share * most / num_chips}
    for kind, ratio in bounds.items():
        time_s = ideal_s(kind, num_chips, inner, cluster, chip)
        assert time_s >= ratio * SIZE / PORT * (1.0 - 1e-9), kind


@settings(max_examples=100, deadline=None)
@given(DEGREES, DEGREES, DOMAINS, st.integers(1, 40), st.floats(1.0, 16.0))
def test_pods_use_the_same_ports(num_chips, inner, domain, num_domains, ratio):
    """The size of a pod has no effect at full bisection, twice the pod is never slower, and the
    pod that most groups share is limited by its uplinks."""
    pod, total = domain * num_domains, math.lcm(num_chips * inner, domain * num_domains)
    assume(total <= 20_000)
    for kind in COLLECTIVES:
        flat_s, even_s, small_s, twice_s = (
            ideal_s(kind, num_chips, inner, fleet(total, domain, pod=pod_chips, ratio=slower))
            for pod_chips, slower in (
                (10**6, ratio), (pod, 1.0), (pod, ratio), (2 * pod, ratio)
            )
        )  # fmt: skip
        assert even_s == pytest.approx(flat_s, rel=1e-9), kind
        assert flat_s * (1.0 - 1e-9) <= twice_s <= small_s * (1.0 + 1e-9), kind
        assert small_s <= ratio * flat_s * (1.0 + 1e-9), kind
    parts = counted_parts(num_chips, inner, total, pod)
    uplink_s = ratio * (parts["groups"] / pod - 1.0 / num_chips) * SIZE / PORT
    assert ideal_s("all_gather", num_chips, inner, fleet(total, domain, pod=pod, ratio=ratio)) >= (
        uplink_s * (1.0 - 1e-9)
    )


@settings(max_examples=60, deadline=None)
@given(DEGREES, DEGREES, DOMAINS, st.integers(1, 300), st.integers(1, 5000))
def test_any_pod_and_any_number_of_chips(num_chips, inner, domain, pod, total):
    """Pods that are no whole domains, clusters that are no whole pods."""
    for kind in ("all_reduce", "all_to_all", "point_to_point"):
        flat_s, even_s, small_s, twice_s = (
            ideal_s(kind, num_chips, inner, fleet(total, domain, pod=pod_chips, ratio=slower))
            for pod_chips, slower in ((10**6, 4.0), (pod, 1.0), (pod, 4.0), (2 * pod, 4.0))
        )
        assert even_s == pytest.approx(flat_s, rel=1e-9), kind
        assert flat_s * (1.0 - 1e-9) <= twice_s <= small_s * (1.0 + 1e-9), kind


def test_pods_by_hand():
    """64 replicas of 8 chips in pods of 8 servers."""
    # The uplinks carry 4 (1/8 - 1/64) of the message per port, the ports 1 - 1/64.
    cluster = fleet(512, 8, pod=64, ratio=4.0)
    assert ideal_s("all_gather", 64, 8, cluster) == pytest.approx(63.0 / 64.0 * SIZE / PORT)
    cluster = fleet(512, 8, pod=64, ratio=16.0)
    expected = 16.0 * (1.0 / 8.0 - 1.0 / 64.0) * SIZE / PORT
    assert ideal_s("all_gather", 64, 8, cluster) == pytest.approx(expected)
    # A member in every pod: all bytes take the uplinks.
    cluster = fleet(512, 8, pod=64, ratio=4.0)
    assert ideal_s("all_gather", 8, 64, cluster) == pytest.approx(4.0 * 7.0 / 8.0 * SIZE / PORT)
    # Groups of three servers in pods of two: one server is alone in its pod.
    cluster = fleet(48, 8, pod=16, ratio=4.0)
    expected = 4.0 * (1.0 / 8.0 - 1.0 / 24.0) * SIZE / PORT
    assert ideal_s("all_gather", 24, 1, cluster) == pytest.approx(expected)


def test_an_all_reduce_within_one_pod_is_independent_of_pods():
    """1 GB over 128 H100: as fast in pods of 16 as in one pod."""
    system = load_system("dgx_h100")
    times = [
        float(
            collective_time_s(
                "all_reduce",
                1e9,
                128.0,
                1.0,
                system.chip,
                system.cluster.replace(num_chips=128.0, pod_chips=pod),
            )
        )
        for pod in (8.0, 16.0, 48.0, 128.0, 1e5)
    ]
    assert times == pytest.approx([times[0]] * 5, rel=1e-12)


# Ragged groups -----------------------------------------------------------------------------------


def test_the_replica_alone_on_its_server_uses_one_port():
    """Three replicas of four chips on servers of eight: 2/3 of the message through one port."""
    for kind in ("all_gather", "reduce_scatter"):
        time_s = ideal_s(kind, 3, 4, fleet(24, 8))
        assert time_s == pytest.approx(2.0 / 3.0 * SIZE / PORT)


def test_three_chips_on_domains_of_two():
    """The third chip sends its message and receives the sum: slower than four chips."""
    times = [ideal_s("all_reduce", p, 1, fleet(12, 2)) for p in (2, 3, 4)]
    assert times[1] == pytest.approx(SIZE / PORT)
    assert times[2] == pytest.approx(0.5 * SIZE / PORT)
    assert times[0] < 1e-6


def test_a_group_in_a_partly_used_domain_stays_inside():
    for num_chips in (3, 5, 6, 7):
        assert ideal_s("all_gather", num_chips, 1, fleet(num_chips, 8)) < 1e-6
    assert ideal_s("all_gather", 3, 1, fleet(6, 8)) < 1e-6


def test_relaxed_degrees_are_between_even_groups():
    """A search sees no cliff between two and four replicas but at ragged whole numbers."""
    smooth = [ideal_s("all_gather", p, 4, fleet(32, 8)) for p in (2.0, 2.1, 2.9, 3.9, 4.0)]
    assert np.all(np.diff(smooth) > 0.0)
    assert ideal_s("all_gather", 3, 4, fleet(24, 8)) > smooth[-1]


def test_ragged_groups_have_finite_gradients():
    def time_s(size, num_chips, inner, chip, cluster):
        return collective_time_s("all_gather", size, num_chips, inner, chip, cluster)

    slopes = quick_jit(jax.vmap(jax.grad(time_s, (0, 1, 2, 3, 4)), (None, 0, 0, None, None)))
    chips = jnp.array([3.0, 5.0, 12.0, 9.0, 3.5])
    inner = jnp.array([4.0, 1.0, 1.0, 3.0, 4.0])
    cluster = ULTRA.cluster.replace(num_chips=5760.0, pod_chips=192.0)
    found = slopes(1e9, chips, inner, ULTRA.chip, cluster)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))
    assert np.all(found[0] > 0.0)


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


# Copies of an element for several destinations ----------------------------------------------


def exchange(copies, num_chips, size=1e8, system=P5):
    """Seconds and sent bytes of an all-to-all with copies."""
    group = place_on_cluster(num_chips, 1.0, system.cluster)
    time_s = placed_time_s("all_to_all", size, group, system.chip, system.cluster, copies)
    return float(time_s), *(float(x) for x in placed_bytes("all_to_all", size, group, copies))


def test_distinct_places_by_hand():
    assert distinct_places(1.0, 8.0) == pytest.approx(1.0)
    assert distinct_places(2.0, 2.0) == pytest.approx(1.5)
    assert distinct_places(8.0, 1.0) == pytest.approx(1.0)
    assert distinct_places(8.0, 1e9) == pytest.approx(8.0)
    assert jax.grad(distinct_places, 1)(8.0, 1.0) < math.inf


def test_copies_to_one_destination_are_an_all_to_all():
    for once in (0.0, 1.0):
        for num_chips in (8.0, 16.0, 64.0):
            group = place_on_cluster(num_chips, 1.0, P5.cluster)
            inside, across = copy_ratios(Copies(1.0, once), group)
            assert across == pytest.approx(1.0)
            assert once == 1.0 or inside == pytest.approx(8.0 / num_chips)
    plain = seconds("all_to_all", 1e8, 16.0, 1.0)
    assert exchange(Copies(8.0, 0.0), 16.0)[0] == pytest.approx(plain, rel=1e-12)


def test_a_token_crosses_the_network_once_for_each_node():
    # Eight experts on two servers: 2 (1 - 2^-8) servers instead of eight messages.
    group = place_on_cluster(16.0, 1.0, P5.cluster)
    inside, across = copy_ratios(Copies(8.0, 1.0), group)
    assert across == pytest.approx(2.0 * (1.0 - 0.5**8) / 8.0)
    # Inside, each of the ranks that has an expert of the token gets it once.
    assert inside == pytest.approx(16.0 * (1.0 - (15.0 / 16.0) ** 8) / 8.0)


@settings(max_examples=30, deadline=None)
@given(
    number=st.sampled_from([1.0, 2.0, 6.0, 8.0, 9.0]),
    num_chips=st.sampled_from([8.0, 16.0, 64.0, 256.0]),
    once=st.floats(0.0, 1.0),
)
def test_sending_once_never_sends_more_over_the_network(number, num_chips, once):
    with jax.enable_x64(True):
        _, _, plain = exchange(Copies(number, 0.0), num_chips)
        _, link, network = exchange(Copies(number, once), num_chips)
        assert 0.0 <= network <= plain * (1.0 + 1e-12)
        assert link >= 0.0
        # Worth the detour where a server has several of the experts of a token.
        if num_chips == 16.0 and number >= 6.0:
            slow_s = exchange(Copies(number, 0.0), num_chips)[0]
            assert exchange(Copies(number, 1.0), num_chips)[0] <= slow_s
