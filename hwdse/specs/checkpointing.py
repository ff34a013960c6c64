"""How a job saves its state: one blocking copy, two levels, or beside the work."""

import flax.struct

from hwdse.numerics.array_types import Leaf


@flax.struct.dataclass
class Checkpointing:
    """The scheme and its numbers; the interval is the design's `checkpoint_interval_s`.

    All fields may be left out of a file.
    """

    remote_every_count: Leaf = 20.0
    """Of two levels: every such checkpoint also goes to remote storage; assumed (an hour of
    intervals of three minutes)."""
    persist_slowdown_fraction: Leaf = 0.02
    """Of asynchronous checkpoints: rate that the work loses while one is written; assumed."""
    num_kept: Leaf = 1.0
    """Complete checkpoints in remote storage at any time."""
    scheme: str = flax.struct.field(pytree_node=False, default="blocking")
    """An entry of `system.goodput.SCHEMES`."""


BLOCKING = Checkpointing()
