"""A mapping as text: sizes of an operator, the nest of loops, what breaks."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import percent
from hwdse.units.format_units import format_number, format_quantity

if TYPE_CHECKING:
    from hwdse.core.operator_loop_nests import MappedOperator
    from hwdse.core.ordered_loops import Loop, TierLoops
    from hwdse.specs.hardware.accelerator import Operands
    from hwdse.workload.loops.operators import Operators

INDENT = "  "


def dimension_names(operator: "Operators") -> Mapping[str, str]:
    """How the dimensions of an operator are called: m, k, n of a product, or capital letters."""
    from hwdse.core.ordered_loops import GEMM_DIMS, is_gemm
    from hwdse.workload.loops.operators import DIMS

    return GEMM_DIMS if is_gemm(operator) else {letter: letter for letter in DIMS}


def sizes_text(operator: "Operators") -> str:
    """`m512 k768 n768`, or the sizes of a convolution other than one, its stride and dilation."""
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
    """`along rows: k x 64`, one text for the rows and one for the columns."""
    texts = []
    for place, loops in (("rows", tier.rows), ("columns", tier.cols)):
        parts = [f"{names.get(x.dim, x.dim)} x {x.steps}{_tile_text(x)}" for x in loops]
        if parts:
            texts.append(f"along {place}: {', '.join(parts)}")
    return texts


def kept_text(tier: "TierLoops", mapped: "MappedOperator") -> str:
    """`384 KiB of 512 KiB, 75.0 %`; only the bytes of registers whose number is not stated."""
    from hwdse.core.mapping_analysis import has_capacity

    index = [level.name for level in mapped.accelerator.levels].index(tier.memory)
    level, used = mapped.accelerator.levels[index], mapped.costs.traffic.levels[index].used
    kept, capacity = kept_bytes(tier, used), float(level.capacity_bytes)
    if not has_capacity(level, mapped.accelerator):
        return bytes_text(kept)
    return f"{bytes_text(kept)} of {bytes_text(capacity)}, {times_or_percent(kept / capacity)}"


def kept_bytes(tier: "TierLoops", used: "Operands") -> float:
    """Bytes that the operands of this tier take in its memory."""
    return sum(float(getattr(used, operand)) for operand in tier.keeps)


def nest_lines(mapped: "MappedOperator") -> list[str]:
    """The nest as indented lines, outermost loop first."""
    names = dimension_names(mapped.operator)
    lines, depth = [], 0
    for tier in mapped.tree:
        what, size = " ".join(tier.keeps) or "nothing", kept_text(tier, mapped)
        lines.append(f"{INDENT * depth}{tier.memory} keeps {what} ({size})")
        depth += 1
        for loop in tier.temporal:
            lines.append(f"{INDENT * depth}{loop_text(loop, names)}")
            depth += 1
        spatial = spatial_texts(tier, names)
        if spatial:
            lines.append(f"{INDENT * depth}at once {'; '.join(spatial)}")
            depth += 1
    return [*lines, f"{INDENT * depth}multiply-accumulate"]


def limits_text(ranked: Sequence[tuple[str, float]]) -> str:
    """The slowest resource, and how far the next one lags behind it."""
    (first, time_s), (second, next_s) = ranked[:2]
    less = percent(max(1.0 - next_s / time_s, 0.0))
    lag = f"{second} takes as long" if less == percent(0.0) else f"next is {second}, {less} less"
    return f"limited by {first}, {format_quantity(time_s, 's')}; {lag}"


def shortages_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """`accumulator would keep 341 KiB, 1.33 times its 256 KiB`, for each thing that breaks."""
    texts = []
    for row in rows:
        verb, form = ("keep", bytes_text) if row["unit"] == "B" else ("take", format_number)
        needed, available = form(row["required"]), form(row["available"])
        ratio = format_number(row["ratio"])
        texts.append(f"{row['resource']} would {verb} {needed}, {ratio} times its {available}")
    return "; ".join(texts)


def find_operator(names: Sequence[str], asked: str) -> int:
    """Number of the operator with this name or number; a `CommandError` with a hint else."""
    from hwdse.config.files.errors import did_you_mean, show

    if asked in names:
        return list(names).index(asked)
    if asked.isdecimal() and int(asked) < len(names):
        return int(asked)
    raise CommandError(
        f"--operator = {show(asked)}: expected a name of the list or a number "
        f"from 0 to {len(names) - 1}{did_you_mean(asked, names)}"
    )


def times_or_percent(ratio: float) -> str:
    """19.0 %, or 13.2 times where a percentage would be hard to read."""
    return percent(ratio) if ratio < 10.0 else f"{ratio:.3g} times"


def bytes_text(value: float) -> str:
    """`4.5 MiB`: binary prefixes throughout, as capacities have them, so that sizes compare."""
    power = min(max(math.frexp(value)[1] - 1, 0) // 10, 6)
    scaled = value / 1024.0**power
    prefix = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")[power]
    return f"{format_number(scaled, 3 if scaled < 1000.0 else 4)} {prefix}B"
