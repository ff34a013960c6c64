"""Systolic model against runs of SCALE-Sim 3.0.0, compared to the last printed digit.

The file has one run of one layer per row, in the columns of `COLUMNS`; DRAM words and SRAM
bandwidths are optional. CALC rows (no stalls) are scored in every quantity. Stalls of USER rows
depend on a fetch order that the model omits. There, `total_cycles` is scored without
`stall_cycles`, and quantities that depend on stalls or DRAM are skipped.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np

from hwdse.models.compute.systolic import mapping_efficiency
from hwdse.specs.hardware.chip import SystolicArray
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    read_table,
)
from hwdse.validation.simulators import scalesim_counts, scalesim_dram
from hwdse.workload.gemms import Gemms
from hwdse.workload.loops.conv_shapes import ConvShape, gemm_as_conv

DATAFLOW_NAMES: Mapping[str, str] = MappingProxyType(
    {"os": "output_stationary", "ws": "weight_stationary", "is": "input_stationary"}
)
KINDS = ("conv", "gemm")
BANDWIDTH_MODES = ("CALC", "USER")
SHAPE_COLUMNS = ("ifmap_h", "ifmap_w", "filter_h", "filter_w", "channels", "num_filters", "stride")
COUNT_COLUMNS = ("M", "N", "K", "array_rows", "array_cols")
SRAM_COLUMNS = ("ifmap_sram_kb", "filter_sram_kb", "ofmap_sram_kb")
PERCENT_QUANTITIES = ("overall_util_pct", "mapping_eff_pct", "compute_util_pct")
SRAM_QUANTITIES = ("sram_ifmap_reads", "sram_filter_reads", "sram_ofmap_writes")
SRAM_BANDWIDTHS = ("avg_ifmap_sram_bw", "avg_filter_sram_bw", "avg_ofmap_sram_bw")
DRAM_QUANTITIES: Mapping[str, Callable[[scalesim_dram.Layer], int]] = MappingProxyType(
    {
        "dram_ifmap_words": scalesim_dram.dram_ifmap_words,
        "dram_filter_words": scalesim_dram.dram_filter_words,
        "dram_ofmap_words": scalesim_dram.dram_ofmap_words,
    }
)
COLUMNS = (
    "kind",
    "dataflow",
    "bw_mode",
    *COUNT_COLUMNS,
    *SHAPE_COLUMNS,
    *SRAM_COLUMNS,
    "total_cycles",
    "stall_cycles",
    *PERCENT_QUANTITIES,
    *SRAM_QUANTITIES,
)
PRINTED_RESOLUTION = 1e-10
"""Utilizations and bandwidths are printed with ten decimals, without trailing zeros."""

STALLED_QUANTITIES = ("overall_util_pct", *SRAM_BANDWIDTHS)
"""Quantities divided by total cycles, which include the stalls of a USER row."""


def validate(path: Path) -> ValidationReport:
    """Error table of cycles, utilizations (percent), SRAM and DRAM words; by dataflow, kind, mode.

    `total_cycles` of both modes is compared without stalls. Integers must be equal; the other
    quantities must agree in the ten decimals printed by SCALE-Sim.
    """
    table = read_table(path, COLUMNS)
    is_user = np.array([mode == "USER" for mode in table.text("bw_mode", BANDWIDTH_MODES)])
    table.text("kind", KINDS)
    with jax.enable_x64(True):
        model = _report_quantities(table)
        model |= _dram_quantities(table, ~is_user)
    for name in STALLED_QUANTITIES:
        model[name] = np.where(is_user, np.nan, model[name])
    comparisons = {}
    for name, values in model.items():
        if name in table.columns:
            reference = table.numbers(name, at_least=0.0)
            if name == "total_cycles":
                reference = reference - table.numbers("stall_cycles")
            is_printed = name in PERCENT_QUANTITIES or name in SRAM_BANDWIDTHS
            comparisons[name] = Comparison(
                reference, values, PRINTED_RESOLUTION if is_printed else 0.0
            )
    unscored = "USER: no rule for stalls, DRAM words, overall utilization and SRAM bandwidth"
    return build_report(
        "scalesim",
        path,
        comparisons,
        rows_partly_scored={unscored: int(is_user.sum())},
        group_by={name: table.text(name) for name in ("dataflow", "kind", "bw_mode")},
    )


def _report_quantities(table: ReferenceTable) -> dict[str, np.ndarray]:
    """Cycles, utilizations, SRAM words and bandwidths of every row, one call per dataflow."""
    names = ("total_cycles", *PERCENT_QUANTITIES, *SRAM_QUANTITIES, *SRAM_BANDWIDTHS)
    model = {name: np.full(len(table), np.nan) for name in names}
    dataflows = np.array(table.text("dataflow", DATAFLOW_NAMES))
    m, n, k, rows, cols = (
        table.numbers(column, at_least=1.0, whole=True) for column in COUNT_COLUMNS
    )
    for short_name, dataflow in DATAFLOW_NAMES.items():
        chosen = dataflows == short_name
        if not chosen.any():
            continue
        ones = np.ones(int(chosen.sum()))
        gemms = Gemms(
            m[chosen], k[chosen], n[chosen], ones, ones, ones, ones, 0.0 * ones, 0.0 * ones
        )
        array = SystolicArray(rows[chosen], cols[chosen], ones, ones, dataflow=dataflow)
        cycles = np.asarray(scalesim_counts.total_cycles(gemms, array))
        words = [np.asarray(operand) for operand in scalesim_counts.sram_words(gemms, array)]
        utilizations = (
            scalesim_counts.overall_utilization(gemms, array),
            mapping_efficiency(gemms, array),
            scalesim_counts.compute_utilization(gemms, array),
        )
        values = [cycles, *(100.0 * np.asarray(u) for u in utilizations), *words]
        values += [operand / cycles for operand in words]
        for name, value in zip(names, values, strict=True):
            model[name][chosen] = value
    return model


def _layers(table: ReferenceTable) -> list[scalesim_dram.Layer]:
    """Runs of a file as integers."""
    columns = (*COUNT_COLUMNS, *SRAM_COLUMNS)
    counts = [
        table.numbers(column, at_least=1.0, whole=True).astype(int).tolist() for column in columns
    ]
    shape_columns = [
        table.numbers(column, at_least=1.0, whole=True, may_be_empty=True)
        for column in SHAPE_COLUMNS
    ]
    dataflows = table.text("dataflow")
    layers = []
    for row, kind in enumerate(table.text("kind")):
        m, n, k, rows, cols, *sram_kib = (column[row] for column in counts)
        if kind == "gemm":
            shape = gemm_as_conv(m, k, n)
        else:
            sizes = _shape_sizes(table, shape_columns, row)
            shape = ConvShape(*sizes, stride_width=sizes[-1])
            if shape.gemm_size("ceil") != (m, k, n):
                raise table.error(
                    row, "M", f"M, K, N = {shape.gemm_size('ceil')} as the shape columns give"
                )
        layers.append(
            scalesim_dram.Layer(shape, DATAFLOW_NAMES[dataflows[row]], rows, cols, *sram_kib)
        )
    return layers


def _shape_sizes(table: ReferenceTable, columns: list[np.ndarray], row: int) -> list[int]:
    """Shape of a convolution; an empty cell raises an error."""
    for name, column in zip(SHAPE_COLUMNS, columns, strict=True):
        if np.isnan(column[row]):
            raise table.error(row, name, "a whole number of at least 1 for a row of kind conv")
    return [int(column[row]) for column in columns]


def _dram_quantities(table: ReferenceTable, is_counted: np.ndarray) -> dict[str, np.ndarray]:
    """DRAM words of the counted rows, NaN for the others."""
    layers = _layers(table)
    model = {}
    for name, words in DRAM_QUANTITIES.items():
        counted = zip(layers, is_counted, strict=True)
        model[name] = np.array([float(words(layer)) if use else np.nan for layer, use in counted])
    return model
