"""FP64:FP16 area split against worked optima and published chips, closed form and search.

A file of worked optima has one case per row: columns `kappa` (area per FP64 FLOP/s over area per
FP16 FLOP/s), `p` (overlap power), `fp64_flop_fraction`, and the optimum as `opt_P64_over_P16`,
`opt_area_share_fp64` and `T_min`. A file of chips has columns `fp64_tflops`, `fp16_dense_tflops`
and optionally `ratio_note` (1:N, then any text).
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.models.precision.precision_mix import (
    best_fp64_area_fraction,
    best_fp64_per_fp16_ratio,
    best_split_time_ratio,
    fp64_fraction_for_ratio,
    split_time_ratio,
)
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerConstraint, Scalar
from hwdse.numerics.relaxation import Relaxation
from hwdse.search.descent.minimize import minimize
from hwdse.search.space.search_space import Dimension, SearchSpace
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    printed_resolution,
    read_table,
)

TOLERANCE = 1e-6
"""Relative error above which a row counts as a mismatch."""

CASE_COLUMNS = ("fp64_flop_fraction", "kappa", "p")
OPTIMUM_COLUMNS = ("opt_P64_over_P16", "opt_area_share_fp64", "T_min")
CHIP_COLUMNS = ("fp64_tflops", "fp16_dense_tflops")
CHIP_AREA_RATIO = (53.0 / 11.0) ** 2
"""kappa assumed for published chips: ratio of the squared significand widths."""
SPACES = (
    SearchSpace((Dimension("fp64_per_fp16_ratio", 1e-9, 1e9, "log", None),)),
    SearchSpace((Dimension("refinement_ratio", 0.5, 2.0, "log", None),)),
)
"""All ratios, then those around the optimum: the minimum is flat and compared to 1e-6."""
NUM_SCREENED = 64
NUM_STARTS = 16
NUM_STEPS = 200
LEARNING_RATE = 0.2
"""Generous for one dimension."""


@struct.dataclass
class Split:
    """Search variables of an area split, and its job."""

    fp64_per_fp16_ratio: Leaf
    refinement_ratio: Leaf
    """Factor on `fp64_per_fp16_ratio`."""
    fp64_flop_fraction: Leaf
    area_ratio: Leaf
    overlap_power: Leaf


def split_objective(split: Split, _relaxation: Relaxation) -> tuple[Scalar, PerConstraint]:
    """Logarithm of the time of a split, without constraints."""
    native = split.area_ratio * split.fp64_per_fp16_ratio * split.refinement_ratio
    time_ratio = split_time_ratio(
        native / (1.0 + native), split.fp64_flop_fraction, split.area_ratio, split.overlap_power
    )
    return jnp.log(time_ratio), jnp.zeros(0)


def search_fp64_per_fp16_ratio(
    fp64_flop_fraction: float, area_ratio: float, overlap_power: float
) -> float:
    """Peak FP64 over peak FP16 of the fastest area split, by gradient search.

    Requires `jax.enable_x64(True)`.
    """
    split = Split(1.0, 1.0, fp64_flop_fraction, area_ratio, overlap_power)
    for space in SPACES:
        split = minimize(
            split_objective,
            space,
            split,
            seed=0,
            num_screened=NUM_SCREENED,
            num_starts=NUM_STARTS,
            num_steps=NUM_STEPS,
            local_search_rounds=0,
            learning_rate=LEARNING_RATE,
        ).design
    return float(split.fp64_per_fp16_ratio * split.refinement_ratio)


def validate(path: Path) -> ValidationReport:
    """Error table of the optimum by closed form and by search, `closed_...` and `searched_...`.

    `mismatches` counts the rows with a relative error above `TOLERANCE`, or outside the digits of
    a printed 1:N. Rows without an interior optimum are skipped. Computed in float64. A bad cell
    or a file with neither kind of columns raises a `ValueError` of one line.
    """
    table = read_table(path)
    if "fp64_tflops" in table.columns:
        return _validate_chips(read_table(path, CHIP_COLUMNS))
    return _validate_worked(read_table(path, (*CASE_COLUMNS, *OPTIMUM_COLUMNS)))


def _validate_worked(table: ReferenceTable) -> ValidationReport:
    cases = _cases(table)
    inside = (cases[0] > 0.0) & (cases[0] < 1.0)
    references = [table.numbers(name, at_least=0.0) for name in OPTIMUM_COLUMNS]
    with jax.enable_x64(True):
        chosen = [column[inside] for column in cases]
        optima = {"closed": _closed_form(chosen), "searched": _searched(chosen)}
    comparisons = {
        f"{method}_{name}": _relative(reference, _scattered(model, inside))
        for method, models in optima.items()
        for name, reference, model in zip(OPTIMUM_COLUMNS, references, models, strict=True)
    }
    return build_report(
        "precision",
        table.path,
        comparisons,
        rows_skipped={"all or none of the work is fp64": int(np.sum(~inside))},
        group_by={"kappa": table.text("kappa"), "p": table.text("p")},
    )


def _validate_chips(table: ReferenceTable) -> ValidationReport:
    """Error table of published ratios: printed against computed, and by inverse and optimum.

    The inverse is the FP64 share for which a ratio is optimal (serialized phases).
    """
    fp64 = table.numbers("fp64_tflops", at_least=0.0)
    fp16 = table.numbers("fp16_dense_tflops", at_least=0.0, may_be_empty=True)
    has_both = (fp64 > 0.0) & (fp16 > 0.0)
    ratio = np.where(has_both, fp64 / np.where(has_both, fp16, 1.0), np.nan)
    notes = table.text("ratio_note") if "ratio_note" in table.columns else [""] * len(table)
    printed = [re.match(r"\s*1:(\d+(?:\.\d+)?)", note) for note in notes]
    one_to = [match[1] if match else "" for match in printed]
    with jax.enable_x64(True):
        published = ratio[has_both]
        share = np.array([float(_optimal_share(value)) for value in published])
        cases = [share, np.full_like(share, CHIP_AREA_RATIO), np.ones_like(share)]
        best = {"closed": _closed_form(cases)[0], "searched": _searched(cases)[0]}
    comparisons = {
        "one_to": Comparison(
            np.array([float(text or "nan") for text in one_to]),
            1.0 / ratio,
            printed_resolution(one_to),
        ),
        **{
            f"{method}_best_ratio": _relative(ratio, _scattered(model, has_both))
            for method, model in best.items()
        },
    }
    return build_report(
        "precision",
        table.path,
        comparisons,
        rows_skipped={
            "no fp64 units": int(np.sum(fp64 == 0.0)),
            "no 16-bit figure": int(np.sum((fp64 > 0.0) & ~(fp16 > 0.0))),
        },
    )


def _optimal_share(ratio: float) -> Scalar:
    return fp64_fraction_for_ratio(ratio, CHIP_AREA_RATIO, 1.0)


def _relative(reference: np.ndarray, model: np.ndarray) -> Comparison:
    return Comparison(reference, model, 2.0 * TOLERANCE * np.abs(reference))


def _scattered(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Values at the chosen rows, NaN at the others."""
    scattered = np.full(len(chosen), np.nan)
    scattered[chosen] = values
    return scattered


def _cases(table: ReferenceTable) -> list[np.ndarray]:
    """FP64 share, area ratio and overlap power of each row, within the range of the model."""
    shares = table.numbers("fp64_flop_fraction", at_least=0.0)
    too_large = np.flatnonzero(shares > 1.0)
    if too_large.size:
        raise table.error(int(too_large[0]), "fp64_flop_fraction", "a share of at most 1")
    return [shares, table.numbers("kappa", at_least=1e-6), table.numbers("p", at_least=1.0)]


def _closed_form(cases: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Ratio, area share and time of the optimum of each row, closed form."""
    forms = (best_fp64_per_fp16_ratio, best_fp64_area_fraction, best_split_time_ratio)
    return tuple(np.asarray(jax.vmap(form)(*cases)) for form in forms)


def _searched(cases: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Ratio, area share and time of the optimum of each row, by gradient search."""
    rows = zip(*(column.tolist() for column in cases), strict=True)
    ratio = np.array([search_fp64_per_fp16_ratio(*row) for row in rows])
    area = cases[1] * ratio / (1.0 + cases[1] * ratio)
    return ratio, area, np.asarray(jax.vmap(split_time_ratio)(area, *cases))
