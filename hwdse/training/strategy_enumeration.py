"""All ways to cut a training job over chips, as columns with one row a layout."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from hwdse.specs.design import Parallelism
from hwdse.training.factored_program import Columns
from hwdse.workload.transformer.model_config import TransformerTraining

RECOMPUTE: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"none": (0.0, 0.0), "selective": (0.0, 1.0), "full": (1.0, 0.0)}
)
"""Share of the layers that run again whole, and with their attention core alone."""
ZERO: Mapping[int, tuple[float, float, float]] = MappingProxyType(
    {0: (0.0, 0.0, 0.0), 1: (1.0, 0.0, 0.0), 2: (1.0, 1.0, 0.0), 3: (1.0, 1.0, 1.0)}
)
"""Of each ZeRO stage what replicas share: optimizer state, gradients, weights."""
ZERO_FIELDS = ("optimizer_shard_fraction", "gradient_shard_fraction", "weight_shard_fraction")
MIN_CONTEXT_TOKENS = 4096.0
"""Tokens of a sequence that a rank keeps at least where context degrees are not named: below,
the activations of one sequence are small, and cutting it only adds messages."""
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
)
"""Fields of `Parallelism` that a list of layouts sets, its columns."""


@dataclass(frozen=True)
class StrategyOptions:
    """Which layouts are listed. `None` is every value that is possible."""

    tensor: tuple[float, ...] | None = None
    """All divisors of the heads, inside a scale-up domain and beyond it."""
    pipeline: tuple[float, ...] | None = None
    """All depths that divide the chips; stages of unequal depth too, unless `even_stages`."""
    context: tuple[float, ...] | None = None
    """Powers of two that leave every rank `MIN_CONTEXT_TOKENS`."""
    expert: tuple[float, ...] | None = None
    """All divisors of the experts and of the data-parallel ranks."""
    micro_batch: tuple[float, ...] | None = None
    """Powers of two."""
    virtual_pipeline: tuple[float, ...] | None = None
    """All numbers of chunks that divide the layers of a stage."""
    recompute: tuple[str, ...] = tuple(RECOMPUTE)
    zero: tuple[int, ...] = (1, 2, 3)
    sequence: tuple[int, ...] = (1, 0)
    """With and without sequence parallelism."""
    even_stages: bool = False


def enumerate_strategies(
    job: TransformerTraining, num_chips: float, options: StrategyOptions | None = None
) -> Columns:
    """Every valid layout of a job on so many chips, once, with the columns `FIELDS`.

    Tensor, pipeline and context degrees divide the chips, data parallelism takes the rest and
    with the micro-batch divides the global batch; the heads divide by the tensor degree, the
    sequence by the context degree, the experts and the data-parallel ranks by the expert degree.
    Pipelines need no equal stages, interleaved ones do, and micro-batches in multiples of their
    depth (Narayanan et al., SC 2021, section 2.2.2). What makes no difference is listed once:
    sequence parallelism of one rank, ZeRO stages of one replica. No rows where nothing is valid.
    """
    options = options or StrategyOptions()
    rows = _degrees(_Rows(), job, int(num_chips), options)
    rows = _schedules(rows, job, int(num_chips), options)
    rows = _savings(rows, int(num_chips), options)
    return rows.columns()


def data_degrees(strategies: Columns, num_chips: float) -> np.ndarray:
    """Data-parallel degree of each layout."""
    return num_chips / (strategies["tensor"] * strategies["pipeline"] * strategies["context"])


def zero_stages(strategies: Columns) -> np.ndarray:
    """ZeRO stage of each layout."""
    return sum((strategies[name] for name in ZERO_FIELDS), np.zeros(len(strategies)))


def recompute_names(strategies: Columns) -> list[str]:
    """What each layout computes again: a key of `RECOMPUTE`, or the share of layers."""
    names = {pair: name for name, pair in RECOMPUTE.items()}
    whole, core = (strategies[f"{kind}recompute_fraction"].tolist() for kind in ("", "attention_"))
    pairs = zip(whole, core, strict=True)
    return [names.get(pair) or f"{pair[0]:.0%}" for pair in pairs]


def strategy_label(strategies: Columns, row: int, num_chips: float) -> str:
    """A layout as people write it: `TP8 PP4 DP32, micro-batch 1, full recompute, ZeRO-3`."""
    one = strategies.take(np.array([row]))
    fields = {name: float(one[name][0]) for name in FIELDS}
    degrees = f"TP{fields['tensor']:g} PP{fields['pipeline']:g}"
    degrees += f" DP{float(data_degrees(one, num_chips)[0]):g}"
    for letters, name in (("CP", "context"), ("EP", "expert")):
        degrees += f" {letters}{fields[name]:g}" if fields[name] > 1.0 else ""
    recompute = recompute_names(one)[0].replace("none", "no")
    parts = [degrees, f"micro-batch {fields['micro_batch']:g}"]
    if fields["virtual_pipeline"] > 1.0:
        parts.append(f"{fields['virtual_pipeline']:g} chunks")
    parts += [f"{recompute} recompute", f"ZeRO-{zero_stages(one)[0]:g}"]
    if fields["tensor"] > 1.0 and fields["sequence_parallel_fraction"] == 0.0:
        parts.append("no sequence parallelism")
    return ", ".join(parts)


def strategy_at(strategies: Columns, row: int, base: Parallelism) -> Parallelism:
    """One layout; what the list does not set stays as in `base`."""
    values = {name: float(strategies[name][row]) for name in strategies.levels}
    return dataclasses.replace(base, **values)


class _Rows:
    """Rows under construction: crossed with one choice after the other, and thinned out."""

    def __init__(self, levels: Any = None, indices: Any = None):
        self.levels: dict[str, np.ndarray] = levels or {}
        self.indices: dict[str, np.ndarray] = indices or {}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.levels[name][self.indices[name]].astype(np.int64)

    def crossed(self, names: Sequence[str], choices: Sequence[tuple[float, ...]]) -> "_Rows":
        """Every row with every choice, a value for each name."""
        size = len(next(iter(self.indices.values()))) if self.indices else 1
        indices = {name: np.repeat(place, len(choices)) for name, place in self.indices.items()}
        levels = dict(self.levels)
        for column, name in enumerate(names):
            values = np.array([choice[column] for choice in choices], dtype=float)
            levels[name], place = np.unique(values, return_inverse=True)
            indices[name] = np.tile(place.astype(np.int16), size)
        return _Rows(levels, indices)

    def kept(self, mask: np.ndarray) -> "_Rows":
        """The rows where `mask` holds."""
        return _Rows(self.levels, {name: place[mask] for name, place in self.indices.items()})

    def columns(self) -> Columns:
        """The rows, without values that none of them has."""
        levels, indices = {}, {}
        for name, level in self.levels.items():
            is_used = np.bincount(self.indices[name], minlength=len(level)) > 0
            levels[name] = level[is_used]
            indices[name] = (np.cumsum(is_used) - 1).astype(np.int16)[self.indices[name]]
        return Columns(levels, indices)

    def with_values(self, name: str, values: Sequence[float]) -> "_Rows":
        """Crossed with the values of one field."""
        return self.crossed((name,), [(value,) for value in sorted(set(values))])


def _divisors(whole: int) -> list[int]:
    """All divisors, found up to the root."""
    small = [k for k in range(1, math.isqrt(whole) + 1) if whole % k == 0]
    return sorted({*small, *(whole // k for k in small)})


def _powers_of_two(largest: int) -> list[int]:
    return [1 << power for power in range(max(largest, 1).bit_length())]


def _some(named: Sequence[float] | None, possible: Callable[[], Sequence[float]]) -> list[float]:
    """The values that were named, or all that are possible."""
    return [float(value) for value in (possible() if named is None else named)]


def _degrees(
    rows: _Rows, job: TransformerTraining, num_chips: int, options: StrategyOptions
) -> _Rows:
    """Tensor, pipeline and context degrees: what is left of the chips are data-parallel ranks."""
    model, tokens = job.model, int(job.seq_len)
    heads, layers = int(model.num_heads), int(model.num_layers)
    tensors = _some(options.tensor, lambda: _divisors(math.gcd(heads, num_chips)))
    rows = rows.with_values("tensor", tensors)
    rows = rows.kept((heads % rows["tensor"] == 0) & (num_chips % rows["tensor"] == 0))
    depths = _some(
        options.pipeline,
        lambda: [p for p in range(1, min(layers, num_chips) + 1) if num_chips % p == 0],
    )
    rows = rows.with_values("pipeline", [p for p in depths if p <= layers])
    if options.even_stages:
        rows = rows.kept(layers % rows["pipeline"] == 0)
    rows = rows.kept(num_chips % (rows["tensor"] * rows["pipeline"]) == 0)
    contexts = _some(options.context, lambda: _powers_of_two(int(tokens / MIN_CONTEXT_TOKENS)))
    rows = rows.with_values("context", contexts)
    ranks = rows["tensor"] * rows["pipeline"] * rows["context"]
    return rows.kept((num_chips % ranks == 0) & (tokens % rows["context"] == 0))


def _data(rows: _Rows, num_chips: int) -> np.ndarray:
    return num_chips // (rows["tensor"] * rows["pipeline"] * rows["context"])


def _schedules(
    rows: _Rows, job: TransformerTraining, num_chips: int, options: StrategyOptions
) -> _Rows:
    """Expert degrees, micro-batches, and chunks of the stages."""
    batch, layers = int(job.global_batch), int(job.model.num_layers)
    experts = max(int(job.model.num_experts), 1)
    rows = rows.with_values("expert", _some(options.expert, lambda: _divisors(experts)))
    data = _data(rows, num_chips)
    rows = rows.kept((experts % rows["expert"] == 0) & (data % rows["expert"] == 0))
    sizes = _some(options.micro_batch, lambda: _powers_of_two(batch))
    rows = rows.with_values("micro_batch", sizes)
    rows = rows.kept(batch % (_data(rows, num_chips) * rows["micro_batch"]) == 0)
    chunks = _some(options.virtual_pipeline, lambda: _divisors_of_stages(layers, rows["pipeline"]))
    rows = rows.with_values("virtual_pipeline", chunks)
    stages, chunk = rows["pipeline"], rows["virtual_pipeline"]
    num_micro_batches = batch // (_data(rows, num_chips) * rows["micro_batch"])
    runs = (stages > 1) & (layers % (stages * chunk) == 0) & (num_micro_batches % stages == 0)
    return rows.kept((chunk == 1) | runs)


def _divisors_of_stages(layers: int, pipelines: np.ndarray) -> list[int]:
    """Numbers of chunks that divide the layers of any of the stages."""
    depths = {layers // p for p in np.unique(pipelines).tolist() if layers % p == 0 and p > 1}
    return sorted({1}.union(*(_divisors(depth) for depth in depths)))


def _savings(rows: _Rows, num_chips: int, options: StrategyOptions) -> _Rows:
    """What memory is saved with: sequence parallelism, recomputation, ZeRO."""
    sequences = sorted({float(value) for value in options.sequence})
    rows = rows.with_values("sequence_parallel_fraction", sequences)
    rows = rows.kept((rows["tensor"] > 1) | (rows["sequence_parallel_fraction"] == sequences[-1]))
    names = ("recompute_fraction", "attention_recompute_fraction")
    rows = rows.crossed(names, [RECOMPUTE[name] for name in dict.fromkeys(options.recompute)])
    stages = sorted(set(options.zero))
    rows = rows.crossed(ZERO_FIELDS, [ZERO[stage] for stage in stages])
    replicas = _data(rows, num_chips) * rows["context"]
    stage = sum(rows[name] for name in ZERO_FIELDS)
    return rows.kept((replicas > 1) | (stage == stages[0]))
