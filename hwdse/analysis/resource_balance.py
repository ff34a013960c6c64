"""Current value, optimum, penalty and elasticity of the parameters of the four balances.

Balances: precision, network, memory and checkpoints, with one or two parameters each. Hardware
parameters vary at iso-area: area added to one block is removed from the matrix engines. The
checkpoint interval uses no area and varies alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.evaluation import Workload, evaluate
from hwdse.models.silicon.area import area_parts_mm2
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import safe_log, total
from hwdse.objectives import OBJECTIVES
from hwdse.search.space.pytree_path import get_path, set_path
from hwdse.specs.design import Design
from hwdse.specs.hardware.chip import Chip

NUM_POINTS = 65
"""Values of one grid."""
NUM_PASSES = 3
"""Successive grids; each one spans the neighbors of the best value of the grid before. Over a range
of 10^6 the last grid has steps of 0.06 %."""
NEAR_OPTIMAL_FRACTION = 0.01
"""Largest relative difference to the optimal metric that counts as near optimal."""
MIN_ARRAYS_FRACTION = 1e-3
"""Smallest fraction of the matrix engines that remains at iso-area."""
_NEWTON_STEPS = 3


@dataclass(frozen=True)
class BalancedParameter:
    """Parameter that a balance varies, with its range."""

    balance: str
    """`precision`, `network`, `memory` or `checkpoint`."""
    path: str
    """Dotted path of the leaf in a `Design`."""
    low: float
    high: float
    is_relative: bool
    """True if `low` and `high` are multiples of the current value."""
    uses_area: bool
    """True if the parameter changes the die area and varies at iso-area."""

    def range_of(self, design: Design) -> tuple[float, float]:
        """Smallest and largest value; they include the current value unless it is zero."""
        current = float(get_path(design, self.path))
        scale = current if self.is_relative else 1.0
        return min(self.low * scale, current or self.low), max(self.high * scale, current)


def _chip_parameter(path: str, balance: str) -> BalancedParameter:
    """Chip parameter that varies from 1/64 to 64 times its current value."""
    return BalancedParameter(balance, path, 1 / 64, 64.0, is_relative=True, uses_area=True)


_PARAMETERS = (
    BalancedParameter(
        "precision", "chip.fp64_per_fp16_ratio", 1e-6, 1.0, is_relative=False, uses_area=True
    ),
    _chip_parameter("chip.link.bandwidth_bytes_per_s", "network"),
    _chip_parameter("chip.network.bandwidth_bytes_per_s", "network"),
    _chip_parameter("chip.sram.capacity_bytes", "memory"),
    _chip_parameter("chip.hbm.bandwidth_bytes_per_s", "memory"),
    BalancedParameter(
        "checkpoint", "checkpoint_interval_s", 1.0, 1e6, is_relative=False, uses_area=False
    ),
)
BALANCED_PARAMETERS: Mapping[str, BalancedParameter] = MappingProxyType(
    {parameter.path: parameter for parameter in _PARAMETERS}
)
"""Balanced parameters by path."""


def at_iso_area(design: Design, area_mm2: Scalar) -> Design:
    """Design with the number of matrix engines that makes its die area `area_mm2`.

    The number of engines may be fractional. The ratio of native FP64 units to engines is constant;
    ports of the on-chip network follow the engines; all other blocks keep their size. At least
    `MIN_ARRAYS_FRACTION` of the engines remains, also if the other blocks alone exceed the area.
    Newton's method: the area is linear in the number of engines on both sides of the number of
    scratchpads.
    """
    array = design.chip.array

    def with_arrays(num_arrays: Scalar) -> Chip:
        return replace(design.chip, array=replace(array, num_arrays=num_arrays))

    def area_of(num_arrays: Scalar) -> Scalar:
        return total(area_parts_mm2(with_arrays(num_arrays)))

    least = MIN_ARRAYS_FRACTION * jnp.asarray(array.num_arrays, dtype=float)
    num_arrays = jnp.asarray(array.num_arrays, dtype=float)
    for _ in range(_NEWTON_STEPS):
        now_mm2, mm2_per_array = jax.jvp(area_of, (num_arrays,), (jnp.ones_like(num_arrays),))
        num_arrays = jnp.maximum(num_arrays + (area_mm2 - now_mm2) / mm2_per_array, least)
    return replace(design, chip=with_arrays(num_arrays))


def with_value(design: Design, parameter: BalancedParameter, value: Leaf) -> Design:
    """Design with a parameter set to `value`, at iso-area if the parameter uses area."""
    varied = set_path(design, parameter.path, value)
    if not parameter.uses_area:
        return varied
    return at_iso_area(varied, total(area_parts_mm2(design.chip)))


@dataclass(frozen=True)
class ParameterBalance:
    """Current value, optimum and penalty of one parameter of one design."""

    parameter: BalancedParameter
    current: float
    optimum: float
    """Value with the lowest metric, other parameters fixed (at iso-area if it uses area)."""
    near_optimal: tuple[float, float]
    """Smallest and largest evaluated value with a metric within `NEAR_OPTIMAL_FRACTION` of the
    optimum."""
    penalty_fraction: float
    """Metric at the current value over metric at the optimum, minus 1."""
    elasticity: float
    """d ln(metric) / d ln(value) at the current value, all other parameters fixed."""
    values: np.ndarray
    """Values of the first grid, including the current value."""
    metric_ratios: np.ndarray
    """Metric at `values` over metric of the current design."""

    @property
    def is_at_end(self) -> bool:
        """True if the optimum is the smallest or the largest evaluated value."""
        low, high = float(self.values[0]), float(self.values[-1])
        return self.optimum <= low * 1.001 or self.optimum >= high * 0.999


def parameter_balances(
    design: Design, workload: Workload, metric: str = "time_per_token"
) -> list[ParameterBalance]:
    """Balance of every parameter for a metric, an entry of `OBJECTIVES`.

    Exact model in float64. One compiled program evaluates the grids of all parameters.
    """
    parameters = list(BALANCED_PARAMETERS.values())
    with jax.enable_x64(True):
        base = jax.tree.map(float, design)
        log_metrics = _log_metrics(base, workload, parameters, metric)
        current = np.array([float(get_path(base, parameter.path)) for parameter in parameters])
        grids, logs = _grids(base, parameters, current, log_metrics)
        slopes = _elasticities(base, workload, parameters, metric)
    return [
        _balance(
            parameter, current[i], [grid[i] for grid in grids], [log[i] for log in logs], slopes[i]
        )
        for i, parameter in enumerate(parameters)
    ]


def _log_metrics(
    base: Design, workload: Workload, parameters: list[BalancedParameter], metric: str
) -> Any:
    """Compiled function from values (parameters by points) to logarithms of the metric.

    For each point the varied designs of all parameters are computed and one is selected, so that
    the program contains the model once.
    """

    def log_metric(index: jax.Array, value: Scalar) -> Scalar:
        varied = [with_value(base, parameter, value) for parameter in parameters]
        chosen = jax.tree.map(lambda *leaves: jnp.stack(leaves)[index], *varied)
        return safe_log(OBJECTIVES[metric](evaluate(chosen, workload)))

    def log_metrics(values: jax.Array) -> jax.Array:
        indices = jnp.broadcast_to(jnp.arange(len(parameters))[:, None], values.shape)
        return jnp.reshape(jax.vmap(log_metric)(indices.ravel(), values.ravel()), values.shape)

    return quick_jit(log_metrics)


def _grids(
    base: Design, parameters: list[BalancedParameter], current: np.ndarray, log_metrics: Any
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Values of every pass (parameters by points) and logarithms of the metric at them."""
    ends = np.array([parameter.range_of(base) for parameter in parameters])
    grids, logs = [], []
    for _ in range(NUM_PASSES):
        grid = np.geomspace(ends[:, 0], ends[:, 1], NUM_POINTS - 1, axis=1)
        # The current value is a point of every grid, so the optimum is never worse than it.
        grid = np.sort(np.concatenate((grid, np.maximum(current, 0.0)[:, None]), axis=1), axis=1)
        log = np.asarray(log_metrics(jnp.asarray(grid)))
        log = np.where(np.isfinite(log), log, np.inf)
        grids.append(grid)
        logs.append(log)
        lowest = np.argmin(log, axis=1)
        rows = np.arange(len(parameters))
        lower = grid[rows, np.maximum(lowest - 1, 0)]
        upper = grid[rows, np.minimum(lowest + 1, NUM_POINTS - 1)]
        # A value of zero has no lower neighbor on a logarithmic grid.
        ends = np.stack((np.where(lower > 0.0, lower, ends[:, 0]), np.maximum(upper, lower)), 1)
    return grids, logs


def _elasticities(
    base: Design, workload: Workload, parameters: list[BalancedParameter], metric: str
) -> np.ndarray:
    """d ln(metric) / d ln(value) of every parameter; zero where the value is zero."""

    def log_metric(log_ratios: jax.Array) -> Scalar:
        design = base
        for i, parameter in enumerate(parameters):
            current = get_path(base, parameter.path)
            design = set_path(design, parameter.path, current * jnp.exp(log_ratios[i]))
        return safe_log(OBJECTIVES[metric](evaluate(design, workload)))

    return np.asarray(quick_jit(jax.grad(log_metric))(jnp.zeros(len(parameters))))


def _balance(
    parameter: BalancedParameter,
    current: float,
    grids: list[np.ndarray],
    logs: list[np.ndarray],
    slope: float,
) -> ParameterBalance:
    """Balance of one parameter from its grids."""
    values, found = np.concatenate(grids), np.concatenate(logs)
    at_current = float(found[np.argmin(np.abs(values - current))])
    best = int(np.argmin(found))
    near_optimal = values[found <= found[best] + np.log1p(NEAR_OPTIMAL_FRACTION)]
    return ParameterBalance(
        parameter=parameter,
        current=float(current),
        optimum=float(values[best]),
        near_optimal=(float(near_optimal.min()), float(near_optimal.max())),
        penalty_fraction=float(np.expm1(at_current - found[best])),
        elasticity=float(slope),
        values=grids[0],
        metric_ratios=np.exp(logs[0] - at_current),
    )
