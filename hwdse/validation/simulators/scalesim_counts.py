"""Report quantities of SCALE-Sim 3.0.0 for one layer, including its counting quirks.

Used for comparisons only. Cycles and words come from `models/compute/systolic.py`; this file adds
the conventions of SCALE-Sim reports, for GEMMs with `count` 1. One word is one element.
`scalesim_dram.py` contains the DRAM words.
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
"""Extra column skews in the fold length of SCALE-Sim's compute utilization."""

STRAY_OFMAP_WRITES: Mapping[str, float] = MappingProxyType(
    {"output_stationary": 1.0, "weight_stationary": 0.0, "input_stationary": 0.0}
)
"""Writes of R + C words per fold that SCALE-Sim counts in addition to the outputs."""


def total_cycles(gemms: Gemms, array: SystolicArray) -> PerOp:
    """`Total Cycles` without stalls: index of the last cycle, one less than the cycle count."""
    return DATAFLOWS[array.dataflow](gemms, array, EXACT) - 1.0


def overall_utilization(gemms: Gemms, array: SystolicArray, stall_cycles: PerOp = 0.0) -> PerOp:
    """`Overall Util` as a fraction: MACs over PEs times `Total Cycles` with stalls.

    Exceeds 1 for a single full fold of one cycle, because the cycle count is one too small.
    """
    cycles = total_cycles(gemms, array) + stall_cycles
    return gemms.num_macs / (array.rows * array.cols * cycles)


def compute_utilization(gemms: Gemms, array: SystolicArray) -> PerOp:
    """`Compute Util` as a fraction: mapping efficiency times the streaming share of a fold.

    The fold length of weight and input stationary counts the column skew twice.
    Source: `compute/systolic_compute_{os,ws,is}.py`, `compute_util_this_fold`.
    """
    folds = FOLDS[array.dataflow](gemms, array, EXACT)
    num_folds = folds.num_row_folds * folds.num_col_folds
    fold_cycles = DATAFLOWS[array.dataflow](gemms, array, EXACT) / num_folds
    fold_cycles = fold_cycles + COLUMN_SKEWS_ADDED[array.dataflow] * (array.cols - 1.0)
    return mapping_efficiency(gemms, array) * folds.stream_cycles / fold_cycles


class OperandWords(NamedTuple):
    """Words of the three operands of SCALE-Sim."""

    ifmap: PerOp
    filter: PerOp
    ofmap: PerOp


def sram_words(gemms: Gemms, array: SystolicArray) -> OperandWords:
    """SRAM reads of ifmap and filter, and writes of the ofmap with stray writes.

    Weight and input stationary write every partial sum and read none.
    """
    folds = FOLDS[array.dataflow](gemms, array, EXACT)
    ifmap, filters = operand_words(gemms, array)
    num_folds = folds.num_row_folds * folds.num_col_folds
    stray = STRAY_OFMAP_WRITES[array.dataflow] * num_folds * (array.rows + array.cols)
    return OperandWords(ifmap, filters, folds.c_passes * gemms.m * gemms.n + stray)
