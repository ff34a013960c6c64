r"""Time of one step of an inference engine, by part.

$T = \max(\sum \text{kernels}, \text{issue}) + t_{host} + S (t_{seq} + V t_{logit})$ with kernels in
sequence: products, experts, attention, elementwise work, exposed collectives, and the time of
layers that no kernel accounts for. Steps with prompt tokens are issued layer by layer. The time is
that of the busiest expert rank. Kernels run at the set clock; `step_power` throttles.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from hwdse.models.compute.attention_times import attention_time_s
from hwdse.models.compute.elementwise_times import elementwise_time_s
from hwdse.models.compute.expert_times import ExpertWork, expert_time_s
from hwdse.models.compute.gemm_times import gemm_time_s
from hwdse.models.compute.kernel_rates import kernel_rates
from hwdse.numerics.array_types import Leaf, PerOp, Scalar
from hwdse.specs.hardware.kernel_costs import KernelCosts, KernelRates
from hwdse.specs.results.evaluation_result import ServingTimeParts
from hwdse.specs.serving.engine import ServingDesign
from hwdse.specs.serving.requests import StepLoad
from hwdse.workload.serving.expert_load import busiest_rank_load
from hwdse.workload.serving.step_operators import (
    FEWEST,
    Experts,
    Products,
    StepOperators,
    presence,
)


def prompt_share(load: StepLoad) -> Scalar:
    """Share of prompt tokens among the tokens of a step; 0 for an empty one."""
    tokens = load.prefill_tokens + load.decode_sequences
    return load.prefill_tokens / jnp.maximum(tokens, FEWEST)


class StepRates(NamedTuple):
    """Peaks and kernel constants of a chip."""

    rates: KernelRates
    costs: KernelCosts


def product_times_s(products: Products, on: StepRates) -> PerOp:
    """Time of one execution of each product."""
    sizes = products.m, products.n, products.k
    return gemm_time_s(*sizes, products.fmt, on.rates, on.costs, is_mean_m=True)


def expert_work(experts: Experts, design: ServingDesign) -> ExpertWork:
    """Work of the busiest rank of one MoE layer."""
    engine = design.engine
    load = busiest_rank_load(
        experts.tokens,
        experts.experts_per_token,
        experts.num_experts,
        engine.popularity_shape,
        experts.ranks,
        engine.busiest_rank_ratio,
    )
    return ExpertWork(load.touched, load.rows, experts.hidden, experts.inner, experts.num_matrices)


def expert_layer_time_s(experts: Experts, design: ServingDesign, on: StepRates) -> Scalar:
    """Time of the routed experts of one layer on the busiest rank."""
    start_s = design.engine.expert_start_ratio * on.costs.expert_start_s
    costs = dataclasses.replace(on.costs, expert_start_s=start_s)
    return expert_time_s(expert_work(experts, design), experts.fmt, on.rates, costs)


def operator_times(
    operators: StepOperators,
    load: StepLoad,
    design: ServingDesign,
    messages_s: Scalar,
    clock_ratio: Scalar = 1.0,
) -> ServingTimeParts:
    """Times of the operators of a step at a clock over the set clock.

    `messages_s` is the time of the collectives, `message_costs.messages_time_s`.
    """
    engine, costs = design.engine, design.kernels
    chip = design.chip
    array = dataclasses.replace(chip.array, clock_hz=chip.array.clock_hz * clock_ratio)
    on = StepRates(kernel_rates(dataclasses.replace(chip, array=array), costs), costs)
    products = jnp.sum(operators.products.count * product_times_s(operators.products, on))
    core = operators.attentions.work
    attention = jnp.sum(
        operators.attentions.count * attention_time_s(core, on.rates, costs, is_mean_load=True)
    )
    beside = operators.elementwise
    vector_s = elementwise_time_s(
        beside.hbm_bytes, on.rates, on.costs, beside.vector_flop, beside.num_kernels
    )
    scan_s = beside.matrix_flop / (on.rates.matrix_flop_per_s * costs.matrix_fraction)
    elementwise = jnp.sum(beside.count * (engine.elementwise_ratio * vector_s + scan_s))
    experts: Leaf = 0.0
    for each in operators.experts:
        is_spread = jnp.where(each.ranks > 1.0, 1.0, 0.0)
        own = expert_layer_time_s(each, design, on) + is_spread * engine.expert_parallel_s
        experts = experts + each.count * own
    collectives = (1.0 - engine.collective_overlap_fraction) * messages_s
    layers = engine.block_s * operators.num_blocks
    layers = layers + engine.quantization_s * operators.num_quantized
    slower = 1.0 + (engine.prefill_ratio - 1.0) * prompt_share(load)
    products, attention, elementwise, experts, collectives = (
        slower * part for part in (products, attention, elementwise, experts, collectives)
    )
    busy = products + attention + elementwise + experts + collectives + layers
    issue = engine.prefill_block_s * operators.num_blocks * presence(load.prefill_tokens)
    per_sequence = engine.sequence_s + engine.logit_s * operators.vocabulary
    return ServingTimeParts(
        products=products,
        attention=attention,
        experts=experts,
        elementwise=elementwise,
        collectives=collectives,
        layers=layers,
        issue=jnp.maximum(issue - busy, 0.0),
        host=engine.step_host_s,
        sampling=per_sequence * operators.sampled_sequences,
    )
