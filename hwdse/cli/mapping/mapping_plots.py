"""Plot of one mapping: selects numbers and texts; `hwdse.plots` draws them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdse.cli.mapping.loop_nest_printing import (
    dimension_names,
    footprint_bytes,
    footprint_text,
    loop_text,
    spatial_texts,
)
from hwdse.core.mapping_analysis import has_capacity, unrolled
from hwdse.plots import loop_nest_plots
from hwdse.plots.figure_files import PlotFiles
from hwdse.plots.rooflines import plot_level_rooflines
from hwdse.report.number_texts import percent

if TYPE_CHECKING:
    from hwdse.core.operator_loop_nests import MappedOperator


def save_mapping(mapped: "MappedOperator", files: PlotFiles) -> list[Path]:
    """Write the plot of a loop nest and the rooflines of its levels; its paths."""
    boxes, metrics = nest_boxes(mapped), mapped.metrics
    figure, nest, roofs = loop_nest_plots.new_mapping_figure(boxes)
    loop_nest_plots.plot_nest(nest, boxes, array_box(mapped))
    levels = [level.name for level in mapped.accelerator.levels]
    shares = [level.time_fraction for level in metrics.levels]
    plot_level_rooflines(
        roofs,
        levels,
        np.array([level.intensity_macs_per_byte for level in metrics.levels]),
        np.array([level.bandwidth_bytes_per_s for level in metrics.levels]),
        metrics.peak_macs_per_s,
        metrics.array_macs_per_s,
        metrics.macs_per_s,
        [f"{name} {percent(share, 0)} busy" for name, share in zip(levels, shares, strict=True)],
    )
    name = re.sub(r"[^\w.-]+", "_", mapped.operator.names[0])
    return files.save(figure, f"mapping_{name}", "Mapping")


def nest_boxes(mapped: "MappedOperator") -> list[loop_nest_plots.NestBox]:
    """Boxes of the tiers of a loop nest, outermost first."""
    names, core = dimension_names(mapped.operator), mapped.accelerator
    levels = [level.name for level in core.levels]
    boxes = []
    for tier in mapped.tree:
        index = levels.index(tier.memory)
        level, used = core.levels[index], mapped.costs.traffic.levels[index].used
        is_limit = has_capacity(level, core)
        capacity = (
            float(level.capacity_bytes) if is_limit else max(footprint_bytes(tier, used), 1.0)
        )
        lines = [loop_text(loop, names) for loop in tier.temporal]
        boxes.append(
            loop_nest_plots.NestBox(
                title=tier.memory,
                level=index,
                note=footprint_text(tier, mapped),
                shares={name: getattr(used, name) / capacity for name in tier.keeps},
                lines=[*lines, *spatial_texts(tier, names)],
                others={
                    name: getattr(used, name) / capacity
                    for name in level.keeps
                    if name not in tier.keeps
                },
            )
        )
    return boxes


def array_box(mapped: "MappedOperator") -> loop_nest_plots.ArrayBox:
    """PE array and the part of it that the loop nest uses."""
    sizes = (float(mapped.accelerator.rows), float(mapped.accelerator.cols))
    used = (unrolled(mapped.tree, "rows"), unrolled(mapped.tree, "cols"))
    note = f"{sizes[0]:.6g} x {sizes[1]:.6g} PEs\n{used[0]:.6g} rows and {used[1]:.6g} columns used"
    return loop_nest_plots.ArrayBox(note, used[0] / sizes[0], used[1] / sizes[1])
