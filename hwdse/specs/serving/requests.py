"""Requests to a served language model, and the load of one step of an engine."""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class Requests:
    """Stream of requests: lengths, and how they arrive.

    A closed loop keeps `concurrency` requests in flight: each user sends the next request when the
    last one is answered. An open loop receives `arrival_rate_per_s` whatever the server does.
    Exactly one of the two is above zero.
    """

    input_tokens: Leaf
    """Mean tokens of a prompt. Typical: 1024."""
    output_tokens: Leaf
    """Mean generated tokens of a request, the first one included. Typical: 1024."""
    concurrency: Leaf = 0.0
    """Requests in flight over all replicas (closed loop); 0 for an open loop. Typical: 64."""
    arrival_rate_per_s: Leaf = 0.0
    """Mean arrivals per second over all replicas (open loop); 0 for a closed loop."""
    arrival_spread_ratio: Leaf = 1.0
    """Standard deviation over mean of the times between arrivals: 1 (Poisson), 0 (constant)."""
    cached_input_tokens: Leaf = 0.0
    """Mean tokens of a prompt whose KV is in memory already (prefix hits). Typical: 0."""
    input_spread_ratio: Leaf = 0.0
    """Standard deviation over mean of the input tokens. Typical: 0 (fixed lengths), 1 (chats)."""
    output_spread_ratio: Leaf = 0.0
    """Standard deviation over mean of the output tokens. Typical: 0 (fixed lengths), 1 (chats)."""
    burst_fraction: Leaf = 0.0
    """Share of the requests of a closed loop that all users send at once at its start: one over the
    requests of a user. Typical: 0 (steady state), 0.1 (InferenceX: ten requests a user)."""


@struct.dataclass
class StepLoad:
    """Work of one step of one replica: all ranks of its tensor, expert and attention groups.

    A step of continuous batching generates one token for each decoding sequence, and processes
    some tokens of prompts (chunked prefill). Either part can be zero.
    """

    decode_sequences: Leaf
    """Sequences that generate a token."""
    decode_context: Leaf
    """Mean tokens of context of these sequences."""
    prefill_tokens: Leaf
    """Tokens of prompts, all sequences together."""
    prefill_context: Leaf
    """Mean tokens that a prompt token attends to, itself included: half the prompt if a causal
    prompt is processed whole, more with cached tokens before it."""
    prefill_sequences: Leaf
    """Sequences that these tokens belong to, mean."""
