"""One core for mapping models: a PE array below a hierarchy of memories."""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf
from hwdse.specs.hardware.chip import Process

OPERANDS = ("weights", "inputs", "outputs")
"""Operands of an operator: fields of `Operands`."""


@struct.dataclass
class Operands:
    """One value per operand: B, A and C of a GEMM $C = A B$."""

    weights: Leaf
    """Value for the weights (B)."""
    inputs: Leaf
    """Value for the inputs (A)."""
    outputs: Leaf
    """Value for the outputs (C)."""


@struct.dataclass
class Level:
    """One memory level of a core.

    Bandwidths are per port, of which the core has `ports`. Energies depend on the capacity of one
    of the `banks`: reading a byte takes
    `read_energy_j_per_byte + energy_slope * bank_bytes ** energy_exponent`.
    """

    capacity_bytes: Leaf
    """Capacity of all banks together. Typical: 128 KiB (Gemmini scratchpad)."""
    read_bandwidth_bytes_per_s: Leaf
    """Read bandwidth per port; of reads and writes together with `shares_port`. Typical: 2 B/cycle
    (Gemmini scratchpad)."""
    write_bandwidth_bytes_per_s: Leaf
    """Write bandwidth per port."""
    read_energy_j_per_byte: Leaf
    """Read energy, without the part that depends on the bank size. Typical: 0.49 pJ/B (Gemmini
    scratchpad), 100 pJ/B (DRAM)."""
    write_energy_j_per_byte: Leaf
    """Write energy, without the part that depends on the bank size. Typical: as for reads."""
    energy_slope: Leaf
    """Energy in J per byte accessed, for a bank of one byte; 0 if the energy does not depend on the
    capacity. Typical: 0.0251 pJ/B per KiB (Gemmini scratchpad)."""
    energy_exponent: Leaf
    """Exponent of the bank size in the access energy. Typical: 1 (Gemmini)."""
    word_bytes: Operands
    """Width of a stored value per operand; partial sums are wider than results. Typical: 1 B for
    weights and inputs, 4 B for partial sums (Gemmini)."""
    name: str = struct.field(pytree_node=False)
    """Name of the level, as in mappings and tables. Typical: "scratchpad"."""
    keeps: tuple[str, ...] = struct.field(pytree_node=False)
    """Operands stored in this level; the others bypass it."""
    ports: str = struct.field(pytree_node=False)
    """Number of ports: "one", or one per "rows", "cols" or "pes"."""
    banks: str = struct.field(pytree_node=False)
    """Number of banks: "one", or one per "rows", "cols" or "pes"."""
    shares_port: bool = struct.field(pytree_node=False)
    """True if reads and writes share the port."""
    follows_clock: bool = struct.field(pytree_node=False)
    """True if the bandwidth scales with the core clock (on chip), false if not (DRAM)."""


@struct.dataclass
class Accelerator:
    """One core of `rows` x `cols` PEs and its memory levels."""

    rows: Leaf
    """PE rows. Typical: 16 (Gemmini)."""
    cols: Leaf
    """PE columns. Typical: 16 (Gemmini)."""
    clock_hz: Leaf
    """Core clock. Typical: 1 GHz (Gemmini). Assumed."""
    nominal_clock_hz: Leaf
    """Clock at the nominal voltage of the process, at which the bandwidths that follow the clock
    are given. Typical: 1 GHz (Gemmini)."""
    mac_energy_j: Leaf
    """Energy of one multiply-accumulate at the nominal clock. Typical: 0.561 pJ (8-bit integer,
    40 nm)."""
    levels: tuple[Level, ...]
    """Memory levels, outermost first: DRAM, scratchpads, accumulators, registers in the PEs."""
    process: Process
    """Area, leakage, voltage law and wafer cost. MAC and memory energies are fields of this class
    and its levels."""
    fixed_area_mm2: Leaf
    """Die area that no other field changes. Typical: 0 mm² (Gemmini)."""
    package_cost_usd: Leaf
    """Cost of package and assembly. Typical: 21 USD (Gemmini)."""
    dram_cost_usd_per_byte: Leaf
    """DRAM cost. Typical: 2.4 USD/GB (DDR5, DRAMeXchange)."""
    rows_dims: str = struct.field(pytree_node=False)
    """Dimensions that may be unrolled along the rows, which add their partial sums: letters of
    `workload.loops.operators.DIMS`. Typical: "C" (Gemmini)."""
    cols_dims: str = struct.field(pytree_node=False)
    """Dimensions that may be unrolled along the columns, which share each word read. Typical: "K"
    (Gemmini)."""


def num_instances(kind: str, accelerator: Accelerator) -> Leaf:
    """Number of ports or banks for "one", "rows", "cols" or "pes"."""
    counts = {
        "one": 1.0,
        "rows": accelerator.rows,
        "cols": accelerator.cols,
        "pes": accelerator.rows * accelerator.cols,
    }
    return counts[kind]
