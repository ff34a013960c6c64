r"""Placement of a kind of rank groups on the scale-up domains and pods of a fabric.

Ranks are consecutive chips, and a group takes every `inner_chips`-th chip of a window of
p x `inner_chips` chips. Groups fill the dimensions of a domain from the inside out: ranks that vary
fastest are neighbors. All groups of a kind communicate at the same time, and each scale-out port
belongs to one of them. Examples with servers of 8 chips: a group of 16 over two servers uses all
ports of both; a group with one member in each of 16 servers uses one port per server, and the seven
other groups use the others; a group with two members per server uses two ports.

Groups that neither divide nor are multiples of a domain are ragged: some have few members in a
domain, whose ports carry the whole message of that domain. Three replicas of four chips on servers
of eight leave one replica alone on its server. The slowest group of the kind counts: `BlockParts`
has its exact parts (`numerics.window_cuts`), with the gradient of evenly distributed groups. Sizes
that are not whole, which only a continuous relaxation has, count as evenly distributed.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.window_cuts import is_whole, smallest_cut_part


@struct.dataclass
class BlockParts:
    """Parts of the groups of one kind in equal blocks of chips: rows, domains, pods.

    Arrays have one element per block size.
    """

    fewest: Leaf
    """Members in the block with the fewest members."""
    most: Leaf
    """Members in the block with the most members."""
    num_blocks: Leaf
    """Blocks of the group with the most blocks."""
    mean_blocks: Leaf
    """Blocks per group, mean over all groups."""
    group_share: Leaf
    """Groups per chip of the block with the most groups."""
    cut_share: Leaf
    """Groups per chip with members in other blocks, in the block with the most of them."""
    send_share: Leaf
    """Sends per chip that leave a block, if every member sends to the next."""
    is_even: Leaf
    """1 if all groups have the same part in each of their blocks, else 0."""


def _with_gradient(exact: jax.Array, even: jax.Array, is_exact: jax.Array) -> jax.Array:
    """`exact` with the relative gradient of `even`; `even` itself where not `is_exact`."""
    ratio = jnp.where(is_exact, exact / even, 1.0)
    return even * jax.lax.stop_gradient(ratio)


def _outer_groups(
    num_windows: jax.Array, window: jax.Array, inner_chips: jax.Array, block: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Groups with members in a block that has chips of `num_windows` windows, and those of them in
    the outer two windows, which its ends cut."""
    num_inside = jnp.maximum(num_windows - 2.0, 0.0)
    num_outer = (num_windows - num_inside) * inner_chips
    cut = jnp.minimum(num_outer, block - num_inside * window)
    return num_inside * inner_chips + cut, cut


def block_parts(
    num_chips: Scalar, inner_chips: Scalar, all_chips: Scalar, blocks: jax.Array
) -> BlockParts:
    r"""Parts of groups of `num_chips` members in blocks of each size, on `all_chips` chips.

    Evenly distributed: $m = \min(\max(b / s, 1), p)$ members in each of $p / m$ blocks of b chips,
    for p members s chips apart. If the smallest part of a window that a block boundary cuts has r
    chips, the fewest members are $\max(\lfloor r / s \rfloor, 1)$. A window of w chips spans up to
    $\lfloor ((p - 1) s + \min(r, s) - 1 - r) / b \rfloor + 2$ blocks, and a block has chips of up
    to $\lfloor (b - r - 1) / w \rfloor + 2$ windows, all but the outer two of them whole;
    one window fewer may have more cut groups. The mean
    number of blocks is $1 + ((p - 1) s - \max(r - s, 0)) / b$, an approximation if neither r nor s
    divides the other.
    """
    p, s, b = jnp.broadcast_arrays(
        *(jnp.asarray(x, float) for x in (num_chips, inner_chips, blocks))
    )
    w = p * s
    r = smallest_cut_part(w, b, all_chips)
    is_cut, is_exact = (r > 0.0) & (p > 1.0), is_whole(p) & is_whole(s) & is_whole(b)
    even = jnp.minimum(jnp.maximum(b / s, 1.0), p)
    fewest = jnp.where(is_cut, jnp.maximum(jnp.floor(r / s), 1.0), p)
    most = jnp.where(is_cut, jnp.minimum(jnp.ceil(b / s), p), p)
    spanned = jnp.floor(((p - 1.0) * s + jnp.minimum(r, s) - 1.0 - r) / b) + 2.0
    mean = 1.0 + ((p - 1.0) * s - jnp.maximum(r - s, 0.0)) / b
    is_apart = s >= b  # at most one member per block
    spanned, mean = jnp.where(is_apart, p, spanned), jnp.where(is_apart, p, mean)
    windows = jnp.floor((b - r - 1.0) / w) + 2.0
    touched, cut = _outer_groups(windows, w, s, b)
    fewer_touched, more_cut = _outer_groups(windows - 1.0, w, s, b)

    def exact(value: jax.Array, uncut: jax.Array | float, evenly: jax.Array) -> jax.Array:
        return _with_gradient(jnp.where(is_cut, value, uncut), evenly, is_exact)

    return BlockParts(
        fewest=exact(fewest, p, even),
        most=exact(most, p, even),
        num_blocks=exact(spanned, 1.0, p / even),
        mean_blocks=exact(jnp.clip(mean, 1.0, spanned), 1.0, p / even),
        group_share=exact(jnp.maximum(touched, fewer_touched) / b, 1.0 / p, 1.0 / even),
        cut_share=exact(jnp.maximum(cut, more_cut) / b, 0.0, 1.0 / even),
        send_share=jnp.minimum(s / b, 1.0) * jnp.where(is_exact & ~is_cut, 0.0, 1.0),
        is_even=jnp.where(is_exact, jnp.where(fewest == even, 1.0, 0.0), 1.0),
    )


@struct.dataclass
class PlacedGroup:
    """Part of a group within one scale-up domain, by dimension. Rings and switches have one
    dimension."""

    extents: tuple[Leaf, ...]
    """Members along each dimension, in the domain with the most members."""
    sizes: tuple[Leaf, ...]
    """Chips of the domain along each dimension."""
    fractions: tuple[Leaf, ...]
    """Fraction of a chip's bandwidth per dimension."""
    latency_ratios: tuple[Leaf, ...]
    """Latency of a hop in each dimension over the latency of the link."""
    strides: tuple[Leaf, ...]
    """Chips from one member to the next along each dimension. As many groups share the links."""
    is_even: tuple[Leaf, ...]
    """1 for dimensions in which all groups of the kind have equal extents, else 0."""
    row_extents: tuple[Leaf, ...]
    """Members along each dimension of uneven groups that end in it, in one row; else 1."""
    fewest_chips: Leaf
    """Members in the domain with the fewest members; at least two where a domain has two."""

    @property
    def num_chips(self) -> Leaf:
        """Members in the domain with the most members."""
        product = 1.0
        for extent in self.extents:
            product = product * extent
        return product


@struct.dataclass
class NetworkGroup:
    """Group on the scale-out network: domains joined in pods."""

    num_chips: Leaf
    """Members of the group."""
    domains: BlockParts
    """Parts in scale-up domains."""
    pods: BlockParts
    """Parts in pods."""


@struct.dataclass
class FabricGroup:
    """Slowest group of a kind: its part in a scale-up domain and its part on the network."""

    domain: PlacedGroup
    network: NetworkGroup


@struct.dataclass
class FabricShape:
    """Number and arrangement of the chips of a fabric."""

    sizes: tuple[Leaf, ...]
    """Chips along each dimension of a scale-up domain."""
    fractions: tuple[Leaf, ...]
    """Fraction of a chip's scale-up bandwidth per dimension."""
    latency_ratios: tuple[Leaf, ...]
    """Latency of a hop in each dimension over the latency of the link."""
    pod_chips: Leaf
    """Chips of a pod. Pods are at least one domain."""
    num_chips: Leaf
    """Chips of the job."""


@jax.jit
def place_group(num_chips: Scalar, inner_chips: Scalar, fabric: FabricShape) -> FabricGroup:
    """Slowest group of `num_chips` members on a fabric, `inner_chips` chips from one to the next.

    The group fills the remainder of a dimension before the next one. Extents of one chip have no
    cost. A job smaller than one group counts as one group.
    """
    blocks = [fabric.sizes[0]]
    for size in fabric.sizes[1:]:
        blocks.append(blocks[-1] * size)
    blocks.append(jnp.maximum(fabric.pod_chips, blocks[-1]))
    stacked = jnp.stack([jnp.asarray(block, float) for block in blocks])
    parts = block_parts(num_chips, inner_chips, fabric.num_chips, stacked)
    *dimensions, pods = (jax.tree.map(lambda x, i=i: x[i], parts) for i in range(len(blocks)))
    return FabricGroup(
        _domain_group(num_chips, inner_chips, fabric, blocks, dimensions),
        NetworkGroup(jnp.asarray(num_chips, float), dimensions[-1], pods),
    )


def _domain_group(
    num_chips: Scalar,
    inner_chips: Scalar,
    fabric: FabricShape,
    blocks: Sequence[Leaf],
    parts: Sequence[BlockParts],
) -> PlacedGroup:
    """Part of a group in a domain, given its parts in blocks of the first dimensions."""
    domain = parts[-1]
    extents, strides, is_even, rows = [], [], [], []
    inner, inner_block, even = 1.0, 1.0, 1.0
    for size, block, part in zip(fabric.sizes, blocks, parts, strict=False):
        members = domain.most if part is domain else part.fewest
        even = even * part.is_even
        has_rows = (part.is_even < 1.0) & (num_chips * inner_chips < block)
        extents.append(members / inner)
        strides.append(jnp.clip(inner_chips / inner_block, 1.0, size))
        is_even.append(even)
        rows.append(jnp.where(has_rows, num_chips / inner, 1.0))
        inner, inner_block = members, block
    fewest = jnp.maximum(domain.fewest, jnp.minimum(domain.most, 2.0))
    return PlacedGroup(
        tuple(extents),
        fabric.sizes,
        fabric.fractions,
        fabric.latency_ratios,
        tuple(strides),
        tuple(is_even),
        tuple(rows),
        fewest,
    )
