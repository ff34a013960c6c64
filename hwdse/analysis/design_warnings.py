"""Warnings of an evaluated design that cannot run as it is.

A design may not fit its memory, may lose more work to failures than it does, may get more requests
than it can answer, or may exceed its power limit at the lowest clock. Its metrics are then those of
a design that cannot run. A clock above that of the greatest voltage is not reached; the metrics are
those of the lower clock.
"""

import dataclasses
from dataclasses import dataclass

from hwdse.models.energy.voltage_and_leakage import SMALLEST_OVERDRIVE_V, clock_ratio_at
from hwdse.models.reliability.single_level_checkpoint import job_mtbf_s
from hwdse.specs.all_designs import AnyDesign
from hwdse.specs.design import CoreDesign, Design
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.specs.serving.engine import ServingDesign
from hwdse.units.format_units import format_number, format_quantity

MIN_GOODPUT_FRACTION = 1e-6
"""Goodput below which a job makes no progress: one step takes a million."""
TOLERANCE = 1e-9
"""Relative excess that is rounding error."""
CLOCK_TOLERANCE = 1e-5
"""Relative distance of two clocks that is rounding error, also in float32."""
GB = 1e9


@dataclass(frozen=True)
class DesignWarning:
    """Reason why a design cannot run."""

    kind: str
    """`memory`, `progress`, `load`, `power` or `clock`."""
    text: str
    """One line with the numbers."""


def design_warnings(design: AnyDesign, evaluation: Evaluation) -> tuple[DesignWarning, ...]:
    """Warnings of a design from its evaluation by the exact model; none if it can run."""
    found = []
    if not fits_memory(evaluation):
        found.append(DesignWarning("memory", _memory_text(design, evaluation)))
    if isinstance(design, Design) and not makes_progress(evaluation):
        found.append(DesignWarning("progress", _progress_text(design, evaluation)))
    if isinstance(design, ServingDesign) and not is_served(evaluation):
        found.append(DesignWarning("load", _load_text(evaluation)))
    if not isinstance(design, CoreDesign):
        if not meets_power_limit(design, evaluation):
            found.append(DesignWarning("power", _power_text(design, evaluation)))
        if not reaches_set_clock(design):
            found.append(DesignWarning("clock", _clock_text(design)))
    return tuple(found)


def fits_memory(evaluation: Evaluation) -> bool:
    """True if the peak footprint, runtime included, is at most the capacity."""
    return bool(evaluation.hbm_used_ratio <= 1.0 + TOLERANCE)


def makes_progress(evaluation: Evaluation) -> bool:
    """True unless failures outrun the work."""
    return bool(evaluation.goodput_fraction >= MIN_GOODPUT_FRACTION)


def is_served(evaluation: Evaluation) -> bool:
    """True if a service can answer its requests as fast as they arrive."""
    return bool(evaluation.load_ratio <= 1.0 + TOLERANCE)


def meets_power_limit(design: Design | ServingDesign, evaluation: Evaluation) -> bool:
    """True without a power limit, or if the throttled chip meets it."""
    limit_w = design.chip.power_limit_w
    return limit_w is None or bool(evaluation.chip_power_w <= limit_w * (1.0 + TOLERANCE))


def highest_clock_ratio(design: Design | ServingDesign) -> float:
    """Clock of the greatest voltage over the set clock, at most 1. Compiles nothing."""
    chip, process = design.chip, design.chip.process
    if process.max_voltage_v is None:
        return 1.0
    least_v = float(process.threshold_voltage_v) + SMALLEST_OVERDRIVE_V
    greatest_v = max(float(process.max_voltage_v), least_v)
    highest_hz = float(chip.nominal_clock_hz) * float(clock_ratio_at(greatest_v, process))
    return min(highest_hz / float(chip.array.clock_hz), 1.0)


def reaches_set_clock(design: Design | ServingDesign) -> bool:
    """True if the greatest voltage of the process allows the set clock."""
    return highest_clock_ratio(design) >= 1.0 - CLOCK_TOLERANCE


def _clock_text(design: Design | ServingDesign) -> str:
    chip = design.chip
    clock_hz = float(chip.array.clock_hz)
    highest = format_quantity(highest_clock_ratio(design) * clock_hz, "Hz")
    return (
        f"CLOCK NOT REACHED: {format_quantity(clock_hz, 'Hz')} needs more than the greatest "
        f"voltage, {format_quantity(float(chip.process.max_voltage_v or 0.0), 'V')}; runs at "
        f"{highest}"
    )


def _memory_text(design: AnyDesign, evaluation: Evaluation) -> str:
    ratio = float(evaluation.hbm_used_ratio)
    if isinstance(design, CoreDesign):
        return f"DOES NOT FIT: a tile needs {format_number(ratio)} times the capacity of a memory"
    capacity = float(design.chip.hbm.capacity_bytes)
    parts = {
        field.name: float(getattr(evaluation.hbm, field.name))
        for field in dataclasses.fields(evaluation.hbm)
    }
    largest = max(parts, key=lambda name: parts[name])
    needed, available, most = (size / GB for size in (ratio * capacity, capacity, parts[largest]))
    return (
        f"DOES NOT FIT: needs {needed:,.1f} GB of {available:,.1f} GB of HBM per chip, "
        f"{most:,.1f} GB of it {largest}"
    )


def _progress_text(design: Design, evaluation: Evaluation) -> str:
    cluster = design.cluster
    mtbf_s = float(job_mtbf_s(cluster.chip_mtbf_s, cluster.num_chips))
    return (
        "MAKES NO PROGRESS: failures outrun the work, with one failure per "
        f"{format_quantity(mtbf_s, 's')}, {format_quantity(float(cluster.restart_time_s), 's')} "
        f"per restart and {format_quantity(float(evaluation.checkpoint_write_time_s), 's')} per "
        "checkpoint"
    )


def _load_text(evaluation: Evaluation) -> str:
    most = float(evaluation.capacity_requests_per_s)
    offered = float(evaluation.load_ratio) * most
    return (
        f"CANNOT BE SERVED: {format_number(offered)} requests/s arrive, "
        f"at most {format_number(most)} can be answered; latencies are those just below"
    )


def _power_text(design: Design | ServingDesign, evaluation: Evaluation) -> str:
    clock, limit_w = 100.0 * float(evaluation.throttled_clock_ratio), design.chip.power_limit_w
    return (
        f"POWER LIMIT NOT REACHED: {format_quantity(float(evaluation.chip_power_w), 'W')} at the "
        f"lowest clock, {format_number(clock)} % of the set one; limit "
        f"{format_quantity(float(limit_w or 0.0), 'W')}"
    )
