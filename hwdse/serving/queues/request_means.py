"""Means of a stream of requests that a step, the batch and the KV cache see."""

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf
from hwdse.specs.serving.requests import Requests
from hwdse.specs.serving.serving_metrics import ReplicaLimits


@struct.dataclass
class RequestMeans:
    """Lengths of the mean request, as the engine processes them."""

    input_tokens: Leaf
    """Tokens of a prompt."""
    prompt_tokens: Leaf
    """Tokens of a prompt to process: without prefix hits, at least one."""
    output_tokens: Leaf
    """Tokens of an answer."""
    decode_steps: Leaf
    """Steps of a request after its first token."""
    decode_context: Leaf
    """Tokens of context of a decoding sequence, mean over its steps."""
    prompt_context: Leaf
    """Tokens that a processed prompt token attends to."""
    held_tokens: Leaf
    """Tokens of KV pages that a decoding sequence holds, mean over its steps."""
    held_prompt_tokens: Leaf
    """The same for a sequence whose prompt is processed."""
    prompt_spread_ratio: Leaf
    """Standard deviation over mean of `prompt_tokens`."""
    output_spread_ratio: Leaf
    """Standard deviation over mean of the output tokens."""


def request_means(requests: Requests, limits: ReplicaLimits) -> RequestMeans:
    r"""Means over requests, steps and tokens.

    A step meets long outputs more often than short ones: mean context of a decoding sequence is
    $I + \frac{O}{2} (1 + c_O^2)$, of a processed prompt token $C + \frac{U}{2}$ (cached tokens C,
    uncached U), the same for whole and chunked prompts. Assumes that lengths of prompts and outputs
    are independent.
    """
    prompt_tokens = jnp.maximum(requests.input_tokens - requests.cached_input_tokens, 1.0)
    cached_tokens = jnp.maximum(requests.input_tokens - prompt_tokens, 0.0)
    generated = 0.5 * requests.output_tokens * (1.0 + requests.output_spread_ratio**2)
    half_page = 0.5 * limits.page_tokens
    return RequestMeans(
        input_tokens=requests.input_tokens,
        prompt_tokens=prompt_tokens,
        output_tokens=jnp.maximum(requests.output_tokens, 1.0),
        decode_steps=jnp.maximum(requests.output_tokens - 1.0, 0.0) / limits.tokens_per_step,
        decode_context=requests.input_tokens + generated,
        prompt_context=cached_tokens + 0.5 * (prompt_tokens + 1.0),
        held_tokens=requests.input_tokens + generated + half_page,
        held_prompt_tokens=requests.input_tokens + half_page,
        prompt_spread_ratio=requests.input_spread_ratio * requests.input_tokens / prompt_tokens,
        output_spread_ratio=requests.output_spread_ratio,
    )
