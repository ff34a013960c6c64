"""Placement of kinds of groups, against all of their groups counted one by one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.fabric_groups import CUBE, counted_parts, domain_group, fabric_group

from hwdse.workload.transformer.group_placement import block_parts

MEMBERS, STRIDES, BLOCKS = st.integers(1, 40), st.integers(1, 24), st.integers(1, 48)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@jax.jit
def _parts(num_chips, inner, all_chips, block):
    return block_parts(num_chips, inner, all_chips, block)


def parts(num_chips, inner, all_chips, block):
    with jax.enable_x64(True):
        return _parts(*(jnp.asarray(float(x)) for x in (num_chips, inner, all_chips, block)))


@settings(max_examples=300, deadline=None)
@given(MEMBERS, STRIDES, BLOCKS)
def test_parts_are_those_of_all_groups(num_chips, inner, block):
    """On a fleet of whole groups and whole blocks, as every cluster has them."""
    all_chips = math.lcm(num_chips * inner, block)
    assume(all_chips <= 20_000)
    found = parts(num_chips, inner, all_chips, block)
    counted = counted_parts(num_chips, inner, all_chips, block)
    assert found.fewest == pytest.approx(counted["fewest"], rel=1e-12)
    assert found.most == pytest.approx(counted["most"], rel=1e-12)
    assert found.num_blocks == pytest.approx(counted["num_blocks"], rel=1e-12)
    assert found.cut_share * block >= counted["cut"] * (1.0 - 1e-12)
    smallest = math.gcd(num_chips * inner, block)
    is_nested = smallest % inner == 0 or inner % smallest == 0
    tolerance = 1e-12 if is_nested or inner >= block else 0.2
    assert found.mean_blocks == pytest.approx(counted["mean_blocks"], rel=tolerance)
    if counted["cut"]:
        assert found.group_share * block >= counted["groups"] * (1.0 - 1e-12)
    if counted["cut"] and is_nested and num_chips * inner >= block:
        assert found.group_share * block == pytest.approx(counted["groups"], rel=1e-12)


@settings(max_examples=200, deadline=None)
@given(MEMBERS, STRIDES, BLOCKS, st.integers(1, 2000))
def test_parts_of_a_part_of_a_period_are_at_most_pessimistic(num_chips, inner, block, all_chips):
    """Clusters that are no whole blocks: no block has fewer members, no group more blocks."""
    all_chips = max(all_chips // (num_chips * inner), 1) * num_chips * inner
    found = parts(num_chips, inner, all_chips, block)
    counted = counted_parts(num_chips, inner, all_chips, block)
    assert found.fewest <= counted["fewest"] * (1.0 + 1e-12)
    if all_chips <= 2 * block:
        assert found.fewest == pytest.approx(counted["fewest"], rel=1e-12)
    assert found.most >= counted["most"] * (1.0 - 1e-12)
    assert found.num_blocks >= counted["num_blocks"] * (1.0 - 1e-12)
    assert found.cut_share * block >= counted["cut"] * (1.0 - 1e-12)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 4, 8]))
def test_even_groups_have_equal_parts(num_chips, inner, block):
    found = parts(num_chips, inner, 1024, block)
    members = min(num_chips, max(block // inner, 1))
    assert found.is_even == 1.0
    assert found.fewest == found.most == members
    assert found.num_blocks == found.mean_blocks == num_chips / members
    assert found.group_share == 1.0 / members


def test_by_hand():
    # Three replicas of four chips on servers of eight: 2 | 1 and 1 | 2.
    found = parts(3, 4, 24, 8)
    assert (found.fewest, found.most, found.num_blocks, found.mean_blocks) == (1.0, 2.0, 2.0, 2.0)
    assert found.is_even == 0.0
    # Two of the three groups of twelve chips: 8 | 4 and 4 | 8.
    found = parts(12, 1, 24, 8)
    assert (found.fewest, found.most, found.num_blocks) == (4.0, 8.0, 2.0)
    # Groups of six in one server of eight with six chips in use.
    found = parts(6, 1, 6, 8)
    assert (found.fewest, found.num_blocks, found.is_even) == (6.0, 1.0, 1.0)


def test_relaxed_sizes_count_as_evenly_distributed():
    found = parts(3.2, 4, 24, 8)
    assert (found.fewest, found.is_even) == (2.0, 1.0)
    assert found.num_blocks == pytest.approx(1.6)


@pytest.mark.parametrize(("num_chips", "inner"), [(3.0, 4.0), (16.0, 1.0), (16.0, 8.0), (1.0, 1.0)])
def test_gradients_are_those_of_evenly_distributed_groups(num_chips, inner):
    blocks = jnp.array([4.0, 8.0, 64.0])

    def fewest(p, s, scale):
        return block_parts(p, s, 192.0, scale * blocks).fewest

    slopes = jax.jacobian(fewest, (0, 1, 2))(num_chips, inner, 1.0)
    assert all(np.isfinite(slope).all() for slope in slopes)
    if (num_chips, inner) == (16.0, 1.0):
        assert slopes[2].tolist() == [4.0, 8.0, 0.0]  # members of a block follow its size


# Domains of several dimensions ------------------------------------------------------------------


@given(st.integers(0, 6), st.integers(0, 6))
@settings(max_examples=49, deadline=None)
def test_groups_fill_the_remaining_fabric(log_chips, log_inner):
    group = domain_group(2.0**log_chips, 2.0**log_inner, *CUBE)
    assert group.num_chips == min(2.0**log_chips, 64.0 / 2.0**log_inner)
    assert all(1.0 <= extent <= size for extent, size in zip(group.extents, CUBE[0], strict=True))
    assert group.is_even == (1.0, 1.0, 1.0)


def test_groups_by_hand():
    def extents(num_chips, inner):
        group = domain_group(num_chips, inner, *CUBE)
        return tuple(float(x) for x in group.extents), tuple(float(x) for x in group.strides)

    assert extents(16.0, 1.0) == ((4.0, 4.0, 1.0), (1.0, 1.0, 1.0))
    assert extents(8.0, 2.0) == ((2.0, 4.0, 1.0), (2.0, 1.0, 1.0))
    assert extents(4.0, 16.0) == ((1.0, 1.0, 4.0), (4.0, 4.0, 1.0))
    assert extents(8.0, 64.0) == ((1.0, 1.0, 1.0), (4.0, 4.0, 4.0))
    assert extents(8.0, 256.0) == ((1.0, 1.0, 1.0), (4.0, 4.0, 4.0))


def test_uneven_groups_lie_in_rows_or_pass_their_ends():
    # 0 1 2 | 3 4 5 | ... on rows of four: a row of three, or one chip in its row.
    group = domain_group(3.0, 1.0, (4.0, 4.0), all_chips=48.0)
    assert group.is_even == (0.0, 0.0)
    assert (float(group.extents[0]), float(group.row_extents[0])) == (1.0, 3.0)
    # Rows of four and two.
    group = domain_group(6.0, 1.0, (4.0, 4.0), all_chips=6.0)
    assert [float(x) for x in group.extents] == [2.0, 3.0]
    assert [float(x) for x in group.row_extents] == [1.0, 1.0]


def test_lone_members_share_nothing_and_pods_are_at_least_a_domain():
    group = fabric_group(3.0, 4.0, (8.0,), all_chips=24.0, pod=4.0)
    assert (group.network.domains.fewest, group.domain.num_chips) == (1.0, 2.0)
    assert group.domain.fewest_chips == 2.0
    assert group.network.pods.num_blocks == group.network.domains.num_blocks
