"""fp64 : fp16 area split against worked optima: the closed form, and the search without it.

The file has one case a row: columns `kappa` (area of one fp64 flop/s over one fp16 flop/s), `p`
(overlap power), `fp64_flop_fraction`, and the optimum as `opt_P64_over_P16`,
`opt_area_share_fp64` and `T_min`.
"""

from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from hwdse.models.precision import (
    best_fp64_area_fraction,
    best_fp64_per_fp16_ratio,
    best_split_time_ratio,
    fp64_per_fp16_ratio_of_area,
    split_time_ratio,
)
from hwdse.numerics import Reading
from hwdse.search.gradient import minimize
from hwdse.search.space import Dimension, SearchSpace
from hwdse.shapes import Leaf, PerConstraint, Scalar
from hwdse.validation.table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    read_table,
)

TOLERANCE = 1e-4
"""Relative; a row further off counts as a mismatch."""

CASE_COLUMNS = ("fp64_flop_fraction", "kappa", "p")
OPTIMUM_COLUMNS = ("opt_P64_over_P16", "opt_area_share_fp64", "T_min")
SPACE = SearchSpace((Dimension("fp64_area_fraction", 1e-6, 0.9999, "log", None),))
NUM_SCREENED = 64
NUM_STARTS = 16
NUM_STEPS = 200
LEARNING_RATE = 0.2
"""Far more than one dimension needs: the area at a flat minimum is asked for to 1e-4."""


@flax.struct.dataclass
class Split:
    """What the search sees: an area split, and the job that it serves."""

    fp64_area_fraction: Leaf
    fp64_flop_fraction: Leaf
    area_ratio: Leaf
    overlap_power: Leaf


def split_score(split: Split, _reading: Reading) -> tuple[Scalar, PerConstraint]:
    """Logarithm of the time of a split; nothing constrains it."""
    time_ratio = split_time_ratio(
        split.fp64_area_fraction, split.fp64_flop_fraction, split.area_ratio, split.overlap_power
    )
    return jnp.log(time_ratio), jnp.zeros(0)


def search_fp64_area_fraction(
    fp64_flop_fraction: float, area_ratio: float, overlap_power: float
) -> float:
    """Fastest area split as the gradient search finds it; call it under `jax.enable_x64(True)`."""
    base = Split(0.5, fp64_flop_fraction, area_ratio, overlap_power)
    result = minimize(
        split_score,
        SPACE,
        base,
        seed=0,
        num_screened=NUM_SCREENED,
        num_starts=NUM_STARTS,
        num_steps=NUM_STEPS,
        polish_rounds=0,
        learning_rate=LEARNING_RATE,
    )
    return float(result.design.fp64_area_fraction)


def validate(path: Path) -> ValidationReport:
    """Error table of the optimum's ratio, area share and time: `closed_...` and `searched_...`.

    `mismatches` counts the rows further off than `TOLERANCE`. Computed in float64.
    """
    table = read_table(path, (*CASE_COLUMNS, *OPTIMUM_COLUMNS))
    cases = _cases(table)
    references = [table.numbers(name, at_least=1e-300) for name in OPTIMUM_COLUMNS]
    with jax.enable_x64(True):
        optima = {"closed": _closed_form(cases), "searched": _searched(cases)}
    comparisons = {
        f"{method}_{name}": Comparison(reference, model, 2.0 * TOLERANCE * reference)
        for method, models in optima.items()
        for name, reference, model in zip(OPTIMUM_COLUMNS, references, models, strict=True)
    }
    return build_report(
        "precision",
        path,
        comparisons,
        group_by={"kappa": table.text("kappa"), "p": table.text("p")},
    )


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
    area = np.array([search_fp64_area_fraction(*row) for row in rows])
    ratio = jax.vmap(fp64_per_fp16_ratio_of_area)(area, cases[1])
    return np.asarray(ratio), area, np.asarray(jax.vmap(split_time_ratio)(area, *cases))
