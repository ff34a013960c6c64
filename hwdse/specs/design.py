"""The whole of what is evaluated: hardware, number formats, parallel layout, checkpointing."""

import flax.struct

from hwdse.shapes import Leaf
from hwdse.specs.formats import PrecisionMix
from hwdse.specs.hardware import Chip, Cluster


@flax.struct.dataclass
class Parallelism:
    """How a training job is cut; the data-parallel degree is what is left of the chips.

    Ranks are placed tensor-parallel innermost, then data-parallel, pipeline outermost.
    """

    tensor: Leaf
    pipeline: Leaf
    micro_batch: Leaf
    """Sequences of one micro-batch of one data-parallel replica."""
    recompute_fraction: Leaf
    """Share of the layers whose forward pass runs again in the backward pass."""
    tensor_overlap_fraction: Leaf
    """Share of the tensor-parallel collectives that hides behind matrix products."""


@flax.struct.dataclass
class Design:
    """Everything a sweep or a gradient may change."""

    chip: Chip
    cluster: Cluster
    mix: PrecisionMix
    parallelism: Parallelism
    checkpoint_interval_s: Leaf
    """Useful work between two checkpoints."""
