"""Multi-head latent attention in training: products, what it keeps, what context ranks exchange.

Queries and the pair of keys and values are first projected down to latents, normalised, then up to
the heads; one rotary key is shared by all heads. Training forms the keys and values of every head
(no absorbed products, which serve decoding). Source: DeepSeek-AI, arXiv 2405.04434, section 2.1.
"""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.workload.transformer.dense_transformer import ACTIVATION_BYTES, NORM_FLOP, RESIDUAL_FLOP
from hwdse.workload.transformer.gemm_groups import (
    LayerCut,
    Part,
    core_work,
    elementwise,
    tokens_of,
    weight_part,
    weight_rows,
)
from hwdse.workload.transformer.model_config import Transformer, TransformerTraining

NORM_TRAFFIC = (2.0 * ACTIVATION_BYTES, 2.0 * ACTIVATION_BYTES)
RESIDUAL_TRAFFIC = (3.0 * ACTIVATION_BYTES, 3.0 * ACTIVATION_BYTES)


def key_dim(model: Transformer) -> Scalar:
    """Elements of a query and a key of one head."""
    return model.qk_nope_head_dim + model.qk_rope_head_dim


def latent_projections(job: TransformerTraining, cut: LayerCut) -> list[Part]:
    """Down to the latents, up to queries, up to keys and values, and out of the heads.

    Latents are computed where the hidden state is, each rank of a sequence-parallel group its own
    tokens; every rank then has all latents and forms those of its heads. Without a query latent
    the second product starts at the hidden state. Copies of the down projection that tensor ranks
    run without sequence parallelism are no useful work.
    """
    model = job.model
    tokens = tokens_of(job, cut)
    own, heads = tokens / cut.own_ranks, model.num_heads / cut.tensor
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
    useful = [cut.own_ranks / cut.tensor, 1.0, 1.0, 1.0]
    return [
        weight_part(
            weight_rows(m, k, n, beside.vector, beside.extra), cut.recompute_fraction, share
        )
        for (m, k, n, beside), share in zip(sizes, useful, strict=True)
    ]


def latent_core(job: TransformerTraining, cut: LayerCut) -> Part:
    """Scores and values, on heads whose keys are longer than their values.

    A fused kernel forms the scores again backward; two more products have their shape (gradients
    of queries and keys), two that of the values (gradients of values and probabilities). Without
    it, scores are in memory, as in `core_work`.
    """
    model, fused = job.model, cut.fused_attention_fraction
    queries, count = job.seq_len / cut.context, model.num_heads / cut.tensor * cut.micro_batch
    again = cut.recompute_fraction + cut.attention_recompute_fraction
    runs_of_scores = 1.0 + again + 2.0 + fused
    keys, vector, extra = core_work(job, cut, runs_of_scores)
    in_memory = 1.0 - fused
    return Part(
        [
            (queries, key_dim(model), keys, count, 1.0, 1.0, in_memory, vector, extra),
            (queries, keys, model.v_head_dim, count, in_memory, 1.0, 1.0, 0.0, 0.0),
        ],
        [(1.0, 2.0 + fused, again, 3.0, 0.0), (1.0, 2.0, again, 3.0, 0.0)],
    )


def latent_kept_elements(model: Transformer, cut: LayerCut) -> Scalar:
    """16-bit elements for each token of one rank that attention keeps for its backward pass.

    Latents before and after their norms (on the rank's own tokens) and once gathered, queries,
    keys, values, output, and its fp32 log-sum.
    """
    latents = model.q_lora_rank + model.kv_lora_rank
    heads = model.num_heads / cut.tensor
    expanded = heads * (2.0 * key_dim(model) + 2.0 * model.v_head_dim + 2.0)
    gathered = jnp.where(cut.own_ranks > 1.0, latents + model.qk_rope_head_dim, 0.0)
    return (2.0 * latents + model.qk_rope_head_dim) / cut.own_ranks + gathered + expanded


def latent_context_bytes(job: TransformerTraining, cut: LayerCut) -> Scalar:
    """Keys and values of one tensor rank for the whole sequences of a micro-batch.

    Context ranks gather them, or pass them around a ring: each sends and gets
    $(c - 1) / c$ of them forward; backward again, and as many gradients. They exchange keys and
    values of the heads, not the latents.
    """
    width = job.model.num_heads / cut.tensor * (key_dim(job.model) + job.model.v_head_dim)
    return ACTIVATION_BYTES * job.seq_len * cut.micro_batch * width
