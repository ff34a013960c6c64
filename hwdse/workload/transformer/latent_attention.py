"""Multi-head latent attention in training: GEMM operators, saved activations, context exchange.

Queries, and keys with values, are projected down to latents, normalized, then projected up to the
heads. All heads share one rotary key. Training computes the keys and values of every head; absorbed
matrices, used for decoding, are not modeled. Source: DeepSeek-AI, arXiv 2405.04434, section 2.1.
"""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.workload.transformer.dense_transformer import ACTIVATION_BYTES, NORM_FLOP, RESIDUAL_FLOP
from hwdse.workload.transformer.gemm_groups import (
    CORE_NAMES,
    LOG_SUM_ELEMENTS,
    GemmGroup,
    LayerSharding,
    core_work,
    elementwise,
    linear_gemms,
    linear_group,
    tokens_of,
)
from hwdse.workload.transformer.model_config import Transformer, TransformerTraining

NORM_TRAFFIC = (2.0 * ACTIVATION_BYTES, 2.0 * ACTIVATION_BYTES)
RESIDUAL_TRAFFIC = (3.0 * ACTIVATION_BYTES, 3.0 * ACTIVATION_BYTES)
"""HBM bytes per element of a norm and of a residual, forward and backward."""


def key_dim(model: Transformer) -> Scalar:
    """Elements of a query or key of one head."""
    return model.qk_nope_head_dim + model.qk_rope_head_dim


def latent_projections(job: TransformerTraining, sharding: LayerSharding) -> list[GemmGroup]:
    """Down projection, query up projection, key-value up projection and output projection.

    Each rank of a sequence-parallel group computes the latents of its own tokens, gathers all
    latents and projects them up to its heads. Without a query latent, queries are projected from
    the hidden state. Replicas of the down projection on tensor ranks without sequence parallelism
    do not count as model FLOP.
    """
    model = job.model
    tokens = tokens_of(job, sharding)
    own, heads = tokens / sharding.sequence_shards, model.num_heads / sharding.tensor
    latents = model.q_lora_rank + model.kv_lora_rank
    query_in = jnp.where(model.q_lora_rank > 0.0, model.q_lora_rank, model.hidden)
    norm = elementwise(own * (model.hidden + latents), NORM_FLOP, NORM_TRAFFIC)
    norm = norm.recomputed(sharding.norm_recompute_fraction)
    residual = elementwise(own * model.hidden, RESIDUAL_FLOP, RESIDUAL_TRAFFIC)
    nothing = elementwise(0.0, (0.0, 0.0), (0.0, 0.0))
    names = ("latents", "query_up", "key_value_up", "out")
    sizes = [
        (own, model.hidden, latents + model.qk_rope_head_dim, norm),
        (tokens, query_in, heads * key_dim(model), nothing),
        (tokens, model.kv_lora_rank, heads * (model.qk_nope_head_dim + model.v_head_dim), nothing),
        (tokens, heads * model.v_head_dim, model.hidden, residual),
    ]
    model_shares = [sharding.sequence_shards / sharding.tensor, 1.0, 1.0, 1.0]
    recompute = sharding.recompute_fraction
    ups = recompute + sharding.projection_recompute_fraction
    recomputed = [recompute, ups, ups, recompute + sharding.output_recompute_fraction]
    return [
        linear_group(name, linear_gemms(m, k, n, beside.vector, beside.extra), repeats, share)
        for name, (m, k, n, beside), repeats, share in zip(
            names, sizes, recomputed, model_shares, strict=True
        )
    ]


def latent_core(job: TransformerTraining, sharding: LayerSharding) -> GemmGroup:
    """Score and value GEMMs of heads whose keys are longer than their values.

    A fused kernel repeats the scores in its backward pass. Two more backward GEMMs have the shape
    of the scores (gradients of queries and keys) and two that of the values (gradients of values
    and probabilities). Otherwise scores are in HBM, as in `core_work`.
    """
    model, fused = job.model, sharding.fused_attention_fraction
    queries, count = (
        job.seq_len / sharding.context,
        model.num_heads / sharding.tensor * sharding.micro_batch,
    )
    recompute = sharding.recompute_fraction + sharding.attention_recompute_fraction
    score_executions = 1.0 + recompute + 2.0 + fused
    keys, vector, extra = core_work(job, sharding, score_executions)
    in_memory = 1.0 - fused
    return GemmGroup(
        CORE_NAMES,
        [
            (queries, key_dim(model), keys, count, 1.0, 1.0, in_memory, vector, extra),
            (queries, keys, model.v_head_dim, count, in_memory, 1.0, 1.0, 0.0, 0.0),
        ],
        [(1.0, 2.0 + fused, recompute, 3.0, 0.0, 0.0), (1.0, 2.0, recompute, 3.0, 0.0, 0.0)],
    )


def latent_kept_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Bytes per token that attention saves for its backward pass on one rank.

    Latents before and after their norms (of the rank's own tokens) and once gathered, queries,
    keys, values unless they are recomputed from the latents, output, and its FP32 log-sum.
    """
    model = job.model
    latents = model.q_lora_rank + model.kv_lora_rank
    heads = model.num_heads / sharding.tensor
    kept = 1.0 - sharding.projection_recompute_fraction
    projected = heads * kept * (2.0 * key_dim(model) + model.v_head_dim)
    output = heads * model.v_head_dim
    gathered = jnp.where(sharding.sequence_shards > 1.0, latents + model.qk_rope_head_dim, 0.0)
    own = (2.0 * latents + model.qk_rope_head_dim) / sharding.sequence_shards
    copy = job.trainable_fraction * sharding.kept_copy_bytes * output
    elements = own + gathered + projected + output + LOG_SUM_ELEMENTS * heads
    return ACTIVATION_BYTES * elements + copy


def latent_context_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Bytes of keys and values of one tensor rank for the full sequences of a micro-batch.

    Context ranks gather them or pass them around a ring: each rank sends and receives
    $(c - 1) / c$ of them forward, the same again backward, and as many gradients. The keys and
    values of the heads are exchanged, not the latents.
    """
    width = job.model.num_heads / sharding.tensor * (key_dim(job.model) + job.model.v_head_dim)
    return ACTIVATION_BYTES * job.seq_len * sharding.micro_batch * width
