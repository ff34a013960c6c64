"""What products move on unlike engines, in the four places of Eyeriss's comparison."""

import flax.struct

from hwdse.numerics.array_types import Leaf


@flax.struct.dataclass
class AccessCounts:
    """Words of a product that are read or written in each place."""

    registers: Leaf
    """Of a processing element or of a vector unit's register file."""
    array: Leaf
    """Handed from element to element, or delivered to one by a network."""
    buffer: Leaf
    """Shared memory next to the elements: scratchpad, global buffer, L1."""
    dram: Leaf


@flax.struct.dataclass
class AccessEnergies:
    """Energy of a word in each place, and of what else a multiply-accumulate costs."""

    mac_j: Leaf
    registers_j: Leaf
    array_j: Leaf
    buffer_j: Leaf
    dram_j: Leaf
    instruction_j: Leaf
    """Fetch, decode and schedule of one instruction; zero where none is counted."""
