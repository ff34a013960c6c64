"""Work of collective algorithms per chip: sequential steps, bytes sent and bytes copied.

Message sizes are those of nccl-tests: an all-reduce has n bytes on each chip, an all-gather
gathers n in total, a reduce-scatter starts from n on each chip, an all-to-all sends n from each
chip (its own share included), a broadcast and a send transfer n. Ports are full duplex.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp

POST_RATIO = 0.25
"""Time to post a message to one more peer over the time of a step.

Fitted: an NCCL all-to-all of 512 bytes takes 0.2 µs longer per peer on H100 and B200, where a step
takes 0.8 and 1.3 µs (measured_collectives_public).
"""


@struct.dataclass
class CollectiveWork:
    """Work of one chip: steps, and bytes per byte of message."""

    num_steps: Leaf
    """Sequential steps, each with the latency of the link."""
    sent_ratio: Leaf
    """Bytes in the busiest direction of a chip's port over the message size."""
    copied_ratio: Leaf = 0.0
    """Bytes of the chip's own part, copied in its memory, over the message size."""


def _log2(num_chips: PerOp) -> PerOp:
    return jnp.log2(jnp.maximum(num_chips, 1.0))


def _any(num_chips: PerOp) -> PerOp:
    """1 for a group, 0 for one chip, linear between them for the gradient."""
    return jnp.minimum(num_chips - 1.0, 1.0)


def _at_once(num_chips: PerOp) -> PerOp:
    """Steps of simultaneous messages to all peers: one, and the time to post the others."""
    return _any(num_chips) + POST_RATIO * jnp.maximum(num_chips - 2.0, 0.0)


def _half_way(num_chips: PerOp) -> PerOp:
    r"""Hops to the farthest chip of a bidirectional ring, $\lfloor p / 2 \rfloor$, smooth between
    whole numbers."""
    return 0.5 * (num_chips - jnp.sin(0.5 * jnp.pi * num_chips) ** 2)


def _share(num_chips: PerOp) -> PerOp:
    """Share of the other chips in a message distributed over all."""
    return (num_chips - 1.0) / num_chips


WorkFn = Callable[[PerOp], CollectiveWork]
_GATHER: Mapping[str, WorkFn] = MappingProxyType(
    {
        "ring": lambda p: CollectiveWork(p - 1.0, _share(p), 1.0 / p),
        "bidirectional_ring": lambda p: CollectiveWork(_half_way(p), _share(p), 1.0 / p),
        "halving_doubling": lambda p: CollectiveWork(_log2(p), _share(p), 1.0 / p),
        "direct": lambda p: CollectiveWork(_at_once(p), _share(p), 1.0 / p),
    }
)
ALGORITHMS: Mapping[str, Mapping[str, WorkFn]] = MappingProxyType(
    {
        "all_reduce": MappingProxyType(
            {
                "ring": lambda p: CollectiveWork(2.0 * (p - 1.0), 2.0 * _share(p)),
                "bidirectional_ring": lambda p: CollectiveWork(2.0 * _half_way(p), 2.0 * _share(p)),
                "halving_doubling": lambda p: CollectiveWork(2.0 * _log2(p), 2.0 * _share(p)),
                # Each chip is a leaf of one tree and inside the other, n / 2 up and n / 2 down
                # each; two children of half a message fill the port of the inner chip.
                "double_binary_tree": lambda p: CollectiveWork(2.0 * _log2(p), 2.0 * _any(p)),
                "direct": lambda p: CollectiveWork(2.0 * _at_once(p), 2.0 * _share(p)),
                "mesh": lambda p: CollectiveWork(_at_once(p), p - 1.0),
                # The switch adds what it reads (n from each chip) and spreads the sum: each chip
                # sends its n once, and the 1 / p that it has collected.
                "in_switch": lambda p: CollectiveWork(
                    2.0 * _any(p), jnp.where(p > 1.0, (p + 1.0) / p, 0.0)
                ),
            }
        ),
        "all_gather": _GATHER,
        "reduce_scatter": _GATHER,
        "all_to_all": MappingProxyType(
            {
                "direct": lambda p: CollectiveWork(_at_once(p), _share(p), 1.0 / p),
                "pairwise": lambda p: CollectiveWork(p - 1.0, _share(p), 1.0 / p),
                # Bruck: in each of log2 p steps half of the buffer moves.
                "bruck": lambda p: CollectiveWork(_log2(p), 0.5 * _log2(p), 1.0 / p),
            }
        ),
        "broadcast": MappingProxyType(
            {
                "chain": lambda p: CollectiveWork(p - 1.0, _any(p)),
                "binomial_tree": lambda p: CollectiveWork(_log2(p), _log2(p)),
                "scatter_all_gather": lambda p: CollectiveWork(
                    _log2(p) + 1.0 - 1.0 / p, 2.0 * _share(p)
                ),
                "direct": lambda p: CollectiveWork(_at_once(p), p - 1.0),
            }
        ),
        "point_to_point": MappingProxyType(
            {"direct": lambda p: CollectiveWork(1.0 + 0.0 * p, 1.0)}
        ),
    }
)
"""Work by kind of collective and algorithm, as a function of the number of chips.

Sources: Thakur, Rabenseifner and Gropp, IJHPCA 19(1), 2005 (ring, halving-doubling, Bruck,
scatter and all-gather); Sanders, Speck and Traeff, Parallel Computing 35(12), 2009 (two trees);
Klenk et al., ISCA 2020 (in-switch reduction).
"""
SWITCH_ALGORITHMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "all_reduce": ("mesh", "direct", "halving_doubling", "double_binary_tree"),
        "all_gather": ("direct", "halving_doubling"),
        "reduce_scatter": ("direct", "halving_doubling"),
        "all_to_all": ("direct", "bruck"),
        "broadcast": ("binomial_tree", "scatter_all_gather", "chain", "direct"),
        "point_to_point": ("direct",),
    }
)
"""Algorithms behind a switch that does not reduce, by kind of collective."""
