"""Multi-head latent attention in training: products, what it keeps, what context ranks exchange.

Queries and the pair of keys and values are first projected down to latents, normalised, then up to
the heads; one rotary key is shared by all heads. Training forms the keys and values of every head
(no absorbed products, which serve decoding). Source: DeepSeek-AI, arXiv 2405.04434, section 2.1.
"""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.workload.transformer.dense_transformer import ACTIVATION_BYTES, NORM_FLOP, RESIDUAL_FLOP
from hwdse.workload.transformer.gemm_groups import (
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


def key_dim(model: Transformer) -> Scalar:
    """Elements of a query and a key of one head."""
    return model.qk_nope_head_dim + model.qk_rope_head_dim


def latent_projections(job: TransformerTraining, sharding: LayerSharding) -> list[GemmGroup]:
    """Down to the latents, up to queries, up to keys and values, and out of the heads.

    Latents are computed where the hidden state is, each rank of a sequence-parallel group its own
    tokens; every rank then has all latents and forms those of its heads. Without a query latent
    the second product starts at the hidden state. Copies of the down projection that tensor ranks
    run without sequence parallelism are no useful work.
    """
    model = job.model
    tokens = tokens_of(job, sharding)
    own, heads = tokens / sharding.sequence_shards, model.num_heads / sharding.tensor
    latents = model.q_lora_rank + model.kv_lora_rank
    query_in = jnp.where(model.q_lora_rank > 0.0, model.q_lora_rank, model.hidden)
    norm = elementwise(own * (model.hidden + latents), NORM_FLOP, NORM_TRAFFIC)
    residual = elementwise(own * model.hidden, RESIDUAL_FLOP, RESIDUAL_TRAFFIC)
    nothing = elementwise(0.0, (0.0, 0.0), (0.0, 0.0))
    sizes = [
        (own, model.hidden, latents + model.qk_rope_head_dim, norm),
        (tokens, query_in, heads * key_dim(model), nothing),
        (tokens, model.kv_lora_rank, heads * (model.qk_nope_head_dim + model.v_head_dim), nothing),
        (tokens, heads * model.v_head_dim, model.hidden, residual),
    ]
    useful = [sharding.sequence_shards / sharding.tensor, 1.0, 1.0, 1.0]
    return [
        linear_group(
            linear_gemms(m, k, n, beside.vector, beside.extra), sharding.recompute_fraction, share
        )
        for (m, k, n, beside), share in zip(sizes, useful, strict=True)
    ]


def latent_core(job: TransformerTraining, sharding: LayerSharding) -> GemmGroup:
    """Scores and values, on heads whose keys are longer than their values.

    A fused kernel forms the scores again backward; two more products have their shape (gradients
    of queries and keys), two that of the values (gradients of values and probabilities). Without
    it, scores are in memory, as in `core_work`.
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
        [
            (queries, key_dim(model), keys, count, 1.0, 1.0, in_memory, vector, extra),
            (queries, keys, model.v_head_dim, count, in_memory, 1.0, 1.0, 0.0, 0.0),
        ],
        [(1.0, 2.0 + fused, recompute, 3.0, 0.0), (1.0, 2.0, recompute, 3.0, 0.0)],
    )


def latent_kept_elements(model: Transformer, sharding: LayerSharding) -> Scalar:
    """16-bit elements for each token of one rank that attention keeps for its backward pass.

    Latents before and after their norms (on the rank's own tokens) and once gathered, queries,
    keys, values, output, and its fp32 log-sum.
    """
    latents = model.q_lora_rank + model.kv_lora_rank
    heads = model.num_heads / sharding.tensor
    expanded = heads * (2.0 * key_dim(model) + 2.0 * model.v_head_dim + 2.0)
    gathered = jnp.where(sharding.sequence_shards > 1.0, latents + model.qk_rope_head_dim, 0.0)
    return (2.0 * latents + model.qk_rope_head_dim) / sharding.sequence_shards + gathered + expanded


def latent_context_bytes(job: TransformerTraining, sharding: LayerSharding) -> Scalar:
    """Keys and values of one tensor rank for the whole sequences of a micro-batch.

    Context ranks gather them, or pass them around a ring: each sends and gets
    $(c - 1) / c$ of them forward; backward again, and as many gradients. They exchange keys and
    values of the heads, not the latents.
    """
    width = job.model.num_heads / sharding.tensor * (key_dim(job.model) + job.model.v_head_dim)
    return ACTIVATION_BYTES * job.seq_len * sharding.micro_batch * width
