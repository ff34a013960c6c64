"""Plots of evaluations, sensitivities and searches as PNG and SVG files.

Selects arrays and labels; `hwdse.plots` draws them.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.cli.shared.metric_tables import (
    format_metric,
    metric_of,
    part_label,
    parts_of,
    prefix_of,
)
from hwdse.plots import pareto_plots, roofline_and_tornado, uncertainty_plots

if TYPE_CHECKING:
    from hwdse.search.front.front_uncertainty import SampledDesigns
    from hwdse.specs.design import CoreDesign, Design
    from hwdse.specs.results.evaluation_result import Evaluation
    from hwdse.workload.loops.operators import Operators

_SHARED_PARTS = ("matrix", "fp64", "vector", "sram", "hbm", "launch")
SHARED_COLORS = tuple(part_label(name, "time") for name in _SHARED_PARTS)
"""Parts that breakdowns of time and energy share; they have the same colors in both."""
CORE_COLORS = tuple(part_label(name, "time", of_core=True) for name in _SHARED_PARTS)
"""The same for a core."""
LABELLED_OPERATORS = 4
"""Number of labels in a roofline: the operators that take longest."""
CROSSED_DESIGNS = 6
"""Number of designs of a front with drawn percentile intervals; more would overlap."""
NUM_FRONT_POINTS = 400
"""Points of the drawn percentile interval of a front."""
BOUNDS = ("matrix", "vector", "sram", "hbm")
"""Resources that can bound an operator."""
OBJECTIVE_NAMES = (
    "time_per_token",
    "energy_per_token",
    "cost_per_token",
    "energy_delay",
    "step_time",
    "die_area",
    "chip_power",
    "chip_cost",
    "carbon_per_token",
)


def _axis(name: str, *, of_core: bool) -> tuple[float, str]:
    """Factor from the base unit to that of the axis, and axis label."""
    metric = metric_of(name, of_core=of_core)
    label = metric.label[0].upper() + metric.label[1:]
    # The product of two axes in the order of their units.
    return metric.scale, label.replace("µJ·s", "J·µs")


SCALES = {name: _axis(name, of_core=False) for name in OBJECTIVE_NAMES}
"""Factor and axis label of each objective of chips in a cluster."""
CORE_SCALES = {name: _axis(name, of_core=True) for name in OBJECTIVE_NAMES}
"""Factor and axis label of each objective of a core."""


def save_breakdown(
    evaluations: Mapping[str, "Evaluation"], folder: Path, *, of_core: bool = False
) -> list[Path]:
    """Plot of time and energy of designs as stacked bars; its paths."""
    height = 2.2 + 0.55 * len(evaluations)
    figure, axes = pareto_plots.new_figure(2, width_in=7.2, height_in=max(2.0 * height, 4.8))
    quantities = (("time", "s", "Step time"), ("energy", "J", "Step energy"))
    for ax, (field, unit, title) in zip(axes, quantities, strict=True):
        each = [parts_of(evaluation, field) for evaluation in evaluations.values()]
        first = getattr(next(iter(evaluations.values())), field)
        names = list(first.__dataclass_fields__)
        size, prefix = prefix_of(max(sum(one.values()) for one in each))
        label = f"{title.replace('Step', 'Pass') if of_core else title} ({prefix}{unit})"
        parts = {
            part_label(n, field, of_core=of_core): np.array([one[n] for one in each]) / size
            for n in names
        }
        totals = [format_metric(sum(one.values()), unit) for one in each]
        colors = CORE_COLORS if of_core else SHARED_COLORS
        pareto_plots.plot_breakdown(ax, list(evaluations), parts, label, totals, colors)
    return pareto_plots.save_figure(figure, folder, "breakdown")


def save_roofline(
    design: "Design", workload: Any, evaluation: "Evaluation", folder: Path
) -> list[Path]:
    """Roofline plot of the distinct GEMM operators of a workload on one chip; its paths."""
    import jax
    import jax.numpy as jnp

    from hwdse.numerics.jit_compile import quick_jit
    from hwdse.numerics.relaxation import EXACT
    from hwdse.training.gemm_operator_costs import operator_costs
    from hwdse.workload.transformer.sharding import shard

    def operator_arrays(leaves):
        step = shard(workload, leaves.parallelism, leaves.cluster.num_chips, leaves.software)
        rows = operator_costs(step.gemms, step.executions, leaves, EXACT)
        parts = jnp.stack([getattr(rows, f"{kind}_s") for kind in BOUNDS])
        return step.gemms, rows.num_macs, rows.hbm_bytes, rows.time_s, jnp.argmax(parts, axis=0)

    with jax.enable_x64(True):
        rows = jax.tree.map(np.asarray, quick_jit(operator_arrays)(jax.tree.map(float, design)))
    gemms, macs, hbm_bytes, time_s, bound = rows
    sizes = np.broadcast_arrays(gemms.m, gemms.k, gemms.n)
    names = [f"{m:.0f}×{k:.0f}×{n:.0f}" for m, k, n in zip(*sizes, strict=True)]  # noqa: RUF001
    bandwidth = float(design.chip.hbm.bandwidth_bytes_per_s)
    bounds = [BOUNDS[i] for i in bound]
    return _draw_roofline(macs, hbm_bytes, time_s, names, bounds, evaluation, bandwidth, folder)


def save_core_roofline(
    design: "CoreDesign", operators: "Operators", evaluation: "Evaluation", folder: Path
) -> list[Path]:
    """Roofline plot of the operators of a network on a core and its DRAM; its paths."""
    import jax

    from hwdse.core.core_evaluation import bound_masks, core_mappings
    from hwdse.numerics.jit_compile import quick_jit
    from hwdse.numerics.relaxation import total

    def operator_arrays(leaves):
        costs = core_mappings(leaves, operators).costs
        dram = costs.traffic.levels[0]
        matrix, sram, hbm = bound_masks(costs)
        traffic = total(dram.reads) + total(dram.writes)
        return costs.traffic.num_macs, traffic, costs.time_s, sram + 2.0 * hbm + 0.0 * matrix

    with jax.enable_x64(True):
        rows = quick_jit(operator_arrays)(jax.tree.map(float, design))
    macs, traffic_bytes, time_s, bound = (np.asarray(row) for row in rows)
    bounds = [("matrix", "sram", "hbm")[round(float(i))] for i in bound]
    bandwidth = float(design.accelerator.levels[0].read_bandwidth_bytes_per_s)
    names = operators.names
    return _draw_roofline(macs, traffic_bytes, time_s, names, bounds, evaluation, bandwidth, folder)


def _draw_roofline(
    macs: np.ndarray,
    traffic_bytes: np.ndarray,
    time_s: np.ndarray,
    names: Sequence[str],
    bounds: Sequence[str],
    evaluation: "Evaluation",
    bandwidth_bytes_per_s: float,
    folder: Path,
) -> list[Path]:
    """Operators as points. Those that take longest are labelled, each name once."""
    used = np.flatnonzero((time_s > 0.0) & (traffic_bytes > 0.0))
    order = used[np.argsort(-time_s[used], kind="stable")]
    labels = [str(names[i]) for i in order]
    flop = 2.0 * macs[order]
    figure, (axes,) = pareto_plots.new_figure()
    roofline_and_tornado.plot_roofline(
        axes,
        flop / traffic_bytes[order],
        flop / time_s[order],
        evaluation.peak_flop_per_s,
        bandwidth_bytes_per_s,
        [n if i < LABELLED_OPERATORS and n not in labels[:i] else "" for i, n in enumerate(labels)],
        [str(bounds[i]) for i in order],
    )
    return pareto_plots.save_figure(figure, folder, "roofline")


def save_tornado(elasticities: Mapping[str, float], metric: str, folder: Path) -> list[Path]:
    """Plot of elasticities as bars, in the order given; its paths."""
    height = 1.2 + 0.3 * len(elasticities)
    figure, (axes,) = pareto_plots.new_figure(width_in=7.2, height_in=height)
    names, values = list(elasticities), np.array(list(elasticities.values()))
    roofline_and_tornado.plot_tornado(axes, names, values, metric_of(metric).name)
    return pareto_plots.save_figure(figure, folder, f"tornado_{metric}")


def save_convergence(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    objective: str,
    folder: Path,
    *,
    of_core: bool = False,
) -> list[Path]:
    """Plot of the best objective (base units in `curves`) over evaluations; its paths."""
    scale, label = (CORE_SCALES if of_core else SCALES)[objective]
    figure, (axes,) = pareto_plots.new_figure()
    scaled = {name: (counts, scale * best) for name, (counts, best) in curves.items()}
    roofline_and_tornado.plot_convergence(axes, scaled, label)
    return pareto_plots.save_figure(figure, folder, "convergence")


def save_pareto(
    costs: np.ndarray,
    mask: np.ndarray,
    objectives: Sequence[str],
    markers: Sequence[pareto_plots.Marker],
    folder: Path,
    cloud_label: str,
    *,
    of_core: bool = False,
    rule: str = "",
) -> list[Path]:
    """Plot of the Pareto front of each pair of objectives; its paths.

    `costs` and markers are in base units. `rule` is the statistic of robust objectives.
    """
    paths, units = [], CORE_SCALES if of_core else SCALES
    for first in range(len(objectives)):
        for second in range(first + 1, len(objectives)):
            pair = [first, second]
            scales = np.array([units[objectives[i]][0] for i in pair])
            ends = f", {rule}" if rule else ""
            labels = (units[objectives[first]][1] + ends, units[objectives[second]][1] + ends)
            scaled = [
                pareto_plots.Marker(
                    m.label,
                    (m.objectives[first] * scales[0], m.objectives[second] * scales[1]),
                    m.role,
                )
                for m in markers
            ]
            figure, (axes,) = pareto_plots.new_figure()
            pareto_plots.plot_pareto(
                axes, costs[:, pair] * scales, mask, labels, scaled, cloud_label
            )
            is_only = len(objectives) == 2
            name = "pareto" if is_only else f"pareto_{objectives[first]}_{objectives[second]}"
            paths += pareto_plots.save_figure(figure, folder, name)
    return paths


def save_front_uncertainty(
    sampled: "SampledDesigns", objectives: Sequence[str], folder: Path, *, of_core: bool = False
) -> list[Path]:
    """Plot of the percentile intervals of each pair of objectives; their paths."""
    paths, units = [], CORE_SCALES if of_core else SCALES
    shares, percentiles = sampled.is_on_front.mean(axis=0), sampled.percentiles
    for first, second in itertools.combinations(range(len(objectives)), 2):
        pair = [first, second]
        scales = np.array([units[objectives[i]][0] for i in pair])
        labels = (units[objectives[first]][1], units[objectives[second]][1])
        first_values, attained = attained_interval(sampled.log_objectives[..., pair])
        figure, (axes,) = pareto_plots.new_figure(width_in=7.2, height_in=4.4)
        uncertainty_plots.plot_front_uncertainty(
            axes,
            np.exp(sampled.nominal[:, pair]) * scales,
            percentiles[0][:, pair] * scales,
            percentiles[2][:, pair] * scales,
            shares,
            (first_values * scales[0], attained * scales[1]),
            _evenly_spaced(sampled.nominal[:, pair]),
            labels,
        )
        is_only = len(objectives) == 2
        name = "uncertainty" if is_only else f"uncertainty_{objectives[first]}_{objectives[second]}"
        paths += pareto_plots.save_figure(figure, folder, name)
    return paths


def attained_interval(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of the first objective, evenly spaced in its logarithm, and percentiles of the second
    objective that the sampled fronts attain there."""
    from hwdse.search.front.front_uncertainty import attained

    first = np.linspace(costs[..., 0].min(), costs[..., 0].max(), NUM_FRONT_POINTS)
    return np.exp(first), np.exp(attained(costs, first))


def _evenly_spaced(points: np.ndarray) -> np.ndarray:
    """Indices of a few points at about equal distances along the front."""
    order = np.lexsort(points.T[::-1])
    extent = np.maximum(np.ptp(points, axis=0), 1e-300)
    steps = np.linalg.norm(np.diff(points[order] / extent, axis=0), axis=1)
    along = np.append(0.0, np.cumsum(steps))
    wanted = np.linspace(0.0, along[-1], CROSSED_DESIGNS)
    return np.unique(order[np.argmin(np.abs(along[:, None] - wanted), axis=0)])
