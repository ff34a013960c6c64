"""Tiles of an operator on a weight-stationary core, and what stays beside them in its memories."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import flax.struct

from hwdse.numerics.array_types import Leaf
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator


@dataclass(frozen=True)
class Roles:
    """Places in `Accelerator.levels` of the memories of a weight-stationary core."""

    dram: int
    scratchpad: int
    accumulator: int
    """The scratchpad again where one memory holds inputs, weights and sums."""
    registers: int

    @property
    def is_unified(self) -> bool:
        """Whether sums share the scratchpad with inputs and weights."""
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
"""Who is who, by what the levels keep."""


def roles(accelerator: Accelerator) -> Roles:
    """Which level is which; a `ValueError` where tiles are not modeled."""
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


@flax.struct.dataclass
class Residency:
    """What the scratchpad holds while a tile of outputs is summed up.

    Truth values of Python, or arrays of them where operators differ. What is held whole spans the
    sum: all input channels and filter taps. What is not passes in slices, of as many input
    channels as the array takes at a time.
    """

    whole_inputs: Leaf
    whole_weights: Leaf
    inputs_once: Leaf
    """Blocks of inputs are the outer loop, so that each comes from DRAM once."""
    weights_once: Leaf
    """The same of weights; with neither, both come again for each tile of outputs."""


RESIDENCIES: Mapping[str, Residency] = MappingProxyType(
    {
        "stream": Residency(False, False, False, False),
        "input_block": Residency(True, False, True, False),
        "weight_block": Residency(False, True, False, True),
        "input_block_weight_blocks": Residency(True, True, True, False),
        "weight_block_input_blocks": Residency(True, True, False, True),
    }
)
"""By name, the outer block first. A block may be all of an operand."""


@flax.struct.dataclass
class Tile:
    """Extents of a tile of outputs, and of the blocks that it is cut from.

    The sums of `p` x `q` outputs of `n` images in `k` channels stay on chip until they are done.
    Inputs are held for `block_p` rows of outputs and weights for `block_k` channels. A pass of
    the array takes `rows` input channels and `cols` output channels.
    """

    p: Leaf
    q: Leaf
    n: Leaf
    k: Leaf
    block_p: Leaf
    block_k: Leaf
    rows: Leaf
    cols: Leaf
    residency: Leaf


@flax.struct.dataclass
class Divisors:
    """Divisors of dimensions of operators on a first axis, padded with ones."""

    p: Leaf
    q: Leaf
    n: Leaf
    c: Leaf
    k: Leaf
