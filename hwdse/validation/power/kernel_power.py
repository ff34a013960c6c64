"""Rate at the power limit, and power below it, of single products on GPUs against measurements.

Each row repeats one product back to back. At the limit the rate is that of the whole model, with
the clock that the limit leaves. Below it the power is that of the measured latency: its rates of
FLOP and bytes, and clocks of the share of the SMs and of the time that the product keeps busy. The
meter lags (`lagging_meter`), so that a reading also shows the products measured before
(`kernel_collection`), whose latencies are those of the model. Chips have their published die area,
and the efficiency of the kernels of a format in place of the fitted ones of training.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
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
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.hardware.cluster import Cluster
from hwdse.specs.number_formats import PrecisionMix
from hwdse.validation.power.kernel_collection import Source, before, l2_bytes, load_s
from hwdse.validation.power.lagging_meter import mean_reading_w
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
           "working_set", "latency_ms")  # fmt: skip


@dataclass(frozen=True)
class Kernels:
    """Products of one data type of the table, with the casts before them."""

    efficiency_fraction: float
    """Sustained over peak rate of large products of the format at an unthrottled clock."""
    cast_bytes: float = 0.0
    """Bytes at full HBM bandwidth that take as long as the cast of one element of A from 16 bits,
    a kernel of its own. The least is 3 with block scales in FP8, 5 with a scale of the tensor
    (read for its maximum before), and 2.6 in FP4."""
    moved_bytes: float = 0.0
    """That least: bytes that the cast of one element reads and writes."""
    fp8_fraction: float = 0.0
    fp4_fraction: float = 0.0


WIDE = Kernels(0.82)
KERNELS = {
    "bfloat16": WIDE,
    "float16": WIDE,
    "fp8_block": Kernels(0.67, 8.0, 3.0, fp8_fraction=1.0),
    "fp8": Kernels(0.67, 9.0, 5.0, fp8_fraction=1.0),
    "nvfp4": Kernels(0.56, 4.0, 2.6, fp4_fraction=1.0),
}
"""By data type. Fitted on the rates at the limit of all public rows of a type (H200 and B200
together); a type has the same values on both chips."""
FOLD_OVERHEAD_CYCLES = 200.0
"""Prologue and epilogue of a tile. Fitted with the 16-bit efficiency on the rates at the limit."""
AWAKE_FRACTION = 0.4
"""Part of the clock power that a chip draws between kernels, and that idle SMs draw beside busy
ones. Fitted on the public rows below the limit, with `PREPARATION_S` and `SPLIT_DEPTH`; 0.35 to 0.4
with any device, format or framework left out."""
TILE = 128.0
"""Rows and columns of the tile of a thread block, one to an SM. Assumed."""
SPLIT_DEPTH = 512.0
"""Least extent along k of a thread block where few tiles are split along k to fill the chip. Fitted
with `AWAKE_FRACTION`; 256 to 512."""
LANES_PER_SM = 128.0
"""FP32 lanes of an SM of Hopper and Blackwell (NVIDIA)."""
CACHED_SHARE = 0.5
"""Share of the L2 cache within which repeated operands stay in it. Assumed."""
NUM_BEFORE = 16
"""Products before a row that the meter can still show: each takes 60 ms and a pause, or more."""
WIDE_BYTES = 2.0
"""Bytes of a 16-bit element."""
UNLIMITED_W = 1e9
CHUNK = 1024
"""Products evaluated at once, in one compiled program."""
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


@cache
def _chunk_times(preset: str) -> Callable[[Product], jax.Array]:
    """Compiled times of `CHUNK` products on a chip."""

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

    return quick_jit(jax.vmap(time_s))


def product_times_s(preset: str, rows: Product) -> np.ndarray:
    """Time of products with the casts before them, at the clock that the limit leaves (s)."""
    num = len(rows.m)
    if num == 0:
        return np.zeros(0)
    times_s = np.empty(num)
    with jax.enable_x64(True):
        for start in range(0, num, CHUNK):
            chosen = np.minimum(np.arange(start, start + CHUNK), num - 1)
            chunk = jax.tree.map(lambda x, chosen=chosen: jnp.asarray(x, float)[chosen], rows)
            stop = min(start + CHUNK, num)
            times_s[start:stop] = np.asarray(_chunk_times(preset)(chunk))[: stop - start]
    return times_s


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
        limited, free = chosen[at_limit[chosen]], chosen[~at_limit[chosen]]
        if limited.size:
            rows = _rows(table, preset, limited)
            rate[limited] = 2.0 * rows.m * rows.n * rows.k / product_times_s(preset, rows)
        if free.size:
            power[free] = _readings_w(table, preset, free)
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


def _frameworks(table: ReferenceTable) -> list[str]:
    """Frameworks of the rows; those without one count as measured in the order of m."""
    return table.text("framework") if "framework" in table.columns else [""] * len(table)


def _rows(table: ReferenceTable, preset: str, indices: np.ndarray) -> Product:
    """Products of rows at their limits."""
    limits_w = table.numbers("power_limit_w", at_least=1.0)[indices]
    formats, frameworks = table.text("dtype"), _frameworks(table)
    chip, _ = chip_and_area(preset)
    cached = np.zeros(len(indices))
    for framework, dtype in sorted({(frameworks[i], formats[i]) for i in indices}):
        here = np.array([(frameworks[i], formats[i]) == (framework, dtype) for i in indices])
        source, sizes = Source(framework, chip), _sizes(table, indices[here])
        cached[here] = stays_in_l2(source, dtype, sizes)
    kernels = [KERNELS[formats[index]] for index in indices]
    return products(_sizes(table, indices), limits_w, kernels, cached)


def _sizes(table: ReferenceTable, indices: np.ndarray) -> Sizes:
    m, n, k = (table.numbers(name, at_least=1.0)[indices] for name in ("m", "n", "k"))
    return m, n, k


def _readings_w(table: ReferenceTable, preset: str, indices: np.ndarray) -> np.ndarray:
    """Power that the meter shows for rows below the limit, see the module (W)."""
    frameworks, formats = _frameworks(table), table.text("dtype")
    latency_s = 1e-3 * table.numbers("latency_ms", at_least=0.0)[indices]
    limit_w = table.numbers("power_limit_w", at_least=1.0)[indices]
    chip, _ = chip_and_area(preset)
    shown_w = np.empty(len(indices))
    groups = sorted({(frameworks[index], formats[index]) for index in indices})
    for framework, dtype in groups:
        here = np.array([(frameworks[i], formats[i]) == (framework, dtype) for i in indices])
        source = Source(framework, chip)
        loads = _Loads(source, preset, dtype, _sizes(table, indices[here]))
        shown_w[here] = loads.readings_w(latency_s[here], limit_w[here])
    return shown_w


@dataclass(frozen=True)
class _Loads:
    """Rows of one framework, chip and format."""

    source: Source
    preset: str
    dtype: str
    sizes: Sizes

    def readings_w(self, latency_s: PerPoint, limit_w: PerPoint) -> np.ndarray:
        """Mean readings in products of a latency (W)."""
        formats = self.source.formats(self.dtype)
        past = before(self.source, self.dtype, self.sizes, NUM_BEFORE)
        durations_s, powers_w = np.zeros(past.m.shape), np.zeros(past.m.shape)
        pauses_s = np.zeros(past.m.shape)
        awake_w = _awake_w(self.preset)
        for index, dtype in enumerate(formats):
            here = past.is_measured & (past.format_index == index)
            sizes = past.m[here], past.n[here], past.k[here]
            kernel_s = _unlimited_s(self.preset, dtype, sizes)
            product_s = np.maximum(kernel_s, self.source.least_product_s(dtype))
            limits_w = np.broadcast_to(limit_w[:, None], here.shape)[here]
            powers_w[here] = load_w(self.source, self.preset, dtype, sizes, product_s, limits_w)
            durations_s[here] = load_s(product_s, _copies(self.source, dtype, sizes))
            pauses_s[here] = self.source.preparation_s(dtype)
        own_pause_s = np.full((len(latency_s), 1), self.source.preparation_s(self.dtype))
        # Newest first: the own pause, then each load and the pause before it.
        spans_s = np.stack([durations_s, pauses_s], axis=-1).reshape(len(latency_s), -1)
        watts = np.stack([powers_w, np.full(past.m.shape, awake_w)], axis=-1)
        return mean_reading_w(
            load_w(self.source, self.preset, self.dtype, self.sizes, latency_s, limit_w),
            load_s(latency_s, _copies(self.source, self.dtype, self.sizes)),
            np.concatenate([own_pause_s, spans_s], axis=1),
            np.concatenate(
                [np.full(own_pause_s.shape, awake_w), watts.reshape(len(latency_s), -1)], axis=1
            ),
            np.full(len(latency_s), awake_w),
        )


def _unlimited_s(preset: str, dtype: str, sizes: Sizes) -> np.ndarray:
    """Time of products without a power limit."""
    num = len(sizes[0])
    limits_w = np.full(num, UNLIMITED_W)
    return product_times_s(preset, products(sizes, limits_w, [KERNELS[dtype]] * num, np.zeros(num)))


def _awake_w(preset: str) -> float:
    """Power of a chip between kernels that follow within some 100 µs."""
    chip, area_mm2 = chip_and_area(preset)
    awake = WorkRates(0.0, 0.0, resident_fraction=AWAKE_FRACTION)
    return float(power_at_rates_w(awake, chip, area_mm2, math.inf))


def _copies(source: Source, dtype: str, sizes: Sizes) -> np.ndarray:
    _, n, k = sizes
    return source.copies(dtype, element_bytes(dtype) * n * k)


def element_bytes(dtype: str) -> float:
    """Bytes of one operand element of a data type of the table, with its scale."""
    kernels = KERNELS[dtype]
    mix = PrecisionMix(0.0, kernels.fp8_fraction, fp4_flop_fraction=kernels.fp4_fraction)
    return float(mix_bytes_per_element(mix))


def _cast_set_bytes(dtype: str, sizes: Sizes) -> np.ndarray:
    """Bytes of A, and of its 16-bit original where it is cast."""
    m, _, k = sizes
    wide_bytes = WIDE_BYTES if KERNELS[dtype].moved_bytes > 0.0 else 0.0
    return np.asarray((element_bytes(dtype) + wide_bytes) * m * k)


def stays_in_l2(source: Source, dtype: str, sizes: Sizes) -> np.ndarray:
    """True for products whose operands, with all copies of B, stay in the L2 cache."""
    m, n, k = sizes
    weights = _copies(source, dtype, sizes) * element_bytes(dtype) * n * k
    product_set = _cast_set_bytes(dtype, sizes) + weights + WIDE_BYTES * m * n
    return product_set < CACHED_SHARE * l2_bytes(source.chip)


def traffic_bytes(source: Source, dtype: str, sizes: Sizes) -> np.ndarray:
    """Bytes of a product and its cast from HBM; what stays in the L2 cache takes none."""
    m, n, k = sizes
    product = element_bytes(dtype) * (m * k + n * k) + WIDE_BYTES * m * n
    is_cast_in_l2 = _cast_set_bytes(dtype, sizes) < CACHED_SHARE * l2_bytes(source.chip)
    cast = np.where(is_cast_in_l2, 0.0, KERNELS[dtype].moved_bytes * m * k)
    return np.where(stays_in_l2(source, dtype, sizes), 0.0, product) + cast


def busy_sm_share(chip: Chip, sizes: Sizes) -> np.ndarray:
    """Share of the SMs that have a thread block of a product, whose tiles may be split along k."""
    m, n, k = sizes
    num_sms = float(chip.vector_flop_per_s) / (LANES_PER_SM * float(chip.array.clock_hz))
    blocks = np.ceil(m / TILE) * np.ceil(n / TILE) * np.ceil(k / SPLIT_DEPTH)
    return np.minimum(1.0, blocks / num_sms)


def load_w(
    source: Source,
    preset: str,
    dtype: str,
    sizes: Sizes,
    product_s: PerPoint,
    limit_w: PerPoint,
) -> np.ndarray:
    """Power of a chip that repeats products of a data type, each in `product_s` (W)."""
    m, n, k = sizes
    kernels, (chip, area_mm2) = KERNELS[dtype], chip_and_area(preset)
    busy_time = np.minimum(1.0, _unlimited_s(preset, dtype, sizes) / product_s)
    active = busy_time * busy_sm_share(chip, sizes)
    rates = WorkRates(
        2.0 * m * n * k / product_s,
        traffic_bytes(source, dtype, sizes) / product_s,
        kernels.fp8_fraction,
        kernels.fp4_fraction,
        resident_fraction=AWAKE_FRACTION + (1.0 - AWAKE_FRACTION) * active,
    )
    return np.asarray(power_at_rates_w(rates, chip, area_mm2, limit_w))
