"""Tiles of an operator on a weight-stationary core, and operand residency in its memories."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator


@dataclass(frozen=True)
class Roles:
    """Indices into `Accelerator.levels` of the memories of a weight-stationary core."""

    dram: int
    """Off-chip memory."""
    scratchpad: int
    """Memory of inputs and weights."""
    accumulator: int
    """Memory of partial sums; the scratchpad if one memory holds all operands."""
    registers: int
    """Weight registers of the PEs."""

    @property
    def is_unified(self) -> bool:
        """True if sums share the scratchpad with inputs and weights."""
        return self.accumulator == self.scratchpad


_ALL, _STREAMS = frozenset(OPERANDS), frozenset({"weights", "inputs"})
_SUMS, _WEIGHTS = frozenset({"outputs"}), frozenset({"weights"})
HIERARCHIES: Mapping[tuple[frozenset[str], ...], Roles] = MappingProxyType(
    {
        (_ALL, _ALL, _WEIGHTS): Roles(0, 1, 1, 2),
        (_ALL, _STREAMS, _SUMS, _WEIGHTS): Roles(0, 1, 2, 3),
        (_ALL, _SUMS, _STREAMS, _WEIGHTS): Roles(0, 2, 1, 3),
    }
)
"""Roles of the levels, by the operands that each level keeps."""


def roles(accelerator: Accelerator) -> Roles:
    """Roles of the levels of a core; raises `ValueError` for hierarchies without a tile model."""
    found = HIERARCHIES.get(tuple(frozenset(level.keeps) for level in accelerator.levels))
    dims = (accelerator.rows_dims, accelerator.cols_dims)
    if found is not None and dims == ("C", "K"):
        return found
    levels = ", ".join(f"{level.name} of {'+'.join(level.keeps)}" for level in accelerator.levels)
    raise ValueError(
        f"no best mapping on rows of {dims[0]} and columns of {dims[1]} with {levels}; expected "
        "rows of C, columns of K, and a DRAM of weights+inputs+outputs, a scratchpad of "
        "weights+inputs, an accumulator of outputs (or one memory of all three), registers of "
        "weights"
    )


@struct.dataclass
class Residency:
    """Operand residency in the scratchpad while a tile of outputs is accumulated.

    Python booleans, or arrays of them if operators differ. An operand held whole spans the
    reduction: all input channels and filter taps. Otherwise it streams in slices of the input
    channels of one pass of the array.
    """

    whole_inputs: Leaf
    """True if a block of inputs spans the reduction."""
    whole_weights: Leaf
    """True if a block of weights spans the reduction."""
    inputs_once: Leaf
    """True if blocks of inputs are the outer loop, so that each input is read from DRAM once."""
    weights_once: Leaf
    """True if blocks of weights are the outer loop. If neither is, both operands are read again for
    each tile of outputs."""


RESIDENCIES: Mapping[str, Residency] = MappingProxyType(
    {
        "stream": Residency(False, False, False, False),
        "input_block": Residency(True, False, True, False),
        "weight_block": Residency(False, True, False, True),
        "input_block_weight_blocks": Residency(True, True, True, False),
        "weight_block_input_blocks": Residency(True, True, False, True),
    }
)
"""Residencies by name, the outer block first. A block may contain a complete operand."""


@struct.dataclass
class Tile:
    """Extents of a tile of outputs and of the resident blocks that contain it.

    The partial sums of a tile stay on chip until they are complete.
    """

    p: Leaf
    """Output rows of the tile."""
    q: Leaf
    """Output columns of the tile."""
    n: Leaf
    """Images of the tile."""
    k: Leaf
    """Output channels of the tile."""
    block_p: Leaf
    """Output rows of the resident block of inputs."""
    block_k: Leaf
    """Output channels of the resident block of weights."""
    rows: Leaf
    """Input channels per pass of the array."""
    cols: Leaf
    """Output channels per pass of the array."""
    residency: Leaf
    """Operand residency: a `Residency`."""


@struct.dataclass
class Divisors:
    """Divisors of the dimensions of operators on the first axis, padded with ones."""

    p: Leaf
    """Divisors of the output rows."""
    q: Leaf
    """Divisors of the output columns."""
    n: Leaf
    """Divisors of the batch."""
    c: Leaf
    """Divisors of the input channels."""
    k: Leaf
    """Divisors of the output channels."""
