"""Plots of evaluations, sensitivities and searches.

Selects arrays and labels; `hwdse.plots` draws them.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwdse.objectives import OBJECTIVES
from hwdse.plots.breakdown_bars import plot_breakdown
from hwdse.plots.convergence_curves import plot_convergence
from hwdse.plots.figure_files import PlotFiles, new_figure, new_keyed_figure
from hwdse.plots.fronts.front_projections import plot_pairs, plot_parallel_coordinates
from hwdse.plots.fronts.pareto_plots import FrontPoints, Marker, plot_pareto
from hwdse.plots.fronts.uncertainty_plots import plot_front_uncertainty
from hwdse.plots.rooflines import OperatorPoint, plot_chip_roofline, plot_roofline
from hwdse.plots.tornado_bars import plot_tornado
from hwdse.report.breakdowns import STEP_WORDS, part_label, parts_of
from hwdse.report.metrics import CORE, HEADLINES, TRAINING, kind_of, metric_of
from hwdse.report.number_texts import number_cells, prefix_of, spaced
from hwdse.report.parameter_words import LEVEL_WORDS, grouped_elasticities

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.search.front.front_uncertainty import SampledDesigns
    from hwdse.specs.design import CoreDesign, Design
    from hwdse.specs.results.evaluation_result import Evaluation
    from hwdse.workload.loops.operators import Operators

_SHARED_PARTS = ("matrix", "fp64", "vector", "sram", "hbm", "launch")
SHARED_COLORS = {
    kind: tuple(part_label(name, "time", kind=kind) for name in _SHARED_PARTS) for kind in HEADLINES
}
"""Parts that breakdowns of time and energy share, by kind of job; they have the same colors in
both."""
LABELED_OPERATORS = {"matrix": 14, "vector": 24, "sram": 24, "hbm": 24}
"""Labels in a roofline: the rank by time up to which operators have one, by what bounds them."""
CROSSED_DESIGNS = 6
"""Number of designs of a front with drawn percentile intervals; more would overlap."""
NUM_FRONT_POINTS = 400
"""Points of the drawn percentile interval of a front."""
FORMATS = ("BF16", "FP8", "FP32", "FP64")
"""Number formats of a chip with a peak rate; balance points are those of the first."""
BOUNDS = ("matrix", "vector", "sram", "hbm")
"""Resources that can bound an operator."""
GEMM_WORDS = {
    "qkv": "QKV", "out": "attention output", "scores": "attention scores",
    "values": "attention values", "up": "MLP up", "down": "MLP down", "head": "LM head",
    "key_value_up": "key-value up", "shared_up": "shared expert up",
    "shared_down": "shared expert down",
}  # fmt: skip
"""Words for GEMM operators of transformers; others are their own words."""
GRADIENT_NOTE = "dx: gradient of the inputs; dw: gradient of the weights."


def _axis(name: str, *, kind: str) -> tuple[float, str]:
    """Factor from the base unit to that of the axis, and axis label."""
    metric = metric_of(name, kind=kind)
    return metric.scale, metric.label[0].upper() + metric.label[1:]


SCALES = {kind: {name: _axis(name, kind=kind) for name in OBJECTIVES} for kind in HEADLINES}
"""Factor and axis label of each objective, by kind of job."""


def save_evaluation(
    loaded: "LoadedSearch", design: Any, evaluation: "Evaluation", files: PlotFiles
) -> list[Path]:
    """Write breakdown and roofline of one design of a job; their paths."""
    kind = kind_of(loaded)
    paths = save_breakdown({loaded.labels["chip"]: evaluation}, files, kind=kind)
    draw: Any = save_core_roofline if kind == CORE else save_roofline
    return [*paths, *draw(design, loaded.workload, evaluation, files)]


def save_breakdown(
    evaluations: Mapping[str, "Evaluation"], files: PlotFiles, *, kind: str = TRAINING
) -> list[Path]:
    """Write the plot of time and energy of designs as stacked bars; its paths."""
    height = 1.35 + 0.5 * len(evaluations)
    figure, axes = new_figure(2, width_in=8.6, height_in=max(2.0 * height, 4.6))
    quantities = (("time", "s", "Step time"), ("energy", "J", "Step energy"))
    for ax, (field, unit, title) in zip(axes, quantities, strict=True):
        each = [parts_of(evaluation, field) for evaluation in evaluations.values()]
        first = getattr(next(iter(evaluations.values())), field)
        names = list(first.__dataclass_fields__)
        size, prefix = prefix_of(max(sum(one.values()) for one in each))
        label = f"{title.replace('Step', STEP_WORDS[kind].capitalize())} ({prefix}{unit})"
        parts = {
            part_label(n, field, kind=kind): np.array([one[n] for one in each]) / size
            for n in names
        }
        cells = number_cells([sum(one.values()) / size for one in each], 0, 3)
        totals = [f"{cell} {prefix}{unit}" for cell in cells]
        colors = SHARED_COLORS[kind]
        plot_breakdown(ax, list(evaluations), parts, label, totals, colors)
    note = "Percentages in the legends are in the order of the bars." if len(each) > 1 else ""
    return files.save(figure, "breakdown", "Time and energy by cause", note)


def save_chip_roofline(values: Mapping[str, Any], files: PlotFiles) -> list[Path]:
    """Write the rooflines of the memories and ports of a chip, from the values of its sheet; their
    paths."""
    figure, (ax,) = new_figure()
    peaks = {name: values[f"{name.lower()}_flop_per_s"] for name in FORMATS}
    bandwidths = {
        label: peaks["BF16"] / values["balance_flop_per_byte"][name]
        for name, label in LEVEL_WORDS.items()
    }
    plot_chip_roofline(ax, peaks, bandwidths)
    note = "Points: balance points, where a bandwidth sustains the BF16 peak."
    return files.save(figure, "roofline", "Rooflines", note)


def save_roofline(
    design: "Design", workload: Any, evaluation: "Evaluation", files: PlotFiles
) -> list[Path]:
    """Write the roofline plot of the GEMM operators of a workload on one chip; its paths."""
    import jax
    import jax.numpy as jnp

    from hwdse.numerics.jit_compile import quick_jit
    from hwdse.numerics.relaxation import EXACT
    from hwdse.training.gemm_operator_costs import operator_costs
    from hwdse.workload.transformer.micro_batch_gemms import gemm_names
    from hwdse.workload.transformer.sharding import shard

    def operator_arrays(leaves):
        step = shard(
            workload, leaves.parallelism, leaves.cluster.num_chips, leaves.software, leaves.mix
        )
        rows = operator_costs(step.gemms, step.executions, leaves, EXACT)
        parts = jnp.stack([getattr(rows, f"{kind}_s") for kind in BOUNDS])
        kinds = jnp.argmax(parts, axis=0)
        return rows.num_macs, rows.hbm_bytes, rows.time_s, kinds

    with jax.enable_x64(True):
        rows = jax.tree.map(np.asarray, quick_jit(operator_arrays)(jax.tree.map(float, design)))
    macs, hbm_bytes, time_s, bound = rows
    named = getattr(workload, "names", None) or map(gemm_words, gemm_names(workload))
    names = [str(name) for name in named]
    bandwidth = float(design.chip.hbm.bandwidth_bytes_per_s)
    points = _operator_points(macs, hbm_bytes, time_s, names, [BOUNDS[i] for i in bound])
    note = GRADIENT_NOTE if any(one.name.endswith((" dx", " dw")) for one in points) else ""
    return _draw_roofline(points, evaluation, bandwidth, files, "HBM", note)


def gemm_words(name: str) -> str:
    """Label of a GEMM operator: `expert up dx, layers 2` for `expert_up_dx_2`."""
    words = name.split("_")
    entry = words.pop() if words[-1].isdecimal() else ""
    gradient = f" {words.pop()}" if words[-1] in ("dx", "dw") else ""
    head = "_".join(words)
    ends = f", layers {entry}" if entry else ""
    return f"{GEMM_WORDS.get(head, spaced(head))}{gradient}{ends}"


def save_core_roofline(
    design: "CoreDesign", operators: "Operators", evaluation: "Evaluation", files: PlotFiles
) -> list[Path]:
    """Write the roofline plot of the operators of a network on a core and its DRAM; its paths."""
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
    points = _operator_points(macs, traffic_bytes, time_s, operators.names, bounds)
    return _draw_roofline(points, evaluation, bandwidth, files, "DRAM")


def _operator_points(
    macs: np.ndarray,
    traffic_bytes: np.ndarray,
    time_s: np.ndarray,
    names: Sequence[str],
    bounds: Sequence[str],
) -> list[OperatorPoint]:
    """Operators, slowest first; those that take longest have names (`LABELED_OPERATORS`), each
    name once."""
    used = np.flatnonzero((time_s > 0.0) & (traffic_bytes > 0.0) & (macs > 0.0))
    points, seen = [], set()
    for rank, i in enumerate(used[np.argsort(-time_s[used], kind="stable")]):
        is_named = rank < LABELED_OPERATORS[str(bounds[i])] and names[i] not in seen
        name = str(names[i]) if is_named else ""
        seen.add(names[i])
        flop = 2.0 * float(macs[i])
        points.append(
            OperatorPoint(
                name, flop / float(traffic_bytes[i]), flop / float(time_s[i]), str(bounds[i])
            )
        )
    return points


def _draw_roofline(
    points: Sequence[OperatorPoint],
    evaluation: "Evaluation",
    bandwidth_bytes_per_s: float,
    files: PlotFiles,
    memory: str,
    note: str = "",
) -> list[Path]:
    figure, (axes,) = new_figure()
    peak = float(evaluation.peak_flop_per_s)
    plot_roofline(axes, points, peak, bandwidth_bytes_per_s, memory=memory)
    return files.save(figure, "roofline", "Roofline", note)


def save_tornado(elasticities: Mapping[str, float], metric: str, files: PlotFiles) -> list[Path]:
    """Write the plot of elasticities as bars, by group, in the order given; its paths.

    `elasticities` has paths of Python names as keys.
    """
    groups = grouped_elasticities(elasticities)
    num_rows = len(elasticities) + 1.9 * len(groups)
    figure, (axes,) = new_figure(width_in=7.6, height_in=1.5 + 0.24 * num_rows)
    name = metric_of(metric).name
    plot_tornado(axes, groups, name)
    return files.save(figure, f"tornado_{metric}", f"Sensitivity of {name}")


def save_convergence(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    objective: str,
    files: PlotFiles,
    levels: Mapping[str, float] | None = None,
    *,
    kind: str = TRAINING,
) -> list[Path]:
    """Write the plot of the best objective (base units) over evaluations; its paths.

    `levels` are named reference values such as that of the base design.
    """
    scale, label = SCALES[kind][objective]
    figure, (axes,) = new_figure()
    scaled = {name: (counts, scale * best) for name, (counts, best) in curves.items()}
    levels = {name: scale * value for name, value in (levels or {}).items()}
    plot_convergence(axes, scaled, label, levels)
    return files.save(figure, "convergence", "Convergence of the search")


def save_pareto(
    runs: Sequence[FrontPoints],
    objectives: Sequence[str],
    markers: Sequence[Marker],
    files: PlotFiles,
    cloud: np.ndarray | None = None,
    cloud_label: str = "",
    *,
    kind: str = TRAINING,
    rule: str = "",
) -> list[Path]:
    """Write the plot of the Pareto front of one or several runs; its paths.

    Objectives are in base units. `cloud` are other designs. `rule` is the statistic of robust
    objectives. Three objectives are drawn as pairs, four and more as parallel coordinates.
    """
    units = SCALES[kind]
    scales = np.array([units[name][0] for name in objectives])
    ends = f", {rule}" if rule else ""
    labels = [units[name][1] + ends for name in objectives]
    runs = [
        replace(
            run,
            objectives=run.objectives * scales,
            bands=tuple(band.scaled(scales) for band in run.bands),
        )
        for run in runs
    ]
    markers = [
        replace(
            one,
            objectives=tuple((np.array(one.objectives) * scales).tolist()),
            band=None if one.band is None else one.band.scaled(scales),
        )
        for one in markers
    ]
    front = np.concatenate([run.objectives[run.is_front] for run in runs])
    if len(objectives) == 2:
        figure, (axes,) = new_figure(width_in=7.6, height_in=5.4)
        points = None if cloud is None else cloud * scales
        pair = (labels[0], labels[1])
        note = plot_pareto(axes, runs, pair, markers, points, cloud_label)
        return files.save(figure, "pareto", "Pareto front", note)
    if len(objectives) == 3:
        figure, panels, key = new_keyed_figure(1, 3, width_in=12.0, height_in=5.2)
        plot_pairs(panels, key, front, labels, markers)
        return files.save(figure, "pareto", "Pareto front of three objectives")
    figure, (axes,) = new_figure(width_in=2.6 * len(objectives), height_in=5.2)
    plot_parallel_coordinates(axes, front, labels, markers)
    title = f"Pareto front of {len(objectives)} objectives"
    note = f"One line per design; dark: low {labels[0][0].lower()}{labels[0][1:]}."
    return files.save(figure, "pareto", title, note)


def save_front_uncertainty(
    sampled: "SampledDesigns",
    objectives: Sequence[str],
    files: PlotFiles,
    *,
    kind: str = TRAINING,
) -> list[Path]:
    """Write the plot of the percentile intervals of each pair of objectives; their paths."""
    paths, units = [], SCALES[kind]
    shares, percentiles = sampled.is_on_front.mean(axis=0), sampled.percentiles
    for first, second in itertools.combinations(range(len(objectives)), 2):
        pair = [first, second]
        scales = np.array([units[objectives[i]][0] for i in pair])
        labels = (units[objectives[first]][1], units[objectives[second]][1])
        first_values, attained = attained_interval(sampled.log_objectives[..., pair])
        figure, (axes,) = new_figure(width_in=7.6, height_in=5.0)
        plot_front_uncertainty(
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
        count = len(sampled.log_objectives)
        note = f"p5 to p95 of {count:,} samples of the uncertain constants."
        paths += files.save(figure, name, "Pareto front under uncertain constants", note)
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
