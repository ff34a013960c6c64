"""Copies, durations and order of the measurements of the kernel power table.

The source measures one product after the other, so that the products before a row are known from
the order of its list, if one GPU measures all (assumed; lists divided among 2 to 8 GPUs explain
the public rows less well). A lagging meter shows part of their power (`lagging_meter`).

Source: ai-dynamo/aiconfigurator at commit 095f58a, `collector/helper.py` (`benchmark_with_power`),
`collector/vllm/collect_gemm.py`, `collector/trtllm/collect_gemm.py` and
`collector/cases/base_ops/gemm.yaml`.
"""

from dataclasses import dataclass

import numpy as np

from hwdse.numerics.array_types import PerPoint
from hwdse.specs.hardware.chip import Chip
from hwdse.validation.power.lagging_meter import WINDOW_S

_EDGES = (*range(32, 113, 16), *range(128, 257, 32), *range(512, 4353, 256))
TOKENS = np.array(
    sorted([*range(1, 18), *_EDGES, *(edge + 1 for edge in _EDGES), 8192, 16384, 32768])[::-1],
    float,
)
_LARGE = (65536, 51200, 16384, 12288, 8192, 6144)
_SMALL = (1024, 768, 512, 256, 128, 64, 32)
FEATURES = np.array([*_LARGE, *range(4096, 1535, -512), *_SMALL], float)
"""Extents m of the list, and extents n and k, in its order: the largest first."""
NARROW_LEAST_FEATURES = 128.0
"""Least n and k of products with block scales."""
BLOCK_SCALED = ("fp8_block", "nvfp4")
TOKEN_MAJOR, WEIGHT_MAJOR = "VLLM", "TRTLLM"
"""Frameworks by the order of their list: m, n, k, format from the outermost, or n, k, format, m."""

LONG_S, SHORT_S = 1.0, 0.3
"""Duration aimed at, and that for a pass of less than `SHORT_PASS_S`."""
SHORT_PASS_S = 1e-4
LEAST_PASSES, MOST_PASSES = 6.0, 3000.0
TOKEN_MAJOR_COPIES = 6.0
"""Copies of the weights that a pass of vLLM multiplies one after the other, if not block-scaled."""
MOST_COPIES = 5.0
"""The same of TensorRT-LLM, which takes as many as fill the L2 cache, at most these."""
HOST_PASS_S = 6e-5
"""Least time of a block-scaled FP8 product of vLLM, launched without a graph. Measured: H200, least
latencies of 52 to 80 µs."""
PREPARATION_S = 0.03
"""Pause before a product: weights, warm-up, capture of the graph. Fitted with `AWAKE_FRACTION`."""


@dataclass(frozen=True)
class Source:
    """Products of one framework on one chip."""

    framework: str
    chip: Chip

    @property
    def is_blackwell(self) -> bool:
        """True for chips with FP4."""
        return float(self.chip.fp4_speedup_ratio) > 1.0

    def formats(self, dtype: str) -> tuple[str, ...]:
        """Formats that take turns in the list of a format, in order.

        FP8 with one scale is not among those that vLLM's readings show; block-scaled FP8 of vLLM on
        Blackwell shows no other format, nor do the others show it: it was measured on its own.
        Derived from the residuals of the public rows.
        """
        if self.framework == WEIGHT_MAJOR:
            every = ("bfloat16", "fp8", "fp8_block", "nvfp4")
        elif not self.is_blackwell:
            every = ("bfloat16", "fp8_block")
        else:
            every = ("bfloat16", "nvfp4")
        return every if dtype in every else (dtype,)

    def preparation_s(self, dtype: str) -> float:
        """Pause before a product of a format (s).

        Longer than the window of the meter where kernels are compiled for the shape (block-scaled
        FP8 on Blackwell) or weights are quantized on the host (FP4 of TensorRT-LLM): readings of
        such rows start from a chip that is merely awake. Observed in the public rows.
        """
        compiles = dtype == "fp8_block" and self.is_blackwell
        quantizes = dtype == "nvfp4" and self.framework == WEIGHT_MAJOR
        return WINDOW_S if compiles or quantizes else PREPARATION_S

    def copies(self, dtype: str, weight_bytes: PerPoint) -> np.ndarray:
        """Copies of the weights that take turns."""
        if self.framework != WEIGHT_MAJOR:
            one = 1.0 if dtype in BLOCK_SCALED else TOKEN_MAJOR_COPIES
            return np.full(np.shape(weight_bytes), one)
        filled = np.ceil(l2_bytes(self.chip) / np.asarray(weight_bytes))
        return np.clip(filled, 1.0, MOST_COPIES)

    def least_product_s(self, dtype: str) -> float:
        """Least time of a product that the host launches one by one (s)."""
        is_launched = self.framework != WEIGHT_MAJOR and dtype == "fp8_block"
        return HOST_PASS_S if is_launched else 0.0


def l2_bytes(chip: Chip) -> float:
    """Capacity of the shared cache of a GPU."""
    return float(chip.sram.capacity_bytes) * float(chip.cache_fraction)


def load_s(product_s: PerPoint, copies: PerPoint) -> np.ndarray:
    """Time under load of a measurement whose products take `product_s` each (s)."""
    pass_s = np.asarray(product_s) * copies
    aim_s = np.where(pass_s < SHORT_PASS_S, SHORT_S, LONG_S)
    passes = np.maximum(np.floor(aim_s / pass_s) + 1.0, LEAST_PASSES)
    return np.minimum(passes, MOST_PASSES) * pass_s


@dataclass(frozen=True)
class Before:
    """Products measured before a row, newest first along the last axis."""

    m: np.ndarray
    n: np.ndarray
    k: np.ndarray
    format_index: np.ndarray
    """Entry of `Source.formats`."""
    is_measured: np.ndarray
    """False for entries that the list skips."""


def before(
    source: Source, dtype: str, sizes: tuple[PerPoint, PerPoint, PerPoint], num: int
) -> Before:
    """The `num` entries of the list before products of m, n, k (as `sizes`) in a format."""
    formats = source.formats(dtype)
    m, n, k = (np.asarray(extent, float) for extent in sizes)
    own = tuple(
        np.argmin(np.abs(np.log(extent[:, None] / choices)), axis=1)
        for extent, choices in ((m, TOKENS), (n, FEATURES), (k, FEATURES))
    )
    own_format = np.full(len(m), formats.index(dtype))
    lengths = (len(TOKENS), len(FEATURES), len(FEATURES), len(formats))
    axes = (1, 2, 3, 0) if source.framework == WEIGHT_MAJOR else (0, 1, 2, 3)
    shape = tuple(lengths[axis] for axis in axes)
    place = np.ravel_multi_index(tuple((*own, own_format)[axis] for axis in axes), shape)
    earlier = place[:, None] - np.arange(1, num + 1)
    found = np.unravel_index(np.maximum(earlier, 0), shape)
    by_axis = dict(zip(axes, found, strict=True))
    widths, depths = FEATURES[by_axis[1]], FEATURES[by_axis[2]]
    is_narrow = np.isin(np.array(formats), BLOCK_SCALED)[by_axis[3]]
    is_too_small = is_narrow & (np.minimum(widths, depths) < NARROW_LEAST_FEATURES)
    is_largest = np.minimum(widths, depths) == FEATURES[0]
    return Before(
        m=TOKENS[by_axis[0]],
        n=widths,
        k=depths,
        format_index=by_axis[3],
        is_measured=(earlier >= 0) & ~is_too_small & ~is_largest,
    )
