"""Parallelism strategies of a training job, as columns with one row per strategy."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from hwdse.numerics.factored_program import Columns
from hwdse.specs.design import Parallelism
from hwdse.training.strategy_rules import EXTRA_LAYERS, Job, rules_on
from hwdse.workload.transformer.model_config import TransformerTraining

RECOMPUTE: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"none": (0.0, 0.0), "selective": (0.0, 1.0), "full": (1.0, 0.0)}
)
"""Fraction of layers recomputed in full, and fraction with the attention core recomputed."""
ZERO: Mapping[int, tuple[float, float, float]] = MappingProxyType(
    {0: (0.0, 0.0, 0.0), 1: (1.0, 0.0, 0.0), 2: (1.0, 1.0, 0.0), 3: (1.0, 1.0, 1.0)}
)
"""Fractions of optimizer state, gradients and weights sharded over replicas, by ZeRO stage."""
ZERO_FIELDS = ("optimizer_shard_fraction", "gradient_shard_fraction", "weight_shard_fraction")
SCHEDULES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"1f1b": (0.0, 0.0), "zero_bubble": (1.0, 0.0), "dual_pipe": (0.0, 1.0)}
)
"""Fractions of the schedules ZB-H1 and DualPipe, by name of the schedule."""
SCHEDULE_FIELDS = ("zero_bubble_fraction", "dual_pipe_fraction")
STAGE_FIELDS = ("first_stage_layers", "last_stage_layers")
"""Fields of pipelines divided by hand, which a list of strategies does not set."""
MIN_CONTEXT_TOKENS = 4096.0
"""Minimum tokens of a sequence per rank if the context degrees are not given. Below, activations of
one sequence are small and sharding it only adds messages."""
FIELDS = (
    "tensor",
    "pipeline",
    "context",
    "expert",
    "micro_batch",
    "virtual_pipeline",
    "sequence_parallel_fraction",
    "recompute_fraction",
    "attention_recompute_fraction",
    *ZERO_FIELDS,
    *SCHEDULE_FIELDS,
    "expert_tensor",
)
"""Fields of `Parallelism` that a strategy sets: the columns."""


@dataclass(frozen=True)
class StrategyOptions:
    """Values of each field to enumerate; `None` stands for all valid values."""

    tensor: tuple[float, ...] | None = None
    """Default: all divisors of the number of heads, also beyond a scale-up domain."""
    pipeline: tuple[float, ...] | None = None
    """Default: all depths that divide the number of chips. Stages may have unequal depth unless
    `even_stages`."""
    context: tuple[float, ...] | None = None
    """Default: powers of two with at least `MIN_CONTEXT_TOKENS` per rank."""
    expert: tuple[float, ...] | None = None
    """Default: all common divisors of the experts and the data-parallel ranks."""
    micro_batch: tuple[float, ...] | None = None
    """Default: powers of two."""
    virtual_pipeline: tuple[float, ...] | None = None
    """Virtual pipeline stages (VPP). Default: all divisors of the layers of a stage, of which
    embedding and LM head may be two."""
    recompute: tuple[str, ...] = tuple(RECOMPUTE)
    zero: tuple[int, ...] = (1, 2, 3)
    sequence: tuple[int, ...] = (1, 0)
    """1 with and 0 without sequence parallelism."""
    expert_tensor: tuple[float, ...] | None = None
    """Ranks that shard each routed expert (ETP); 0: the tensor-parallel ranks. Default for models
    with experts: 0 and 1 (whole experts), so that there are at most twice as many strategies."""
    schedule: tuple[str, ...] = ("1f1b",)
    """Pipeline schedules, keys of `SCHEDULES`; interleaving is `virtual_pipeline`."""
    even_stages: bool = False
    """True to require equal numbers of layers in all pipeline stages."""


def enumerate_strategies(
    job: TransformerTraining, num_chips: float, options: StrategyOptions | None = None
) -> Columns:
    """Distinct valid parallelism strategies of a job on `num_chips` chips, with columns `FIELDS`.

    A strategy is valid if it meets all rules of `training.strategy_rules`. Tensor, pipeline and
    context degrees divide the number of chips; the quotient is the data-parallel degree. Pipeline
    stages may be unequal. Equivalent strategies appear once: sequence parallelism of one rank, ZeRO
    stages of one replica. Without a valid strategy there are no rows.
    """
    options = options or StrategyOptions()
    rows = _expert_shards(_Rows(Job(job, float(num_chips))), options)
    rows = _degrees(rows, options)
    rows = _micro_batches(rows, options)
    rows = _memory_savings(rows, options)
    names = [SCHEDULES[name] for name in dict.fromkeys(options.schedule)]
    return rows.crossed(SCHEDULE_FIELDS, names).columns()


def data_degrees(strategies: Columns, num_chips: float) -> np.ndarray:
    """Data-parallel degree of each strategy."""
    return num_chips / (strategies["tensor"] * strategies["pipeline"] * strategies["context"])


def zero_stages(strategies: Columns) -> np.ndarray:
    """ZeRO stage of each strategy."""
    return sum((strategies[name] for name in ZERO_FIELDS), np.zeros(len(strategies)))


def recompute_names(strategies: Columns) -> list[str]:
    """Recompute mode of each strategy: a key of `RECOMPUTE`, or the fraction of layers."""
    names = {pair: name for name, pair in RECOMPUTE.items()}
    layers, core = (strategies[f"{kind}recompute_fraction"].tolist() for kind in ("", "attention_"))
    pairs = zip(layers, core, strict=True)
    return [names.get(pair) or f"{pair[0]:.0%}" for pair in pairs]


SCHEDULE_WORDS: Mapping[str, str] = MappingProxyType(
    {"zero_bubble": "zero bubble", "dual_pipe": "DualPipe"}
)
"""Words for schedules in texts of strategies."""


def schedule_names(strategies: Columns) -> list[str]:
    """Schedule of each strategy: a key of `SCHEDULES`, or the fractions of a mixture."""
    names = {pair: name for name, pair in SCHEDULES.items()}
    pairs = zip(*(strategies[name].tolist() for name in SCHEDULE_FIELDS), strict=True)
    return [names.get(pair) or f"{pair[0]:.0%} ZB-H1, {pair[1]:.0%} DualPipe" for pair in pairs]


def strategy_label(strategies: Columns, row: int, num_chips: float) -> str:
    """Text of a strategy: `TP8 PP4 DP32, micro-batch 1, full recompute, ZeRO-3`."""
    one = strategies.take(np.array([row]))
    fields = {name: float(one[name][0]) for name in FIELDS}
    degrees = f"TP{fields['tensor']:g} PP{fields['pipeline']:g}"
    degrees += f" DP{float(data_degrees(one, num_chips)[0]):g}"
    for letters, name in (("CP", "context"), ("EP", "expert")):
        degrees += f" {letters}{fields[name]:g}" if fields[name] > 1.0 else ""
    if 0.0 < fields["expert_tensor"] != fields["tensor"]:
        degrees += f" ETP{fields['expert_tensor']:g}"
    recompute = recompute_names(one)[0].replace("none", "no")
    parts = [degrees, f"micro-batch {fields['micro_batch']:g}"]
    if fields["virtual_pipeline"] > 1.0:
        parts.append(f"VPP {fields['virtual_pipeline']:g}")
    schedule = schedule_names(one)[0]
    parts += [SCHEDULE_WORDS.get(schedule, schedule)] if schedule != "1f1b" else []
    parts += [f"{recompute} recompute", f"ZeRO-{zero_stages(one)[0]:g}"]
    if fields["tensor"] > 1.0 and fields["sequence_parallel_fraction"] == 0.0:
        parts.append("no sequence parallelism")
    return ", ".join(parts)


def strategy_at(strategies: Columns, row: int, base: Parallelism) -> Parallelism:
    """Strategy of one row; fields without a column are those of `base`, with equal stages."""
    values = {name: float(strategies[name][row]) for name in strategies.levels}
    return dataclasses.replace(with_equal_stages(base), **values)


def with_equal_stages(base: Parallelism) -> Parallelism:
    """Strategy without layers of stages that another pipeline may not have."""
    return dataclasses.replace(base, **dict.fromkeys(STAGE_FIELDS, 0.0))


class _Rows:
    """Rows under construction: product with the values of one field after another, filtered."""

    def __init__(self, job: Job, levels: Any = None, indices: Any = None):
        self.job = job
        self.levels: dict[str, np.ndarray] = levels or {}
        self.indices: dict[str, np.ndarray] = indices or {}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.levels[name][self.indices[name]].astype(np.int64)

    def crossed(self, names: Sequence[str], choices: Sequence[tuple[float, ...]]) -> "_Rows":
        """Valid rows of the product of the rows with choices; a choice has one value per name."""
        size = len(next(iter(self.indices.values()))) if self.indices else 1
        indices = {name: np.repeat(index, len(choices)) for name, index in self.indices.items()}
        levels = dict(self.levels)
        for column, name in enumerate(names):
            values = np.array([choice[column] for choice in choices], dtype=float)
            levels[name], index = np.unique(values, return_inverse=True)
            indices[name] = np.tile(index.astype(np.int16), size)
        rows = _Rows(self.job, levels, indices)
        for rule in rules_on(levels, names):
            columns = {name: rows[name] for name in rule.fields}
            rows = rows.kept(np.broadcast_to(rule.holds(columns, self.job), len(rows)))
        return rows

    def __len__(self) -> int:
        return len(next(iter(self.indices.values())))

    def kept(self, mask: np.ndarray) -> "_Rows":
        """Rows selected by `mask`."""
        indices = {name: index[mask] for name, index in self.indices.items()}
        return _Rows(self.job, self.levels, indices)

    def columns(self) -> Columns:
        """Columns of the rows, without unused values."""
        levels, indices = {}, {}
        for name, level in self.levels.items():
            is_used = np.bincount(self.indices[name], minlength=len(level)) > 0
            levels[name] = level[is_used]
            indices[name] = (np.cumsum(is_used) - 1).astype(np.int16)[self.indices[name]]
        return Columns(levels, indices)

    def with_values(self, name: str, values: Sequence[float]) -> "_Rows":
        """Valid rows of the product of the rows with the values of one field."""
        return self.crossed((name,), [(value,) for value in sorted(set(values))])


def _divisors(number: int) -> list[int]:
    """All divisors, in rising order."""
    small = [k for k in range(1, math.isqrt(number) + 1) if number % k == 0]
    return sorted({*small, *(number // k for k in small)})


def _powers_of_two(largest: int) -> list[int]:
    return [1 << power for power in range(max(largest, 1).bit_length())]


def _given_or(given: Sequence[float] | None, default: Callable[[], Sequence[float]]) -> list[float]:
    """The given values, or those of `default`."""
    return [float(value) for value in (default() if given is None else given)]


def _expert_shards(rows: _Rows, options: StrategyOptions) -> _Rows:
    """Rows with the ranks that shard each expert; the only one without experts is 0."""
    has_experts = any(model.num_experts > 0.0 for model in rows.job.models)
    shards = _given_or(options.expert_tensor, lambda: (0.0, 1.0))
    return rows.with_values("expert_tensor", shards if has_experts else (0.0,))


def _degrees(rows: _Rows, options: StrategyOptions) -> _Rows:
    """Rows with tensor, pipeline and context degrees; the quotient are data-parallel ranks."""
    training, num_chips = rows.job.training, int(rows.job.num_chips)
    layers = int(training.model.num_layers)
    rows = rows.with_values(
        "tensor", _given_or(options.tensor, lambda: _divisors(_num_heads(training)))
    )
    rows = rows.kept(num_chips % rows["tensor"] == 0)
    if options.expert_tensor is None:
        rows = rows.kept(rows["expert_tensor"] < rows["tensor"])
    depths = _given_or(
        options.pipeline,
        lambda: [p for p in range(1, min(layers, num_chips) + 1) if num_chips % p == 0],
    )
    rows = rows.with_values("pipeline", depths)
    if options.even_stages:
        rows = rows.kept(layers % rows["pipeline"] == 0)
    rows = rows.kept(num_chips % (rows["tensor"] * rows["pipeline"]) == 0)
    longest = int(training.seq_len / MIN_CONTEXT_TOKENS)
    return rows.with_values("context", _given_or(options.context, lambda: _powers_of_two(longest)))


def _num_heads(training: TransformerTraining) -> int:
    """Greatest common divisor of the numbers of heads of all kinds of layers."""
    return math.gcd(*(int(model.num_heads) for model in training.model.layer_models))


def _num_experts(training: TransformerTraining) -> int:
    """Greatest common divisor of the numbers of experts of all kinds of layers; at least 1."""
    counts = (int(model.num_experts) for model in training.model.layer_models)
    return math.gcd(*counts) or 1


def _data_degrees(rows: _Rows) -> np.ndarray:
    return int(rows.job.num_chips) // (rows["tensor"] * rows["pipeline"] * rows["context"])


def _micro_batches(rows: _Rows, options: StrategyOptions) -> _Rows:
    """Rows with expert degrees, micro-batch sizes and virtual pipeline stages."""
    training = rows.job.training
    batch, layers = int(training.global_batch), int(training.model.num_layers)
    experts = _given_or(options.expert, lambda: _divisors(_num_experts(training)))
    rows = rows.with_values("expert", experts)
    sizes = _given_or(options.micro_batch, lambda: _powers_of_two(batch))
    rows = rows.with_values("micro_batch", sizes)
    counts = _given_or(
        options.virtual_pipeline, lambda: _divisors_of_stages(layers, rows["pipeline"])
    )
    return rows.with_values("virtual_pipeline", counts)


def _divisors_of_stages(layers: int, pipelines: np.ndarray) -> list[int]:
    """Numbers of virtual stages that divide the layers per stage of any of the pipeline degrees.

    Embedding and LM head may count as layers (`EXTRA_LAYERS`).
    """
    totals = [layers + int(extra) for extra in EXTRA_LAYERS]
    depths = {n // p for p in np.unique(pipelines).tolist() for n in totals if p > 1 and n % p == 0}
    return sorted({1}.union(*(_divisors(depth) for depth in depths)))


def _memory_savings(rows: _Rows, options: StrategyOptions) -> _Rows:
    """Rows with sequence parallelism, recompute modes and ZeRO stages."""
    sequences = sorted({float(value) for value in options.sequence})
    rows = rows.with_values("sequence_parallel_fraction", sequences)
    rows = rows.kept((rows["tensor"] > 1) | (rows["sequence_parallel_fraction"] == sequences[-1]))
    names = ("recompute_fraction", "attention_recompute_fraction")
    rows = rows.crossed(names, [RECOMPUTE[name] for name in dict.fromkeys(options.recompute)])
    stages = sorted(set(options.zero))
    rows = rows.crossed(ZERO_FIELDS, [ZERO[stage] for stage in stages])
    replicas = _data_degrees(rows) * rows["context"]
    stage = sum(rows[name] for name in ZERO_FIELDS)
    return rows.kept((replicas > 1) | (stage == stages[0]))
