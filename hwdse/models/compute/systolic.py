"""Cycles and scratchpad words of matrix products on systolic arrays, for seven dataflows.

A product C[m, n] = A[m, k] B[k, n] is laid on an array of R rows and C columns: two of its extents
are cut into tiles of the array's sides (folds), the third streams past in time.

| dataflow | array rows | array columns | time |
| --- | --- | --- | --- |
| output stationary | m | n | k |
| weight stationary | k | n | m |
| input stationary | k | m | n |

Names alone mean folds one after another; `_overlapped` hides the load of the next stationary tile
(or the drain of the last outputs) behind the running fold; `_drained` is output stationary as the
papers of SCALE-Sim count it, with a drain after each fold that its code leaves out.

In the terms of SCALE-Sim, A is the ifmap, B the filter, C the ofmap. Source: Samajdar et al.,
ISPASS 2020 (SCALE-Sim v2), and the code of SCALE-Sim 3.0.0, whose counts these equal.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from hwdse.numerics.array_types import PerOp
from hwdse.numerics.relaxation import EXACT, Relaxation, maximum, num_tiles
from hwdse.specs.hardware.chip import SystolicArray
from hwdse.workload.gemms import Gemms

LOAD_ROWS_PER_CYCLE = 2.0
"""Stationary rows that the TensorEngine of Trainium takes in a cycle behind the running fold: 128
rows in 64 cycles, the least initiation interval of a matmul (MM_INIT = 64). Source: AWS Neuron SDK,
NKI architecture guide and the cost notes of `nki.isa`."""


class Folds(NamedTuple):
    """How the products of a row of `Gemms` are laid on the array; all for one product."""

    num_row_folds: PerOp
    """Tiles along the array's rows."""
    num_col_folds: PerOp
    """Tiles along the array's columns."""
    stream_cycles: PerOp
    """Extent that streams past each tile, one element a cycle."""
    a_passes: PerOp
    """Times that each element of A is read into the array."""
    b_passes: PerOp
    """Times that each element of B is read into the array."""
    c_passes: PerOp
    """Times that each element of C is written as a partial or final sum."""


DataflowFn = Callable[[Gemms, SystolicArray, Relaxation], PerOp]
FoldsFn = Callable[[Gemms, SystolicArray, Relaxation], Folds]


def output_stationary_folds(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> Folds:
    """A tile of C stays; A is read once for each column fold, B once for each row fold."""
    row_folds = num_tiles(gemms.m, array.rows, relaxation, "rows")
    col_folds = num_tiles(gemms.n, array.cols, relaxation, "cols")
    return Folds(row_folds, col_folds, gemms.k, col_folds, row_folds, 1.0)


def weight_stationary_folds(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> Folds:
    """A tile of B stays; A is read once for each column fold, each row fold adds a partial sum."""
    row_folds = num_tiles(gemms.k, array.rows, relaxation, "rows")
    col_folds = num_tiles(gemms.n, array.cols, relaxation, "cols")
    return Folds(row_folds, col_folds, gemms.m, col_folds, 1.0, row_folds)


def input_stationary_folds(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> Folds:
    """A tile of A stays; B is read once for each column fold, each row fold adds a partial sum."""
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
"""Mapping of a product to the array, by the dataflow's name; overlapping moves no other words."""


def _num_rounds(folds: Folds, gemms: Gemms, array: SystolicArray, relaxation: Relaxation) -> PerOp:
    """Folds that the busiest array runs, all counts: folds of all products are dealt out evenly."""
    num_folds = folds.num_row_folds * folds.num_col_folds * gemms.count
    return num_tiles(num_folds, array.num_arrays, relaxation, "arrays")


def _skew_cycles(array: SystolicArray) -> PerOp:
    """Cycles from the first element's work to the last element's, in a wave across the array."""
    return array.rows + array.cols - 2.0


def output_stationary_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with the outputs held in the array, folds one after another, all counts.

    $\lceil F_r F_c \cdot count / P \rceil (k + R + C - 2)$ with $F_r = \lceil m / R \rceil$,
    $F_c = \lceil n / C \rceil$ on $P$ arrays; a ragged edge fold costs the full $R$, $C$ terms.
    The outputs leave without a drain of their own, as in the code of SCALE-Sim; its paper counts
    one (`paper_cycles`). Folds of one product on several arrays are taken as independent.
    Source: SCALE-Sim 3.0.0, `compute/systolic_compute_os.py`.
    """
    folds = output_stationary_folds(gemms, array, relaxation)
    fold_cycles = folds.stream_cycles + _skew_cycles(array)
    return _num_rounds(folds, gemms, array, relaxation) * fold_cycles


def _loaded_folds_cycles(
    folds: Folds, gemms: Gemms, array: SystolicArray, relaxation: Relaxation
) -> PerOp:
    """Cycles of folds one after another, each loading (or draining) the array row by row."""
    fold_cycles = array.rows + folds.stream_cycles + _skew_cycles(array)
    return _num_rounds(folds, gemms, array, relaxation) * fold_cycles


def output_stationary_drained_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with the outputs held in the array and shifted out before the next fold, all counts.

    $\lceil F_r F_c \cdot count / P \rceil (k + 2 R + C - 2)$: $R$ cycles a fold more than
    `output_stationary_cycles`. Source: Samajdar et al., ISPASS 2020, analytical runtime.
    """
    folds = output_stationary_folds(gemms, array, relaxation)
    return _loaded_folds_cycles(folds, gemms, array, relaxation)


def weight_stationary_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with a tile of B held in the array, folds one after another, all counts.

    $\lceil F_r F_c \cdot count / P \rceil (R + m + R + C - 2)$ with $F_r = \lceil k / R \rceil$,
    $F_c = \lceil n / C \rceil$: $R$ cycles to load, then $m$ rows of A stream past, skewed.
    Partial sums of different row folds are added at the accumulator at no cost in cycles.
    Source: SCALE-Sim 3.0.0, `compute/systolic_compute_ws.py`.
    """
    folds = weight_stationary_folds(gemms, array, relaxation)
    return _loaded_folds_cycles(folds, gemms, array, relaxation)


def input_stationary_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with a tile of A held in the array, folds one after another, all counts.

    $\lceil F_r F_c \cdot count / P \rceil (R + n + R + C - 2)$ with $F_r = \lceil k / R \rceil$,
    $F_c = \lceil m / C \rceil$; otherwise as `weight_stationary_cycles`.
    Source: SCALE-Sim 3.0.0, `compute/systolic_compute_is.py`.
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
    r"""Cycles of folds back to back: $(rounds - 1) \max(T, swap) + load + T + R + C - 2$.

    While a fold streams for $T$ cycles, the next stationary tile comes in (or the last outputs go
    out) in `swap_cycles`; the first load and the skew are paid once per row of `Gemms`.
    """
    interval_cycles = maximum(folds.stream_cycles, swap_cycles, relaxation)
    hidden_cycles = (_num_rounds(folds, gemms, array, relaxation) - 1.0) * interval_cycles
    last_fold_cycles = first_load_cycles + folds.stream_cycles + _skew_cycles(array)
    return hidden_cycles + last_fold_cycles


def output_stationary_overlapped_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with the outputs held and drained behind the next fold, all counts.

    $(rounds - 1) \max(k, R) + k + R + C - 2$: a fold takes its stream or the $R$ cycles in which
    the outputs before it shift out, whichever is longer. The last outputs leave without a drain
    of their own, as in `output_stationary_cycles`, so overlapping never costs cycles.
    Assumes a second register for each output; no source in SCALE-Sim, whose folds do not overlap.
    """
    folds = output_stationary_folds(gemms, array, relaxation)
    return _overlapped_cycles(
        folds, gemms, array, relaxation, swap_cycles=array.rows, first_load_cycles=0.0
    )


def weight_stationary_overlapped_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with a tile of B held, the next loaded behind the running fold, all counts.

    $(rounds - 1) \max(m, L) + L + m + R + C - 2$ with $L = R / 2$ cycles to load
    (`LOAD_ROWS_PER_CYCLE`). This is how the TensorEngine of Trainium works: a matmul with a moving
    tile of `m` rows starts every $\max(m, 64)$ cycles on 128 rows. Assumes that the operands are
    in the scratchpad and that nothing else stalls the issue of instructions.
    Source: AWS Neuron SDK, NKI architecture guides, cost rules of the tensor engine.
    """
    folds = weight_stationary_folds(gemms, array, relaxation)
    load_cycles = array.rows / LOAD_ROWS_PER_CYCLE
    return _overlapped_cycles(
        folds, gemms, array, relaxation, swap_cycles=load_cycles, first_load_cycles=load_cycles
    )


def input_stationary_overlapped_cycles(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> PerOp:
    r"""Cycles with a tile of A held, the next loaded behind the running fold, all counts.

    $(rounds - 1) \max(n, L) + L + n + R + C - 2$; otherwise as
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
"""Cycles of all counts of each row, by the name in `SystolicArray.dataflow`."""


def paper_cycles(gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT) -> PerOp:
    r"""Cycles by the formula of the SCALE-Sim papers, $(2 R + C + T - 2) F$ for every dataflow.

    Equal to `DATAFLOWS` for weight and input stationary and for "output_stationary_drained"; plain
    output stationary is $R$ cycles a fold faster. For comparison with figures that follow the
    papers.
    Source: Samajdar et al., arXiv 1811.02883 and ISPASS 2020, analytical runtime.
    """
    folds = FOLDS[array.dataflow](gemms, array, relaxation)
    return _loaded_folds_cycles(folds, gemms, array, relaxation)


def mapping_efficiency(gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT) -> PerOp:
    r"""Elements of the array that hold work, averaged over folds: $S_r S_c / (R C F_r F_c)$.

    A fraction in (0, 1]; below 1 where the extents are no multiples of the array's sides.
    """
    folds = FOLDS[array.dataflow](gemms, array, relaxation)
    num_held = gemms.m * gemms.k * gemms.n / folds.stream_cycles
    num_slots = array.rows * array.cols * folds.num_row_folds * folds.num_col_folds
    return num_held / num_slots


def operand_words(
    gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT
) -> tuple[PerOp, PerOp]:
    """Elements of A and of B read from the scratchpad into the array, all counts.

    Each element of an operand is read once per fold that needs it (`Folds.a_passes`, `b_passes`);
    nothing is multicast between arrays.
    """
    folds = FOLDS[array.dataflow](gemms, array, relaxation)
    a_words = folds.a_passes * gemms.m * gemms.k * gemms.count
    b_words = folds.b_passes * gemms.k * gemms.n * gemms.count
    return a_words, b_words


def scratchpad_words(gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT) -> PerOp:
    """Elements of both operands read from the scratchpad into the array, all counts."""
    a_words, b_words = operand_words(gemms, array, relaxation)
    return a_words + b_words


def accumulator_words(gemms: Gemms, array: SystolicArray, relaxation: Relaxation = EXACT) -> PerOp:
    r"""Elements of C written to and read back from the accumulator, all counts.

    $(2 p - 1) m n$ with $p$ writes of each element: every sum but the first is added to what was
    read back. $p = F_r$ for weight and input stationary, 1 for output stationary. SCALE-Sim never
    reads a partial sum back, and adds $F (R + C)$ to output stationary.
    """
    folds = FOLDS[array.dataflow](gemms, array, relaxation)
    return (2.0 * folds.c_passes - 1.0) * gemms.m * gemms.n * gemms.count
