"""Objectives and constraints by name: functions of an `Evaluation`, and of a design for
searches."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.evaluation import Workload, evaluate
from hwdse.numerics.array_types import PerConstraint, Scalar
from hwdse.numerics.relaxation import EXACT, Relaxation, safe_log
from hwdse.specs.all_designs import AnyDesign
from hwdse.specs.results.evaluation_result import Evaluation

Objective = Callable[[Evaluation], Scalar]
ObjectiveFn = Callable[[AnyDesign, Relaxation], tuple[Scalar, PerConstraint]]
ObjectivesFn = Callable[[AnyDesign, Relaxation], tuple[jax.Array, PerConstraint]]


def time_per_token(evaluation: Evaluation) -> Scalar:
    """Wall-clock seconds of the cluster per effective token."""
    return evaluation.time_per_token_s


def energy_per_token(evaluation: Evaluation) -> Scalar:
    """Chip energy per effective token, in J."""
    return evaluation.energy_per_token_j


def energy_delay(evaluation: Evaluation) -> Scalar:
    """Product of time and chip energy per effective token, in J·s."""
    return evaluation.energy_delay_j_s


def cost_per_token(evaluation: Evaluation) -> Scalar:
    """Capital and electricity cost per effective token, in USD."""
    return evaluation.cost_per_token_usd


def step_time(evaluation: Evaluation) -> Scalar:
    """Seconds per step or pass, without failures."""
    return evaluation.step_time_s


def die_area(evaluation: Evaluation) -> Scalar:
    """Die area per chip, summed over its compute dies, in mm²."""
    return evaluation.die_area_mm2


def chip_power(evaluation: Evaluation) -> Scalar:
    """Mean power of one chip during a step, in W."""
    return evaluation.chip_power_w


def chip_cost(evaluation: Evaluation) -> Scalar:
    """Manufacturing cost of one accelerator package with its HBM, without margin, in USD."""
    return evaluation.chip_cost_usd


def hbm_used_ratio(evaluation: Evaluation) -> Scalar:
    """Peak memory footprint over HBM capacity, on the chip of the most loaded stage; of a core,
    the largest ratio over its memories."""
    return evaluation.hbm_used_ratio


def reticle_used_ratio(evaluation: Evaluation) -> Scalar:
    """Area of one die over the reticle limit of a lithography scanner; limit 1."""
    return evaluation.reticle_used_ratio


def carbon_per_token(evaluation: Evaluation) -> Scalar:
    """CO2e of manufacturing and operating the cluster per effective token, in g."""
    return evaluation.carbon_per_token_g


def ttft(evaluation: Evaluation) -> Scalar:
    """Mean time to first token of a served request, in s."""
    return evaluation.ttft_s


def ttft_p99(evaluation: Evaluation) -> Scalar:
    """99th percentile of the time to first token over requests, in s."""
    return evaluation.ttft_p99_s


def tpot(evaluation: Evaluation) -> Scalar:
    """Mean time per output token after the first one, in s."""
    return evaluation.tpot_s


def tpot_p99(evaluation: Evaluation) -> Scalar:
    """99th percentile of the time per output token over requests, in s."""
    return evaluation.tpot_p99_s


def request_latency(evaluation: Evaluation) -> Scalar:
    """Mean time from sending a request to its last token, in s."""
    return evaluation.request_latency_s


def load_ratio(evaluation: Evaluation) -> Scalar:
    """Offered over highest request rate of a service; limit 1."""
    return evaluation.load_ratio


SERVING_OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {
        "ttft": ttft,
        "ttft_p99": ttft_p99,
        "tpot": tpot,
        "tpot_p99": tpot_p99,
        "request_latency": request_latency,
    }
)
"""Objectives and limits of served requests; other jobs have no value for them."""
OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {
        "time_per_token": time_per_token,
        "energy_per_token": energy_per_token,
        "energy_delay": energy_delay,
        "cost_per_token": cost_per_token,
        "step_time": step_time,
        "die_area": die_area,
        "chip_power": chip_power,
        "chip_cost": chip_cost,
        "carbon_per_token": carbon_per_token,
        **SERVING_OBJECTIVES,
    }
)
"""Objectives by name. Each value is positive; searches minimize its logarithm."""

CONSTRAINTS: Mapping[str, Objective] = MappingProxyType(
    {
        "die_area": die_area,
        "chip_power": chip_power,
        "chip_cost": chip_cost,
        "hbm_used_ratio": hbm_used_ratio,
        "memory_used_ratio": hbm_used_ratio,
        "time_per_token": time_per_token,
        "energy_per_token": energy_per_token,
        "reticle_used_ratio": reticle_used_ratio,
        "carbon_per_token": carbon_per_token,
        **SERVING_OBJECTIVES,
        "load_ratio": load_ratio,
    }
)
"""Constraints by name. Each value has an upper limit in the same unit."""


def constraint_values(evaluation: Evaluation, limits: Mapping[str, float]) -> PerConstraint:
    """ln(value / limit) of each constraint, in the order of `limits`; above zero where
    violated."""
    if not limits:
        return jnp.zeros((0,))
    ratios = [CONSTRAINTS[name](evaluation) / limit for name, limit in limits.items()]
    return jnp.stack([safe_log(jnp.asarray(ratio)) for ratio in ratios])


def log_objectives_of(
    evaluation: Evaluation, objectives: tuple[str, ...], limits: Mapping[str, float]
) -> tuple[jax.Array, PerConstraint]:
    """Log of each objective, and the constraint values."""
    values = [safe_log(jnp.asarray(OBJECTIVES[name](evaluation))) for name in objectives]
    return jnp.stack(values), constraint_values(evaluation, limits)


class _ObjectiveSpec:
    """Objectives, limits and workload as a hashable key; equal if all names and numbers are
    equal."""

    def __init__(
        self, objectives: tuple[str, ...], limits: Mapping[str, float], workload: Workload
    ) -> None:
        leaves, structure = jax.tree.flatten((tuple(objectives), tuple(limits.items()), workload))
        self.is_cacheable = not any(isinstance(leaf, jax.Array) for leaf in leaves)
        # Copies: a later change of an array must not change the key.
        leaves = [leaf.copy() if isinstance(leaf, np.ndarray) else leaf for leaf in leaves]
        self.parts = jax.tree.unflatten(structure, leaves)
        self._key = (structure, *map(_bits, leaves)) if self.is_cacheable else ()

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ObjectiveSpec) and self._key == other._key


def _bits(leaf: Any) -> tuple[Any, ...]:
    if isinstance(leaf, np.ndarray):
        return leaf.dtype.str, leaf.shape, leaf.tobytes()
    return type(leaf), repr(leaf)


def make_objectives_fn(
    objectives: tuple[str, ...],
    limits: Mapping[str, float],
    workload: Workload,
) -> ObjectivesFn:
    """Function of a design that returns the log of each objective and the constraint values.

    Equal arguments return the same function object, which keys the cache of compiled programs.
    """
    spec = _ObjectiveSpec(objectives, limits, workload)
    return (_cached_objectives_fn if spec.is_cacheable else _new_objectives_fn)(spec)


def _new_objectives_fn(spec: _ObjectiveSpec) -> ObjectivesFn:
    names, limit_pairs, workload = spec.parts
    limits = dict(limit_pairs)

    def objectives_fn(design: AnyDesign, relaxation: Relaxation) -> tuple[jax.Array, PerConstraint]:
        return log_objectives_of(evaluate(design, workload, relaxation), names, limits)

    return objectives_fn


_cached_objectives_fn = functools.lru_cache(maxsize=16)(_new_objectives_fn)


@functools.lru_cache(maxsize=16)
def exact_objectives_fn(
    objectives_fn: ObjectivesFn,
) -> Callable[[AnyDesign], tuple[jax.Array, PerConstraint]]:
    """Objectives function of a design in the exact model, as a sweep requires it."""
    return lambda design: objectives_fn(design, EXACT)


def make_objective_fn(
    objective: str,
    limits: Mapping[str, float],
    workload: Workload,
) -> ObjectiveFn:
    """Function of a design that returns the log of one objective and the constraint values; see
    `make_objectives_fn`."""
    return first_objective_fn(make_objectives_fn((objective,), limits, workload))


@functools.lru_cache(maxsize=16)
def first_objective_fn(objectives_fn: ObjectivesFn) -> ObjectiveFn:
    """First objective of an objectives function; the same function object for the same
    argument."""

    def objective_fn(design: AnyDesign, relaxation: Relaxation) -> tuple[Scalar, PerConstraint]:
        values, broken = objectives_fn(design, relaxation)
        return values[0], broken

    return objective_fn
