"""Placement of a rank group on the dimensions of a fabric.

A group fills the dimensions of the tiers from the inside out: ranks that vary fastest are
neighbors. All groups of a kind communicate at the same time, and each link belongs to one of them.
A chip therefore has its own ports, and its scale-out bandwidth is its share of the ports of its
domain. Examples with servers of 8 chips: a group of 16 over two servers uses all ports of both; a
group with one member in each of 16 servers uses one share per server, and the seven other groups
use the others; a group with two members per server uses two shares.
"""

from collections.abc import Sequence

import flax.struct
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, Scalar


@flax.struct.dataclass
class PlacedGroup:
    """Chips of one collective within a tier, by dimension. Rings and switches have one
    dimension."""

    extents: tuple[Leaf, ...]
    """Chips of the group along each dimension."""
    sizes: tuple[Leaf, ...]
    """Chips of the tier along each dimension."""
    fractions: tuple[Leaf, ...]
    """Fraction of a chip's bandwidth per dimension."""
    latency_ratios: tuple[Leaf, ...]
    """Latency of a hop in each dimension over the latency of the link."""

    @property
    def num_chips(self) -> Leaf:
        """Chips of the group."""
        product = 1.0
        for extent in self.extents:
            product = product * extent
        return product


def place_group(
    num_chips: Scalar,
    inner_chips: Scalar,
    sizes: tuple[Leaf, ...],
    fractions: tuple[Leaf, ...],
    latency_ratios: tuple[Leaf, ...],
) -> PlacedGroup:
    """Placement of a group in one tier, after `inner_chips` neighbors fill the first dimensions.

    The group fills the remainder of a dimension before the next one. Chips beyond the tier are not
    included. Extents of one chip have no cost.
    """
    extents, inner, rest = [], inner_chips, num_chips
    for size in sizes:
        taken = jnp.minimum(inner, size)
        extent = jnp.clip(rest, 1.0, size / taken)
        inner, rest = inner / taken, rest / extent
        extents.append(extent)
    return PlacedGroup(tuple(extents), sizes, fractions, latency_ratios)


def place_groups(
    num_chips: Scalar, inner_chips: Scalar, tiers: Sequence[PlacedGroup]
) -> tuple[PlacedGroup, ...]:
    """`place_group` for successive tiers, of which only the geometry is used."""
    found, inner, rest = [], inner_chips, num_chips
    for tier in tiers:
        group = place_group(rest, inner, tier.sizes, tier.fractions, tier.latency_ratios)
        size = 1.0
        for extent in tier.sizes:
            size = size * extent
        inner = inner / jnp.minimum(inner, size)
        rest = rest / group.num_chips
        found.append(group)
    return tuple(found)
