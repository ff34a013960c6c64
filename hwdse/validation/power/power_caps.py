"""Slowdown of GPUs under power caps against measured epochs and products.

A cap below the mean power that a job draws without one binds. The job then runs at the clock r
that the cap leaves, by the voltage law of the N5 preset: $P(r) = S + (P_0 - S) r (V / V_n)^2$ with
the power $P_0$ without cap and the idle power S of the GPU. Time grows by $c / r + 1 - c$ with the
share c of the time that follows the clock. Only the power law of the GPU is needed, no chip.
"""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.config.hardware.process_presets import load_process
from hwdse.models.energy.voltage_and_leakage import supply_voltage_v
from hwdse.numerics.array_types import PerPoint
from hwdse.validation.shared.reference_table import (
    Comparison,
    ValidationReport,
    build_report,
    read_table,
)

COLUMNS = ("gpu", "network", "power_limit_w", "time_ratio", "uncapped_power_w")
IDLE_POWER_W: Mapping[str, float] = MappingProxyType(
    {"V100": 34.8, "P100": 33.3, "RTX6000": 54.7, "A40": 79.9, "B300": 183.5}
)
"""Idle power of a board (W). Measured: lowest means while a small model trains (Zeus traces, NSDI
2023); B300 by NVML with nothing resident."""
CLOCKED_FRACTION = 0.75
"""Share of the time of an epoch that follows the clock; the remainder waits for memory and host.
Fitted with threshold and least voltage on V100, P100, RTX6000 and A40 together, on a grid; between
0.75 and 0.85 the mean errors move by less than a point and a half."""
SINGLE_PRODUCT = "gemm"
"""Network of rows that repeat one large product: all of their time follows the clock."""
LOWEST_CLOCK, NUM_CLOCKS = 0.05, 400


def slowdown(
    power_w: PerPoint, limit_w: PerPoint, idle_w: PerPoint, clocked_fraction: PerPoint
) -> np.ndarray:
    """Time over the time without cap; the lowest clock is the end of the law."""
    ratios = np.linspace(LOWEST_CLOCK, 1.0, NUM_CLOCKS)
    process = load_process("n5")
    with jax.enable_x64(True):
        volts = np.asarray(jax.vmap(lambda r: supply_voltage_v(r, process))(jnp.asarray(ratios)))
    switched = ratios * (volts / float(process.nominal_voltage_v)) ** 2
    share = (np.asarray(limit_w) - idle_w) / (np.asarray(power_w) - idle_w)
    clock = np.interp(share, switched, ratios)
    return np.asarray(clocked_fraction / clock + 1.0 - clocked_fraction)


def validate(path: Path) -> ValidationReport:
    """Error table of the slowdown where the cap binds, by GPU."""
    table = read_table(path, COLUMNS)
    gpus = table.text("gpu")
    limit_w = table.numbers("power_limit_w", at_least=1.0)
    free_w = table.numbers("uncapped_power_w", at_least=1.0)
    reference = table.numbers("time_ratio", at_least=0.0)
    idle_w = np.array([IDLE_POWER_W.get(gpu, math.nan) for gpu in gpus])
    is_product = np.array([SINGLE_PRODUCT in name.lower() for name in table.text("network")])
    binds = limit_w < free_w
    skipped = Counter(
        {
            "no power law of this GPU": int(np.isnan(idle_w).sum()),
            "the cap is above the power without one": int((~binds & ~np.isnan(idle_w)).sum()),
        }
    )
    model = slowdown(
        np.where(binds, free_w, limit_w + 1.0),
        limit_w,
        idle_w,
        np.where(is_product, 1.0, CLOCKED_FRACTION),
    )
    return build_report(
        "power_caps",
        path,
        {"slowdown": Comparison(reference, np.where(binds, model, math.nan))},
        rows_skipped=skipped,
        group_by={"gpu": gpus},
    )
