"""What SCALE-Sim 3.0.0 reports for one layer, quirks included: for comparisons, not for designs.

Cycles and words come from `systolic`; this file adds the conventions of SCALE-Sim's reports, for
rows with `count` 1. One word is one element. Its DRAM words are in `scalesim_dram`.
Source: the code of SCALE-Sim 3.0.0 (MIT), file names in the docstrings.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from hwdse.models.compute.systolic import DATAFLOWS, FOLDS, mapping_efficiency, operand_words
from hwdse.numerics.array_types import PerOp
from hwdse.numerics.relaxation import EXACT
from hwdse.specs.hardware.chip import SystolicArray
from hwdse.workload.gemms import Gemms

COLUMN_SKEWS_ADDED: Mapping[str, float] = MappingProxyType(
    {"output_stationary": 0.0, "weight_stationary": 1.0, "input_stationary": 1.0}
)
"""Extra column skews in the length of a fold that SCALE-Sim divides by for compute utilization."""

STRAY_OFMAP_WRITES: Mapping[str, float] = MappingProxyType(
    {"output_stationary": 1.0, "weight_stationary": 0.0, "input_stationary": 0.0}
)
"""Writes of R + C words that SCALE-Sim counts in each fold beside the outputs."""


def total_cycles(gemms: Gemms, array: SystolicArray) -> PerOp:
    """`Total Cycles` without stalls: the index of the last cycle, one less than their number."""
    return DATAFLOWS[array.dataflow](gemms, array, EXACT) - 1.0


def overall_utilization(gemms: Gemms, array: SystolicArray, stall_cycles: PerOp = 0.0) -> PerOp:
    """`Overall Util` as a fraction: products over elements times `Total Cycles` with stalls.

    Passes 1 for a single full fold of a single-cycle product, as its cycles are one too few.
    """
    cycles = total_cycles(gemms, array) + stall_cycles
    return gemms.num_macs / (array.rows * array.cols * cycles)


def compute_utilization(gemms: Gemms, array: SystolicArray) -> PerOp:
    """`Compute Util` as a fraction: mapping efficiency times the stream's share of a fold.

    The length of a fold of weight and input stationary counts the column skew twice.
    Source: `compute/systolic_compute_{os,ws,is}.py`, `compute_util_this_fold`.
    """
    folds = FOLDS[array.dataflow](gemms, array, EXACT)
    num_folds = folds.num_row_folds * folds.num_col_folds
    fold_cycles = DATAFLOWS[array.dataflow](gemms, array, EXACT) / num_folds
    fold_cycles = fold_cycles + COLUMN_SKEWS_ADDED[array.dataflow] * (array.cols - 1.0)
    return mapping_efficiency(gemms, array) * folds.stream_cycles / fold_cycles


class OperandWords(NamedTuple):
    """Words of each of SCALE-Sim's three operands."""

    ifmap: PerOp
    filter: PerOp
    ofmap: PerOp


def sram_words(gemms: Gemms, array: SystolicArray) -> OperandWords:
    """SRAM reads of ifmap and filter, writes of the ofmap with the stray ones.

    Weight and input stationary write every partial sum and read none back.
    """
    folds = FOLDS[array.dataflow](gemms, array, EXACT)
    ifmap, filters = operand_words(gemms, array)
    num_folds = folds.num_row_folds * folds.num_col_folds
    stray = STRAY_OFMAP_WRITES[array.dataflow] * num_folds * (array.rows + array.cols)
    return OperandWords(ifmap, filters, folds.c_passes * gemms.m * gemms.n + stray)
