"""The whole of what is evaluated: hardware, number formats, parallel layout, checkpointing."""

import flax.struct

from hwdse.shapes import Leaf
from hwdse.specs.accelerator import Accelerator
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
    mapping: str = flax.struct.field(pytree_node=False, default="closed_form")
    """Where HBM traffic comes from: an entry of `system.rows.MAPPINGS`."""

    @property
    def runs_long(self) -> bool:
        """Whether an evaluation searches mappings, and so is worth a thorough compilation."""
        return self.mapping == "optimise"


@flax.struct.dataclass
class TileExtents:
    """Tile of one operator as a search sets it; whole numbers, at most those of the operator.

    A tile of `p` x `q` outputs of `n` images and `k` channels is summed up on chip. Where inputs
    and weights both stay for several tiles, these span `block_p` output rows and `block_k`
    channels.
    A pass of the array takes at most `rows` input and `cols` output channels, and no more than
    it has rows and columns.
    """

    p: Leaf
    q: Leaf
    n: Leaf
    k: Leaf
    block_p: Leaf
    block_k: Leaf
    rows: Leaf
    cols: Leaf
    name: str = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class CoreDesign:
    """A core that runs the operators of a network one after the other."""

    accelerator: Accelerator
    tiles: tuple[TileExtents, ...]
    """One for each operator with explicit mappings, else none."""
    mapping: str = flax.struct.field(pytree_node=False)
    """An entry of `system.core_mapping.MAPPINGS`: "optimise" or "explicit"."""

    @property
    def runs_long(self) -> bool:
        """Whether an evaluation searches mappings, and so is worth a thorough compilation."""
        return self.mapping == "optimise"
