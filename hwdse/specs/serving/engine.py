"""Serving stack, number formats and parallelism strategy of an inference engine, and its design."""

import dataclasses

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.hardware.cluster import Cluster
from hwdse.specs.hardware.kernel_costs import KernelCosts


@struct.dataclass
class ServingEngine:
    """Constants of an inference stack beyond the kernels of the chip.

    The defaults describe a stack that costs nothing: kernels and collectives alone. All fields are
    optional in TOML.
    """

    step_host_s: Leaf = 0.0
    """Host time of a step that kernels do not hide: scheduling, launch of the graph, results.
    Typical: 1 ms."""
    sequence_s: Leaf = 0.0
    """Time of a step per sequence that gets a token: sampling, and host work. Typical: 20 to 50 µs
    (top-p sampling of vLLM)."""
    logit_s: Leaf = 0.0
    """The same per entry of the vocabulary of each such sequence. Typical: 0.2 ns."""
    logit_traffic_bytes: Leaf = 0.0
    """HBM bytes of sampling one token, per entry of the vocabulary. Typical: 350 B (top-p sampling
    of vLLM sorts the logits in many passes)."""
    block_s: Leaf = 0.0
    """Time of a block (attention, state-space mixer, MLP or experts) beyond its kernels: gaps in
    the graph, kernels that no operator names. Typical: 3 µs."""
    quantization_s: Leaf = 0.0
    """Time per product whose activations are quantized to 8 or 4 bits, beyond the product.
    Typical: 10 µs."""
    expert_start_ratio: Leaf = 1.0
    """Fixed time of the routed experts of a layer (routing, sorting of tokens, launches) over that
    of the chip's kernels, `KernelCosts.expert_start_s`. Typical: 0.2 (TensorRT-LLM) to 1.9."""
    elementwise_ratio: Leaf = 1.0
    """Share of the time of norms, activations and rotary embeddings that is left where they are
    fused into products. Typical: 0.05 to 0.9."""
    expert_parallel_s: Leaf = 0.0
    """Further time of an MoE layer whose experts are spread over ranks. Typical: 20 µs."""
    prefill_ratio: Leaf = 1.0
    """Time of the kernels of a step that processes prompt tokens alone, over that of kernels in a
    replayed graph; less with decoding sequences beside them, by their share of the tokens.
    Typical: 1.4 (vLLM)."""
    prefill_block_s: Leaf = 0.0
    """Host time to issue one block of a step that processes prompt tokens, outside of a graph of
    fixed shape; kernels shorter than this wait. Typical: 0.15 ms."""
    request_host_s: Leaf = 0.0
    """Host time of a request before its first step and after its last one: HTTP, tokenization.
    Typical: 10 ms."""
    collective_launch_s: Leaf | None = None
    """Start of a collective inside a replayed graph. Default: that of the chip's scale-up link.
    Typical: 4.3 µs (custom all-reduce kernels)."""
    exchange_launch_s: Leaf | None = None
    """Start of a dispatch or combine of tokens to experts. Default: that of the chip's scale-up
    link. Typical: 9 µs (DeepEP, low latency)."""
    collective_overlap_fraction: Leaf = 0.0
    """Fraction of the collectives that other work of a step can hide. Typical: 0."""
    popularity_shape: Leaf = 1e6
    """Shape of the gamma distribution of the popularity of experts: large is uniform routing.
    Typical: 0.3 to 1 (chat, code)."""
    busiest_rank_ratio: Leaf = 1.0
    """How far the busiest expert rank is above the mean, over the expected maximum of independent
    ranks. Typical: 1; 0 with perfect balance."""
    memory_fraction: Leaf = 0.9
    """Fraction of the HBM that the engine takes. Typical: 0.9 (vLLM)."""
    runtime_memory_bytes: Leaf = 2.0 * 2**30
    """HBM outside of weights and KV cache: context, graphs, activations. Typical: 2 GiB."""
    page_tokens: Leaf = 16.0
    """Tokens per page of the KV cache; half a page per sequence is lost. Typical: 16 (vLLM), 64
    (TensorRT-LLM)."""
    token_budget: Leaf = 8192.0
    """Tokens that a step processes at most, prompts in chunks. Typical: 8192 (vLLM on H100)."""
    max_sequences: Leaf = 1024.0
    """Sequences that a replica serves at once at most. Typical: 256 to 1024."""


@struct.dataclass
class ServingFormats:
    """Bits of weights, products and KV cache. Embedding, router and LM head are 16-bit.

    Products with narrower math than weights need no dequantization; weights narrower than the math
    (weight-only quantization) are widened inside the product.
    """

    dense_bits: Leaf = 16.0
    """Stored bits per weight of dense MLPs and shared experts, block scales included."""
    dense_math_bits: Leaf = 16.0
    """Width of their products: 16, 8 or 4."""
    expert_bits: Leaf = 16.0
    """Stored bits per weight of routed experts. Typical: 4.25 (MXFP4)."""
    expert_math_bits: Leaf = 16.0
    """Width of their products."""
    attention_bits: Leaf = 16.0
    """Stored bits per weight of the attention projections."""
    attention_math_bits: Leaf = 16.0
    """Width of their products."""
    head_bits: Leaf = 16.0
    """Stored bits per weight of the LM head and the embedding."""
    kv_bits: Leaf = 16.0
    """Bits per element of the KV cache."""
    score_bits: Leaf = 16.0
    """Width of the products of scores and values: 16 or 8."""
    state_bits: Leaf = 32.0
    """Bits per element of recurrent states (state-space layers)."""


@struct.dataclass
class ServingStrategy:
    """Parallelism strategy of one replica, and speculation.

    A replica has `tensor` x `attention_data` x `context` x `pipeline` chips; the other chips of the
    cluster are further replicas, or replicas that process prompts alone. The routed experts of a
    layer are spread over `expert` groups of `expert_shards` ranks.
    """

    tensor: Leaf = 1.0
    """Tensor-parallel (TP) degree of attention, dense MLPs, shared experts and LM head."""
    pipeline: Leaf = 1.0
    """Pipeline stages."""
    attention_data: Leaf = 1.0
    """Groups of `tensor` ranks that share the sequences of a replica and have one set of routed
    experts (attention data parallelism)."""
    expert: Leaf = 1.0
    """Groups of ranks with different routed experts (EP)."""
    expert_tensor: Leaf | None = None
    """Ranks that shard each routed expert. Default: all ranks of a stage over `expert`."""
    context: Leaf = 1.0
    """Ranks that share the tokens of a sequence: KV cache in decoding, prompt tokens in prefill."""
    draft_tokens: Leaf = 0.0
    """Speculated tokens per sequence and step. Typical: 0, 3 (EAGLE-3, multi-token prediction)."""
    acceptance_fraction: Leaf = 0.0
    """Probability that a speculated token is accepted, given that those before it are."""
    prefill_pool_ratio: Leaf | None = None
    """Replicas that process prompts alone, over those that decode alone. Default: every replica
    does both. Typical: 0.5."""
    prefill_tensor: Leaf | None = None
    """Tensor-parallel degree of the replicas that process prompts. Default: that of the others."""

    @property
    def tokens_per_step(self) -> Leaf:
        r"""Tokens that a decoding sequence gains in a step: $(1 - p^{k + 1}) / (1 - p)$.

        k drafts, each accepted with probability p if those before it are (Leviathan, Kalman and
        Matias, ICML 2023, equation 1).
        """
        chance = jnp.clip(self.acceptance_fraction, 1e-6, 1.0 - 1e-6)
        return -jnp.expm1((self.draft_tokens + 1.0) * jnp.log(chance)) / (1.0 - chance)

    @property
    def replica_chips(self) -> Leaf:
        """Chips of a replica."""
        return self.tensor * self.attention_data * self.context * self.pipeline

    @property
    def decoding(self) -> "ServingStrategy":
        """Strategy of the replicas that decode."""
        return dataclasses.replace(self, prefill_pool_ratio=None, prefill_tensor=None)

    @property
    def prefilling(self) -> "ServingStrategy":
        """Strategy of the replicas that process prompts: another degree of tensor parallelism.

        Experts stay spread over the same share of the ranks, at least one group.
        """
        tensor = self.tensor if self.prefill_tensor is None else self.prefill_tensor
        expert = jnp.maximum(self.expert * tensor / self.tensor, 1.0)
        return dataclasses.replace(self.decoding, tensor=tensor, expert=expert, expert_tensor=None)

    @property
    def unit_chips(self) -> Leaf:
        """Chips of a replica that decodes, with its share of those that process prompts."""
        if self.prefill_pool_ratio is None:
            return self.replica_chips
        return self.replica_chips + self.prefill_pool_ratio * self.prefilling.replica_chips

    @property
    def expert_shards(self) -> Leaf:
        """Ranks that shard each routed expert."""
        if self.expert_tensor is not None:
            return self.expert_tensor
        return self.tensor * self.attention_data * self.context / self.expert


@struct.dataclass
class ServingDesign:
    """Design of a server: hardware, stack, formats, strategy."""

    chip: Chip
    """Accelerator chip."""
    cluster: Cluster
    """Chips of the service and their fabric."""
    kernels: KernelCosts
    """Constants of the kernels of the chip."""
    engine: ServingEngine
    """Serving stack."""
    formats: ServingFormats
    """Number formats."""
    strategy: ServingStrategy
    """Parallelism strategy."""

    @property
    def num_replicas(self) -> Leaf:
        """Replicas that decode: chips of the cluster over those of a replica and its share of those
        that process prompts."""
        return self.cluster.num_chips / self.strategy.unit_chips
