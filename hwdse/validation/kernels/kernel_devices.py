"""Devices of measured kernels: published peaks, and constants of their kernel libraries.

Peaks are those of `devices.csv` beside this file, and not of chip presets: some measured devices
are no presets, and errors of presets stay out of the errors of kernels.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

from hwdse.config.hardware.kernel_library import kernels_of
from hwdse.numerics.stacking import stacked
from hwdse.specs.hardware.kernel_costs import KernelCosts, KernelRates
from hwdse.validation.shared.reference_table import read_table

DEVICES = Path(__file__).with_name("devices.csv")
LIBRARY_ROWS = MappingProxyType(
    {
        "A100-SXM4-80GB": "a100",
        "A100-PCIe-40GB": "a100",
        "A100-PCIe-80GB": "a100",
        "H100-SXM5-80GB": "h100",
        "H200-SXM5-141GB": "h100",
        "B200-SXM": "b200",
        "B300-SXM": "b200",
        "GB200": "gb200",
        "GB300": "gb200",
        "L40S": "l40s",
        "L4": "l40s",
        "RTX-PRO-6000-Server": "l40s",
        "RTX-PRO-6000-WS": "l40s",
        "RTX-4090": "rtx_4090",
        "RTX-3090": "rtx_3090",
        "RTX-A6000": "a40",
        "A40": "a40",
        "Arc-Pro-B60": "arc_pro_b60",
        "MI210": "mi210",
        "MI100": "mi210",
        "MI250-1GCD": "mi210",
        "TPU-v6e": "tpu_v6e",
    }
)
"""Row of the kernel library by device: its own, or that of a chip of its generation."""
TERA, GIGA, MEGA = 1e12, 1e9, 1e6


@cache
def device_rates() -> dict[str, KernelRates]:
    """Published peaks by device."""
    table = read_table(DEVICES)

    def column(name: str) -> np.ndarray:
        return table.numbers(name, at_least=0.0, may_be_empty=True)

    wide = column("bf16_tflops")
    eight = np.where(np.isnan(column("fp8_tflops")), column("int8_tops"), column("fp8_tflops"))
    eight = np.where(np.isnan(eight), wide, eight)
    four = np.where(np.isnan(column("nvfp4_tflops")), eight, column("nvfp4_tflops"))
    vector = np.where(np.isnan(column("fp32_tflops")), wide / 16.0, column("fp32_tflops"))
    columns = {
        "matrix_flop_per_s": TERA * wide,
        "matrix8_flop_per_s": TERA * eight,
        "matrix4_flop_per_s": TERA * four,
        # Element operations: a multiply-add counts once.
        "vector_flop_per_s": 0.5 * TERA * vector,
        "hbm_bytes_per_s": GIGA * column("mem_GBps"),
        "cache_bytes": MEGA * column("l2_MB"),
        "num_units": column("cores"),
        "clock_hz": MEGA * column("clock_MHz"),
    }
    return {
        device: KernelRates(**{name: float(values[row]) for name, values in columns.items()})
        for row, device in enumerate(table.text("device"))
        if np.isfinite(wide[row])
    }


def stacked_rates(devices: Sequence[str]) -> KernelRates:
    """Peaks of one device per row, as arrays."""
    return stacked([device_rates()[device] for device in devices])


def stacked_costs(devices: Sequence[str]) -> KernelCosts:
    """Constants of the kernel library of one device per row, as arrays."""
    return stacked([kernels_of(LIBRARY_ROWS[device]) for device in devices])


def known_devices(devices: Sequence[str]) -> np.ndarray:
    """True for rows of devices with peaks and a row of the library."""
    return np.array([name in device_rates() and name in LIBRARY_ROWS for name in devices])
