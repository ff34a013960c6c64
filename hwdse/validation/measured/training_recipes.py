"""Words of a recipe as fields of a design: number format, overlap, CUDA graphs.

A word that a row does not have leaves the value of its stack.
"""

from collections.abc import Mapping
from types import MappingProxyType

from hwdse.specs.number_formats import PrecisionMix
from hwdse.specs.software import Software
from hwdse.validation.measured.training_cells import cell_text

OVERLAPS: Mapping[str, tuple[str, float, float]] = MappingProxyType(
    {
        "tp_overlap": ("num_tensor_slices", 4.0, 1.0),
        "dp_overlap": ("data_overlap_fraction", 1.0, 0.0),
        "moe_overlap": ("expert_overlap_fraction", 1.0, 0.0),
    }
)
"""Field of `Software` by the column that says whether a recipe overlaps its collectives, with its
values for true and false. Userbuffers of Transformer Engine split a product into four pieces
(`num_splits`)."""
CAPTURED: Mapping[str, float] = MappingProxyType(
    {"full_iteration": 1.0, "local full_iteration": 1.0, "mcore": 1.0, "none": 0.0, "": 0.0}
)
"""Fraction of the host's work that CUDA graphs replay, by the text of `cuda_graph`."""
CAPTURED_MODULES = 0.5
"""The same for graphs of single modules, as in `transformer_engine attn+moe_router`. Assumed."""
ONCE_PER_NODE = ("hybridep", "deepep")
"""Dispatchers that send a token once to each scale-up domain."""
EIGHT_BIT, FOUR_BIT = "8", "fp4"
"""Parts of the names of number formats whose GEMMs run in eight and in four bits."""


def _overlaps_of(row: Mapping[str, str]) -> dict[str, float]:
    """Fields of the overlap that a recipe states."""
    cells = {column: cell_text(row, column) for column in OVERLAPS}
    return {
        field: value if cells[column] == "true" else otherwise
        for column, (field, value, otherwise) in OVERLAPS.items()
        if cells[column]
    }


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
    """Stack with the overlap and the dispatcher of a recipe, without the host's work that its CUDA
    graphs replay."""
    captured = CAPTURED.get(cell_text(row, "cuda_graph"), CAPTURED_MODULES)
    dispatcher = cell_text(row, "moe_dispatcher")
    return software.replace(
        dispatch_time_s=(1.0 - captured) * software.dispatch_time_s,
        node_dispatch_fraction=(
            float(dispatcher in ONCE_PER_NODE) if dispatcher else software.node_dispatch_fraction
        ),
        **_overlaps_of(row),
    )
