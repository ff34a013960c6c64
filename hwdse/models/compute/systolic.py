"""Cycles and scratchpad words of matrix multiplication on systolic arrays, seven dataflows.

A GEMM C[m, n] = A[m, k] B[k, n] is mapped to an array of R rows and C columns. Two of its extents
are divided into tiles of the array's dimensions (folds); the third is streamed in time.

| dataflow | array rows | array columns | time |
| --- | --- | --- | --- |
| output stationary | m | n | k |
| weight stationary | k | n | m |
| input stationary | k | m | n |

Names without a suffix mean sequential folds. `_overlapped` hides the load of the next stationary
tile (or the drain of the last outputs) behind the running fold. `_drained` is output stationary as
in the SCALE-Sim papers, with a drain after each fold that the SCALE-Sim code leaves out.

In SCALE-Sim terms, A is the ifmap, B the filter, C the ofmap. Source: Samajdar et al., ISPASS 2020
(SCALE-Sim v2), and the code of SCALE-Sim 3.0.0, whose counts are reproduced exactly.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp
from hwdse.numerics.relaxation import EXACT, Relaxation, maximum, num_tiles
from hwdse.specs.hardware.chip import SystolicArray
from hwdse.workload.gemms import Gemms

LOAD_ROWS_PER_CYCLE = 2.0
"""Stationary rows that the TensorEngine of Trainium loads per cycle behind the running fold: 128
rows in 64 cycles, the smallest initiation interval of a matmul (MM_INIT = 64). Source: AWS Neuron
SDK, NKI architecture guide and the cost notes of `nki.isa`."""


class Folds(NamedTuple):
    """Mapping of GEMM operators to the array; all values per GEMM."""

    num_row_folds: PerOp
    """Tiles along the array's rows."""
    num_col_folds: PerOp
    """Tiles along the array's columns."""
    stream_cycles: PerOp
    """Extent streamed past each tile, one element per cycle."""
    a_passes: PerOp
    """Number of times that each element of A is read into the array."""
    b_passes: PerOp
    """Number of times that each element of B is read into the array."""
    c_passes: PerOp
    """Number of times that each element of C is written as a partial or final sum."""


DataflowFn = Callable[[Gemms, SystolicArray, Relaxation], PerOp]
FoldsFn = Callable[[Gemms, SystolicArray, Relaxation], Folds]


def output_stationary_folds(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> Folds:
    """Folds with a stationary tile of C: A is read once per column fold, B once per row fold."""
    row_folds = num_tiles(gemms.m, array.rows, relaxation, "rows")
    col_folds = num_tiles(gemms.n, array.cols, relaxation, "cols")
    return Folds(row_folds, col_folds, gemms.k, col_folds, row_folds, 1.0)


def weight_stationary_folds(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> Folds:
    """Folds with a stationary tile of B: A is read once per column fold; row folds add partial
    sums."""
    row_folds = num_tiles(gemms.k, array.rows, relaxation, "rows")
    col_folds = num_tiles(gemms.n, array.cols, relaxation, "cols")
    return Folds(row_folds, col_folds, gemms.m, col_folds, 1.0, row_folds)


def input_stationary_folds(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> Folds:
    """Folds with a stationary tile of A: B is read once per column fold; row folds add partial
    sums."""
    row_folds = num_tiles(gemms.k, array.rows, relaxation, "rows")
    col_folds = num_tiles(gemms.m, array.cols, relaxation, "cols")
    return Folds(row_folds, col_folds, gemms.n, 1.0, col_folds, row_folds)


FOLDS: Mapping[str, FoldsFn] = MappingProxyType(
    {
        "output_stationary": output_stationary_folds,
        "weight_stationary": weight_stationary_folds,
        "input_stationary": input_stationary_folds,
        "output_stationary_drained": output_stationary_folds,
        "output_stationary_overlapped": output_stationary_folds,
        "weight_stationary_overlapped": weight_stationary_folds,
        "input_stationary_overlapped": input_stationary_folds,
    }
)
"""Mapping of a GEMM to the array by name of the dataflow; overlap does not change the words."""


def _num_rounds(folds: Folds, gemms: Gemms, array: SystolicArray, relaxation: Relaxation) -> PerOp:
    """Folds on the busiest array, all counts; folds of all GEMMs are distributed evenly."""
    num_folds = folds.num_row_folds * folds.num_col_folds * gemms.count
    return num_tiles(num_folds, array.num_arrays, relaxation, "arrays")


def _skew_cycles(array: SystolicArray) -> PerOp:
    """Cycles between the start of the first PE and the start of the last PE (wavefront)."""
    return array.rows + array.cols - 2.0


def output_stationary_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with stationary outputs and sequential folds, all counts.

    $\lceil F_r F_c \cdot count / P \rceil (k + R + C - 2)$ with $F_r = \lceil m / R \rceil$,
    $F_c = \lceil n / C \rceil$ on $P$ arrays. A partial fold at an edge costs the full $R$, $C$
    terms. Outputs leave without a separate drain, as in the code of SCALE-Sim; its paper counts a
    drain (`paper_cycles`). Assumes independent folds of one GEMM on several arrays. Source:
    SCALE-Sim 3.0.0, `compute/systolic_compute_os.py`.
    """
    folds = output_stationary_folds(gemms, array, relaxation)
    fold_cycles = folds.stream_cycles + _skew_cycles(array)
    return _num_rounds(folds, gemms, array, relaxation) * fold_cycles


def _loaded_folds_cycles(
    folds: Folds, gemms: Gemms, array: SystolicArray, relaxation: Relaxation
) -> PerOp:
    """Cycles of sequential folds with a row-by-row load (or drain) of the array in each fold."""
    fold_cycles = array.rows + folds.stream_cycles + _skew_cycles(array)
    return _num_rounds(folds, gemms, array, relaxation) * fold_cycles


def output_stationary_drained_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with stationary outputs that are shifted out before the next fold, all counts.

    $\lceil F_r F_c \cdot count / P \rceil (k + 2 R + C - 2)$: $R$ cycles per fold more than
    `output_stationary_cycles`. Source: Samajdar et al., ISPASS 2020, analytical runtime.
    """
    folds = output_stationary_folds(gemms, array, relaxation)
    return _loaded_folds_cycles(folds, gemms, array, relaxation)


def weight_stationary_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with a stationary tile of B and sequential folds, all counts.

    $\lceil F_r F_c \cdot count / P \rceil (R + m + R + C - 2)$ with $F_r = \lceil k / R \rceil$,
    $F_c = \lceil n / C \rceil$: $R$ cycles to load, then $m$ skewed rows of A. Assumes that the
    accumulator adds partial sums of row folds at no cost in cycles. Source: SCALE-Sim 3.0.0,
    `compute/systolic_compute_ws.py`.
    """
    folds = weight_stationary_folds(gemms, array, relaxation)
    return _loaded_folds_cycles(folds, gemms, array, relaxation)


def input_stationary_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with a stationary tile of A and sequential folds, all counts.

    $\lceil F_r F_c \cdot count / P \rceil (R + n + R + C - 2)$ with $F_r = \lceil k / R \rceil$,
    $F_c = \lceil m / C \rceil$; otherwise as `weight_stationary_cycles`. Source: SCALE-Sim 3.0.0,
    `compute/systolic_compute_is.py`.
    """
    folds = input_stationary_folds(gemms, array, relaxation)
    return _loaded_folds_cycles(folds, gemms, array, relaxation)


def _overlapped_cycles(
    folds: Folds,
    gemms: Gemms,
    array: SystolicArray,
    relaxation: Relaxation,
    *,
    swap_cycles: PerOp,
    first_load_cycles: PerOp,
) -> PerOp:
    r"""Cycles of consecutive folds: $(rounds - 1) \max(T, swap) + load + T + R + C - 2$.

    While a fold streams for $T$ cycles, the next stationary tile is loaded (or the last outputs are
    drained) in `swap_cycles`. The first load and the skew occur once per GEMM operator.
    """
    interval_cycles = maximum(folds.stream_cycles, swap_cycles, relaxation)
    hidden_cycles = (_num_rounds(folds, gemms, array, relaxation) - 1.0) * interval_cycles
    last_fold_cycles = first_load_cycles + folds.stream_cycles + _skew_cycles(array)
    return hidden_cycles + last_fold_cycles


def output_stationary_overlapped_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with stationary outputs that drain behind the next fold, all counts.

    $(rounds - 1) \max(k, R) + k + R + C - 2$: a fold takes the longer of its stream and the $R$
    cycles in which the previous outputs shift out. The last outputs leave without a separate drain,
    as in `output_stationary_cycles`, so overlap never adds cycles. Assumes a second register per
    output; not in SCALE-Sim, whose folds do not overlap.
    """
    folds = output_stationary_folds(gemms, array, relaxation)
    return _overlapped_cycles(
        folds, gemms, array, relaxation, swap_cycles=array.rows, first_load_cycles=0.0
    )


def weight_stationary_overlapped_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with a stationary tile of B, the next tile loaded behind the running fold.

    All counts: $(rounds - 1) \max(m, L) + L + m + R + C - 2$ with $L = R / 2$ cycles to load
    (`LOAD_ROWS_PER_CYCLE`). The TensorEngine of Trainium works in this way: a matmul with a moving
    tile of `m` rows starts every $\max(m, 64)$ cycles on 128 rows. Assumes operands in the
    scratchpad and no other stalls of instruction issue. Source: AWS Neuron SDK, NKI architecture
    guides, cost rules of the tensor engine.
    """
    folds = weight_stationary_folds(gemms, array, relaxation)
    load_cycles = array.rows / LOAD_ROWS_PER_CYCLE
    return _overlapped_cycles(
        folds, gemms, array, relaxation, swap_cycles=load_cycles, first_load_cycles=load_cycles
    )


def input_stationary_overlapped_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with a stationary tile of A, the next tile loaded behind the running fold.

    All counts: $(rounds - 1) \max(n, L) + L + n + R + C - 2$; otherwise as
    `weight_stationary_overlapped_cycles`.
    """
    folds = input_stationary_folds(gemms, array, relaxation)
    load_cycles = array.rows / LOAD_ROWS_PER_CYCLE
    return _overlapped_cycles(
        folds, gemms, array, relaxation, swap_cycles=load_cycles, first_load_cycles=load_cycles
    )


DATAFLOWS: Mapping[str, DataflowFn] = MappingProxyType(
    {
        "output_stationary": output_stationary_cycles,
        "weight_stationary": weight_stationary_cycles,
        "input_stationary": input_stationary_cycles,
        "output_stationary_drained": output_stationary_drained_cycles,
        "output_stationary_overlapped": output_stationary_overlapped_cycles,
        "weight_stationary_overlapped": weight_stationary_overlapped_cycles,
        "input_stationary_overlapped": input_stationary_overlapped_cycles,
    }
)
"""Cycles of all counts of each operator, by the name in `SystolicArray.dataflow`."""


def _selected(
    functions: Mapping[str, Callable[..., Any]],
    gemms: Gemms,
    array: SystolicArray,
    relaxation: Relaxation,
) -> Any:
    """Result for the dataflow of an array, or for the one of several that its index selects."""
    found = [functions[name](gemms, array, relaxation) for name in array.dataflow.split("|")]
    result = found[0]
    for index, other in enumerate(found[1:], 1):
        is_other = array.dataflow_index == index
        result = jax.tree.map(functools.partial(jnp.where, is_other), other, result)
    return result


def folds_of(gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT) -> Folds:
    """Mapping of GEMM operators to an array under its dataflow."""
    return _selected(FOLDS, gemms, array, relaxation)


def num_rounds(gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT) -> PerOp:
    """Folds of all counts of each operator that run one after another on the arrays of a chip."""
    return _num_rounds(folds_of(gemms, array, relaxation), gemms, array, relaxation)


def cycles_of(gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT) -> PerOp:
    """Cycles of all counts of each operator on an array under its dataflow."""
    return _selected(DATAFLOWS, gemms, array, relaxation)


def paper_cycles(gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT) -> PerOp:
    """Cycles by the formula of the SCALE-Sim papers, $(2 R + C + T - 2) F$ for every dataflow.

    Equal to `DATAFLOWS` for weight and input stationary and for "output_stationary_drained"; output
    stationary without drain is $R$ cycles per fold faster. For comparison with numbers that follow
    the papers. Source: Samajdar et al., arXiv 1811.02883 and ISPASS 2020, analytical runtime.
    """
    folds = folds_of(gemms, array, relaxation)
    return _loaded_folds_cycles(folds, gemms, array, relaxation)


def mapping_efficiency(gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT) -> PerOp:
    """Fraction of PEs with work, averaged over folds: $S_r S_c / (R C F_r F_c)$.

    In (0, 1]; below 1 if the extents are not multiples of the array's dimensions.
    """
    folds = folds_of(gemms, array, relaxation)
    num_held = gemms.m * gemms.k * gemms.n / folds.stream_cycles
    num_slots = array.rows * array.cols * folds.num_row_folds * folds.num_col_folds
    return num_held / num_slots


def operand_words(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> tuple[PerOp, PerOp]:
    """Elements of A and of B read from the scratchpad into the array, all counts.

    Each element of an operand is read once per fold that needs it (`Folds.a_passes`, `b_passes`).
    Assumes no multicast between arrays.
    """
    folds = folds_of(gemms, array, relaxation)
    a_words = folds.a_passes * gemms.m * gemms.k * gemms.count
    b_words = folds.b_passes * gemms.k * gemms.n * gemms.count
    return a_words, b_words


def scratchpad_words(gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT) -> PerOp:
    """Elements of both operands read from the scratchpad into the array, all counts."""
    a_words, b_words = operand_words(gemms, array, relaxation)
    return a_words + b_words


def accumulator_words(gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT) -> PerOp:
    """Elements of C written to and read back from the accumulator, all counts.

    $(2 p - 1) m n$ with $p$ writes of each element: every sum but the first is added to a value
    read back. $p = F_r$ for weight and input stationary, 1 for output stationary. SCALE-Sim does
    not count reads of partial sums, and adds $F (R + C)$ to output stationary.
    """
    folds = folds_of(gemms, array, relaxation)
    return (2.0 * folds.c_passes - 1.0) * gemms.m * gemms.n * gemms.count
