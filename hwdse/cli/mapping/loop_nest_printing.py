"""Mapping as text: sizes of an operator, loop nest, bounds and capacity violations."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.exit_codes import CommandError
from hwdse.report.metrics import format_metric
from hwdse.report.number_texts import percent
from hwdse.units.format_units import format_number

if TYPE_CHECKING:
    from hwdse.core.operator_loop_nests import MappedOperator
    from hwdse.core.ordered_loops import Loop, TierLoops
    from hwdse.specs.hardware.accelerator import Operands
    from hwdse.workload.loops.operators import Operators

INDENT = "  "


def dimension_names(operator: "Operators") -> Mapping[str, str]:
    """Printed names of the dimensions of an operator: m, k, n of a GEMM, else capital letters."""
    from hwdse.core.ordered_loops import GEMM_DIMS, is_gemm
    from hwdse.workload.loops.operators import DIMS

    return GEMM_DIMS if is_gemm(operator) else {letter: letter for letter in DIMS}


def sizes_text(operator: "Operators") -> str:
    """`m512 k768 n768` of a GEMM; sizes above 1, stride and dilation of a convolution."""
    names = dimension_names(operator)
    sizes = {name: getattr(operator, letter.lower()) for letter, name in names.items()}
    is_convolution = "m" not in sizes
    shown = [f"{n}{x:.6g}" for n, x in sizes.items() if not (is_convolution and x == 1.0)]
    steps = {
        "stride": (operator.stride_p, operator.stride_q),
        "dilation": (operator.dilation_r, operator.dilation_s),
    }
    for word, (rows, cols) in steps.items():
        if is_convolution and (rows, cols) != (1.0, 1.0):
            shown.append(f"{word} {rows:.6g}" + (f" x {cols:.6g}" if cols != rows else ""))
    return " ".join(shown)


def loop_text(loop: "Loop", names: Mapping[str, str]) -> str:
    """`for m in 4 (tile 128, last 64)`."""
    return f"for {names.get(loop.dim, loop.dim)} in {loop.steps}{_tile_text(loop)}"


def _tile_text(loop: "Loop") -> str:
    last = "" if abs(loop.last - loop.tile) < 1e-3 * loop.tile else f", last {loop.last:.6g}"
    if loop.tile == 1.0 and not last:
        return ""
    return f" (tile {loop.tile:.6g}{last})"


def spatial_texts(tier: "TierLoops", names: Mapping[str, str]) -> list[str]:
    """Spatial loops of the array rows and of the array columns, e.g. `spatial rows: k x 64`."""
    texts = []
    for axis, loops in (("rows", tier.rows), ("columns", tier.cols)):
        parts = [f"{names.get(x.dim, x.dim)} x {x.steps}{_tile_text(x)}" for x in loops]
        if parts:
            texts.append(f"spatial {axis}: {', '.join(parts)}")
    return texts


def footprint_text(tier: "TierLoops", mapped: "MappedOperator") -> str:
    """`384 KiB of 512 KiB, 75.0 %`; without the capacity if it is no limit."""
    from hwdse.core.mapping_analysis import has_capacity

    index = [level.name for level in mapped.accelerator.levels].index(tier.memory)
    level, used = mapped.accelerator.levels[index], mapped.costs.traffic.levels[index].used
    footprint, capacity = footprint_bytes(tier, used), float(level.capacity_bytes)
    if not has_capacity(level, mapped.accelerator):
        return bytes_text(footprint)
    usage = percent_or_factor(footprint / capacity)
    return f"{bytes_text(footprint)} of {bytes_text(capacity)}, {usage}"


def footprint_bytes(tier: "TierLoops", used: "Operands") -> float:
    """Footprint of the operands of one tier in its memory."""
    return sum(float(getattr(used, operand)) for operand in tier.keeps)


def nest_lines(mapped: "MappedOperator") -> list[str]:
    """Loop nest as indented lines, outermost loop first."""
    names = dimension_names(mapped.operator)
    lines, depth = [], 0
    for tier in mapped.tree:
        operands, size = " ".join(tier.keeps) or "nothing", footprint_text(tier, mapped)
        lines.append(f"{INDENT * depth}{tier.memory} keeps {operands} ({size})")
        depth += 1
        for loop in tier.temporal:
            lines.append(f"{INDENT * depth}{loop_text(loop, names)}")
            depth += 1
        spatial = spatial_texts(tier, names)
        if spatial:
            lines.append(f"{INDENT * depth}{'; '.join(spatial)}")
            depth += 1
    return [*lines, f"{INDENT * depth}multiply-accumulate"]


def bounds_text(ranked: Sequence[tuple[str, float]]) -> str:
    """Slowest resource with its time, and the time of the next one relative to it."""
    (first, time_s), (second, next_s) = ranked[:2]
    ratio = percent(min(next_s / time_s, 1.0))
    return f"bound by {first} ({format_metric(time_s, 's')}), next {second} ({ratio} of that time)"


def violations_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Exceeded capacities: `accumulator: 341 KiB required, 1.33x the available 256 KiB`."""
    texts = []
    for row in rows:
        form = bytes_text if row["unit"] == "B" else format_number
        required, available = form(row["required"]), form(row["available"])
        ratio = format_number(row["ratio"])
        texts.append(f"{row['resource']}: {required} required, {ratio}x the available {available}")
    return "; ".join(texts)


def find_operator(names: Sequence[str], requested: str) -> int:
    """Index of the operator with this name or number; raises `CommandError` with a hint."""
    from hwdse.config.files.errors import did_you_mean, show

    if requested in names:
        return list(names).index(requested)
    if requested.isdecimal() and int(requested) < len(names):
        return int(requested)
    raise CommandError(
        f"--operator = {show(requested)}: expected an operator name or a number "
        f"from 0 to {len(names) - 1}{did_you_mean(requested, names)}"
    )


def percent_or_factor(ratio: float) -> str:
    """`19.0 %`, or `13.2x` above 1000 %."""
    return percent(ratio) if ratio < 10.0 else f"{ratio:.3g}x"


def bytes_text(value: float) -> str:
    """Size with a binary prefix, `4.5 MiB`, like the capacities of memories."""
    power = min(max(math.frexp(value)[1] - 1, 0) // 10, 6)
    scaled = value / 1024.0**power
    prefix = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")[power]
    return f"{format_number(scaled, 3 if scaled < 1000.0 else 4)} {prefix}B"
