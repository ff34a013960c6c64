"""Times of steps around an operating point: two evaluations of the step model and their slopes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.serving.queues.request_means import RequestMeans
from hwdse.specs.serving.requests import StepLoad

StepTime = Callable[[StepLoad], Scalar]
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
    """Step times at a load, with their slopes by forward differentiation."""

    def load(sequences: Scalar, tokens: Scalar) -> StepLoad:
        return StepLoad(
            decode_sequences=sequences,
            decode_context=means.decode_context,
            prefill_tokens=tokens,
            prefill_context=means.prompt_context,
            prefill_sequences=tokens / means.prompt_tokens,
        )

    def time_s(sequences: Scalar, tokens: Scalar) -> Scalar:
        return jnp.asarray(step_time(load(sequences, tokens)))

    def with_slope(
        sequences: Scalar, tokens: Scalar, by_sequences: Scalar, by_tokens: Scalar
    ) -> tuple[Scalar, Scalar]:
        return jax.jvp(time_s, (sequences, tokens), (by_sequences, by_tokens))

    kind = jnp.result_type(float)
    sequences, tokens = jnp.asarray(decode_sequences, kind), jnp.asarray(prefill_tokens, kind)
    one, zero = jnp.ones_like(sequences), jnp.zeros_like(sequences)
    # Both kinds of steps in one batch: the step model is compiled once.
    seconds: Any
    slopes: Any
    seconds, slopes = jax.vmap(with_slope)(
        jnp.stack([sequences, sequences, sequences]),
        jnp.stack([zero, tokens, tokens]),
        jnp.stack([one, one, zero]),
        jnp.stack([zero, zero, one]),
    )
    return StepTimes(
        decode_sequences=sequences,
        prefill_tokens=tokens,
        decode_s=seconds[0],
        mixed_s=seconds[1],
        decode_slope=slopes[0],
        mixed_slope=slopes[1],
        prefill_slope=slopes[2],
    )
