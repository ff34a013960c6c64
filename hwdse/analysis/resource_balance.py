"""The four balances of a design: where each stands, where it would be best, what that loses.

Precision, network, memory and checkpoints each have one or two knobs. A knob of the hardware is
moved at equal silicon: what it takes, the matrix engines give. A checkpoint interval costs no
silicon and is moved alone.
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

NUM_POINTS = 65
NUM_PASSES = 3
"""Grids of `NUM_POINTS` values; each next one lies between the neighbors of the best. Over a
range of a million the last grid has steps of 0.06 %."""
GOOD_FRACTION = 0.01
MIN_ARRAYS_FRACTION = 1e-3
"""Of the matrix engines; a knob that leaves less has taken the whole chip."""


@dataclass(frozen=True)
class Knob:
    """One number that a balance turns on."""

    balance: str
    """precision, network, memory or checkpoint."""
    path: str
    """Dotted path of the leaf."""
    low: float
    high: float
    is_relative: bool
    """Whether the range is in units of the present value."""
    uses_area: bool

    def range_of(self, design: Design) -> tuple[float, float]:
        """Least and largest value that is tried, the present one inside unless it is zero."""
        now = float(get_path(design, self.path))
        scale = now if self.is_relative else 1.0
        return min(self.low * scale, now or self.low), max(self.high * scale, now)


def _chip_knob(path: str, balance: str) -> Knob:
    """A size of the chip, in units of what it is now."""
    return Knob(balance, path, 1 / 64, 64.0, is_relative=True, uses_area=True)


_KNOBS = (
    Knob("precision", "chip.fp64_per_fp16_ratio", 1e-6, 1.0, is_relative=False, uses_area=True),
    _chip_knob("chip.link.bandwidth_bytes_per_s", "network"),
    _chip_knob("chip.network.bandwidth_bytes_per_s", "network"),
    _chip_knob("chip.sram.capacity_bytes", "memory"),
    _chip_knob("chip.hbm.bandwidth_bytes_per_s", "memory"),
    Knob("checkpoint", "checkpoint_interval_s", 1.0, 1e6, is_relative=False, uses_area=False),
)
KNOBS: Mapping[str, Knob] = MappingProxyType({knob.path: knob for knob in _KNOBS})
"""Knobs by path."""


def at_iso_area(design: Design, area_mm2: Scalar) -> Design:
    """The design with as many matrix engines as make its silicon `area_mm2`.

    Engines are dealt in fractions, and native fp64 units stay in their ratio to them. All else
    keeps its size; where that alone is more than the area, a thousandth of the engines is left.
    """
    parts = area_parts_mm2(design.chip)
    engines_mm2 = parts.matrix + parts.fp64
    others_mm2 = total(parts) - engines_mm2
    share = jnp.maximum((area_mm2 - others_mm2) / engines_mm2, MIN_ARRAYS_FRACTION)
    array = design.chip.array
    return replace(
        design,
        chip=replace(design.chip, array=replace(array, num_arrays=array.num_arrays * share)),
    )


def with_value(design: Design, knob: Knob, value: Leaf) -> Design:
    """The design with a knob at `value`, at equal silicon where the knob takes some."""
    moved = set_path(design, knob.path, value)
    if not knob.uses_area:
        return moved
    return at_iso_area(moved, total(area_parts_mm2(design.chip)))


@dataclass(frozen=True)
class KnobBalance:
    """One knob of one design."""

    knob: Knob
    present: float
    best: float
    """Where the metric is least, the rest as it is (and at equal silicon)."""
    good: tuple[float, float]
    """Least and largest value that was tried with a metric within `GOOD_FRACTION` of the best."""
    penalty_fraction: float
    """Metric at the present value over that at the best one, less one."""
    elasticity: float
    """d ln(metric) / d ln(value) at the present value, nothing else moved."""
    values: np.ndarray
    """Of the first grid, the present value among them."""
    metric_ratios: np.ndarray
    """Metric at `values` over that of the design as it is."""

    @property
    def is_at_end(self) -> bool:
        """Whether the best value is the least or the largest that was tried."""
        low, high = float(self.values[0]), float(self.values[-1])
        return self.best <= low * 1.001 or self.best >= high * 0.999


def knob_balances(
    design: Design, workload: Workload, metric: str = "time_per_token"
) -> list[KnobBalance]:
    """Every knob's present value, best value, loss and elasticity, for an entry of `OBJECTIVES`.

    Exact reading, float64. One compiled program evaluates the grids of all knobs.
    """
    knobs = list(KNOBS.values())
    with jax.enable_x64(True):
        base = jax.tree.map(float, design)
        log_metrics = _log_metrics(base, workload, knobs, metric)
        now = np.array([float(get_path(base, knob.path)) for knob in knobs])
        first, logs = _grids(base, knobs, now, log_metrics)
        slopes = _elasticities(base, workload, knobs, metric)
    return [
        _balance(knob, now[i], [grid[i] for grid in first], [log[i] for log in logs], slopes[i])
        for i, knob in enumerate(knobs)
    ]


def _log_metrics(base: Design, workload: Workload, knobs: list[Knob], metric: str) -> Any:
    """Compiled function of knobs by values to the logarithms of the metric.

    Every knob's turn is computed for each value and the one in question is taken: the program
    holds the model once.
    """

    def one(number: jax.Array, value: Scalar) -> Scalar:
        moved = [with_value(base, knob, value) for knob in knobs]
        chosen = jax.tree.map(lambda *leaves: jnp.stack(leaves)[number], *moved)
        return safe_log(OBJECTIVES[metric](evaluate(chosen, workload)))

    def every(values: jax.Array) -> jax.Array:
        numbers = jnp.broadcast_to(jnp.arange(len(knobs))[:, None], values.shape)
        return jnp.reshape(jax.vmap(one)(numbers.ravel(), values.ravel()), values.shape)

    return quick_jit(every)


def _grids(
    base: Design, knobs: list[Knob], now: np.ndarray, log_metrics: Any
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Values of every pass, knobs by points, and their logarithms of the metric."""
    ends = np.array([knob.range_of(base) for knob in knobs])
    grids, logs = [], []
    for _ in range(NUM_PASSES):
        grid = np.geomspace(ends[:, 0], ends[:, 1], NUM_POINTS - 1, axis=1)
        # The present value is a point of every grid: what is called better is better than it.
        grid = np.sort(np.concatenate((grid, np.maximum(now, 0.0)[:, None]), axis=1), axis=1)
        log = np.asarray(log_metrics(jnp.asarray(grid)))
        log = np.where(np.isfinite(log), log, np.inf)
        grids.append(grid)
        logs.append(log)
        places = np.argmin(log, axis=1)
        rows = np.arange(len(knobs))
        lower = grid[rows, np.maximum(places - 1, 0)]
        upper = grid[rows, np.minimum(places + 1, NUM_POINTS - 1)]
        # A knob at zero has no neighbor below on a logarithmic grid.
        ends = np.stack((np.where(lower > 0.0, lower, ends[:, 0]), np.maximum(upper, lower)), 1)
    return grids, logs


def _elasticities(base: Design, workload: Workload, knobs: list[Knob], metric: str) -> np.ndarray:
    """d ln(metric) / d ln(value) of every knob alone; zero for a knob at zero."""

    def log_metric(log_ratios: jax.Array) -> Scalar:
        design = base
        for i, knob in enumerate(knobs):
            now = get_path(base, knob.path)
            design = set_path(design, knob.path, now * jnp.exp(log_ratios[i]))
        return safe_log(OBJECTIVES[metric](evaluate(design, workload)))

    return np.asarray(quick_jit(jax.grad(log_metric))(jnp.zeros(len(knobs))))


def _balance(
    knob: Knob, now: float, grids: list[np.ndarray], logs: list[np.ndarray], slope: float
) -> KnobBalance:
    """What the grids of one knob say."""
    values, found = np.concatenate(grids), np.concatenate(logs)
    at_present = float(found[np.argmin(np.abs(values - now))])
    best = int(np.argmin(found))
    good = values[found <= found[best] + np.log1p(GOOD_FRACTION)]
    return KnobBalance(
        knob=knob,
        present=float(now),
        best=float(values[best]),
        good=(float(good.min()), float(good.max())),
        penalty_fraction=float(np.expm1(at_present - found[best])),
        elasticity=float(slope),
        values=grids[0],
        metric_ratios=np.exp(logs[0] - at_present),
    )
