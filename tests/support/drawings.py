"""Plots of each kind with made-up numbers, for checks that hold for all plots."""

import numpy as np

from hwdse.plots.balance_curves import BalanceCurve, draw_key, plot_balance, set_common_range
from hwdse.plots.breakdown_bars import plot_breakdown
from hwdse.plots.comparison_bars import Quantity, plot_curves, plot_rates
from hwdse.plots.convergence_curves import plot_convergence
from hwdse.plots.figure_files import new_figure, new_keyed_figure
from hwdse.plots.fronts.front_projections import plot_pairs, plot_parallel_coordinates
from hwdse.plots.fronts.pareto_plots import FrontPoints, Marker, plot_pareto
from hwdse.plots.fronts.uncertainty_plots import plot_front_uncertainty
from hwdse.plots.loop_nest_plots import ArrayBox, NestBox, new_mapping_figure, plot_nest
from hwdse.plots.rooflines import OperatorPoint, plot_level_rooflines, plot_roofline
from hwdse.plots.strategy_scatter import plot_strategies
from hwdse.plots.tornado_bars import plot_tornado

AXES = ("Effective time per token (µs)", "Chip energy per token (mJ)")
STEPS = np.linspace(0.0, 1.0, 14)
FRONT = np.stack([0.98 * 1.6**STEPS, 190.0 * 0.58**STEPS], axis=1)
CLOUD = FRONT.mean(axis=0) * np.exp(np.random.default_rng(1).normal(0.5, 0.6, (300, 2)))
MARKERS = [
    Marker("Trn2 UltraServer", (1.61, 303.0), "baseline"),
    Marker("trn2.48xlarge", (1.63, 298.0), "preset"),
    Marker("GH200 NVL32", (0.85, 356.0), "preset", "over area and power limits"),
    Marker("DGX H100", (1.44, 466.0), "preset", "over area and power limits"),
    Marker("p5.48xlarge", (1.4405, 466.2), "preset", "over area and power limits"),
    Marker("SW26010-Pro", (19.0, 3500.0), "preset"),
    Marker("lowest energy-delay product", (1.12, 158.0), "best"),
]


def one_run(points=FRONT):
    return [FrontPoints("Pareto front", points, np.ones(len(points), bool))]


def pareto():
    figure, (axes,) = new_figure(width_in=7.6, height_in=5.4)
    plot_pareto(axes, one_run(), AXES, MARKERS, CLOUD, "sampled feasible designs")
    return figure


def pareto_far_base():
    figure, (axes,) = new_figure(width_in=7.6, height_in=5.4)
    plot_pareto(axes, one_run(), AXES, [Marker("old chip", (40.0, 9e3), "baseline")])
    return figure


def pareto_one_design():
    figure, (axes,) = new_figure(width_in=7.6, height_in=5.4)
    plot_pareto(axes, one_run(FRONT[5:6]), AXES, MARKERS[:1], CLOUD, "sampled feasible designs")
    return figure


def pareto_three_runs():
    figure, (axes,) = new_figure(width_in=7.6, height_in=5.4)
    runs = [
        FrontPoints("wide", FRONT[::2] * 1.1, np.zeros(7, bool)),
        FrontPoints("narrow", FRONT[:9], np.ones(9, bool)),
        FrontPoints("gradient", FRONT[9:], np.ones(5, bool)),
    ]
    plot_pareto(axes, runs, AXES, MARKERS[:3])
    return figure


def _solid_front(size):
    rng = np.random.default_rng(2)
    return np.exp(rng.normal(0.0, 0.2, (40, size))) * np.array([1.0, 120.0, 0.05, 400.0][:size])


LABELS = [*AXES, "Cost, facility included (USD/Mtoken)", "Die area per chip (mm²)"]


def pareto_pairs():
    figure, panels, key = new_keyed_figure(1, 3, width_in=12.0, height_in=5.2)
    base = Marker("base", (1.6, 200.0, 0.08), "baseline")
    plot_pairs(panels, key, _solid_front(3), LABELS[:3], [base])
    return figure


def pareto_parallel():
    figure, (axes,) = new_figure(width_in=10.4, height_in=5.2)
    base = Marker("base", (1.6, 200.0, 0.08, 470.0), "baseline")
    plot_parallel_coordinates(axes, _solid_front(4), LABELS, [base])
    return figure


PARTS = {
    "matrix engines": [6.1, 3.4], "vector engines": [0.7, 1.1], "FP64": [1.8, 0.15],
    "exposed TP communication": [4.1, 1.5], "kernel launch": [0.03, 0.02],
    "pipeline bubble": [0.5, 0.8], "host": [0.001, 0.001],
}  # fmt: skip


def breakdown():
    figure, axes = new_figure(2, width_in=8.6, height_in=4.6)
    parts = {name: np.array(values) for name, values in PARTS.items()}
    for each in axes:
        plot_breakdown(each, ["Trn2 UltraServer", "optimum"], parts, "Step time (s)")
    return figure


def roofline():
    figure, (axes,) = new_figure()
    names = ("QKV", "attention output", "MLP up", "MLP up dx", "MLP down", "LM head")
    points = [
        OperatorPoint(name, 300.0 * 1.15**i, 6.2e14, "matrix") for i, name in enumerate(names)
    ]
    points += [
        OperatorPoint("attention scores", 2100.0, 1.9e14, "vector"),
        OperatorPoint("embedding", 3.0, 6e12, "hbm"),
    ]
    plot_roofline(axes, points, 6.3e14, 2.9e12)
    return figure


def tornado():
    figure, (axes,) = new_figure(width_in=7.6, height_in=3.6)
    groups = {
        "Design": {"array rows": -0.43, "TP degree": 0.31, "HBM bandwidth": -0.02},
        "Scale, operation, prices": {"lifetime": -0.87},
    }
    plot_tornado(axes, groups, "cost")
    return figure


def convergence():
    figure, (axes,) = new_figure()
    counts = np.array([97.0, 500.0, 1600.0, 2900.0])
    curves = {"gradient search": (counts, np.array([np.nan, 0.63, 0.13, 0.11]))}
    label = "Energy-delay product per token (µJ·s)"
    plot_convergence(axes, curves, label, {"base (Trn2 UltraServer)": 0.487})
    return figure


def comparison(num_jobs=3):
    rates = {
        "tokens per second": [1.0, 0.5, 3.2, 1.1],
        "tokens per joule": [1.0, 0.71, 1.4, 1.0],
        "tokens per dollar": [1.0, np.nan, 0.31, 0.98],
    }
    figure, (axes,) = new_figure(width_in=7.6, height_in=4.2)
    names = ["DGX H100", "DGX A100 80 GB", "GB200 NVL72", "Trn2 UltraServer"][:num_jobs]
    plot_rates(axes, names, {name: values[:num_jobs] for name, values in rates.items()})
    return figure


def comparison_pair():
    return comparison(2)


def comparison_curves():
    figure, panels = new_figure(2, width_in=7.2, height_in=5.6)
    points = np.linspace(2.0, 8.0, 7)
    rates = np.stack([600.0 * points / (1.0 + points), 300.0 * points / (2.0 + points)])
    quantities = [
        Quantity("Effective throughput (ktokens/s)", rates),
        Quantity("Chip energy (mJ/token)", 1e5 / rates),
    ]
    names = ["Trn2 UltraServer", "DGX H100"]
    plot_curves(panels, "HBM bandwidth (TB/s)", points, names, quantities)
    return figure


def balance_curve(current=640.0, optimum=540.0, title="2 Network: scale-up fabric"):
    values = np.geomspace(10.0, 4e4, 65)
    metrics = 1.6 * (0.7 + 0.15 * (540.0 / values) + 0.15 * (values / 540.0) ** 3)
    near = None if optimum is None else (480.0, 590.0)
    return BalanceCurve(
        title, "now: 640 GB/s; optimum: 540 GB/s (penalty 3.0 %)",
        "Scale-up bandwidth per chip (GB/s)", values, metrics, current, optimum, near,
    )  # fmt: skip


def balance():
    figure, axes, key = new_keyed_figure(2, 3, width_in=10.5, height_in=6.8)
    curves = [balance_curve() for _ in axes[:4]]
    curves += [balance_curve(0.0, None), balance_curve(640.0, None)]
    for each, curve in zip(axes, curves, strict=True):
        plot_balance(each, curve, 1.61, "Effective time per token (µs)", [("1:100", 1000.0)])
    set_common_range(axes, curves, 1.61, 3)
    draw_key(key)
    return figure


def strategies():
    figure, (axes,) = new_figure(width_in=7.6, height_in=5.2)
    rng = np.random.default_rng(3)
    used_gb = np.exp(rng.uniform(0.5, 8.0, 2000))
    times = 200.0 * np.exp(rng.uniform(0.0, 2.5, 2000)) / used_gb**0.4
    order = np.argsort(used_gb)
    is_met = rng.uniform(size=2000) < 0.8
    allowed = order[(used_gb[order] <= 103.0) & is_met[order]]
    front = allowed[times[allowed] <= np.minimum.accumulate(times[allowed])]
    best = int(front[-1])
    label = "TP1 PP1 DP512 CP2, micro-batch 1, no recompute, ZeRO-3"
    plot_strategies(axes, used_gb, times, 103.0, is_met, front, best, label)
    return figure


def uncertainty():
    figure, (axes,) = new_figure(width_in=7.6, height_in=5.0)
    first = np.linspace(0.9, 1.7, 50)
    curves = np.stack([scale * 150.0 / first for scale in (0.9, 1.0, 1.15)])
    curves[:, first < 0.95] = np.inf
    shares = np.linspace(0.1, 0.9, len(FRONT))
    plot_front_uncertainty(
        axes, FRONT, 0.93 * FRONT, 1.08 * FRONT, shares, (first, curves), np.array([0, 7, 13]), AXES
    )
    return figure


def uncertainty_one_design():
    figure, (axes,) = new_figure(width_in=7.6, height_in=5.0)
    point, first = FRONT[4:5], np.array([1.0, 1.1])
    plot_front_uncertainty(
        axes, point, 0.99 * point, 1.01 * point, np.ones(1), (first, np.full((3, 2), 150.0)),
        np.array([0]), AXES,
    )  # fmt: skip
    return figure


LEVELS = ("DRAM", "scratchpad", "accumulator", "registers")


def mapping(reached=2.56e11, used=2.56e11):
    boxes = [
        NestBox(name, i, "96 KiB of 128 KiB, 75.0 %", {"inputs": 0.75}, ["for n in 192 (tile 16)"])
        for i, name in enumerate(LEVELS)
    ]
    figure, nest, roofs = new_mapping_figure(boxes)
    plot_nest(nest, boxes, ArrayBox("16 x 16 PEs\n16 rows and 16 columns used", 1.0, 1.0))
    plot_level_rooflines(
        roofs, LEVELS, np.array([107.0, 12.7, 2.0, 1.0]), np.array([8e9, 3.2e10, 1.28e11, 5.12e11]),
        2.56e11, used, reached, [f"{name} 63 % busy" for name in LEVELS],
    )  # fmt: skip
    return figure


DRAWINGS = {
    draw.__name__: draw
    for draw in (
        pareto, pareto_far_base, pareto_one_design, pareto_three_runs, pareto_pairs,
        pareto_parallel, breakdown, roofline, tornado, convergence, comparison,
        comparison_pair, comparison_curves, balance, strategies,
        uncertainty, uncertainty_one_design, mapping,
    )
}  # fmt: skip
"""Functions that draw one figure of each kind."""
