"""Parallelism strategies of a service: rules, list of candidates, text."""

import itertools
import math

from hwdse.specs.serving.engine import ServingStrategy
from hwdse.workload.transformer.model_config import Transformer

TENSOR_DEGREES = (1, 2, 4, 8, 16, 32, 64)
PIPELINE_DEGREES = (1, 2, 4, 8)
MAX_REPLICA_CHIPS = 128
"""Largest replica of the list of candidates."""
Problem = tuple[str, str]
"""Key of a strategy with the values that are allowed."""


def serving_strategy_problem(
    strategy: ServingStrategy, num_chips: float, model: Transformer
) -> Problem | None:
    """Key that makes a strategy impossible, with its allowed values, or None.

    Query heads are divided among the tensor ranks, layers among the stages, experts among the
    expert groups, and the chips among equal replicas.
    """
    chips = float(strategy.replica_chips)
    stage = chips / float(strategy.pipeline)
    if strategy.prefill_pool_ratio is not None:
        return _pool_problem(strategy, num_chips, model)
    heads = max(float(one.num_heads) for one in model.layer_models)
    experts = max(float(one.num_experts) for one in model.layer_models)
    if num_chips % chips:
        return "tensor", f"a replica whose chips divide {num_chips:g}; this one has {chips:g}"
    if heads and heads % float(strategy.tensor):
        return "tensor", f"a divisor of the {heads:g} query heads"
    if float(strategy.pipeline) > float(model.num_layers):
        return "pipeline", f"at most the {model.num_layers:g} layers"
    groups = float(strategy.expert)
    if not experts and groups != 1.0:
        return "expert", "1 for a model without experts"
    if experts and (experts % groups or groups > stage or stage % groups):
        return "expert", (
            f"a divisor of the {experts:g} experts and of the {stage:g} ranks of a stage"
        )
    return None


def _pool_problem(
    strategy: ServingStrategy, num_chips: float, model: Transformer
) -> Problem | None:
    """Problem of a strategy with separate replicas for prompts."""
    unit = float(strategy.unit_chips)
    replicas = num_chips / unit
    prompts = replicas * float(strategy.prefill_pool_ratio or 0.0)
    if not all(
        number >= 1.0 and math.isclose(number, round(number)) for number in (replicas, prompts)
    ):
        expected = (
            f"whole numbers of both kinds of replicas on {num_chips:g} chips, {unit:g} of them for "
            "a replica that decodes and its share of those with prompts"
        )
        return "prefill_pool_ratio", expected
    for name, part in (("tensor", strategy.decoding), ("prefill_tensor", strategy.prefilling)):
        found = serving_strategy_problem(part, float(part.replica_chips), model)
        if found is not None:
            return name if found[0] == "tensor" else found[0], found[1]
    return None


def enumerate_serving_strategies(model: Transformer, num_chips: float) -> list[ServingStrategy]:
    """Candidates: TP, PP, groups of attention data parallelism, EP over all or no ranks."""
    has_experts = any(float(one.num_experts) for one in model.layer_models)
    found = []
    data_degrees = TENSOR_DEGREES if has_experts else (1,)
    for tensor, data, pipeline in itertools.product(TENSOR_DEGREES, data_degrees, PIPELINE_DEGREES):
        if tensor * data * pipeline > min(MAX_REPLICA_CHIPS, num_chips):
            continue
        for expert in sorted({1, tensor * data} if has_experts else {1}):
            strategy = ServingStrategy(
                tensor=float(tensor),
                pipeline=float(pipeline),
                attention_data=float(data),
                expert=float(expert),
            )
            if serving_strategy_problem(strategy, num_chips, model) is None:
                found.append(strategy)
    return found


def serving_strategy_label(strategy: ServingStrategy, num_chips: float) -> str:
    """Text of a strategy such as `TP8 EP8, 2 replicas`; degrees of 1 are left out but TP."""
    parts = [f"TP{float(strategy.tensor):g}"]
    for name, value in (
        ("PP", strategy.pipeline),
        ("ADP", strategy.attention_data),
        ("CP", strategy.context),
        ("EP", strategy.expert),
    ):
        if float(value) != 1.0:
            parts.append(f"{name}{float(value):g}")
    if strategy.prefill_pool_ratio is not None:
        prompts = strategy.prefilling
        parts.append(f"prefill {float(strategy.prefill_pool_ratio):g}xTP{float(prompts.tensor):g}")
    replicas = num_chips / float(strategy.unit_chips)
    many = f", {replicas:g} replicas" if replicas != 1.0 else ""
    draft = float(strategy.draft_tokens)
    drafts = f", {draft:g} draft tokens" if draft else ""
    return " ".join(parts) + many + drafts
