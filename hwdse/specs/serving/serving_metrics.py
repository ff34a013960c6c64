"""Limits of a replica, and the metrics of a served stream of requests."""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class ReplicaLimits:
    """Bounds of the batch of one replica, as the scheduler of its engine sees them."""

    max_sequences: Leaf
    """Sequences that may be in the batch at once. Typical: 256."""
    kv_capacity_tokens: Leaf
    """Tokens whose keys and values fit into the memory of the replica."""
    token_budget: Leaf
    """Tokens of a step at most: a chunked prompt gets what decoding leaves. Typical: 8192."""
    request_host_s: Leaf = 0.0
    """Time of a request outside of the engine: HTTP, tokenization, detokenization."""
    page_tokens: Leaf = 16.0
    """Tokens of a page of the KV cache; half a page per sequence stays empty."""
    tokens_per_step: Leaf = 1.0
    """Tokens that a decoding sequence gains in a step: 1, and the drafts that are accepted."""


@struct.dataclass
class Latency:
    """Distribution of a latency over requests (over tokens for the inter-token latency)."""

    mean_s: Leaf
    """Mean."""
    p50_s: Leaf
    """Median."""
    p90_s: Leaf
    """90th percentile."""
    p99_s: Leaf
    """99th percentile."""


@struct.dataclass
class FirstTokenParts:
    """Mean time to first token by what it is spent on."""

    host_s: Leaf
    """Outside of the engine."""
    slot_wait_s: Leaf
    """Until a sequence of the batch and its KV pages are free."""
    step_wait_s: Leaf
    """Until the running step ends."""
    prefill_wait_s: Leaf
    """Until prompts that came before are processed, beyond one step."""
    prefill_s: Leaf
    """Own steps, shared with decoding sequences and other prompts."""
    burst_s: Leaf
    """Requests that all users send at once at the start of a run: their share of the mean."""


@struct.dataclass
class ServingState:
    """Steady state of a service; rates are those of all replicas."""

    decode_sequences: Leaf
    """Sequences of a replica that decode, mean over time."""
    prefill_tokens: Leaf
    """Tokens of prompts in a step, mean over steps."""
    prefill_step_fraction: Leaf
    """Steps that process prompt tokens, over all."""
    step_time_s: Leaf
    """Mean time of a step with a decoding sequence in it."""
    decode_step_time_s: Leaf
    """Time of a step without prompt tokens."""
    prefill_step_time_s: Leaf
    """Time of a step with the mean prompt tokens of such steps."""
    request_rate_per_s: Leaf
    """Answered requests per second."""
    output_tokens_per_s: Leaf
    """Generated tokens per second."""
    total_tokens_per_s: Leaf
    """Tokens of prompts and generated tokens per second."""
    capacity_rate_per_s: Leaf
    """Highest request rate that the replicas can serve."""
    utilization_ratio: Leaf
    """Offered rate over capacity in an open loop; served rate over capacity in a closed loop."""
    is_served: Leaf
    """1 if the offered load can be served, else 0; then latencies are those just below capacity."""
    kv_used_ratio: Leaf
    """KV cache in use over capacity, mean over time."""
    recomputed_ratio: Leaf
    """Tokens computed again after preemption, over tokens of prompts."""
    ttft: Latency
    """Time to first token."""
    ttft_parts: FirstTokenParts
    """Its mean by parts."""
    tpot: Latency
    """Time per output token after the first one, mean of each request."""
    itl: Latency
    """Inter-token latency, pooled over tokens."""
    latency: Latency
    """Time from sending a request to its last token (end to end)."""
