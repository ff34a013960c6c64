"""Checkpointing scheme of a training job: blocking, two-level or asynchronous."""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class Checkpointing:
    """Checkpointing scheme and its parameters; the interval is `Design.checkpoint_interval_s`.

    All fields are optional in TOML.
    """

    remote_every_count: Leaf = 20.0
    """Two-level scheme: one in this many checkpoints is also written to remote storage. Typical:
    20, once an hour at an interval of three minutes. Assumed."""
    persist_slowdown_fraction: Leaf = 0.02
    """Asynchronous scheme: fraction of the compute rate lost while a checkpoint is written.
    Typical: 0.02. Assumed."""
    num_kept: Leaf = 1.0
    """Complete checkpoints kept in remote storage."""
    scheme: str = struct.field(pytree_node=False, default="blocking")
    """Entry of `training.job_goodput.SCHEMES`: "blocking", "two_level" or "async"."""


BLOCKING = Checkpointing()
"""Blocking checkpoints with default parameters."""
