"""Chips and clusters. Numbers are float leaves in SI base units; text fields pick code paths."""

import flax.struct

from hwdse.numerics.array_types import Leaf


@flax.struct.dataclass
class SystolicArray:
    """Matrix engines of a chip; `rows` and `cols` count the elements of each of `num_arrays`.

    `dataflow` names an entry of `models.systolic.DATAFLOWS`.
    """

    rows: Leaf
    cols: Leaf
    num_arrays: Leaf
    clock_hz: Leaf
    dataflow: str = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class Memory:
    """A memory level of a whole chip.

    For a scratchpad `energy_j_per_byte` is that of a 64 KiB macro, and `models.energy` scales it
    to the capacity of one scratchpad; for DRAM it is the energy of the path as it stands.
    """

    capacity_bytes: Leaf
    bandwidth_bytes_per_s: Leaf
    energy_j_per_byte: Leaf


@flax.struct.dataclass
class Link:
    """What one chip can send in one direction over all its ports of this kind together.

    Two protocols move messages: the eager one for short ones, and one for long ones that starts
    later and is faster. Whichever ends first is taken.
    """

    latency_s: Leaf
    """One step of a collective: a hop, or a message to any other chip of a switch."""
    bandwidth_bytes_per_s: Leaf
    """Line rate."""
    energy_j_per_byte: Leaf
    collective_launch_s: Leaf
    """Start of a collective, whatever its size."""
    bandwidth_efficiency_fraction: Leaf
    """Share of the line rate that long messages reach."""
    rendezvous_s: Leaf
    """What the protocol for long messages takes longer to start."""
    eager_fraction: Leaf
    """Rate of the eager protocol over that of the one for long messages."""


@flax.struct.dataclass
class Process:
    """Silicon: areas, energies, voltage law and price of one node."""

    mac_area_mm2: Leaf
    """One 16-bit multiply with 32-bit accumulate, its registers and its share of control."""
    mac_energy_j: Leaf
    """The same operation at `nominal_voltage_v`."""
    fp64_area_ratio: Leaf
    """Area of one fp64 flop/s over that of one fp16 flop/s."""
    fp64_energy_ratio: Leaf
    """Energy of one fp64 flop over that of one fp16 flop."""
    sram_area_mm2_per_byte: Leaf
    hbm_phy_area_mm2_per_bytes_per_s: Leaf
    link_phy_area_mm2_per_bytes_per_s: Leaf
    vector_area_mm2_per_flop_per_s: Leaf
    nominal_voltage_v: Leaf
    threshold_voltage_v: Leaf
    leakage_w_per_mm2: Leaf
    wafer_cost_usd: Leaf
    defects_per_mm2: Leaf
    defect_clustering: Leaf
    min_voltage_v: Leaf = 0.0
    """Below the clock of this voltage the clock goes on falling, and the voltage does not."""
    leakage_voltage_v: Leaf = 0.0
    """V0 of a leakage power that grows as V e^(V / V0); 0 where it grows as V^2."""
    mac_overhead_ratio: Leaf = 1.0
    """Energy of the matrix engines over that of their multipliers and adders: instructions,
    operand delivery, clock. 1 where the MAC's energy has it."""
    die_link_area_mm2_per_bytes_per_s: Leaf = 0.4055 / 256e9
    """PHY of a link between dies. UCIe, advanced package: a module of 64 lanes at 32 GT/s takes
    0.4055 mm2 (CATCH, io_definitions.xml)."""
    fab_energy_j_per_mm2: Leaf = 2.15 * 3.6e6 / 100.0
    """Electricity of the fab: 2.15 kWh a cm2 at 7 nm (ACT, epa.yaml)."""
    fab_gas_g_per_mm2: Leaf = 3.5
    """CO2 equivalent of the gases: 350 g a cm2 at 7 nm, 95 % abated (ACT, gpa_95.yaml)."""
    fab_materials_g_per_mm2: Leaf = 5.0
    """CO2 equivalent of the materials: 500 g a cm2 (ACT, materials.yaml)."""
    fab_grid_g_per_j: Leaf = 583.0 / 3.6e6
    """CO2 equivalent of the fab's electricity: 583 g/kWh in Taiwan (ACT, location_2022.yaml)."""


@flax.struct.dataclass
class Chip:
    """An accelerator package of `num_dies` equal compute dies with its HBM."""

    array: SystolicArray
    sram: Memory
    num_scratchpads: Leaf
    """Equal parts of `sram`, each private to its share of the arrays; 1 where all share it."""
    hbm: Memory
    link: Link
    """Scale-up fabric: NeuronLink, NVLink, ICI."""
    network: Link
    """Scale-out network: this chip's share of the server's EFA."""
    process: Process
    nominal_clock_hz: Leaf
    """Clock at the process's nominal voltage; another clock moves the voltage."""
    fp64_per_fp16_ratio: Leaf
    """Peak fp64 of native units over peak fp16: the first of the four balances."""
    fp8_speedup_ratio: Leaf
    vector_flop_per_s: Leaf
    """fp32 rate of the vector engines, at the nominal clock."""
    software_fp64_flop_ratio: Leaf
    """fp32 vector flops for one fp64 flop where there is no native unit."""
    launch_latency_s: Leaf
    """Start cost of one operator, when the work behind it is not already queued."""
    fixed_area_mm2: Leaf
    """Control, DMA, host interface: what no design variable moves."""
    num_dies: Leaf
    package_cost_usd: Leaf
    hbm_cost_usd_per_byte: Leaf
    checkpoint_bandwidth_bytes_per_s: Leaf
    """What this chip can write to storage: its share of the server's path."""
    matrix_efficiency_fraction: Leaf = 1.0
    """Sustained matrix rate of large products over the printed peak: clock under power, issue."""
    attention_efficiency_fraction: Leaf = 1.0
    """Matrix rate of a fused attention kernel over that of large products."""
    hbm_efficiency_fraction: Leaf = 1.0
    """Sustained HBM bandwidth of a long stream over the printed one."""
    power_limit_w: Leaf | None = None
    """Mean power of a step above which the chip lowers its clock; none where it never does, so
    that programs for such chips have nothing to solve."""
    die_link_bandwidth_bytes_per_s: Leaf = 0.0
    """What each die can send to the other dies of the package, in one direction."""
    bond_yield_fraction: Leaf = 1.0
    """Share of good bonds of a die or an HBM stack to the package."""
    package_yield_fraction: Leaf = 1.0
    """Share of good packages after assembly, whatever the number of bonds."""
    num_hbm_stacks: Leaf = 0.0
    """HBM stacks that are bonded to the package; they only count with a bond yield."""
    hbm_carbon_g_per_byte: Leaf = 65e-9
    """CO2 equivalent of making DRAM: 65 g/GB of DDR4 at 10 nm (ACT, dram_hynix.yaml)."""
    package_carbon_g: Leaf = 150.0
    """CO2 equivalent of a package; assumed, the order of what ACT takes for one IC."""
    emulated_fp64_flop_ratio: Leaf = 36.0
    """16-bit flops for one fp64 flop of a matrix product that the arrays emulate: 36 products of
    8 slices (Ozaki scheme, Numer. Algorithms 59, 2012); 12 to 18 measured with int8 on GH200."""
