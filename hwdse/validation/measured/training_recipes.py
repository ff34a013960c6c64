"""Words of a recipe as fields of a design: number format, overlap, CUDA graphs.

A word that a row does not have leaves the value of its source.
"""

from collections.abc import Mapping
from types import MappingProxyType

from hwdse.specs.number_formats import PrecisionMix
from hwdse.specs.software import Software
from hwdse.validation.measured.training_cells import cell_text

OVERLAPS: Mapping[str, str] = MappingProxyType(
    {
        "tp_overlap": "tensor_overlap_fraction",
        "dp_overlap": "data_overlap_fraction",
        "moe_overlap": "expert_overlap_fraction",
    }
)
"""Field of `Parallelism` by the column that says whether a recipe overlaps its collectives."""
CAPTURED: Mapping[str, float] = MappingProxyType(
    {"full_iteration": 1.0, "local full_iteration": 1.0, "mcore": 1.0, "none": 0.0, "": 0.0}
)
"""Fraction of the host's work that CUDA graphs replay, by the text of `cuda_graph`."""
CAPTURED_MODULES = 0.5
"""The same for graphs of single modules, as in `transformer_engine attn+moe_router`. Assumed."""
EIGHT_BIT, FOUR_BIT = "8", "fp4"
"""Parts of the names of number formats whose GEMMs run in eight and in four bits."""


def overlaps_of(row: Mapping[str, str]) -> dict[str, float]:
    """Overlap fractions that a recipe states: 1 if it overlaps a kind of collective, else 0."""
    cells = {field: cell_text(row, column) for column, field in OVERLAPS.items()}
    return {field: float(cell == "true") for field, cell in cells.items() if cell}


def mix_of(row: Mapping[str, str], unstated: str) -> PrecisionMix:
    """Number formats of a row; `unstated` is the format of rows that name none."""
    name = row["number_format"] or unstated
    is_fp4, is_fp8 = FOUR_BIT in name, EIGHT_BIT in name
    return PrecisionMix(
        fp64_flop_fraction=0.0,
        fp8_flop_fraction=float(is_fp8),
        fp4_flop_fraction=float(is_fp4),
    )


def software_of(row: Mapping[str, str], software: Software) -> Software:
    """Stack without the host's work that the CUDA graphs of a recipe replay."""
    captured = CAPTURED.get(cell_text(row, "cuda_graph"), CAPTURED_MODULES)
    return software.replace(dispatch_time_s=(1.0 - captured) * software.dispatch_time_s)
