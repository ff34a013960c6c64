"""Operand accesses and access energies of GEMMs, at the four levels of the Eyeriss comparison."""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class AccessCounts:
    """Words of a GEMM read or written at each level."""

    registers: Leaf
    """Register file of a PE or of a vector unit."""
    array: Leaf
    """Transfers between PEs, or to a PE by an on-chip network."""
    buffer: Leaf
    """Shared memory next to the PEs: scratchpad, global buffer, L1."""
    dram: Leaf
    """Off-chip memory."""


@struct.dataclass
class AccessEnergies:
    """Energy per word at each level, per multiply-accumulate and per instruction."""

    mac_j: Leaf
    """One multiply-accumulate."""
    registers_j: Leaf
    """One word of a register file."""
    array_j: Leaf
    """One word transferred between PEs."""
    buffer_j: Leaf
    """One word of the shared memory."""
    dram_j: Leaf
    """One word of DRAM."""
    instruction_j: Leaf
    """Fetch, decode and schedule of one instruction; 0 if not modeled."""
