r"""Steps of continuous batching with a varying amount of prompt tokens: mean and median.

Prompts start at random, $\lambda$ per step on average (Poisson): a share $1 - e^{-\lambda}$ of the
steps has prompt tokens, $\lambda L / (1 - e^{-\lambda})$ of them on average, at most the token
budget. A steady mixture of steps without and with prompts has the mean time of both by their share.
"""

import dataclasses

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.specs.serving.requests import StepLoad

MEDIAN_OFFSET = 0.6
"""Prompts per step below which the median step has none, with prompt lengths of an exponential
distribution: the median of a compound Poisson sum of mean $\\lambda \\ge 0.8$ is
$\\lambda - 0.6$ within 0.05, and 0 below ln 2."""
FEWEST_PROMPTS = 1e-9
"""Least prompts per step, so that shares and slopes without prompts are finite."""


@struct.dataclass
class StepMixture:
    """Steps without prompt tokens, and with the mean amount of those that have some."""

    without: StepLoad
    with_prompts: StepLoad
    prompt_share: Leaf
    """Share of the steps with prompt tokens."""
    prompts_per_step: Leaf
    """Mean prompts that start per step."""


def step_mixture(
    decode_sequences: Scalar,
    decode_context: Scalar,
    prompts_per_step: Scalar,
    prompt_tokens: Scalar,
    prompt_context: Scalar,
    token_budget: Scalar,
) -> StepMixture:
    """Mixture of steps with random starts of prompts of `prompt_tokens` tokens.

    `prompt_context` is the mean context of a prompt token. Prompts that exceed the budget of a
    step, less the decoding sequences, are spread over more steps.
    """
    rate = jnp.maximum(prompts_per_step, FEWEST_PROMPTS)
    tokens = rate * prompt_tokens
    room = jnp.maximum(token_budget - decode_sequences, 1.0)
    share = jnp.minimum(jnp.maximum(-jnp.expm1(-rate), tokens / room), 1.0)
    without = StepLoad(decode_sequences, decode_context, 0.0, prompt_context, 0.0)
    return StepMixture(
        without=without,
        with_prompts=dataclasses.replace(
            without, prefill_tokens=tokens / share, prefill_sequences=rate / share
        ),
        prompt_share=share,
        prompts_per_step=prompts_per_step,
    )


def mean_step_s(mixture: StepMixture, without_s: Scalar, with_prompts_s: Scalar) -> Scalar:
    """Mean time of the steps."""
    return without_s + mixture.prompt_share * (with_prompts_s - without_s)


def median_step_s(mixture: StepMixture, without_s: Scalar, with_prompts_s: Scalar) -> Scalar:
    """Median time of the steps: that of a step with the median amount of prompt tokens.

    Assumes a time that is linear in the prompt tokens between the two kinds of steps.
    """
    rate = jnp.maximum(mixture.prompts_per_step, FEWEST_PROMPTS)
    median = jnp.maximum(rate - MEDIAN_OFFSET, 0.0) / rate
    return without_s + mixture.prompt_share * median * (with_prompts_s - without_s)
