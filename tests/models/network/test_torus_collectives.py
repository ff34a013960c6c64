"""Laws of collectives on tori and meshes: rings, lines, strides, slices, uneven groups."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fabric_groups import CUBE, FREE, LINK, counted_parts, domain_group, members_of_groups

from hwdse.models.network.topology_collectives import TOPOLOGIES
from hwdse.numerics.jit_compile import quick_jit

RATE = FREE.bandwidth_bytes_per_s
KINDS = ("all_gather", "all_to_all", "broadcast", "point_to_point", "all_reduce")
GROUPS = ("all_gather", "all_to_all", "broadcast")
TORUS = TOPOLOGIES["torus"].time_s
TORI = ("torus", "optical_torus", "mesh")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@partial(quick_jit, static_argnames=("kind",))
def _seconds(num_chips, inner, sizes, all_chips, link, *, kind):
    group = domain_group(num_chips, inner, sizes, all_chips=all_chips)
    return TORUS(kind, 1e9, group, link)


def seconds(kind, num_chips, inner, sizes, link=LINK, all_chips=None):
    """Seconds for 1 GB, compiled once for all sizes."""
    numbers = (num_chips, inner, sizes, all_chips or np.prod(sizes), link)
    with jax.enable_x64(True):
        return float(_seconds(*jax.tree.map(float, numbers), kind=kind))


def ring_of(num_chips):
    return domain_group(num_chips, 1.0, (num_chips,))


def line_of(num_chips):
    return domain_group(num_chips, 1.0, (128.0,))


# Rings and lines ---------------------------------------------------------------------------------


def test_torus_by_hand():
    whole = domain_group(64.0, 1.0, *CUBE)
    # All links busy both ways: 63/64 GB at 100 GB/s; 2 hops per dimension.
    expected = 6e-6 + 63.0 / 64.0 * 1e-2
    assert TORUS("all_gather", 1e9, whole, LINK) == pytest.approx(expected)
    plane = domain_group(16.0, 1.0, *CUBE)
    expected = 4e-6 + 15.0 / 16.0 * 1e-2 / 0.8
    assert TORUS("all_gather", 1e9, plane, LINK) == pytest.approx(expected)
    # n g / 4 per dimension: 1 GB at 40, 40 and 20 GB/s
    assert TORUS("all_to_all", 1e9, whole, FREE) == pytest.approx(0.025 + 0.025 + 0.05)
    assert TORUS("point_to_point", 1e9, whole, LINK) == pytest.approx(1e-6 + 0.1)


@pytest.mark.parametrize("collective", ["all_gather", "all_reduce", "all_to_all", "broadcast"])
def test_a_closed_torus_is_faster_than_a_line_of_as_many_chips(collective):
    run = partial(TORUS, collective)
    for size in (0.0, 1e6, 1e9):
        closed = domain_group(64.0, 1.0, *CUBE)
        assert run(size, closed, LINK) < run(size, line_of(64.0), LINK)


@pytest.mark.parametrize("num_chips", [3.0, 4.0, 5.0, 7.0, 8.0, 9.0, 16.0, 27.0])
def test_a_closed_ring_is_twice_as_fast_as_a_line(num_chips):
    for kind in GROUPS:
        ring_s = float(TORUS(kind, 1e9, ring_of(num_chips), FREE))
        assert TORUS(kind, 1e9, line_of(num_chips), FREE) == pytest.approx(2.0 * ring_s)


@pytest.mark.parametrize("num_chips", [3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 15.0, 16.0])
def test_mean_hops_of_odd_and_even_rings(num_chips):
    g = num_chips
    hops = (g * g - 1.0) / (4.0 * g) if g % 2 else g / 4.0
    time_s = TORUS("all_to_all", 1e9, ring_of(g), FREE)
    assert time_s == pytest.approx(hops * 1e9 / RATE, rel=1e-12)
    # The farthest chip is floor(g / 2) hops away around a ring, g - 1 along a line.
    for group, farthest in ((ring_of(g), g // 2), (line_of(g), g - 1.0)):
        for kind in GROUPS:
            latency_s = TORUS(kind, 1e9, group, LINK) - TORUS(kind, 1e9, group, FREE)
            assert latency_s == pytest.approx(farthest * LINK.latency_s, rel=1e-6)


def test_dimensions_have_separate_latencies():
    slow = (CUBE[0], CUBE[1], (1.0, 1.0, 5.0))
    inside = domain_group(16.0, 1.0, *slow)
    assert TORUS("all_gather", 0.0, inside, LINK) == pytest.approx(4e-6)
    across = domain_group(4.0, 16.0, *slow)
    assert TORUS("all_gather", 0.0, across, LINK) == pytest.approx(10e-6)


# Groups that share links -------------------------------------------------------------------------


def busiest_link_bytes(members, size, *, is_ring):
    """Largest load of a link in one direction if every member of every group sends 1 / g byte to
    each other one, the shorter way around a ring, half each way at equal distance."""
    loads = np.zeros((2, size))
    for group in members:
        for source, target in itertools.permutations(group, 2):
            ahead = (target - source) % size
            if not is_ring:
                ways = [(0, target - source)] if target > source else [(1, source - target)]
            elif 2 * ahead == size:
                ways = [(0, ahead), (1, ahead)]
            else:
                ways = [(0, ahead)] if 2 * ahead < size else [(1, size - ahead)]
            for way, hops in ways:
                passed = source + np.arange(hops) if way == 0 else source - 1 - np.arange(hops)
                loads[way, passed % size] += 1.0 / len(group) / len(ways)
    return loads.max()


@pytest.mark.parametrize("size", [4, 5, 8, 9, 12, 16])
def test_all_to_all_takes_as_long_as_the_busiest_link(size):
    """All groups that fill a ring evenly, at all strides."""
    for num_chips in (p for p in range(2, size + 1) if size % p == 0):
        for stride in (t for t in range(1, size + 1) if size // num_chips % t == 0):
            is_ring = num_chips * stride == size
            members = members_of_groups(num_chips, stride, size)
            load = busiest_link_bytes(members, size, is_ring=is_ring)
            group = domain_group(float(num_chips), float(stride), (float(size),))
            time_s = float(TORUS("all_to_all", 1e9, group, FREE))
            expected_s = load * 1e9 / (0.5 * RATE)
            assert time_s == pytest.approx(expected_s, rel=1e-9), (num_chips, stride)


@given(st.integers(2, 16), st.integers(1, 8), st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_strided_groups_share_the_links(num_chips, stride, rest):
    """A collective at a stride of t takes t times as long as one between neighbors: t hops each,
    over links that t groups share."""
    for kind in KINDS:
        near_s = seconds(kind, num_chips, 1, (num_chips * rest,))
        far_s = seconds(kind, num_chips, stride, (num_chips * stride * rest,))
        assert far_s == pytest.approx(stride * near_s, rel=1e-9)


def test_strides_of_two_in_rings_of_four_are_as_fast_as_neighbors():
    """Servers of Trainium: one of two links to a neighbor, or half of both ways around."""
    near, far = domain_group(2.0, 1.0, (4.0, 4.0)), domain_group(2.0, 2.0, (4.0, 4.0))
    for kind in KINDS:
        assert TORUS(kind, 1e9, far, FREE) == pytest.approx(float(TORUS(kind, 1e9, near, FREE)))


# Slices ------------------------------------------------------------------------------------------


def gather_links(sizes, name):
    """Links that the all-gather of a whole slice uses, of six per chip of a TPU."""
    group = domain_group(float(np.prod(sizes)), 1.0, sizes, (1 / 3, 1 / 3, 1 / 3))
    time_s = TOPOLOGIES[name].time_s("all_gather", 1e9, group, FREE)
    share = 1.0 - 1.0 / np.prod(sizes)
    return 6.0 * share * 1e9 / RATE / float(time_s)


@pytest.mark.parametrize(
    ("sizes", "each", "together", "none"),
    [
        ((2.0, 2.0, 1.0), 2.0, 2.0, 2.0),  # v5p: 1 GB in 4.167 ms at 540 GB/s per chip
        ((2.0, 2.0, 2.0), 3.0, 3.0, 3.0),
        ((2.0, 2.0, 4.0), 4.0, 3.0, 3.0),
        ((2.0, 4.0, 4.0), 5.0, 3.0, 3.0),
        ((4.0, 4.0, 1.0), 4.0, 4.0, 2.0),
        ((4.0, 4.0, 4.0), 6.0, 6.0, 3.0),
        ((4.0, 4.0, 8.0), 6.0, 6.0, 3.0),
        ((3.0, 1.0, 1.0), 2.0, 2.0, 1.0),
    ],
)
def test_wraparound_links_of_slices(sizes, each, together, none):
    assert gather_links(sizes, "torus") == pytest.approx(each)
    assert gather_links(sizes, "optical_torus") == pytest.approx(together)
    assert gather_links(sizes, "mesh") == pytest.approx(none)


def test_a_slice_of_four_chips_by_hand():
    """2 x 2 x 1 of TPU v5p: 0.75 GB through two links of 90 GB/s."""
    link = FREE.replace(bandwidth_bytes_per_s=540e9)
    group = domain_group(4.0, 1.0, (2.0, 2.0, 1.0), (1 / 3, 1 / 3, 1 / 3))
    time_s = TOPOLOGIES["optical_torus"].time_s("all_gather", 1e9, group, link)
    assert time_s == pytest.approx(0.75e9 / 180e9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(2.0, 2.0, 1.0), (2.0, 4.0, 4.0), (4.0, 4.0, 4.0), (5.0, 3.0)])
def test_more_wraparound_is_never_slower(kind, sizes):
    for num_chips in (2.0, float(np.prod(sizes))):
        group = domain_group(num_chips, 1.0, sizes)
        torus_s, optical_s, mesh_s = (
            float(TOPOLOGIES[name].time_s(kind, 1e9, group, LINK)) for name in TORI
        )
        assert torus_s <= optical_s * (1.0 + 1e-12)
        assert optical_s <= mesh_s * (1.0 + 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_a_dimension_has_no_wraparound(kind):
    """Four of eight chips in a row are as fast as a mesh of four."""
    part, mesh = domain_group(4.0, 1.0, (8.0,)), domain_group(4.0, 1.0, (4.0,))
    expected = float(TOPOLOGIES["mesh"].time_s(kind, 1e9, mesh, LINK))
    assert TORUS(kind, 1e9, part, LINK) == pytest.approx(expected)


# Uneven groups -----------------------------------------------------------------------------------


@given(st.integers(2, 16), st.integers(1, 4), st.integers(2, 5), st.integers(2, 5))
@settings(max_examples=100, deadline=None)
def test_uneven_groups_are_no_faster_than_their_end_links(num_chips, inner, width, height):
    """A member at an end of its group has one link in a dimension, or two where it has rings."""
    window, domain = num_chips * inner, width * height
    if window > domain:
        return
    fleet = math.lcm(window, domain)
    time_s = seconds("all_gather", num_chips, inner, (width, height), FREE, fleet)
    parts = counted_parts(num_chips, inner, fleet, domain)
    share_s = (1.0 - 1.0 / parts["most"]) * 1e9 / RATE
    assert time_s >= share_s * (1.0 - 1e-12)
    rows = counted_parts(num_chips, inner, fleet, width)
    if rows["num_blocks"] > 1 and rows["fewest"] < min(num_chips, width / inner):
        assert time_s >= share_s / 0.75 * (1.0 - 1e-12)  # no ring in one of two dimensions


def test_uneven_groups_by_hand():
    # 0 1 2 | 3 4 5 | ... on rows of four: one link to the lone chip of a row, or a line of three.
    group = domain_group(3.0, 1.0, (4.0, 4.0), all_chips=48.0)
    assert TORUS("all_gather", 1e9, group, FREE) == pytest.approx(2 / 3 * 1e9 / (0.25 * RATE))
    # 0 1 2 3 / 4 5: chip 5 has a link in each dimension.
    group = domain_group(6.0, 1.0, (4.0, 4.0), all_chips=6.0)
    assert TORUS("all_gather", 1e9, group, FREE) == pytest.approx(5 / 6 * 1e9 / (0.5 * RATE))
    # 0 1 2 3 / 4: chip 4 has one link.
    group = domain_group(5.0, 1.0, (4.0, 4.0), all_chips=5.0)
    assert TORUS("all_gather", 1e9, group, FREE) == pytest.approx(4 / 5 * 1e9 / (0.25 * RATE))
    # Twelve of sixteen in a row are a line; others pass its end, with two dimensions.
    group = domain_group(12.0, 1.0, (16.0, 12.0), (0.4, 0.6), all_chips=192.0)
    assert TORUS("all_gather", 1e9, group, FREE) == pytest.approx(11 / 12 * 1e9 / (0.2 * RATE))
    assert TORUS("all_to_all", 1e9, group, FREE) == pytest.approx(3.0 * 1e9 / (0.2 * RATE))


# Gradients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite(kind):
    collective = partial(TOPOLOGIES["optical_torus"].time_s, kind)

    def time_s(size, num_chips, inner, sizes, link):
        group = domain_group(num_chips, inner, sizes, all_chips=192.0)
        return collective(size, group, link)

    slopes = quick_jit(jax.vmap(jax.grad(time_s, (0, 1, 2, 3, 4)), (0, 0, 0, None, None)))
    cases = itertools.product((0.0, 1e9), (1.0, 2.0, 3.0, 5.5, 16.0, 64.0), (1.0, 2.0, 3.0, 16.0))
    size, chips, inner = (jnp.array(column) for column in zip(*cases, strict=True))
    for sizes in ((4.0, 4.0, 4.0), (2.0, 2.0, 1.0), (5.0, 3.0)):
        found = slopes(size, chips, inner, sizes, LINK)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(found)), sizes


def test_the_gradient_in_ring_size_is_that_of_the_mean_hops():
    """n g / 4 for even rings and n (g - 1 / g) / 4 for odd ones."""

    @quick_jit
    def slope(size):
        return jax.grad(lambda p: TORUS("all_to_all", 1e9, ring_of(p), FREE))(size)

    for size in (4.0, 5.0, 16.0):
        hops = 0.25 + (0.25 / size**2 if size % 2 else 0.0)
        assert slope(size) == pytest.approx(hops * 1e9 / RATE)
