"""Rate at the power limit, and power below it, of single products on GPUs against measurements.

Each row repeats one product back to back. At the limit the rate is that of the whole model, with
the clock that the limit leaves. Below it the power is that of the measured rates of FLOP and bytes.
Chips have their published die area, and one efficiency of large products in place of the fitted
ones, which hold the power limit of training.
"""

import math
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.config import load_search
from hwdse.evaluation import evaluate
from hwdse.models.silicon.area import area_parts_mm2
from hwdse.numerics.array_types import Leaf, PerPoint
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, total
from hwdse.specs.design import Design
from hwdse.specs.number_formats import PrecisionMix
from hwdse.validation.power.steady_power import (
    WorkRates,
    chip_and_area,
    power_at_rates_w,
    preset_of,
)
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    read_table,
)
from hwdse.workload.gemms import Gemms, LayerList

COLUMNS = ("device", "dtype", "m", "n", "k", "power_w", "power_limit_w", "at_limit", "tflop_s",
           "tb_s", "working_set")  # fmt: skip
FP8_FRACTION = {"bfloat16": 0.0, "float16": 0.0, "fp8": 1.0, "fp8_block": 1.0}
"""Fraction of a product in FP8 by data type."""
LARGE_PRODUCT_EFFICIENCY = 0.80
"""Sustained over peak rate of large products at an unthrottled clock. Measured: the best 16-bit
products of H200 below its limit (0.79 to 0.80); the same for all chips."""
FP8_EFFICIENCY_RATIO = 0.7
"""Efficiency of block-scaled FP8 kernels over that of 16 bits. Measured: H200 sustains 0.54 to 0.62
of its FP8 peak in long products, B200 0.54."""
TERA = 1e12


Sizes = tuple[PerPoint, PerPoint, PerPoint]
"""Extents m, n, k of products."""


@cache
def _base() -> Design:
    """One chip that runs layer lists; the chip is replaced."""
    design: Any = load_search("trn2_llama3_70b").base
    return replace(
        design,
        cluster=replace(design.cluster, num_chips=1.0),
        parallelism=replace(design.parallelism, tensor=1.0, pipeline=1.0),
    )


def _design(preset: str, limit_w: Leaf, fp8_fraction: Leaf) -> Design:
    """One chip of a preset at a power limit."""
    chip, area_mm2 = chip_and_area(preset)
    missing_mm2 = area_mm2 - total(area_parts_mm2(chip))
    kernel_ratio = 1.0 - (1.0 - FP8_EFFICIENCY_RATIO) * fp8_fraction
    chip = replace(
        chip,
        power_limit_w=limit_w,
        fixed_area_mm2=chip.fixed_area_mm2 + missing_mm2,
        matrix_efficiency_fraction=LARGE_PRODUCT_EFFICIENCY * kernel_ratio,
    )
    return replace(_base(), chip=chip, mix=PrecisionMix(0.0, fp8_fraction))


def rates_at_limit(preset: str, sizes: Sizes, limit_w: PerPoint, fp8: PerPoint) -> np.ndarray:
    """Rate of products of m, n, k at a power limit (FLOP/s)."""

    def rate(m: Leaf, n: Leaf, k: Leaf, limit_w: Leaf, fp8: Leaf) -> Leaf:
        ones = jnp.ones(1)
        # FP8 kernels write 16 bits, and cast A from 16 bits before: read, written, read again.
        a_share, c_share = (1.0 + 3.0 * fp8) * ones, (1.0 + fp8) * ones
        none = 0.0 * ones
        gemms = Gemms(m * ones, k * ones, n * ones, ones, a_share, ones, c_share, none, none)
        found = evaluate(_design(preset, limit_w, fp8), LayerList(gemms, ("product",)), EXACT)
        return 2.0 * m * n * k / found.step_time_s

    with jax.enable_x64(True):
        columns = [jnp.asarray(x, float) for x in (*sizes, limit_w, fp8)]
        return np.asarray(quick_jit(jax.vmap(rate))(*columns))


def validate(path: Path) -> ValidationReport:
    """Error table of `rate_at_limit` and `power` (rows below the limit), by device and format."""
    table = read_table(path, COLUMNS)
    devices, formats = table.text("device"), table.text("dtype")
    presets = [preset_of(device) for device in devices]
    fp8 = np.array([FP8_FRACTION.get(name, math.nan) for name in formats])
    skipped = Counter(
        f"format {name}: not in the format mix" for name in formats if name not in FP8_FRACTION
    )
    skipped.update(
        f"no preset of {device}"
        for device, preset in zip(devices, presets, strict=True)
        if preset is None
    )
    at_limit = table.numbers("at_limit", at_least=0.0) > 0.0
    rate, power = np.full(len(table), math.nan), np.full(len(table), math.nan)
    for preset in sorted({name for name in presets if name is not None}):
        chosen = np.array([name == preset for name in presets]) & ~np.isnan(fp8)
        if np.any(chosen & at_limit):
            rate[chosen & at_limit] = _rates(table, preset, chosen & at_limit, fp8)
        for index in np.flatnonzero(chosen & ~at_limit):
            power[index] = _power_w(table, preset, int(index), float(fp8[index]))
    numbers = {name: table.numbers(name, at_least=0.0) for name in ("tflop_s", "power_w")}
    return build_report(
        "kernel_power",
        path,
        {
            "rate_at_limit": Comparison(TERA * numbers["tflop_s"], rate),
            "power": Comparison(numbers["power_w"], power),
        },
        rows_skipped=skipped,
        group_by={
            "device": devices,
            "rows": [f"{d} {f}" for d, f in zip(devices, formats, strict=True)],
            "working_set": table.text("working_set"),
        },
    )


def _rates(table: ReferenceTable, preset: str, chosen: np.ndarray, fp8: np.ndarray) -> np.ndarray:
    m, n, k = (table.numbers(name, at_least=1.0)[chosen] for name in ("m", "n", "k"))
    limit_w = table.numbers("power_limit_w", at_least=1.0)[chosen]
    return rates_at_limit(preset, (m, n, k), limit_w, fp8[chosen])


def _power_w(table: ReferenceTable, preset: str, index: int, fp8: float) -> float:
    """Power at the measured rates. Operands in the L2 cache take nothing from HBM."""
    row = table.rows[index]
    chip, area_mm2 = chip_and_area(preset)
    from_hbm = 0.0 if row["working_set"] == "l2" else TERA * float(row["tb_s"])
    rates = WorkRates(TERA * float(row["tflop_s"]), from_hbm, fp8)
    return power_at_rates_w(rates, chip, area_mm2, float(row["power_limit_w"]))
