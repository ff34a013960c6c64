"""Design under evaluation: hardware, number formats, parallelism strategy, checkpointing."""

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf
from hwdse.specs.checkpointing import BLOCKING, Checkpointing
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.hardware.cluster import Cluster
from hwdse.specs.number_formats import PrecisionMix
from hwdse.specs.software import COMPILED, Software


@struct.dataclass
class Parallelism:
    """Parallelism strategy of a training job (TP, CP, EP, DP, PP).

    The data-parallel (DP) degree is the number of chips over the product of the TP, CP and PP
    degrees. Rank order from the innermost: tensor, context, data, pipeline. Expert groups are
    neighbors among the data-parallel ranks. Fields with defaults are optional in TOML.
    """

    tensor: Leaf
    """Tensor-parallel (TP) degree. Typical: 16 (Llama 3 70B on Trainium2)."""
    pipeline: Leaf
    """Pipeline-parallel (PP) degree: number of stages. Typical: 4 (Llama 3 70B on Trainium2)."""
    micro_batch: Leaf
    """Sequences per micro-batch and data-parallel replica (MBS). Typical: 1."""
    recompute_fraction: Leaf
    """Fraction of the layers with full activation recomputation. Typical: 0."""
    tensor_overlap_fraction: Leaf | None = None
    """Fraction of the tensor-parallel collectives that GEMMs hide. Default: computed from the
    software stack (`num_tensor_slices`)."""
    context: Leaf = 1.0
    """Context-parallel (CP) degree: ranks that share the tokens of a sequence. Typical: 1."""
    expert: Leaf = 1.0
    """Expert-parallel (EP) degree: groups of `expert_tensor` ranks that share the routed experts of
    a layer, at most all ranks of a pipeline stage. Typical: 1 (dense model)."""
    expert_tensor: Leaf = 0.0
    """Ranks that shard each routed expert (ETP): a divisor of `tensor`; 0: `tensor`. Typical: 1,
    whole experts, so that an expert group spans tensor ranks."""
    virtual_pipeline: Leaf = 1.0
    """Virtual pipeline stages per stage (VPP, interleaved 1F1B). Typical: 1."""
    zero_bubble_fraction: Leaf = 0.0
    """1: weight gradients are delayed and fill the pipeline bubble (schedule ZB-H1). 0: 1F1B.
    Typical: 0."""
    dual_pipe_fraction: Leaf = 0.0
    """1: micro-batches enter the pipeline at both ends (schedule DualPipe), and every rank has the
    weights of two stages. 0: 1F1B. Typical: 0."""
    first_stage_layers: Leaf = 0.0
    """Layers of the first pipeline stage; 0: as many as the stages between. Typical: 0."""
    last_stage_layers: Leaf = 0.0
    """Layers of the last pipeline stage, which has the LM head; 0: as many as the stages between.
    Typical: 0."""
    attention_recompute_fraction: Leaf = 0.0
    """Fraction of the layers with selective recomputation, of the attention core only. Typical:
    0."""
    norm_recompute_fraction: Leaf = 0.0
    """Fraction of the layers whose norm outputs are recomputed (`layernorm` of Megatron Core), in
    layers without full recomputation. Typical: 0."""
    activation_recompute_fraction: Leaf = 0.0
    """Fraction of the layers whose gated products, inputs of the last MLP matrix, are recomputed
    (`moe_act` of Megatron Core). Typical: 0."""
    mlp_recompute_fraction: Leaf = 0.0
    """Fraction of the layers whose dense MLP is recomputed from its normalized input (`mlp` of
    Megatron Core). Typical: 0."""
    projection_recompute_fraction: Leaf = 0.0
    """Fraction of the layers whose queries, keys and values of latent attention are recomputed
    from the latents (`mla_up_proj` of Megatron Core). Typical: 0."""
    output_recompute_fraction: Leaf = 0.0
    """Fraction of the layers whose attention output projection and residual are recomputed from
    the attention output (MaxText, without `out_proj`). Typical: 0."""
    offload_fraction: Leaf = 0.0
    """Fraction of the saved activations that is moved to host memory until the backward pass, at
    no cost in time (assumed hidden). Typical: 0."""
    sequence_parallel_fraction: Leaf = 1.0
    """1: norms and residuals are sharded by tokens over the TP ranks. 0: they are replicated."""
    optimizer_shard_fraction: Leaf = 1.0
    """1: the optimizer state is sharded over the replicas (ZeRO stage 1). 0: it is replicated."""
    gradient_shard_fraction: Leaf = 0.0
    """1: the reduced gradients are sharded over the replicas (ZeRO stage 2). 0: they are
    replicated."""
    weight_shard_fraction: Leaf = 0.0
    """1: the weights are sharded over the replicas and gathered per layer before each use (ZeRO
    stage 3, FSDP). 0: they are replicated."""
    data_overlap_fraction: Leaf | None = None
    """Fraction of the data-parallel collectives that passes over other layers hide. Default:
    computed from the software stack (`data_overlap_fraction`)."""
    expert_overlap_fraction: Leaf | None = None
    """Fraction of the expert all-to-alls that the layers of another micro-batch hide. Default:
    computed from the software stack (`expert_overlap_fraction`)."""

    @property
    def expert_shards(self) -> Leaf:
        """Ranks that shard each routed expert."""
        own = self.expert_tensor
        if isinstance(own, int | float):
            return own if own > 0.0 else self.tensor
        return jnp.where(own > 0.0, own, self.tensor)


@struct.dataclass
class Design:
    """Cluster design: all quantities that a sweep or a gradient can change.

    >>> import hwdse
    >>> design = hwdse.load_search("trn2_llama3_70b").base
    >>> design.parallelism.tensor, design.cluster.num_chips
    (16.0, 1024.0)
    """

    chip: Chip
    """Accelerator chip."""
    cluster: Cluster
    """Chips of the job, topology, failures and cost of the surroundings."""
    mix: PrecisionMix
    """Fractions of the work by number format."""
    parallelism: Parallelism
    """Parallelism strategy."""
    checkpoint_interval_s: Leaf
    """Work time between two checkpoints. Typical: 60 min. Assumed."""
    software: Software = COMPILED
    """Training software stack."""
    checkpointing: Checkpointing = BLOCKING
    """Checkpointing scheme."""
    mapping: str = struct.field(pytree_node=False, default="closed_form")
    """Model of HBM traffic, entry of `training.gemm_operator_costs.MAPPINGS`: "closed_form" tilings
    or the mapper ("optimize")."""

    @property
    def runs_long(self) -> bool:
        """True if an evaluation searches mappings, so that full compilation saves time."""
        return self.mapping == "optimize"


@struct.dataclass
class TileExtents:
    """Explicit tile of one operator: integers, at most the extents of the operator.

    The partial sums of a tile of `p` x `q` outputs, `n` images and `k` channels stay on chip. If
    both inputs and weights are resident for several tiles, these tiles span `block_p` output rows
    and `block_k` channels.
    """

    p: Leaf
    """Output rows of the tile."""
    q: Leaf
    """Output columns of the tile."""
    n: Leaf
    """Images of the tile."""
    k: Leaf
    """Output channels of the tile."""
    block_p: Leaf
    """Output rows of the resident block of inputs."""
    block_k: Leaf
    """Output channels of the resident block of weights."""
    rows: Leaf
    """Input channels per pass of the array, at most its rows."""
    cols: Leaf
    """Output channels per pass of the array, at most its columns."""
    name: str = struct.field(pytree_node=False)
    """Name of the operator."""


@struct.dataclass
class CoreDesign:
    """Core design: one core that executes the operators of a network in sequence."""

    accelerator: Accelerator
    """Core with its memory levels."""
    tiles: tuple[TileExtents, ...]
    """One tile per operator with explicit mappings, otherwise empty."""
    mapping: str = struct.field(pytree_node=False)
    """Entry of `core.mapping_policies.MAPPINGS`: "optimize" or "explicit"."""

    @property
    def runs_long(self) -> bool:
        """True if an evaluation searches mappings, so that full compilation saves time."""
        return self.mapping == "optimize"
