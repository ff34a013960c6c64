"""Layers of a model by kind: their numbers, in the model and in pipeline stages.

A model has one kind of layers, dense layers before layers with experts (`num_dense_layers`), or
the kinds of its list `layers`, in their order. A list with fewer layers than the model is
repeated: five local layers and a global one, 62 layers in all, are 52 local and 10 global layers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import floor_ste, is_known, num_tiles
from hwdse.specs.design import Parallelism
from hwdse.workload.transformer.model_config import LayerKind, Transformer

WITHIN = 0.5
"""Less than one layer, added to whole numbers before their quotient is rounded down."""


class LayerStack(NamedTuple):
    """All layers of one kind of a model."""

    model: Transformer
    """Model with the values of these layers."""
    kind: LayerKind
    count: Leaf
    """Layers of the kind in the model."""
    run: Leaf
    """Layers of the kind in one repetition of the list of kinds."""
    entry: int
    """Index in the list of kinds of the model; -1 without a list."""
    own: frozenset[str]
    """Fields that differ from those of the model."""


def num_mixture_layers(model: Transformer) -> Scalar:
    """MoE layers of a model without a list of kinds: all except the first dense layers.

    0 in a dense model.
    """
    mixtures = jnp.maximum(model.num_layers - model.num_dense_layers, 0.0)
    return jnp.where(model.num_experts > 0.0, mixtures, 0.0)


def layer_stacks(model: Transformer) -> tuple[LayerStack, ...]:
    """Layers of a model by kind, in their order; the numbers add up to `num_layers`."""
    if not model.layers:
        return _stacks_of(model, model.kinds[0], model.num_layers, -1, frozenset())
    stacks: list[LayerStack] = []
    period = sum(entry.count for entry in model.layers)
    repeats = _whole(model.num_layers, period)
    rest, before = model.num_layers - repeats * period, 0.0
    for index, (entry, kinds) in enumerate(zip(model.layers, model.kinds, strict=True)):
        own = entry.given()
        total = repeats * entry.count + jnp.clip(rest - before, 0.0, entry.count)
        values = {**own, "layers": (), "num_dense_layers": 0.0, "num_layers": total}
        merged = model.with_values(values, kinds)
        stacks += _stacks_of(merged, kinds, entry.count, index, frozenset(own))
        before = before + entry.count
    return tuple(stacks)


def _whole(total: Scalar, part: Scalar) -> Scalar:
    """Whole parts in a total of integers, rounded down."""
    return floor_ste((total + WITHIN) / part)


def _stacks_of(
    model: Transformer, kinds: tuple[LayerKind, ...], run: Scalar, entry: int, own: frozenset[str]
) -> tuple[LayerStack, ...]:
    """Stacks of a model without a list of kinds, by possible kind.

    Several kinds are possible if dense layers precede those with experts, or if a number that
    decides it is traced.
    """
    if len(kinds) == 1:
        return (LayerStack(model, kinds[0], model.num_layers, run, entry, own),)
    mixtures = num_mixture_layers(model)
    is_latent = jnp.where(model.kv_lora_rank > 0.0, 1.0, 0.0)
    has_both = len({kind.is_latent for kind in kinds}) > 1
    stacks = []
    for kind in kinds:
        count = mixtures if kind.is_mixture else model.num_layers - mixtures
        if has_both:
            count = count * (is_latent if kind.is_latent else 1.0 - is_latent)
        share = count / model.num_layers
        stacks.append(LayerStack(model, kind, count, share * run, entry, own))
    return tuple(stacks)


def mean_over_layers(
    model: Transformer, stacks: tuple[LayerStack, ...], values: tuple[Leaf, ...]
) -> Leaf:
    """Mean over all layers of a value per stack; the value itself for one kind of layers."""
    if len(stacks) == 1:
        return values[0]
    pairs = zip(stacks, values, strict=True)
    return sum(stack.count / model.num_layers * value for stack, value in pairs)


class StageLayers(NamedTuple):
    """Layers of the pipeline stages: first, those between, last."""

    first: Leaf
    middle: Leaf
    last: Leaf

    @property
    def most(self) -> Leaf:
        """Layers of the largest stage."""
        if self.first is self.middle and self.last is self.middle:
            return self.middle
        return jnp.maximum(jnp.maximum(self.first, self.middle), self.last)


def stage_layers(model: Transformer, parallelism: Parallelism) -> StageLayers:
    r"""Layers of the pipeline stages of a strategy.

    $\lceil L / p \rceil$ each, or, with given numbers of the first or last stage, equal numbers
    of the remaining layers for the others, rounded up.
    """
    given = parallelism.first_stage_layers, parallelism.last_stage_layers
    if all(is_known(number, 0.0) for number in given):
        layers = num_tiles(model.num_layers, parallelism.pipeline)
        return StageLayers(layers, layers, layers)
    first, last = given
    own = jnp.where(first > 0.0, 1.0, 0.0) + jnp.where(last > 0.0, 1.0, 0.0)
    others = parallelism.pipeline - own
    middle = num_tiles(model.num_layers - first - last, jnp.maximum(others, 1.0))
    middle = jnp.where(others > 0.0, middle, 0.0)
    return StageLayers(
        jnp.where(first > 0.0, first, middle), middle, jnp.where(last > 0.0, last, middle)
    )


def stage_candidates(
    model: Transformer, stacks: tuple[LayerStack, ...], layers: Scalar
) -> tuple[tuple[Leaf, ...], ...]:
    r"""Layers by stack of candidates for the most loaded pipeline stage, one per stack.

    The candidate of a kind has the most layers of it that as many consecutive layers as the largest
    stage has (`layers`) can have; its other layers have the proportions of the other kinds in the
    model. Assumes stages of consecutive layers that may begin at any layer. With
    `num_spread_layers` these are its share of the stage, rounded up.
    """
    if len(stacks) == 1:
        return ((layers,),)
    period = sum(stack.run for stack in stacks)
    repeats = _whole(layers, period)
    rest = layers - repeats * period
    spread, candidates = model.num_spread_layers, []
    for most in stacks:
        own = jnp.minimum(repeats * most.run + jnp.minimum(rest, most.run), most.count)
        share = num_tiles(layers * most.count, model.num_layers)
        own = jnp.where(spread > 0.0, jnp.minimum(own, share), own)
        others = model.num_layers - most.count
        left = (layers - own) / jnp.where(others > 0.0, others, 1.0)
        candidates.append(tuple(own if stack is most else left * stack.count for stack in stacks))
    return tuple(candidates)


def largest_sum(
    candidates: tuple[tuple[Leaf, ...], ...], values: tuple[Leaf, ...], parts: tuple[Leaf, ...]
) -> tuple[Leaf, Leaf]:
    """Sums of `values` and of `parts` over the layers of the candidate with most `values`."""

    def sums(counts: tuple[Leaf, ...]) -> tuple[Leaf, Leaf]:
        return (
            sum(count * value for count, value in zip(counts, values, strict=True)),
            sum(count * part for count, part in zip(counts, parts, strict=True)),
        )

    best = sums(candidates[0])
    for counts in candidates[1:]:
        other = sums(counts)
        is_more = other[0] > best[0]
        best = jax.tree.map(lambda new, old, more=is_more: jnp.where(more, new, old), other, best)
    return best


def slowest_stage_layers(
    model: Transformer,
    stacks: tuple[LayerStack, ...],
    layer_macs: tuple[Leaf, ...],
    layers: Scalar,
) -> Scalar:
    """Layers of the slowest pipeline stage, in mean layers of the model.

    `layers` is their number in the largest stage. The stage with most multiply-accumulates is the
    slowest one: assumes that the times of the kinds of layers have the ratios of their
    multiply-accumulates (`layer_macs`).
    """
    if len(stacks) == 1:
        return layers
    mean = mean_over_layers(model, stacks, layer_macs)
    most, _ = largest_sum(stage_candidates(model, stacks, layers), layer_macs, layer_macs)
    return jnp.maximum(most / mean, layers)
