"""Rules of parallelism strategies: degrees that training stacks accept, and those they refuse.

Every rule is written once, for one strategy and for columns of many. Sources: assertions of
Megatron-LM (`megatron/training/arguments.py`, `core/transformer/transformer_config.py`) and of
torchtitan (`distributed/parallel_dims.py`, `config/job_config.py`). Stacks pad the vocabulary to
a multiple of the tensor-parallel degree and can have stages of unequal depth, so neither is
refused.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdse.numerics.array_types import Scalar
from hwdse.specs.design import Parallelism
from hwdse.workload.transformer.model_config import Transformer, TransformerTraining

EXTRA_LAYERS = (0.0, 1.0, 2.0)
"""Embedding, LM head or both may take the place of a layer in the first and last virtual stage:
Llama 3 (arXiv 2407.21783, section 3.3.2); Megatron-LM, `account_for_embedding_in_pipeline_split`.
"""
Degrees = Mapping[str, Any]
"""Fields of strategies by name: numbers, or arrays with one element per strategy."""
Problem = tuple[str, str]
"""A key and its allowed values."""


@dataclass(frozen=True)
class Job:
    """Training job on a number of chips, as the rules use it."""

    training: TransformerTraining
    num_chips: Scalar

    @property
    def models(self) -> tuple[Transformer, ...]:
        """Models of the kinds of layers."""
        return self.training.model.layer_models

    def data(self, degrees: Degrees) -> Any:
        """Data-parallel degree; may be fractional."""
        return self.num_chips / _ranks(degrees)

    def micro_batches(self, degrees: Degrees) -> Any:
        """Micro-batches per replica; may be fractional."""
        return self.training.global_batch / (self.data(degrees) * degrees["micro_batch"])


@dataclass(frozen=True)
class StrategyRule:
    """One condition that all strategies of a job must meet."""

    key: str
    """Field that an error names."""
    fields: tuple[str, ...]
    """Fields that the condition depends on."""
    holds: Callable[[Degrees, Job], Any]
    """True if strategies meet the condition, elementwise."""
    expected: Callable[[Degrees, Job], str]
    """Allowed values of `key`, for one strategy."""


def _ranks(degrees: Degrees) -> Any:
    return degrees["tensor"] * degrees["pipeline"] * degrees["context"]


def _divides(degree: Any, extents: Iterable[float]) -> Any:
    """True if a degree divides all extents, elementwise."""
    result: Any = True
    for extent in set(extents):
        result = result & (extent % degree == 0)
    return result


def _first_undivided(degree: float, extents: Iterable[float]) -> float:
    """First extent that a degree does not divide."""
    return next(extent for extent in extents if extent % degree != 0)


def _heads(job: Job) -> list[float]:
    heads = [model.num_heads for model in job.models]
    return [*heads, *(model.num_state_heads for model in job.models)]


def _kv_heads(job: Job) -> list[float]:
    """Key-value heads of the layers with grouped-query attention, and groups of state heads."""
    groups = [model.num_state_groups for model in job.models if model.num_state_heads > 0.0]
    return [m.num_kv_heads for m in job.models if m.kv_lora_rank == 0.0] + groups


def _dense_widths(job: Job) -> list[float]:
    """Inner sizes of the MLPs of dense layers."""
    models = (m for m in job.models if any(not kind.is_mixture for kind in m.kinds[0]))
    return [model.feedforward for model in models]


def _experts(job: Job) -> list[float]:
    """Experts per layer of the layers that have some."""
    return [model.num_experts for model in job.models if model.num_experts > 0.0]


def _expert_widths(job: Job) -> list[float]:
    return [model.expert_feedforward for model in job.models if model.num_experts > 0.0]


def _shares_heads(degree: Any, heads: Iterable[float]) -> Any:
    """True if each rank has whole key-value heads, or copies of one, elementwise."""
    result: Any = True
    for number in set(heads):
        result = result & ((number % degree == 0) | (degree % number == 0))
    return result


def _has_even_chunks(chunks: Any, job: Job) -> Any:
    """True if virtual stages have equal numbers of layers, elementwise."""
    result: Any = False
    for number in EXTRA_LAYERS:
        result = result | ((job.training.model.num_layers + number) % chunks == 0)
    return result


def _is_plain_pipeline(degrees: Degrees) -> Any:
    """True for a pipeline without virtual stages, elementwise."""
    return (degrees["pipeline"] > 1) & (degrees["virtual_pipeline"] == 1)


def _leaves_stages(degrees: Degrees, job: Job) -> Any:
    """True if the stages without a given number of layers get some, elementwise."""
    first, last = degrees["first_stage_layers"], degrees["last_stage_layers"]
    rest = job.training.model.num_layers - first - last
    others = degrees["pipeline"] - (first > 0) - (last > 0)
    is_whole = (rest >= others) & ((others > 0) | (rest == 0))
    return _is_plain_pipeline(degrees) & (degrees["dual_pipe_fraction"] == 0) & is_whole


def _dividing(key: str, extents: Callable[[Job], list[float]], name: str) -> StrategyRule:
    """Rule that a degree divides extents of the model."""
    return StrategyRule(
        key,
        (key,),
        lambda degrees, job: _divides(degrees[key], extents(job)),
        lambda degrees, job: (
            f"a divisor of {_first_undivided(degrees[key], extents(job)):g}, {name}"
        ),
    )


MODULES = (
    "attention_recompute_fraction",
    "norm_recompute_fraction",
    "activation_recompute_fraction",
    "mlp_recompute_fraction",
    "projection_recompute_fraction",
    "output_recompute_fraction",
)
"""Fields for modules that are recomputed in layers without full recomputation."""


def _beside_full_recomputation(key: str) -> StrategyRule:
    """Rule that only layers without full recomputation recompute a module."""
    return StrategyRule(
        key,
        ("recompute_fraction", key),
        lambda degrees, _: degrees["recompute_fraction"] + degrees[key] <= 1,
        lambda degrees, _: (
            f"at most {1.0 - degrees['recompute_fraction']:g}, the layers without full "
            "recomputation"
        ),
    )


_RANKS = ("tensor", "pipeline", "context")
_BATCH = (*_RANKS, "micro_batch")


def _has_own_shards(degrees: Degrees) -> Any:
    return degrees["expert_tensor"] > 0


def _has_common_shards(degrees: Degrees) -> Any:
    return degrees["expert_tensor"] == 0


def _where(condition: Callable[[Degrees], Any], rule: StrategyRule) -> StrategyRule:
    """Rule for the strategies of a kind of expert shards, elementwise; met by all others."""

    def holds(degrees: Degrees, job: Job) -> Any:
        # Shards of 0 ranks stand for no shards of their own, and divide nothing.
        shards = np.maximum(degrees["expert_tensor"], 1)
        return ~np.asarray(condition(degrees)) | rule.holds(
            {**degrees, "expert_tensor": shards}, job
        )

    fields = tuple(dict.fromkeys((*rule.fields, "expert_tensor")))
    return StrategyRule(rule.key, fields, holds, rule.expected)


OWN_SHARDS = (
    StrategyRule(
        "expert_tensor",
        ("tensor", "expert_tensor"),
        lambda degrees, _: degrees["tensor"] % degrees["expert_tensor"] == 0,
        lambda degrees, _: f"a divisor of tensor, {degrees['tensor']:g}",
    ),
    _dividing("expert_tensor", _expert_widths, "the feedforward size of an expert"),
    StrategyRule(
        "expert_tensor",
        ("tensor", "expert_tensor", "sequence_parallel_fraction"),
        lambda degrees, _: (
            (degrees["expert_tensor"] == degrees["tensor"])
            | (degrees["sequence_parallel_fraction"] == 1)
        ),
        lambda degrees, _: f"{degrees['tensor']:g}, the tensor ranks, without sequence parallelism",
    ),
    StrategyRule(
        "expert",
        (*_RANKS, "expert", "expert_tensor"),
        lambda degrees, job: (
            degrees["tensor"]
            * degrees["context"]
            * job.data(degrees)
            % (degrees["expert"] * degrees["expert_tensor"])
            == 0
        ),
        lambda degrees, job: (
            "a divisor of "
            f"{degrees['tensor'] * degrees['context'] * job.data(degrees):g} ranks of a stage over "
            f"expert_tensor = {degrees['expert_tensor']:g}"
        ),
    ),
)
"""Rules of strategies whose experts have shards of their own (`expert_tensor` above 0)."""
RULES = (
    StrategyRule(
        "pipeline",
        ("pipeline",),
        lambda degrees, job: degrees["pipeline"] <= job.training.model.num_layers,
        lambda _, job: f"at most {job.training.model.num_layers:g}, the layers of the model",
    ),
    _dividing("tensor", _heads, "the heads of the model"),
    StrategyRule(
        "tensor",
        ("tensor",),
        lambda degrees, job: _shares_heads(degrees["tensor"], _kv_heads(job)),
        lambda degrees, job: (
            "a divisor or a multiple of "
            f"{next(n for n in _kv_heads(job) if not _shares_heads(degrees['tensor'], [n])):g}, "
            "the key-value heads of the model"
        ),
    ),
    _dividing("tensor", _dense_widths, "the feedforward size of the model"),
    _where(
        _has_common_shards, _dividing("tensor", _expert_widths, "the feedforward size of an expert")
    ),
    _dividing("context", lambda job: [job.training.seq_len], "the tokens of a sequence"),
    StrategyRule(
        "tensor",
        ("tensor", "context", "sequence_parallel_fraction"),
        lambda degrees, job: (
            (degrees["sequence_parallel_fraction"] == 0)
            | _divides(degrees["tensor"] * degrees["context"], [job.training.seq_len])
        ),
        lambda degrees, job: (
            f"tensor * context = {degrees['tensor'] * degrees['context']:g} to divide "
            f"{job.training.seq_len:g}, the tokens of a sequence, or sequence_parallel_fraction = 0"
        ),
    ),
    StrategyRule(
        "tensor",
        _RANKS,
        lambda degrees, job: job.num_chips % _ranks(degrees) == 0,
        lambda degrees, job: (
            f"tensor * pipeline{' * context' if degrees['context'] > 1 else ''} = "
            f"{_ranks(degrees):g} to divide {job.num_chips:g} chips"
        ),
    ),
    StrategyRule(
        "expert",
        ("expert",),
        lambda degrees, job: (degrees["expert"] == 1) | bool(_experts(job)),
        lambda _, __: "1 for a model without experts",
    ),
    _dividing("expert", _experts, "the experts of a layer"),
    _where(
        _has_common_shards,
        StrategyRule(
            "expert",
            (*_RANKS, "expert"),
            lambda degrees, job: job.data(degrees) % degrees["expert"] == 0,
            lambda degrees, job: f"a divisor of {job.data(degrees):g}, the data-parallel ranks",
        ),
    ),
    *(_where(_has_own_shards, rule) for rule in OWN_SHARDS),
    StrategyRule(
        "micro_batch",
        _BATCH,
        lambda degrees, job: (
            job.training.global_batch % (job.data(degrees) * degrees["micro_batch"]) == 0
        ),
        lambda degrees, job: (
            f"data parallel x micro_batch = {job.data(degrees) * degrees['micro_batch']:g} to "
            f"divide the global batch of {job.training.global_batch:g} sequences"
        ),
    ),
    *(_beside_full_recomputation(key) for key in MODULES),
    StrategyRule(
        "optimizer_shard_fraction",
        ("optimizer_shard_fraction", "gradient_shard_fraction", "weight_shard_fraction"),
        lambda degrees, _: (
            (degrees["optimizer_shard_fraction"] >= degrees["gradient_shard_fraction"])
            & (degrees["optimizer_shard_fraction"] >= degrees["weight_shard_fraction"])
        ),
        lambda _, __: "at least the fractions of gradients and weights (ZeRO stages 2 and 3)",
    ),
    StrategyRule(
        "virtual_pipeline",
        ("pipeline", "virtual_pipeline"),
        lambda degrees, _: (degrees["virtual_pipeline"] == 1) | (degrees["pipeline"] > 1),
        lambda _, __: "1 without a pipeline",
    ),
    StrategyRule(
        "virtual_pipeline",
        ("pipeline", "virtual_pipeline"),
        lambda degrees, job: (
            (degrees["virtual_pipeline"] == 1)
            | _has_even_chunks(degrees["pipeline"] * degrees["virtual_pipeline"], job)
        ),
        lambda degrees, job: (
            f"pipeline * virtual_pipeline = {degrees['pipeline'] * degrees['virtual_pipeline']:g} "
            f"to divide {job.training.model.num_layers:g} layers, or one or two more: embedding "
            "and LM head"
        ),
    ),
    # Narayanan et al., SC 2021, section 2.2.2.
    StrategyRule(
        "virtual_pipeline",
        (*_BATCH, "virtual_pipeline"),
        lambda degrees, job: (
            (degrees["virtual_pipeline"] == 1)
            | (job.micro_batches(degrees) % degrees["pipeline"] == 0)
        ),
        lambda degrees, job: (
            f"1 unless {job.micro_batches(degrees):g} micro-batches are a multiple of "
            f"{degrees['pipeline']:g} stages"
        ),
    ),
    StrategyRule(
        "zero_bubble_fraction",
        ("pipeline", "virtual_pipeline", "zero_bubble_fraction"),
        lambda degrees, _: (degrees["zero_bubble_fraction"] == 0) | _is_plain_pipeline(degrees),
        lambda _, __: "0 without a pipeline or with virtual stages",
    ),
    StrategyRule(
        "dual_pipe_fraction",
        ("zero_bubble_fraction", "dual_pipe_fraction"),
        lambda degrees, _: degrees["zero_bubble_fraction"] + degrees["dual_pipe_fraction"] <= 1,
        lambda degrees, _: f"at most {1.0 - degrees['zero_bubble_fraction']:g}, beside ZB-H1",
    ),
    StrategyRule(
        "dual_pipe_fraction",
        ("pipeline", "virtual_pipeline", "weight_shard_fraction", "dual_pipe_fraction"),
        lambda degrees, _: (
            (degrees["dual_pipe_fraction"] == 0)
            | (
                _is_plain_pipeline(degrees)
                & (degrees["pipeline"] % 2 == 0)
                & (degrees["weight_shard_fraction"] == 0)
            )
        ),
        lambda _, __: (
            "0 unless the pipeline has an even number of stages, no virtual ones, and whole weights"
        ),
    ),
    # deepseek-ai/DualPipe, `dualpipe.py`: as many micro-batches from both ends, 2 p or more.
    StrategyRule(
        "dual_pipe_fraction",
        (*_BATCH, "dual_pipe_fraction"),
        lambda degrees, job: (
            (degrees["dual_pipe_fraction"] == 0)
            | (
                (job.micro_batches(degrees) % 2 == 0)
                & (job.micro_batches(degrees) >= 2 * degrees["pipeline"])
            )
        ),
        lambda degrees, job: (
            f"0 unless {job.micro_batches(degrees):g} micro-batches are even and at least "
            f"{2 * degrees['pipeline']:g}, two a stage"
        ),
    ),
    *(
        StrategyRule(
            key,
            (
                "pipeline",
                "virtual_pipeline",
                "dual_pipe_fraction",
                "first_stage_layers",
                "last_stage_layers",
            ),
            lambda degrees, job, key=key: (degrees[key] == 0) | _leaves_stages(degrees, job),
            lambda degrees, job: (
                f"0, or few enough of {job.training.model.num_layers:g} layers for "
                f"{degrees['pipeline']:g} stages, without virtual stages and DualPipe"
            ),
        )
        for key in ("first_stage_layers", "last_stage_layers")
    ),
)
"""Rules in the order in which they are checked: later ones may rely on earlier ones."""
_FIELDS = tuple(dict.fromkeys(name for rule in RULES for name in rule.fields))


def strategy_problem(
    parallelism: Parallelism, num_chips: Scalar, training: TransformerTraining
) -> Problem | None:
    """Key that makes a strategy impossible on `num_chips` with its allowed values, or None."""
    job = Job(training, num_chips)
    degrees = {name: getattr(parallelism, name) for name in _FIELDS}
    broken = next((rule for rule in RULES if not rule.holds(degrees, job)), None)
    return None if broken is None else (broken.key, broken.expected(degrees, job))


def rules_on(known: Iterable[str], fields: Iterable[str]) -> tuple[StrategyRule, ...]:
    """Rules on some of `fields` that depend on no other than the `known` fields."""
    names, added = set(known), set(fields)
    return tuple(
        rule for rule in RULES if names.issuperset(rule.fields) & bool(added & {*rule.fields})
    )
