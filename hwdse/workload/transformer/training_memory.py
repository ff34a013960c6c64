"""What training holds in the HBM of the fullest chip: state, gradients, activations."""

import flax.struct
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import num_tiles
from hwdse.specs.design import Parallelism
from hwdse.specs.results.evaluation_result import MemoryParts
from hwdse.workload.transformer.decoder_layer import mean_kept_bytes, score_bytes
from hwdse.workload.transformer.dense_transformer import (
    ACTIVATION_BYTES,
    layer_parameters,
    mixture_layer_parameters,
    mixture_share,
    routed_parameters,
    stage_expert_parameters,
    stage_parameters,
)
from hwdse.workload.transformer.gemm_groups import LayerSharding, tokens_of
from hwdse.workload.transformer.model_config import Transformer, TransformerTraining

WEIGHT_BYTES = 2.0
SUM_BYTES = 4.0
"""Gradients of weights are summed in fp32."""
LOGIT_BYTES = 4.0
"""fp32 logits, which their gradient overwrites."""


def num_shards(is_cut: Scalar, ranks: Scalar) -> Scalar:
    """Parts that a tensor is cut in: `ranks` where it is cut, else one."""
    return 1.0 + is_cut * (ranks - 1.0)


@flax.struct.dataclass
class StageParameters:
    """Parameters on one rank of the fullest stage, by how many ranks hold copies of them."""

    shared: Leaf
    """All but routed experts, on `replicas` ranks."""
    experts: Leaf
    """Routed experts, on `expert_replicas` ranks."""
    layer: Leaf
    """Of the mean layer, but routed experts, and below those."""
    layer_experts: Leaf
    replicas: Leaf
    expert_replicas: Leaf

    @classmethod
    def of(
        cls, model: Transformer, parallelism: Parallelism, replicas: Scalar
    ) -> "StageParameters":
        """Those of a model under a layout whose tensor ranks also cut each expert."""
        tensor, pipeline, expert = parallelism.tensor, parallelism.pipeline, parallelism.expert
        whole = stage_parameters(model, tensor, pipeline, expert, tensor)
        experts = stage_expert_parameters(model, pipeline, expert, tensor)
        share = mixture_share(model)
        mixture = mixture_layer_parameters(model, tensor, expert, tensor)
        layer = (1.0 - share) * layer_parameters(model, tensor) + share * mixture
        held = share * routed_parameters(model, expert, tensor)
        copies = jnp.maximum(replicas / expert, 1.0)
        return cls(whole - experts, experts, layer - held, held, replicas, copies)

    def per_replica(self, is_cut: Scalar) -> Scalar:
        """Parameters whose state one rank has, where copies share it or not."""
        shared = self.shared / num_shards(is_cut, self.replicas)
        return shared + self.experts / num_shards(is_cut, self.expert_replicas)


def _working_bytes(job: TransformerTraining, sharding: LayerSharding) -> tuple[Scalar, Scalar]:
    """Buffers of the backward pass of one layer's largest product, and of the head.

    The fp32 gradient of that weight matrix before it is added up, and the activations' gradients:
    of the layer those of the MLP's inner elements and of one hidden state; of the head the logits
    in fp32 and two hidden states.
    """
    model, tokens = job.model, tokens_of(job, sharding)
    inner = (model.num_mlp_matrices - 1.0) * model.feedforward / sharding.tensor
    vocabulary = model.vocabulary / sharding.tensor
    hidden_bytes = ACTIVATION_BYTES * tokens * model.hidden
    layer = SUM_BYTES * model.hidden * inner + ACTIVATION_BYTES * tokens * inner + hidden_bytes
    head = SUM_BYTES * model.hidden * vocabulary + LOGIT_BYTES * tokens * vocabulary
    return layer, head + 2.0 * hidden_bytes


def _held_at_peak(
    job: TransformerTraining,
    parallelism: Parallelism,
    sharding: LayerSharding,
    num_micro_batches: Scalar,
) -> tuple[Scalar, Scalar]:
    r"""Activations and buffers of the fuller of the first stage (most micro-batches) and the last
    (head).

    1F1B keeps $\min(p, m)$ micro-batches on the first stage; with v chunks a stage
    $1 + (p - 1) / (p v)$ times as many (Narayanan et al., SC 2021; Korthikanti et al., 4.2.3).
    """
    whole, recomputed = mean_kept_bytes(job, sharding)
    scores, again = score_bytes(job, sharding), parallelism.recompute_fraction
    core_again = parallelism.attention_recompute_fraction
    layers = num_tiles(job.model.num_layers, parallelism.pipeline)
    kept = (1.0 - again - core_again) * scores + (1.0 - again) * whole
    one_pass = layers * (kept + again * recomputed)
    chunks = 1.0 + (parallelism.pipeline - 1.0) / (
        parallelism.pipeline * parallelism.virtual_pipeline
    )
    chunks = jnp.where(parallelism.virtual_pipeline > 1.0, chunks, 1.0)
    first = jnp.minimum(num_micro_batches, parallelism.pipeline) * chunks * one_pass
    layer_buffers, head_buffers = _working_bytes(job, sharding)
    # While a recomputed layer runs backward, it stands in memory whole.
    running = again * (whole + scores) + core_again * scores
    is_first = first + running + layer_buffers >= one_pass + head_buffers
    activations = jnp.where(is_first, first + running, one_pass)
    return activations, jnp.where(is_first, layer_buffers, head_buffers)


def training_memory(
    job: TransformerTraining,
    parallelism: Parallelism,
    sharding: LayerSharding,
    parameters: StageParameters,
    num_micro_batches: Scalar,
) -> MemoryParts:
    """Bytes of the fullest chip by kind.

    Where replicas share the weights, two layers stand gathered: one runs, the next arrives.
    """
    gathered = (
        2.0 * parallelism.weight_shard_fraction * (parameters.layer + parameters.layer_experts)
    )
    gradient_cut = jnp.maximum(
        parallelism.gradient_shard_fraction, parallelism.weight_shard_fraction
    )
    state = parameters.per_replica(parallelism.optimizer_shard_fraction)
    activations, buffers = _held_at_peak(job, parallelism, sharding, num_micro_batches)
    return MemoryParts(
        weights=WEIGHT_BYTES * parameters.per_replica(parallelism.weight_shard_fraction),
        gradients=job.gradient_element_bytes * parameters.per_replica(gradient_cut),
        optimizer=job.optimizer_state_bytes_per_parameter * state,
        activations=activations,
        buffers=buffers + WEIGHT_BYTES * gathered,
    )
