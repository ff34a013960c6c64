"""Figures of evaluations and searches as files: picks the arrays, `report` draws them."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.cli.shared.metric_tables import format_metric, parts_of, spaced
from hwdse.plots import pareto_plots, roofline_and_tornado, uncertainty_plots

if TYPE_CHECKING:
    from hwdse.search.front.front_uncertainty import SampledDesigns
    from hwdse.specs.design import CoreDesign, Design
    from hwdse.specs.results.evaluation_result import Evaluation
    from hwdse.workload.loops.operators import Operators

SHARED_COLORS = ("matrix", "fp64", "vector", "sram", "hbm", "launch")
"""Parts that the breakdowns of time and energy have in common come first in the colors."""
LABELLED_ROWS = 4
"""Products of a roofline that get a label: those that take longest."""
CROSSED_DESIGNS = 6
"""Designs of a front whose bands are drawn: more crosses cover each other."""
BAND_PLACES = 400
BOUNDS = ("matrix", "vector", "sram", "hbm")
"""What can bound a product."""
SCALES = {
    "time_per_token": (1e6, "Time per useful token (µs)"),
    "energy_per_token": (1.0, "Energy per useful token (J)"),
    "cost_per_token": (1e6, "Cost per million useful tokens (USD)"),
    "energy_delay": (1e6, "Energy times time per useful token (J µs)"),
    "step_time": (1.0, "Step time (s)"),
    "die_area": (1.0, "Silicon of a chip (mm²)"),
    "chip_power": (1.0, "Power of a chip (W)"),
    "chip_cost": (1.0, "Cost of a chip (USD)"),
    "carbon_per_token": (1e6, "CO2 per million useful tokens (g)"),
}
"""For each objective the factor from its base unit to that of the axis, and the axis label."""
CORE_SCALES = {
    "time_per_token": (1e3, "Time of a pass (ms)"),
    "energy_per_token": (1e3, "Energy of a pass (mJ)"),
    "energy_delay": (1e6, "Energy times time of a pass (mJ ms)"),
    "step_time": (1e3, "Time of a pass (ms)"),
    "die_area": (1.0, "Silicon (mm²)"),
    "chip_power": (1.0, "Power (W)"),
    "chip_cost": (1.0, "Cost (USD)"),
    "carbon_per_token": (1e3, "CO2 of a pass (mg)"),
}
"""The same for the network of a core."""
PREFIXES = {1e9: "G", 1e6: "M", 1e3: "k", 1.0: "", 1e-3: "m", 1e-6: "µ", 1e-9: "n"}
"""Of the units of breakdowns, by their size."""


def save_breakdown(evaluations: Mapping[str, "Evaluation"], folder: Path) -> list[Path]:
    """Time and energy of designs as stacked bars."""
    height = 2.2 + 0.55 * len(evaluations)
    figure, axes = pareto_plots.new_figure(2, width_in=7.2, height_in=max(2.0 * height, 4.8))
    quantities = (("time", "s", "Step time"), ("energy", "J", "Step energy"))
    for ax, (field, unit, title) in zip(axes, quantities, strict=True):
        each = [parts_of(evaluation, field) for evaluation in evaluations.values()]
        first = getattr(next(iter(evaluations.values())), field)
        names = list(first.__dataclass_fields__)
        largest = max(sum(one.values()) for one in each)
        size = next((size for size in PREFIXES if largest >= size), min(PREFIXES))
        label = f"{title} ({PREFIXES[size]}{unit})"
        parts = {spaced(n): np.array([one[n] for one in each]) / size for n in names}
        totals = [format_metric(sum(one.values()), unit) for one in each]
        pareto_plots.plot_breakdown(ax, list(evaluations), parts, label, totals, SHARED_COLORS)
    return pareto_plots.save_figure(figure, folder, "breakdown")


def save_roofline(
    design: "Design", workload: Any, evaluation: "Evaluation", folder: Path
) -> list[Path]:
    """The distinct products of the workload under the roof of the chip."""
    import jax
    import jax.numpy as jnp

    from hwdse.numerics.jit_compile import quick_jit
    from hwdse.numerics.relaxation import EXACT
    from hwdse.training.gemm_operator_costs import operator_costs
    from hwdse.workload.transformer.sharding import shard

    def stack_gemms(leaves):
        step = shard(workload, leaves.parallelism, leaves.cluster.num_chips, leaves.software)
        rows = operator_costs(step.gemms, step.executions, leaves, EXACT)
        parts = jnp.stack([getattr(rows, f"{kind}_s") for kind in BOUNDS])
        return step.gemms, rows.num_macs, rows.hbm_bytes, rows.time_s, jnp.argmax(parts, axis=0)

    with jax.enable_x64(True):
        rows = jax.tree.map(np.asarray, quick_jit(stack_gemms)(jax.tree.map(float, design)))
    gemms, macs, hbm_bytes, time_s, bound = rows
    sizes = np.broadcast_arrays(gemms.m, gemms.k, gemms.n)
    names = [f"{m:.0f}×{k:.0f}×{n:.0f}" for m, k, n in zip(*sizes, strict=True)]  # noqa: RUF001
    bandwidth = float(design.chip.hbm.bandwidth_bytes_per_s)
    bounds = [BOUNDS[i] for i in bound]
    return _draw_roofline(macs, hbm_bytes, time_s, names, bounds, evaluation, bandwidth, folder)


def save_core_roofline(
    design: "CoreDesign", operators: "Operators", evaluation: "Evaluation", folder: Path
) -> list[Path]:
    """The operators of a network under the roof of a core and its DRAM."""
    import jax

    from hwdse.core.core_evaluation import bound_masks, core_mappings
    from hwdse.numerics.jit_compile import quick_jit
    from hwdse.numerics.relaxation import total

    def stack_gemms(leaves):
        costs = core_mappings(leaves, operators).costs
        dram = costs.traffic.levels[0]
        matrix, sram, hbm = bound_masks(costs)
        moved = total(dram.reads) + total(dram.writes)
        return costs.traffic.num_macs, moved, costs.time_s, sram + 2.0 * hbm + 0.0 * matrix

    with jax.enable_x64(True):
        rows = quick_jit(stack_gemms)(jax.tree.map(float, design))
    macs, moved, time_s, place = (np.asarray(row) for row in rows)
    bounds = [("matrix", "sram", "hbm")[round(float(i))] for i in place]
    bandwidth = float(design.accelerator.levels[0].read_bandwidth_bytes_per_s)
    names = operators.names
    return _draw_roofline(macs, moved, time_s, names, bounds, evaluation, bandwidth, folder)


def _draw_roofline(
    macs: np.ndarray,
    moved_bytes: np.ndarray,
    time_s: np.ndarray,
    names: Sequence[str],
    bounds: Sequence[str],
    evaluation: "Evaluation",
    bandwidth_bytes_per_s: float,
    folder: Path,
) -> list[Path]:
    """Rows as points; those that take longest get their name, each name once."""
    used = np.flatnonzero((time_s > 0.0) & (moved_bytes > 0.0))
    order = used[np.argsort(-time_s[used], kind="stable")]
    labels = [str(names[i]) for i in order]
    flop = 2.0 * macs[order]
    figure, (axes,) = pareto_plots.new_figure()
    roofline_and_tornado.plot_roofline(
        axes,
        flop / moved_bytes[order],
        flop / time_s[order],
        evaluation.peak_flop_per_s,
        bandwidth_bytes_per_s,
        [n if i < LABELLED_ROWS and n not in labels[:i] else "" for i, n in enumerate(labels)],
        [str(bounds[i]) for i in order],
    )
    return pareto_plots.save_figure(figure, folder, "roofline")


def save_tornado(elasticities: Mapping[str, float], metric: str, folder: Path) -> list[Path]:
    """Elasticities as bars, in the order given."""
    height = 1.2 + 0.3 * len(elasticities)
    figure, (axes,) = pareto_plots.new_figure(width_in=7.2, height_in=height)
    names, values = list(elasticities), np.array(list(elasticities.values()))
    roofline_and_tornado.plot_tornado(axes, names, values, spaced(metric))
    return pareto_plots.save_figure(figure, folder, f"tornado_{metric}")


def save_convergence(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    objective: str,
    folder: Path,
    *,
    of_core: bool = False,
) -> list[Path]:
    """Best value so far, in base units, over evaluations."""
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
    """Front of each pair of objectives; `costs` and markers are in base units. `rule` tells how
    robust objectives were taken over a sample."""
    paths, units = [], CORE_SCALES if of_core else SCALES
    for first in range(len(objectives)):
        for second in range(first + 1, len(objectives)):
            pair = [first, second]
            scales = np.array([units[objectives[i]][0] for i in pair])
            ends = f", {rule}" if rule else ""
            labels = (units[objectives[first]][1] + ends, units[objectives[second]][1] + ends)
            scaled = [
                pareto_plots.Marker(m.label, (m.cost[first] * scales[0], m.cost[second] * scales[1]),
                             m.role)
                for m in markers
            ]  # fmt: skip
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
    """Bands of each pair of objectives."""
    paths, units = [], CORE_SCALES if of_core else SCALES
    shares, bands = sampled.is_on_front.mean(axis=0), sampled.percentiles
    for first, second in itertools.combinations(range(len(objectives)), 2):
        pair = [first, second]
        scales = np.array([units[objectives[i]][0] for i in pair])
        labels = (units[objectives[first]][1], units[objectives[second]][1])
        indices, reached = attained_band(sampled.log_objectives[..., pair])
        figure, (axes,) = pareto_plots.new_figure(width_in=7.2, height_in=4.4)
        uncertainty_plots.plot_front_uncertainty(
            axes,
            np.exp(sampled.nominal[:, pair]) * scales,
            bands[0][:, pair] * scales,
            bands[2][:, pair] * scales,
            shares,
            (indices * scales[0], reached * scales[1]),
            _evenly_spread(sampled.nominal[:, pair]),
            labels,
        )
        is_only = len(objectives) == 2
        name = "bands" if is_only else f"bands_{objectives[first]}_{objectives[second]}"
        paths += pareto_plots.save_figure(figure, folder, name)
    return paths


def attained_band(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the first cost, evenly over its logarithm, and the band that the front reaches."""
    from hwdse.search.front.front_uncertainty import attained

    indices = np.linspace(costs[..., 0].min(), costs[..., 0].max(), BAND_PLACES)
    return np.exp(indices), np.exp(attained(costs, indices))


def _evenly_spread(points: np.ndarray) -> np.ndarray:
    """Places of a few points, about as far from each other along the front."""
    order = np.lexsort(points.T[::-1])
    extent = np.maximum(np.ptp(points, axis=0), 1e-300)
    steps = np.linalg.norm(np.diff(points[order] / extent, axis=0), axis=1)
    along = np.append(0.0, np.cumsum(steps))
    wanted = np.linspace(0.0, along[-1], CROSSED_DESIGNS)
    return np.unique(order[np.argmin(np.abs(along[:, None] - wanted), axis=0)])
