"""One core: an array of multipliers below a hierarchy of memories, for models of mappings."""

import flax.struct

from hwdse.numerics.array_types import Leaf
from hwdse.specs.hardware.chip import Process

OPERANDS = ("weights", "inputs", "outputs")
"""Operands of an operator: fields of `Operands`."""


@flax.struct.dataclass
class Operands:
    """One number for each operand: the B, A and C of a product $C = A B$."""

    weights: Leaf
    inputs: Leaf
    outputs: Leaf


@flax.struct.dataclass
class Level:
    """One memory of a core.

    Bandwidths are those of one port, and the core has `ports` of them: "one", or one for each of
    its "rows", "cols" or "pes". The capacity is that of all `banks` together, which is what
    an access pays for: reading a byte takes
    `read_energy_j_per_byte + energy_slope * bank_bytes ** energy_exponent`.
    """

    capacity_bytes: Leaf
    read_bandwidth_bytes_per_s: Leaf
    """Of reads and writes together where `shares_port`."""
    write_bandwidth_bytes_per_s: Leaf
    read_energy_j_per_byte: Leaf
    write_energy_j_per_byte: Leaf
    energy_slope: Leaf
    """In J a byte, for a bank of one byte; zero where energy does not depend on the capacity."""
    energy_exponent: Leaf
    word_bytes: Operands
    """Width of a stored value of each operand; partial sums are wider than results."""
    name: str = flax.struct.field(pytree_node=False)
    keeps: tuple[str, ...] = flax.struct.field(pytree_node=False)
    """Operands stored here; the others pass by."""
    ports: str = flax.struct.field(pytree_node=False)
    banks: str = flax.struct.field(pytree_node=False)
    shares_port: bool = flax.struct.field(pytree_node=False)
    follows_clock: bool = flax.struct.field(pytree_node=False)
    """Whether bandwidth moves with the core's clock (on chip) or stays (DRAM)."""


@flax.struct.dataclass
class Accelerator:
    """One core of `rows` x `cols` multipliers and its memories.

    `levels` come outermost first: DRAM, scratchpads, accumulators, and last the registers in the
    elements. Loops over `rows_dims` may be unrolled along the rows, whose partial sums are added
    on the way, and loops over `cols_dims` along the columns, which share what is read.
    """

    rows: Leaf
    cols: Leaf
    clock_hz: Leaf
    nominal_clock_hz: Leaf
    """Clock at the process's nominal voltage, and of the bandwidths that follow the clock."""
    mac_energy_j: Leaf
    """One multiply-accumulate at the nominal clock."""
    levels: tuple[Level, ...]
    process: Process
    """Area, leakage, voltage law and price; MAC energy stands above, memory energy in levels."""
    fixed_area_mm2: Leaf
    package_cost_usd: Leaf
    dram_cost_usd_per_byte: Leaf
    rows_dims: str = flax.struct.field(pytree_node=False)
    """Letters of `workload.operators.DIMS`."""
    cols_dims: str = flax.struct.field(pytree_node=False)


def num_instances(what: str, accelerator: Accelerator) -> Leaf:
    """How many ports or banks "one", "rows", "cols" or "pes" stands for."""
    counts = {
        "one": 1.0,
        "rows": accelerator.rows,
        "cols": accelerator.cols,
        "pes": accelerator.rows * accelerator.cols,
    }
    return counts[what]
