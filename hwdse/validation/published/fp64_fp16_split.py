"""fp64 : fp16 area split against worked optima and published chips: closed form, and the search.

A file of worked optima has one case a row: columns `kappa` (area of one fp64 flop/s over one fp16
flop/s), `p` (overlap power), `fp64_flop_fraction`, and the optimum as `opt_P64_over_P16`,
`opt_area_share_fp64` and `T_min`. A file of chips has columns `fp64_tflops`,
`fp16_dense_tflops` and, if it likes, `ratio_note` (1:N in front, then any text).
"""

import re
from pathlib import Path

import flax.struct
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
"""Relative; a row further off counts as a mismatch."""

CASE_COLUMNS = ("fp64_flop_fraction", "kappa", "p")
OPTIMUM_COLUMNS = ("opt_P64_over_P16", "opt_area_share_fp64", "T_min")
CHIP_COLUMNS = ("fp64_tflops", "fp16_dense_tflops")
CHIP_AREA_RATIO = (53.0 / 11.0) ** 2
"""kappa for which chips are read: squares of the significands."""
SPACES = (
    SearchSpace((Dimension("fp64_per_fp16_ratio", 1e-9, 1e9, "log", None),)),
    SearchSpace((Dimension("refinement_ratio", 0.5, 2.0, "log", None),)),
)
"""First all ratios, then those around the best: at a flat minimum it is asked for to 1e-6."""
NUM_SCREENED = 64
NUM_STARTS = 16
NUM_STEPS = 200
LEARNING_RATE = 0.2
"""Far more than one dimension needs."""


@flax.struct.dataclass
class Split:
    """What the search sees: an area split, and the job that it serves."""

    fp64_per_fp16_ratio: Leaf
    refinement_ratio: Leaf
    """Times the ratio above."""
    fp64_flop_fraction: Leaf
    area_ratio: Leaf
    overlap_power: Leaf


def split_score(split: Split, _reading: Relaxation) -> tuple[Scalar, PerConstraint]:
    """Logarithm of the time of a split; nothing constrains it."""
    native = split.area_ratio * split.fp64_per_fp16_ratio * split.refinement_ratio
    time_ratio = split_time_ratio(
        native / (1.0 + native), split.fp64_flop_fraction, split.area_ratio, split.overlap_power
    )
    return jnp.log(time_ratio), jnp.zeros(0)


def search_fp64_per_fp16_ratio(
    fp64_flop_fraction: float, area_ratio: float, overlap_power: float
) -> float:
    """Peak fp64 over peak fp16 of the fastest area split as the gradient search finds it; call it
    under `jax.enable_x64(True)`."""
    split = Split(1.0, 1.0, fp64_flop_fraction, area_ratio, overlap_power)
    for space in SPACES:
        split = minimize(
            split_score,
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
    """Error table of the optimum by formula and by search, `closed_...` and `searched_...`.

    `mismatches` counts the rows further off than `TOLERANCE`, relative, or than the digits of a
    printed 1:N. Rows without an optimum inside are skipped. Computed in float64. Raises
    `ValueError` with one line for a file that has neither kind of columns, or a bad cell.
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
        f"{method}_{name}": _relative(reference, _spread(model, inside))
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
    """Published ratios: as printed against the figures, and as the optimum for the fp64 share of
    which they are the optimum (phases in turn)."""
    fp64 = table.numbers("fp64_tflops", at_least=0.0)
    fp16 = table.numbers("fp16_dense_tflops", at_least=0.0, may_be_empty=True)
    has_both = (fp64 > 0.0) & (fp16 > 0.0)
    ratio = np.where(has_both, fp64 / np.where(has_both, fp16, 1.0), np.nan)
    notes = table.text("ratio_note") if "ratio_note" in table.columns else [""] * len(table)
    printed = [re.match(r"\s*1:(\d+(?:\.\d+)?)", note) for note in notes]
    one_to = [match[1] if match else "" for match in printed]
    with jax.enable_x64(True):
        published = ratio[has_both]
        share = np.array([float(_share_it_suits(value)) for value in published])
        cases = [share, np.full_like(share, CHIP_AREA_RATIO), np.ones_like(share)]
        best = {"closed": _closed_form(cases)[0], "searched": _searched(cases)[0]}
    comparisons = {
        "one_to": Comparison(
            np.array([float(text or "nan") for text in one_to]),
            1.0 / ratio,
            printed_resolution(one_to),
        ),
        **{
            f"{method}_best_ratio": _relative(ratio, _spread(model, has_both))
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


def _share_it_suits(ratio: float) -> Scalar:
    return fp64_fraction_for_ratio(ratio, CHIP_AREA_RATIO, 1.0)


def _relative(reference: np.ndarray, model: np.ndarray) -> Comparison:
    return Comparison(reference, model, 2.0 * TOLERANCE * np.abs(reference))


def _spread(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Values of the chosen rows, NaN in the others."""
    spread = np.full(len(chosen), np.nan)
    spread[chosen] = values
    return spread


def _cases(table: ReferenceTable) -> list[np.ndarray]:
    """fp64 share, area ratio and overlap power of each row, inside the model's range."""
    shares = table.numbers("fp64_flop_fraction", at_least=0.0)
    too_large = np.flatnonzero(shares > 1.0)
    if too_large.size:
        raise table.error(int(too_large[0]), "fp64_flop_fraction", "a share of at most 1")
    return [shares, table.numbers("kappa", at_least=1e-6), table.numbers("p", at_least=1.0)]


def _closed_form(cases: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Ratio, area share and time of each row's optimum by formula."""
    forms = (best_fp64_per_fp16_ratio, best_fp64_area_fraction, best_split_time_ratio)
    return tuple(np.asarray(jax.vmap(form)(*cases)) for form in forms)


def _searched(cases: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The same where the gradient search ends."""
    rows = zip(*(column.tolist() for column in cases), strict=True)
    ratio = np.array([search_fp64_per_fp16_ratio(*row) for row in rows])
    area = cases[1] * ratio / (1.0 + cases[1] * ratio)
    return ratio, area, np.asarray(jax.vmap(split_time_ratio)(area, *cases))
