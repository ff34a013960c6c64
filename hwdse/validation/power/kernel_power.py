"""Rate at the power limit, and power below it, of single products on GPUs against measurements.

Each row repeats one product back to back. At the limit the rate is that of the whole model, with
the clock that the limit leaves. Below it the power is that of the measured rates of FLOP and bytes,
with kernels resident as long as the model says, as the meter reads it. Chips have their published
die area, and the efficiency of the kernels of a format in place of the fitted ones of training.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.config import load_system
from hwdse.evaluation import evaluate
from hwdse.models.precision.precision_mix import mix_bytes_per_element
from hwdse.models.silicon.area import area_parts_mm2
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerPoint
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, total
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.hardware.cluster import Cluster
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
           "tb_s", "working_set", "latency_ms")  # fmt: skip


@dataclass(frozen=True)
class Kernels:
    """Products of one data type of the table, with the casts before them."""

    efficiency_fraction: float
    """Sustained over peak rate of large products of the format at an unthrottled clock."""
    cast_bytes: float = 0.0
    """Bytes at full HBM bandwidth that take as long as the cast of one element of A from 16 bits,
    a kernel of its own. The least is 3 with block scales in FP8, 5 with a scale of the tensor
    (read for its maximum before), and 2.6 in FP4."""
    fp8_fraction: float = 0.0
    fp4_fraction: float = 0.0


WIDE = Kernels(0.82)
KERNELS = {
    "bfloat16": WIDE,
    "float16": WIDE,
    "fp8_block": Kernels(0.67, 8.0, fp8_fraction=1.0),
    "fp8": Kernels(0.67, 9.0, fp8_fraction=1.0),
    "nvfp4": Kernels(0.56, 4.0, fp4_fraction=1.0),
}
"""By data type. Fitted on the rates at the limit of all public rows of a type (H200 and B200
together); a type has the same values on both chips."""
FOLD_OVERHEAD_CYCLES = 200.0
"""Prologue and epilogue of a tile. Fitted with the 16-bit efficiency on the rates at the limit."""
AWAKE_FRACTION = 0.5
"""Part of the clock power that a chip draws between kernels that follow within some 100 µs. Fitted:
rows with kernels resident for less than a tenth of the time, H200 188 W (0.58 of the clock power
above idle), B200 265 W (0.42)."""
LONG_KERNEL_S, METER_WEIGHT = 1e-4, 0.55
"""Kernels of this time and longer are read each 0.1 s of the first second under load. The meter
shows a mean of the last second, so that the mean of its readings has this weight of the power under
load (derived, mean of 0.1 to 1.0). The remainder is the power before: a chip that is awake."""
WIDE_BYTES = 2.0
"""Bytes of a 16-bit element."""
UNLIMITED_W = 1e9
CHECKPOINT_INTERVAL_S = 3600.0
"""Without effect on the time of a step."""
TERA = 1e12


Sizes = tuple[PerPoint, PerPoint, PerPoint]
"""Extents m, n, k of products."""


SYSTEM = "dgx_h100"
"""System of the chip; it has no effect on a product of one chip."""


@cache
def _cluster() -> Cluster:
    return replace(load_system(SYSTEM).cluster, num_chips=1.0)


@struct.dataclass
class Product:
    """One row: extents, kernels and power limit of a product; arrays for many."""

    m: PerPoint
    n: PerPoint
    k: PerPoint
    limit_w: PerPoint
    efficiency_fraction: PerPoint
    cast_bytes: PerPoint
    fp8_fraction: PerPoint
    fp4_fraction: PerPoint
    is_cached: PerPoint
    """1 if all operands stay in the L2 cache from one repetition to the next."""


def products(
    sizes: Sizes, limit_w: PerPoint, kernels: Sequence[Kernels], is_cached: PerPoint
) -> Product:
    """Rows of products of m, n, k (as `sizes`)."""

    def column(name: str) -> PerPoint:
        return np.array([getattr(kernel, name) for kernel in kernels])

    m, n, k = sizes
    return Product(
        m=m,
        n=n,
        k=k,
        limit_w=limit_w,
        efficiency_fraction=column("efficiency_fraction"),
        cast_bytes=column("cast_bytes"),
        fp8_fraction=column("fp8_fraction"),
        fp4_fraction=column("fp4_fraction"),
        is_cached=is_cached,
    )


def _design(preset: str, row: Product) -> Design:
    """One chip of a preset at a power limit. Operands in the L2 cache take no energy of HBM."""
    chip, area_mm2 = chip_and_area(preset)
    missing_mm2 = area_mm2 - total(area_parts_mm2(chip))
    hbm_j_per_byte = chip.hbm.energy_j_per_byte * (1.0 - row.is_cached)
    chip = replace(
        chip,
        power_limit_w=row.limit_w,
        fixed_area_mm2=chip.fixed_area_mm2 + missing_mm2,
        matrix_efficiency_fraction=row.efficiency_fraction,
        array=replace(chip.array, fold_overhead_cycles=FOLD_OVERHEAD_CYCLES),
        hbm=replace(chip.hbm, energy_j_per_byte=hbm_j_per_byte),
    )
    mix = PrecisionMix(0.0, row.fp8_fraction, fp4_flop_fraction=row.fp4_fraction)
    alone = Parallelism(tensor=1.0, pipeline=1.0, micro_batch=1.0, recompute_fraction=0.0)
    return Design(chip, _cluster(), mix, alone, CHECKPOINT_INTERVAL_S)


def product_times_s(preset: str, rows: Product) -> np.ndarray:
    """Time of products with the casts before them, at the clock that the limit leaves (s)."""

    def time_s(row: Product) -> Leaf:
        design = _design(preset, row)
        is_low = row.fp8_fraction + row.fp4_fraction
        zero = 0.0 * row.m
        one = 1.0 + zero

        def both(product: Leaf, cast: Leaf) -> Leaf:
            return jnp.stack([product + zero, cast + zero])

        # Results have 16 bits. The cast is a kernel with one product, which takes no time.
        wide = WIDE_BYTES / mix_bytes_per_element(design.mix)
        gemms = Gemms(
            m=both(row.m, one),
            k=both(row.k, one),
            n=both(row.n, one),
            count=both(one, is_low),
            a_in_hbm=both(one, one),
            b_in_hbm=both(one, one),
            c_in_hbm=both(wide, one),
            vector_flop=both(zero, zero),
            extra_bytes=both(zero, row.cast_bytes * row.m * row.k),
        )
        return evaluate(design, LayerList(gemms, ("product", "cast")), EXACT).step_time_s

    with jax.enable_x64(True):
        columns = jax.tree.map(lambda x: jnp.asarray(x, float), rows)
        return np.asarray(quick_jit(jax.vmap(time_s))(columns))


def validate(path: Path) -> ValidationReport:
    """Error table of `rate_at_limit` and `power` (rows below the limit), by device and format."""
    table = read_table(path, COLUMNS)
    devices, formats = table.text("device"), table.text("dtype")
    presets = [preset_of(device) for device in devices]
    skipped = Counter(f"format {name}: no kernels" for name in formats if name not in KERNELS)
    skipped.update(
        f"no preset of {device}"
        for device, preset in zip(devices, presets, strict=True)
        if preset is None
    )
    numbers = {name: table.numbers(name, at_least=0.0) for name in ("tflop_s", "power_w")}
    at_limit = table.numbers("at_limit", at_least=0.0) > 0.0
    rate, power = np.full(len(table), math.nan), np.full(len(table), math.nan)
    is_known = np.array([name in KERNELS for name in formats])
    for preset in sorted({name for name in presets if name is not None}):
        chosen = np.flatnonzero(np.array([name == preset for name in presets]) & is_known)
        for limits, is_limited in ((None, True), (UNLIMITED_W, False)):
            indices = chosen[at_limit[chosen] == is_limited]
            if not indices.size:
                continue
            rows = _rows(table, indices, limits)
            times_s = product_times_s(preset, rows)
            if is_limited:
                rate[indices] = 2.0 * rows.m * rows.n * rows.k / times_s
                continue
            for index, time_s in zip(indices, times_s, strict=True):
                power[index] = _power_w(table, preset, int(index), float(time_s))
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


def _rows(table: ReferenceTable, indices: np.ndarray, limit_w: float | None) -> Product:
    """Products of rows at the limits of the table, or all at another one."""
    m, n, k = (table.numbers(name, at_least=1.0)[indices] for name in ("m", "n", "k"))
    limits_w = table.numbers("power_limit_w", at_least=1.0)[indices]
    formats, sets = table.text("dtype"), table.text("working_set")
    return products(
        (m, n, k),
        limits_w if limit_w is None else np.full(len(indices), limit_w),
        [KERNELS[formats[index]] for index in indices],
        np.array([float(sets[index] == "l2") for index in indices]),
    )


def _power_w(table: ReferenceTable, preset: str, index: int, kernel_s: float) -> float:
    """Power that the meter shows at the measured rates, with kernels resident for `kernel_s`.

    Operands in the L2 cache take nothing from HBM.
    """
    row, kernels = table.rows[index], KERNELS[table.text("dtype")[index]]
    latency_s = 1e-3 * float(row["latency_ms"])
    chip, area_mm2 = chip_and_area(preset)
    resident = AWAKE_FRACTION + (1.0 - AWAKE_FRACTION) * min(1.0, kernel_s / latency_s)
    from_hbm = 0.0 if row["working_set"] == "l2" else TERA * float(row["tb_s"])
    rates = WorkRates(
        TERA * float(row["tflop_s"]),
        from_hbm,
        kernels.fp8_fraction,
        kernels.fp4_fraction,
        resident_fraction=resident,
    )
    awake = WorkRates(0.0, 0.0, resident_fraction=AWAKE_FRACTION)
    limit_w = float(row["power_limit_w"])
    under_load_w, before_w = (
        power_at_rates_w(work, chip, area_mm2, limit_w) for work in (rates, awake)
    )
    return meter_w(under_load_w, before_w, latency_s)


def meter_w(under_load_w: float, before_w: float, latency_s: float) -> float:
    """Mean reading of a lagging meter in a measurement of one kernel (W)."""
    weight = METER_WEIGHT if latency_s >= LONG_KERNEL_S else 1.0
    return before_w + weight * (under_load_w - before_w)
