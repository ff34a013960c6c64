"""Steps of measured servers, with what their engine adds as counts: the base of fits and scores.

The time of a step is the time of its kernels plus constants of the engine times counts: blocks,
quantized products, expert layers, sequences, starts of collectives. Kernels and counts of a row do
not depend on these constants, so that a fit evaluates every row once.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf
from hwdse.serving.steps.message_costs import messages_time_s
from hwdse.serving.steps.step_power import fabric_of
from hwdse.serving.steps.step_time import operator_times, prompt_share
from hwdse.specs.serving.engine import ServingDesign, ServingEngine
from hwdse.specs.serving.requests import StepLoad
from hwdse.validation.serving.job_groups import JobRow, for_all
from hwdse.validation.serving.served_jobs import ServedJob
from hwdse.workload.serving.step_operators import presence, step_operators
from hwdse.workload.transformer.model_config import Transformer


@struct.dataclass
class StepFeatures:
    """Kernels and counts of one step."""

    kernels_s: Leaf
    """Time of products, attention and experts without their start."""
    elementwise_s: Leaf
    """Time of elementwise work."""
    expert_start_s: Leaf
    """Start of the experts of all layers: routing, sorting, launches."""
    messages_s: Leaf
    """Time of collectives that start at once."""
    collectives: Leaf
    """Starts of collectives: their time by the start of one, between starts of 0 and 10 µs."""
    exchanges: Leaf
    """The same of the exchange of tokens of experts."""
    blocks: Leaf
    quantized: Leaf
    spread_layers: Leaf
    """MoE layers whose experts are spread over ranks."""
    sequences: Leaf
    """Sequences that get a token."""
    logits: Leaf
    """Their entries of the vocabulary."""
    has_prompts: Leaf
    """1 if there are prompt tokens."""
    prompt_share: Leaf
    """Share of the prompt tokens among all."""

    def step_s(self, engine: Any) -> Any:
        """Time of the step with the constants of an engine, as `step_time.operator_times`."""
        busy = self.kernels_s + self.messages_s
        busy = busy + engine.elementwise_ratio * self.elementwise_s
        busy = busy + engine.expert_start_ratio * self.expert_start_s
        busy = busy + engine.collective_launch_s * self.collectives
        busy = busy + engine.exchange_launch_s * self.exchanges
        busy = busy + engine.expert_parallel_s * self.spread_layers
        busy = busy * (1.0 + (engine.prefill_ratio - 1.0) * self.prompt_share)
        busy = busy + engine.block_s * self.blocks + engine.quantization_s * self.quantized
        issue = engine.prefill_block_s * self.blocks * self.has_prompts
        sampling = engine.sequence_s * self.sequences + engine.logit_s * self.logits
        return np.maximum(busy, issue) + engine.step_host_s + sampling


def step_features(model: Transformer, load: StepLoad, design: ServingDesign) -> StepFeatures:
    """Features of one step of a model on a design."""
    engine = design.engine
    free = ServingEngine(
        popularity_shape=engine.popularity_shape, busiest_rank_ratio=engine.busiest_rank_ratio
    )
    operators = step_operators(model, load, design.formats, design.strategy)

    def messages(launch_s: Leaf, exchange_s: Leaf) -> Leaf:
        started = dataclasses.replace(
            free, collective_launch_s=launch_s, exchange_launch_s=exchange_s
        )
        fabric = fabric_of(model, dataclasses.replace(design, engine=started))
        return jnp.asarray(messages_time_s(operators.messages, fabric), float)

    zero, one = jnp.zeros(()), jnp.full((), 1e-5)
    base_s = messages(zero, zero)
    times = operator_times(operators, load, dataclasses.replace(design, engine=free), 0.0)
    spread: Leaf = 0.0
    for each in operators.experts:
        spread = spread + jnp.where(each.ranks > 1.0, 1.0, 0.0) * each.count
    expert_start_s = design.kernels.expert_start_s * operators.num_expert_layers
    return StepFeatures(
        kernels_s=times.products + times.attention + times.experts - expert_start_s,
        elementwise_s=times.elementwise,
        expert_start_s=expert_start_s,
        messages_s=base_s,
        collectives=(messages(one, zero) - base_s) / one,
        exchanges=(messages(zero, one) - base_s) / one,
        blocks=operators.num_blocks,
        quantized=operators.num_quantized,
        spread_layers=spread,
        sequences=operators.sampled_sequences,
        logits=operators.sampled_sequences * operators.vocabulary,
        has_prompts=presence(load.prefill_tokens),
        prompt_share=prompt_share(load),
    )


def features_of(jobs: Sequence[ServedJob]) -> tuple[StepFeatures, StepFeatures]:
    """Features of the steps without and with prompts of all jobs, as arrays."""

    def both(row: JobRow) -> StepFeatures:
        return jax.vmap(lambda load: step_features(row.model, load, row.design))(row.loads)

    found = for_all(jobs, both)
    without, with_prompts = (jax.tree.map(lambda x, k=kind: x[:, k], found) for kind in (0, 1))
    return without, with_prompts
