"""The whole of what is evaluated: hardware, number formats, parallel layout, checkpointing."""

import flax.struct

from hwdse.numerics.array_types import Leaf
from hwdse.specs.checkpointing import BLOCKING, Checkpointing
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.hardware.cluster import Cluster
from hwdse.specs.number_formats import PrecisionMix
from hwdse.specs.software import COMPILED, Software


@flax.struct.dataclass
class Parallelism:
    """How a training job is cut; the data-parallel degree is what is left of the chips.

    Ranks are placed tensor-parallel innermost, then context-parallel, data-parallel, pipeline
    outermost; expert groups are neighbors among the data-parallel ranks. The fields with values
    may be left out of a file.
    """

    tensor: Leaf
    pipeline: Leaf
    micro_batch: Leaf
    """Sequences of one micro-batch of one data-parallel replica."""
    recompute_fraction: Leaf
    """Share of the layers whose forward pass runs again in the backward pass."""
    tensor_overlap_fraction: Leaf
    """Share of the tensor-parallel collectives that hides behind matrix products."""
    context: Leaf = 1.0
    """Ranks that share the tokens of a sequence."""
    expert: Leaf = 1.0
    """Ranks over which the routed experts of a layer are dealt; at most the data-parallel ones."""
    virtual_pipeline: Leaf = 1.0
    """Chunks of layers of one pipeline stage (virtual stages)."""
    attention_recompute_fraction: Leaf = 0.0
    """Share of the layers whose attention core alone runs again: selective recomputation."""
    sequence_parallel_fraction: Leaf = 1.0
    """1 where tensor-parallel ranks cut norms and residuals by tokens, 0 where each holds all."""
    optimizer_shard_fraction: Leaf = 1.0
    """1 where replicas share the optimizer state (ZeRO stage 1), 0 where each holds all."""
    gradient_shard_fraction: Leaf = 0.0
    """1 where replicas also share the summed gradients (ZeRO stage 2)."""
    weight_shard_fraction: Leaf = 0.0
    """1 where replicas also share the weights and gather a layer before each use (ZeRO stage 3,
    fully sharded data parallelism)."""
    data_overlap_fraction: Leaf = 1.0
    """Share of the compute that data-parallel collectives may hide behind."""
    expert_overlap_fraction: Leaf = 0.0
    """Share of the compute that all-to-alls of experts may hide behind."""


@flax.struct.dataclass
class Design:
    """Everything a sweep or a gradient may change."""

    chip: Chip
    cluster: Cluster
    mix: PrecisionMix
    parallelism: Parallelism
    checkpoint_interval_s: Leaf
    """Useful work between two checkpoints."""
    software: Software = COMPILED
    """The training stack."""
    checkpointing: Checkpointing = BLOCKING
    """How state is saved; the interval stands above."""
    mapping: str = flax.struct.field(pytree_node=False, default="closed_form")
    """Where HBM traffic comes from: an entry of `system.rows.MAPPINGS`."""

    @property
    def runs_long(self) -> bool:
        """Whether an evaluation searches mappings, and so is worth a thorough compilation."""
        return self.mapping == "optimize"


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
    """An entry of `system.core_mapping.MAPPINGS`: "optimize" or "explicit"."""

    @property
    def runs_long(self) -> bool:
        """Whether an evaluation searches mappings, and so is worth a thorough compilation."""
        return self.mapping == "optimize"
