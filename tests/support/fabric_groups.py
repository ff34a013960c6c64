"""Links, domains and groups for tests of collectives, and groups counted one by one."""

import math

import jax
import numpy as np

from hwdse.specs.hardware.chip import Link
from hwdse.workload.transformer.group_placement import FabricShape, place_group

LINK = Link(
    latency_s=1e-6,
    bandwidth_bytes_per_s=100e9,
    energy_j_per_byte=1e-11,
    collective_launch_s=0.0,
    bandwidth_efficiency_fraction=1.0,
    rendezvous_s=0.0,
    eager_fraction=1.0,
)
FREE = LINK.replace(latency_s=0.0)
CUBE = ((4.0, 4.0, 4.0), (0.4, 0.4, 0.2), (1.0, 1.0, 1.0))
LINE = ((64.0,), (1.0,), (1.0,))


def fabric_group(num_chips, inner, sizes, fractions=None, ratios=None, *, all_chips=None, pod=1e9):
    """Slowest group of a kind; by default of equal dimensions and in a single domain."""
    fractions = fractions or (1.0 / len(sizes),) * len(sizes)
    ratios = ratios or (1.0,) * len(sizes)
    total = math.prod(sizes) if all_chips is None else all_chips
    numbers = (num_chips, inner, FabricShape(sizes, fractions, ratios, pod, total))
    return place_group(*jax.tree.map(lambda x: 1.0 * x, numbers))


def domain_group(num_chips, inner, sizes, fractions=None, ratios=None, **options):
    """Part of `fabric_group` in a scale-up domain."""
    return fabric_group(num_chips, inner, sizes, fractions, ratios, **options).domain


def members_of_groups(num_chips, inner, all_chips):
    """Chips of every group of a kind, one row per group."""
    num_chips, inner, all_chips = int(num_chips), int(inner), int(all_chips)
    windows = np.arange(max(all_chips // (num_chips * inner), 1)) * num_chips * inner
    first = (windows[:, None] + np.arange(inner)[None, :]).reshape(-1)
    return first[:, None] + inner * np.arange(num_chips)[None, :]


def counted_parts(num_chips, inner, all_chips, block):
    """Fewest and most members in a block, most and mean blocks of a group, and the largest
    number of groups with chips in a block, of all and of those with chips in other blocks."""
    rows = members_of_groups(num_chips, inner, all_chips) // int(block)
    parts = [np.unique(row, return_counts=True) for row in rows]
    counts = [count for _, count in parts]
    blocks = np.concatenate([block for block, _ in parts])
    cut = np.concatenate([block for block, _ in parts if len(block) > 1] or [np.zeros(0, int)])
    return {
        "fewest": min(count.min() for count in counts),
        "most": max(count.max() for count in counts),
        "num_blocks": max(len(count) for count in counts),
        "mean_blocks": np.mean([len(count) for count in counts]),
        "groups": np.bincount(blocks).max(),
        "cut": np.bincount(cut).max(initial=0),
    }
