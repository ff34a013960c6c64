"""Constants of kernels by chip, fitted on measured kernels, with errors of rows left out.

    python -m hwdse.calibration.kernel_fit gemm measured_gemm_public.csv
    python -m hwdse.calibration.kernel_fit attention measured_attention_public.csv
    python -m hwdse.calibration.kernel_fit ops measured_ops_public.csv
    python -m hwdse.calibration.kernel_fit experts measured_ops_public.csv

Least squares of the logarithm of model over measurement with a soft loss. A constant is a value of
all chips times a deviation of one chip with a prior, so that a chip with few rows keeps the common
value of what its rows do not show. Shared constants are those of the modules that name them. Prints
constants, errors on the fitted rows, and errors of rows whose shape, weights, m or device was left
out of the fit (four folds; a device without rows has the constants of its next relative).
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

from hwdse.models.compute import attention_times, expert_times, gemm_times
from hwdse.models.compute.attention_times import attention_time_s
from hwdse.models.compute.expert_times import expert_time_s
from hwdse.models.compute.gemm_times import gemm_time_s
from hwdse.specs.hardware.kernel_costs import KernelCosts
from hwdse.specs.kernel_formats import KERNEL_FORMATS
from hwdse.validation.kernels.attention import AttentionRows
from hwdse.validation.kernels.gemm import GemmRows
from hwdse.validation.kernels.kernel_devices import stacked_costs, stacked_rates
from hwdse.validation.kernels.ops import OPS, OpRows
from hwdse.validation.shared.reference_table import read_table

NUM_FOLDS = 4
SEED = 0
PRIOR_WEIGHT = 0.05
"""Residual of a deviation of one prior width: as much as an error of 5 % of one row."""
SOFTNESS = 0.12
"""Error in logs beyond which the loss grows linearly."""
RELATIVES = MappingProxyType(
    {
        "B200-SXM": "GB200",
        "GB200": "B200-SXM",
        "H100-SXM5-80GB": "B200-SXM",
        "A100-SXM4-80GB": "H100-SXM5-80GB",
        "A40": "A100-SXM4-80GB",
        "RTX-3090": "A40",
        "L40S": "RTX-4090",
        "RTX-4090": "L40S",
    }
)
"""Device whose constants one that is left out gets: its generation, or the one before or after."""


@dataclass(frozen=True)
class ChipConstant:
    """Field of `KernelCosts` that each chip has."""

    name: str
    start: float
    spread: float
    """Prior width of the deviation of a chip, in logs."""
    most: float | None = None
    """Largest value, of shares of a peak."""

    def value(self, x: Any) -> Any:
        """Value of a free parameter."""
        if self.most is None:
            return jnp.exp(x)
        return self.most * jax.nn.sigmoid(x)

    @property
    def start_parameter(self) -> float:
        """Free parameter of the start."""
        if self.most is None:
            return float(np.log(self.start))
        share = self.start / self.most
        return float(np.log(share / (1.0 - share)))


@dataclass(frozen=True)
class SharedConstant:
    """Constant of all chips."""

    name: str
    start: float
    spread: float
    module: ModuleType | None = None
    """Module with a constant of this name; None for a constant of a format or an operator."""


Predict = Callable[[dict[str, Any], dict[str, Any], np.ndarray], Any]
"""Times by constants of the chips of the rows, shared constants, and rows."""


@dataclass(frozen=True)
class KernelFit:
    """A table of measured kernels with the constants to fit."""

    time_s: np.ndarray
    devices: list[str]
    chip_constants: tuple[ChipConstant, ...]
    shared_constants: tuple[SharedConstant, ...]
    predict: Predict
    folds: dict[str, np.ndarray] = field(default_factory=dict)
    """Fold of each row by what is left out."""

    @property
    def names(self) -> list[str]:
        """Devices in order."""
        return sorted(set(self.devices))

    @property
    def of_device(self) -> np.ndarray:
        """Index of the device of each row."""
        return np.array([self.names.index(name) for name in self.devices])

    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """Start of all free parameters, and the widths of their priors."""
        num_devices = len(self.names)
        chips = [one.start_parameter for one in self.chip_constants]
        shared = [np.log(one.start) for one in self.shared_constants]
        start = np.concatenate([chips, np.zeros(len(chips) * num_devices), shared])
        widths = [max(one.spread, 1e-4) for one in self.chip_constants]
        spreads = [one.spread for one in self.shared_constants]
        return start, np.concatenate([np.ones(len(chips)), np.tile(widths, num_devices), spreads])

    def constants(self, free: Any, of_device: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
        """Constants of the chips of some rows, and shared ones."""
        num, num_devices = len(self.chip_constants), len(self.names)
        own = free[num : num * (1 + num_devices)].reshape(num_devices, num)
        each = (free[None, :num] + own)[of_device]
        chips = {c.name: c.value(each[:, i]) for i, c in enumerate(self.chip_constants)}
        rest = free[num * (1 + num_devices) :]
        return chips, {c.name: jnp.exp(rest[i]) for i, c in enumerate(self.shared_constants)}

    def times_s(self, free: Any, rows: np.ndarray, of_device: np.ndarray | None = None) -> Any:
        """Predicted times of some rows, with the constants of other devices if given."""
        devices = self.of_device[rows] if of_device is None else of_device
        chips, shared = self.constants(free, devices)
        with _replaced(self.shared_constants, shared):
            return self.predict(chips, shared, rows)

    def fitted(self, rows: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """Free parameters of least squares on some rows."""
        start, widths = self.start()
        weight = PRIOR_WEIGHT / widths
        errors = jax.jit(lambda free: jnp.log(self.times_s(free, rows) / self.time_s[rows]))
        slopes = jax.jit(jax.jacfwd(errors))
        return least_squares(
            lambda free: np.concatenate([np.asarray(errors(free)), weight * (free - start)]),
            start if first is None else first,
            jac=lambda free: np.concatenate([np.asarray(slopes(free)), np.diag(weight)]),  # type: ignore[arg-type]
            loss="soft_l1",
            f_scale=SOFTNESS,
            max_nfev=60 if first is None else 25,
        ).x

    def left_out(self, fold: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Times of all rows by fits without their fold."""
        found = np.empty(len(self.time_s))
        for number in np.unique(fold):
            rows = np.flatnonzero(fold == number)
            free = self.fitted(np.flatnonzero(fold != number), first)
            found[rows] = np.asarray(self.times_s(free, rows))
        return found

    def device_left_out(self, first: np.ndarray) -> np.ndarray:
        """Times of all rows by fits without their device, see `RELATIVES`."""
        found = np.empty(len(self.time_s))
        num = len(self.chip_constants)
        for index, name in enumerate(self.names):
            rows = np.flatnonzero(self.of_device == index)
            free = self.fitted(np.flatnonzero(self.of_device != index), first).copy()
            relative = RELATIVES.get(name, "")
            if relative in self.names:
                others = np.full(len(rows), self.names.index(relative))
            else:
                others = None
                free[num * (1 + index) : num * (2 + index)] = 0.0
            found[rows] = np.asarray(self.times_s(free, rows, others))
        return found


@contextmanager
def _replaced(constants: Sequence[SharedConstant], values: Mapping[str, Any]) -> Iterator[None]:
    """Modules with other values of their constants."""
    chosen = [(one.module, one.name) for one in constants if one.module is not None]
    before = [getattr(module, name) for module, name in chosen]
    try:
        for module, name in chosen:
            setattr(module, name, values[name])
        yield
    finally:
        for (module, name), value in zip(chosen, before, strict=True):
            setattr(module, name, value)


def _take(tree: Any, rows: np.ndarray) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x)[rows] if np.ndim(x) else x, tree)


def _folds(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fold of each row; rows of equal value share it."""
    distinct, index = np.unique(values, return_inverse=True)
    return rng.integers(0, NUM_FOLDS, len(distinct))[index]


def gemm_fit(path: Path) -> KernelFit:
    """Products: rates, memory, start, overhead of tiles, formats."""
    rows = GemmRows(read_table(path))
    names = sorted(set(rows.formats))
    index = np.array([names.index(name) for name in rows.formats])
    fmt, rates = rows.fmt(), stacked_rates(rows.devices)
    fixed = [n for n in names if KERNEL_FORMATS[n].fixed_s > 0.0]
    rated = [n for n in fixed if n != "nvfp4"]  # its latency per depth hides the rate

    def predict(chips: dict, shared: dict, chosen: np.ndarray) -> Any:
        fixed_s = jnp.stack([1e-6 * shared[f"fixed_us {n}"] if n in fixed else 0.0 for n in names])
        rate = jnp.stack([shared[f"rate {n}"] if n in rated else jnp.ones(()) for n in names])
        own = _take(fmt, chosen).replace(
            fixed_s=fixed_s[index[chosen]], rate_ratio=rate[index[chosen]]
        )
        m, n, k = (jnp.asarray(x)[chosen] for x in (rows.m, rows.n, rows.k))
        copies = jnp.asarray(rows.copies)[chosen]
        return gemm_time_s(m, n, k, own, _take(rates, chosen), KernelCosts(**chips), copies)

    rng = np.random.default_rng(SEED)
    return KernelFit(
        rows.time_s,
        rows.devices,
        (
            ChipConstant("start_s", 2.5e-6, 1.0),
            ChipConstant("matrix_fraction", 0.85, 0.5, 1.15),
            ChipConstant("matrix8_fraction", 0.75, 0.5, 1.0),
            ChipConstant("matrix4_fraction", 0.75, 0.5, 1.0),
            ChipConstant("hbm_fraction", 0.85, 0.5, 1.0),
            ChipConstant("depth8_s", 0.5e-9, 0.3),
            ChipConstant("depth4_s", 1.7e-9, 0.3),
            ChipConstant("cache_ratio", 1.2, 0.5),
            ChipConstant("tile_overhead_cycles", 100.0, 0.5),
            ChipConstant("launch_s", 20e-6, 0.5),
        ),
        (
            *(SharedConstant(f"fixed_us {n}", 1e6 * KERNEL_FORMATS[n].fixed_s, 1.0) for n in fixed),
            *(SharedConstant(f"rate {n}", 1.0, 0.3) for n in rated),
            SharedConstant("SPLIT_S", 5e-6, 0.5, gemm_times),
            SharedConstant("SHARPNESS", 2.6, 0.3, gemm_times),
            SharedConstant("LEAST_DEPTH", 120.0, 0.5, gemm_times),
        ),
        predict,
        {
            "rows": rng.integers(0, NUM_FOLDS, len(rows.m)),
            "m": _folds(rows.m, rng),
            "weight shape": _folds(rows.n * 1e7 + rows.k, rng),
        },
    )


def attention_fit(path: Path) -> KernelFit:
    """Fused attention, prefill and decode."""
    rows = AttentionRows(read_table(path))
    rates = stacked_rates(rows.devices)

    def predict(chips: dict, _: dict, chosen: np.ndarray) -> Any:
        return attention_time_s(
            _take(rows.work, chosen), _take(rates, chosen), KernelCosts(**chips)
        )

    here = attention_times
    return KernelFit(
        rows.time_s,
        rows.devices,
        (
            ChipConstant("decode_start_s", 9e-6, 0.5),
            ChipConstant("prefill_start_s", 13e-6, 0.5),
            ChipConstant("kv_fraction", 0.9, 0.2, 1.0),
            ChipConstant("kv_cache_ratio", 2.0, 0.5),
            ChipConstant("kv_block_s", 3e-9, 0.4),
            ChipConstant("attention_fraction", 0.8, 0.3, 1.0),
            ChipConstant("attention8_fraction", 0.6, 0.3, 1.0),
            ChipConstant("softmax_pairs_per_cycle", 16.0, 0.4),
        ),
        (
            SharedConstant("SPLIT_S", 0.5e-6, 0.5, here),
            SharedConstant("HEAD_WAVE_S", 1.4e-6, 0.5, here),
            SharedConstant("QUERY_HEAD_S", 0.05e-6, 0.5, here),
            SharedConstant("LATENT_START_RATIO", 0.27, 0.5, here),
            SharedConstant("BLOCK_S", 2e-6, 0.5, here),
            SharedConstant("KEY_STEP_S", 0.5e-6, 0.5, here),
        ),
        predict,
        {"rows": np.random.default_rng(SEED).integers(0, NUM_FOLDS, len(rows.time_s))},
    )


_OPS_CONSTANTS = (
    ChipConstant("stream_start_s", 3e-6, 0.7),
    ChipConstant("stream_fraction", 0.85, 0.2, 1.0),
    ChipConstant("stream_cache_ratio", 2.0, 0.5),
)


def _ops_shared() -> tuple[SharedConstant, ...]:
    """Traffic and launches of each kernel. Only ratios of traffic show: that of one is fixed."""
    free = [key for key in OPS if key != ("fp8_static_quantise", "graph")]
    eager = [key for key in OPS if key[1] == "eager"]
    return (
        *(SharedConstant(f"traffic {a} {b}", OPS[a, b].traffic_ratio, 0.5) for a, b in free),
        *(SharedConstant(f"launch {a}", OPS[a, b].launch_ratio, 0.5) for a, b in eager),
        SharedConstant("conv_ns", 1.0, 1.0),
    )


def ops_fit(path: Path) -> KernelFit:
    """Elementwise kernels and causal convolutions; launches as fitted on products."""
    rows = OpRows(read_table(path))
    first, second = rows.index["elementwise"], rows.index["conv"]
    num = len(first)
    devices = rows.devices_of("elementwise") + rows.devices_of("conv")
    rates = stacked_rates(devices)
    launch_s = jnp.asarray(stacked_costs(devices).launch_s)
    time_s = np.concatenate([rows.time_s[first], rows.time_s[second]])
    kernels = list(OPS)

    def predict(chips: dict, shared: dict, chosen: np.ndarray) -> Any:
        # The rows are evaluated together: each has its own constants, others the defaults.
        start = KernelCosts()
        each = {
            name: jnp.full(len(time_s), getattr(start, name)).at[chosen].set(value)
            for name, value in chips.items()
        }
        ops = {
            key: OPS[key]._replace(
                traffic_ratio=shared.get(f"traffic {key[0]} {key[1]}", OPS[key].traffic_ratio),
                launch_ratio=shared.get(f"launch {key[0]}", 0.0),
            )
            for key in kernels
        }
        parts = []
        for part, which in ((slice(0, num), "ops"), (slice(num, None), "conv")):
            own = {name: value[part] for name, value in each.items()}
            costs = KernelCosts(launch_s=launch_s[part], **own)
            peaks = _take(rates, np.arange(len(time_s))[part])
            if which == "ops":
                parts.append(rows.elementwise_s(costs, peaks, ops))
            else:
                parts.append(rows.conv_s(costs, peaks, 1e-9 * shared["conv_ns"]))
        return jnp.concatenate(parts)[chosen]

    return KernelFit(
        time_s,
        devices,
        _OPS_CONSTANTS,
        _ops_shared(),
        predict,
        {"rows": np.random.default_rng(SEED).integers(0, NUM_FOLDS, len(time_s))},
    )


def experts_fit(path: Path) -> KernelFit:
    """Routed experts of one rank; matrix rates as fitted on products."""
    rows = OpRows(read_table(path))
    work, fmt = rows.expert_work(), rows.expert_format()
    devices = rows.devices_of("experts")
    rates, library = stacked_rates(devices), stacked_costs(devices)
    formats = rows.table.text("dtype")
    names = ["bf16", "fp8", "fp8_block", "nvfp4"]
    index = np.array([names.index(formats[i]) for i in rows.index["experts"]])

    def predict(chips: dict, shared: dict, chosen: np.ndarray) -> Any:
        rate = jnp.stack([jnp.ones(()), *(shared[f"rate {name}"] for name in names[1:])])
        own = _take(fmt, chosen).replace(rate_ratio=rate[index[chosen]])
        costs = _take(library, chosen).replace(**chips)
        return expert_time_s(_take(work, chosen), own, _take(rates, chosen), costs, 1.0)

    return KernelFit(
        rows.time_s[rows.index["experts"]],
        devices,
        (
            ChipConstant("expert_start_s", 50e-6, 0.5),
            ChipConstant("expert_fraction", 0.6, 0.3, 1.0),
            ChipConstant("expert_hbm_fraction", 0.7, 0.3, 1.0),
        ),
        (
            SharedConstant("PADDED_ROWS", 32.0, 0.7, expert_times),
            *(SharedConstant(f"rate {name}", 1.0, 1.0) for name in names[1:]),
        ),
        predict,
        {"rows": np.random.default_rng(SEED).integers(0, NUM_FOLDS, len(index))},
    )


FITS = MappingProxyType(
    {"gemm": gemm_fit, "attention": attention_fit, "ops": ops_fit, "experts": experts_fit}
)


def scores(model_s: np.ndarray, measured_s: np.ndarray) -> str:
    """Mean and median of the absolute relative error, and the geometric bias, in percent.

    Rows without a measurement are left out.
    """
    ratio = (model_s / measured_s)[np.isfinite(measured_s)]
    error = np.abs(ratio - 1.0)
    bias = np.exp(np.mean(np.log(ratio))) - 1.0
    middle = np.median(error)
    return f"mean {100 * error.mean():5.1f}  median {100 * middle:5.1f}  bias {100 * bias:+5.1f}"


def report(fit: KernelFit) -> Iterator[str]:
    """Lines with constants and errors."""
    free = fit.fitted(np.arange(len(fit.time_s)))
    every = np.arange(len(fit.time_s))
    chips, shared = fit.constants(free, np.arange(len(fit.names)))
    yield "device," + ",".join(one.name for one in fit.chip_constants)
    for row, name in enumerate(fit.names):
        values = (float(chips[one.name][row]) for one in fit.chip_constants)
        yield f"{name}," + ",".join(f"{value:.4g}" for value in values)
    common = (float(one.value(free[i])) for i, one in enumerate(fit.chip_constants))
    yield "any," + ",".join(f"{value:.4g}" for value in common)
    for name, value in shared.items():
        yield f"shared {name} = {float(value):.4g}"
    yield f"fitted rows ({len(every)}): {scores(np.asarray(fit.times_s(free, every)), fit.time_s)}"
    for what, fold in fit.folds.items():
        yield f"left out by {what}: {scores(fit.left_out(fold, free), fit.time_s)}"
    by_device = fit.device_left_out(free)
    yield f"left out by device: {scores(by_device, fit.time_s)}"
    for index, name in enumerate(fit.names):
        rows = fit.of_device == index
        relative = RELATIVES.get(name, "")
        given = relative if relative in fit.names else "all others"
        yield f"  {name} from {given}: {scores(by_device[rows], fit.time_s[rows])}"


def main(arguments: Sequence[str]) -> None:
    """Print the constants and errors of one kind of kernels."""
    kind, file = arguments
    with jax.enable_x64(True):
        for line in report(FITS[kind](Path(file))):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
