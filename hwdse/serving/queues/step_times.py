"""Times of steps around an operating point: five evaluations of the step model."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.serving.queues.request_means import RequestMeans
from hwdse.specs.serving.requests import StepLoad

StepTime = Callable[[StepLoad], Scalar]
STEP = 1.0 / 64.0
"""Relative change of a load for slopes: wide enough for float32."""
SMALLEST_SHARE = 0.02
"""Lower bound of an extrapolated step time over the evaluated one."""


@struct.dataclass
class StepTimes:
    """Step times that are linear around a batch and its prompt tokens.

    `decode_s` is the time of a step that only decodes, `mixed_s` that of one that also processes
    `prefill_tokens`.
    """

    decode_sequences: Leaf
    prefill_tokens: Leaf
    decode_s: Leaf
    mixed_s: Leaf
    decode_slope: Leaf
    """By decoding sequences."""
    mixed_slope: Leaf
    """The same with prompts in the step."""
    prefill_slope: Leaf
    """By prompt tokens."""

    def decoding_s(self, decode_sequences: Scalar) -> Scalar:
        """Time of a step that only decodes."""
        change = self.decode_slope * (decode_sequences - self.decode_sequences)
        return jnp.maximum(self.decode_s + change, SMALLEST_SHARE * self.decode_s)

    def mixing_s(self, decode_sequences: Scalar, prefill_tokens: Scalar) -> Scalar:
        """Time of a step that decodes and processes prompt tokens."""
        change = self.mixed_slope * (decode_sequences - self.decode_sequences)
        change = change + self.prefill_slope * (prefill_tokens - self.prefill_tokens)
        return jnp.maximum(self.mixed_s + change, SMALLEST_SHARE * self.mixed_s)


def step_times_around(
    step_time: StepTime, means: RequestMeans, decode_sequences: Scalar, prefill_tokens: Scalar
) -> StepTimes:
    """Step times at a load, with their slopes by differences."""

    kind = jnp.result_type(float)
    sequences, tokens = jnp.asarray(decode_sequences, kind), jnp.asarray(prefill_tokens, kind)
    more_sequences, more_tokens = (1.0 + STEP) * sequences, (1.0 + STEP) * tokens
    prompts = jnp.stack(
        [jnp.zeros_like(tokens), tokens, jnp.zeros_like(tokens), tokens, more_tokens]
    )

    def time_s(sequences: Scalar, tokens: Scalar) -> Scalar:
        load = StepLoad(
            decode_sequences=sequences,
            decode_context=means.decode_context,
            prefill_tokens=tokens,
            prefill_context=means.prompt_context,
            prefill_sequences=tokens / means.prompt_tokens,
        )
        return jnp.asarray(step_time(load))

    # All steps in one batch: the step model is compiled once.
    seconds: Any = jax.vmap(time_s)(
        jnp.stack([sequences, sequences, more_sequences, more_sequences, sequences]), prompts
    )
    decode_s, mixed_s, decode_more_s, mixed_more_s, longer_s = (seconds[i] for i in range(5))
    return StepTimes(
        decode_sequences=sequences,
        prefill_tokens=tokens,
        decode_s=decode_s,
        mixed_s=mixed_s,
        decode_slope=(decode_more_s - decode_s) / (STEP * sequences),
        mixed_slope=(mixed_more_s - mixed_s) / (STEP * sequences),
        prefill_slope=(longer_s - mixed_s) / (STEP * tokens),
    )
