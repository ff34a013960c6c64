"""Chips and clusters. Numbers are float leaves in SI base units; text fields pick code paths."""

import flax.struct

from hwdse.shapes import Leaf


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
    launch_s: Leaf
    """Start of a collective, whatever its size."""
    efficiency_fraction: Leaf
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


@flax.struct.dataclass
class Cluster:
    """Equal chips: scale-up domains of `torus_sizes` product chips, joined by a network.

    `topology` names an entry of `models.network.TOPOLOGIES` for the scale-up domain. The
    innermost dimension comes first in `torus_sizes`; `torus_bandwidth_fractions` says how a
    chip's link bandwidth is divided among them (they sum to one), `torus_latency_ratios` what a
    hop in each takes over the latency of the chip's link. Rings and switches have one.
    The network joins the domains of a pod at full bisection, and pods by less.
    """

    num_chips: Leaf
    torus_sizes: tuple[Leaf, ...]
    torus_bandwidth_fractions: tuple[Leaf, ...]
    torus_latency_ratios: tuple[Leaf, ...]
    pod_chips: Leaf
    """Chips that the network joins at full bisection."""
    network_oversubscription_ratio: Leaf
    """Bandwidth into a pod's switches over that between pods; one is full bisection."""
    chip_mtbf_s: Leaf
    restart_time_s: Leaf
    """Restore and warm-up after a failure; can fail itself."""
    downtime_s: Leaf
    """Detection, rescheduling, replacement; nothing fails meanwhile."""
    storage_bandwidth_bytes_per_s: Leaf
    """Write rate of the file system as a whole."""
    electricity_usd_per_j: Leaf
    power_overhead_ratio: Leaf
    """Facility power over chip power: host, network, cooling (PUE included)."""
    server_cost_usd_per_chip: Leaf
    """Capital beside the accelerator package: host, network, rack."""
    lifetime_s: Leaf
    topology: str = flax.struct.field(pytree_node=False)
