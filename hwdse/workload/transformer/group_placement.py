"""Where a group of chips sits on the dimensions of a fabric.

A group is laid on the dimensions of the tiers from the inside out: ranks that vary fastest sit
next to each other. All groups of a kind run at once and each link belongs to one of them, so a
chip has its own ports to itself, and what it can send over the network is its own share of its
domain's ports. So a group of 16 over two servers of 8 sends through all ports of both, one with a
member in each of 16 servers through one share of each, while the seven groups beside it use the
other shares, and one with two members a server through two.
"""

from collections.abc import Sequence

import flax.struct
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, Scalar


@flax.struct.dataclass
class PlacedGroup:
    """Chips of one collective, by dimension of the tier they sit in.

    `extents` chips of the group along each dimension out of `sizes`; `fractions` of a chip's
    bandwidth belong to each dimension, whose hops take `latency_ratios` of the link's latency.
    A ring or switch has one dimension.
    """

    extents: tuple[Leaf, ...]
    sizes: tuple[Leaf, ...]
    fractions: tuple[Leaf, ...]
    latency_ratios: tuple[Leaf, ...]

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
    """Places a group after `inner_chips` neighbors have filled the first dimensions.

    The group takes what is left of a dimension before it goes on to the next; what goes beyond
    the tier is not part of it. One-chip extents cost nothing.
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
    """`place_group` on tier after tier; of the whole tiers only their geometry is looked at."""
    found, inner, rest = [], inner_chips, num_chips
    for tier in tiers:
        group = place_group(rest, inner, tier.sizes, tier.fractions, tier.latency_ratios)
        size = 1.0
        for one in tier.sizes:
            size = size * one
        inner = inner / jnp.minimum(inner, size)
        rest = rest / group.num_chips
        found.append(group)
    return tuple(found)
