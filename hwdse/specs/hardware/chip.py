"""Accelerator chip: matrix engines, memories, interconnect ports, process node and package.

Numbers are float leaves in SI base units. Text fields select a code path.
"""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class SystolicArray:
    """Matrix engines of a chip: `num_arrays` equal arrays of `rows` x `cols` PEs."""

    rows: Leaf
    """PE rows of one array. Typical: 128 (Trainium2)."""
    cols: Leaf
    """PE columns of one array. Typical: 128 (Trainium2)."""
    num_arrays: Leaf
    """Arrays per chip. Typical: 8, one per NeuronCore (Trainium2)."""
    clock_hz: Leaf
    """Set clock of the arrays, before throttling. Typical: 2.4 GHz (Trainium2)."""
    dataflow: str = struct.field(pytree_node=False)
    """Entry of `models.compute.systolic.DATAFLOWS`. Typical: "weight_stationary_overlapped"."""
    fold_overhead_cycles: Leaf = 0.0
    """Cycles per tile of results in which a kernel's tile multiplies nothing, in any format: its
    prologue and epilogue. Typical: 0 (Trainium, TPU), 500 (tiles of a GPU's thread blocks,
    fitted)."""
    dataflow_index: Leaf | None = struct.field(default=None, metadata={"in_files": False})
    """Number of the dataflow in use, from 0, if `dataflow` has several names joined by `|`: one
    compiled program for all of them."""


@struct.dataclass
class Memory:
    """One memory level of a whole chip: scratchpad (SRAM) or HBM."""

    capacity_bytes: Leaf
    """Capacity per chip. Typical: 224 MiB of SRAM, 96 GiB of HBM (Trainium2)."""
    bandwidth_bytes_per_s: Leaf
    """Peak bandwidth per chip, reads and writes together. Typical: SRAM 58 TB/s, HBM 2.9 TB/s
    (Trainium2)."""
    energy_j_per_byte: Leaf
    """Access energy. Of SRAM: that of a 64 KiB macro, scaled to the scratchpad capacity by
    `models.energy.voltage_and_leakage`; of HBM: the whole path. Typical: 0.161 pJ/B, 6.76 pJ/bit
    (Trainium2)."""


@struct.dataclass
class Link:
    """Interconnect ports of one kind of a chip, all together, in one direction.

    Two protocols send messages: the eager protocol for short messages, and a rendezvous protocol
    for long ones that starts later and is faster. The faster of the two is used.
    """

    latency_s: Leaf
    """Time per step of a collective: a hop, or a message through a switch. Typical: 1.5 µs
    (scale-up), 15 µs (scale-out, Trainium2)."""
    bandwidth_bytes_per_s: Leaf
    """Line rate in one direction. Typical: 640 GB/s (scale-up), 200 Gb/s (scale-out, Trainium2)."""
    energy_j_per_byte: Leaf
    """Transfer energy. Typical: 6.5 pJ/bit (scale-up), 18.75 pJ/bit (pluggable optics, scale-out).
    Assumed."""
    collective_launch_s: Leaf
    """Start-up time of a collective, independent of its size. Typical: 20 µs (Trainium2)."""
    bandwidth_efficiency_fraction: Leaf
    """Fraction of the line rate that long messages reach. Typical: 0.4 (scale-up), 0.74 (scale-out,
    Trainium2)."""
    rendezvous_s: Leaf
    """Additional start-up time of the rendezvous protocol. Typical: 0 s, a single protocol
    (Trainium2)."""
    eager_fraction: Leaf
    """Rate of the eager protocol over that of the rendezvous protocol. Typical: 0.69
    (NVLink of H100, fitted)."""


@struct.dataclass
class Process:
    """Process node: unit areas, energies, voltage law, wafer cost and fab emissions."""

    mac_area_mm2: Leaf
    """Area of one PE of a systolic array: a 16-bit multiplier with 32-bit accumulation, its
    registers and share of control. Typical: 595 µm² (N5)."""
    mac_energy_j: Leaf
    """Energy of that operation at `nominal_voltage_v`. Typical: 0.413 pJ (N5)."""
    fp64_area_ratio: Leaf
    """Area per FP64 FLOP/s over area per FP16 FLOP/s. Typical: 23.2, the squared ratio of the
    significands."""
    fp64_energy_ratio: Leaf
    """Energy per FP64 FLOP over energy per FP16 FLOP. Typical: 7.35 (Horowitz, 45 nm)."""
    sram_area_mm2_per_byte: Leaf
    """Area of scratchpads without the ports that their bandwidth needs. Typical: 0.68 mm²/MiB
    (N5)."""
    cache_area_mm2_per_byte: Leaf
    """The same of hardware caches, with tags and queues. Typical: 1.67 mm²/MiB (N5)."""
    sram_port_area_mm2_per_byte: Leaf
    """Area of ports, banks and their wires per byte per cycle. Typical: 2229 µm²/B (N5)."""
    network_port_area_mm2_per_byte: Leaf
    """Area of the on-chip network per byte per cycle that enters it. Typical: 7765 µm²/B (N5)."""
    hbm_phy_area_mm2_per_bytes_per_s: Leaf
    """HBM interface area per bandwidth. Typical: 0.0230 mm²/(GB/s) (N5, HBM3)."""
    link_phy_area_mm2_per_bytes_per_s: Leaf
    """Scale-up interface area per bandwidth in one direction. Typical: 0.175 mm²/(GB/s) (N5,
    PCIe 5)."""
    fp32_unit_area_mm2: Leaf
    """Area of one FP32 unit of the vector engines. Typical: 1504 µm² (N5)."""
    int32_unit_area_mm2: Leaf
    """Area of one INT32 unit of the vector engines. Typical: 1993 µm² (N5)."""
    issue_lane_area_mm2: Leaf
    """Area of the control of one lane of the vector engines: issue, addresses, caches of
    instructions, special functions. Typical: 7842 µm² (N5)."""
    nominal_voltage_v: Leaf
    """Supply voltage at the nominal clock. Typical: 0.75 V (N5). Assumed."""
    threshold_voltage_v: Leaf
    """Threshold voltage of the alpha-power law (Sakurai and Newton, JSSC 1990). Typical: 0.45 V
    (N5), fitted on power caps."""
    leakage_w_per_mm2: Leaf
    """Idle power density at the nominal voltage: leakage, idle memory. Typical: 0.087 W/mm² (idle
    power of H100 and B200)."""
    wafer_cost_usd: Leaf
    """Cost of one processed 300 mm wafer. Typical: 16,988 USD (N5, CSET 2020)."""
    defects_per_mm2: Leaf
    """Defect density. Typical: 0.11 per cm² (mature N5, Chiplet Actuary)."""
    defect_clustering: Leaf
    """Clustering parameter alpha of the negative binomial yield model. Typical: 10 (Chiplet
    Actuary)."""
    min_voltage_v: Leaf = 0.0
    """Lowest supply voltage. At a lower clock the voltage stays constant."""
    max_voltage_v: Leaf | None = None
    """Greatest supply voltage. A set clock that needs more runs at the clock of this voltage.
    Optional: without it any clock can be set."""
    leakage_voltage_v: Leaf = 0.0
    """Scale V0 of an idle power proportional to V e^(V / V0). Zero: proportional to V^2."""
    clock_energy_j_per_mm2: Leaf = 0.0
    """Energy per area and cycle of clock trees, schedulers and caches at the nominal voltage, while
    kernels are resident. Typical: 120 pJ/mm² (N5)."""
    mac_overhead_ratio: Leaf = 1.0
    """Matrix engine energy over that of its multipliers and adders: instructions, operand delivery,
    registers. Typical: 1 (systolic arrays), 2.6 (H100), 1.4 (B200)."""
    die_link_area_mm2_per_bytes_per_s: Leaf = 0.4055 / 256e9
    """Die-to-die PHY area per bandwidth. Default: a UCIe module for advanced packages, 64 lanes at
    32 GT/s, 0.4055 mm² (CATCH, io_definitions.xml)."""
    fab_energy_j_per_mm2: Leaf = 2.15 * 3.6e6 / 100.0
    """Fab electricity per wafer area. Typical: 2.15 kWh/cm² at 7 nm (ACT, epa.yaml)."""
    fab_gas_g_per_mm2: Leaf = 3.5
    """CO2 equivalent of fab gases per wafer area. Typical: 350 g/cm² at 7 nm, 95 % abated (ACT,
    gpa_95.yaml)."""
    fab_materials_g_per_mm2: Leaf = 5.0
    """CO2 equivalent of fab materials per wafer area. Typical: 500 g/cm² (ACT, materials.yaml)."""
    fab_grid_g_per_j: Leaf = 583.0 / 3.6e6
    """CO2 equivalent of the fab electricity. Typical: 583 g/kWh, Taiwan (ACT,
    location_2022.yaml)."""


@struct.dataclass
class Chip:
    """Accelerator package of `num_dies` equal compute dies with HBM.

    >>> import hwdse
    >>> chip = hwdse.load_chip("h100")
    >>> faster = chip.replace(hbm=chip.hbm.replace(bandwidth_bytes_per_s=4.8e12))
    >>> f"{faster.hbm.bandwidth_bytes_per_s / chip.hbm.bandwidth_bytes_per_s:.2f}"
    '1.43'
    """

    array: SystolicArray
    """Matrix engines."""
    sram: Memory
    """On-chip scratchpads, all together."""
    num_scratchpads: Leaf
    """Equal scratchpads that form `sram`, each private to its share of the arrays. Typical: 8
    (Trainium2), 1 if all arrays share it."""
    hbm: Memory
    """Off-chip memory."""
    link: Link
    """Scale-up fabric ports: NeuronLink, NVLink, ICI."""
    network: Link
    """Scale-out network ports: the share of one chip of the EFA or InfiniBand of its server."""
    process: Process
    """Process node of the compute dies."""
    nominal_clock_hz: Leaf
    """Clock at the nominal voltage of the process. Another clock changes the voltage. Typical:
    2.4 GHz (Trainium2)."""
    fp64_per_fp16_ratio: Leaf
    """Peak FP64 rate of native units over peak FP16 rate; 0 without native units. Typical: 0
    (Trainium2), 0.0678 (H100). The precision balance varies it."""
    fp8_speedup_ratio: Leaf
    """Peak FP8 rate over peak FP16 rate. Typical: 2 (Trainium2)."""
    vector_flop_per_s: Leaf
    """Peak FP32 rate of the vector engines at the nominal clock. Typical: 4.42 TFLOP/s
    (Trainium2)."""
    software_fp64_flop_ratio: Leaf
    """FP32 vector FLOP per FP64 FLOP emulated in software, used without native units. Typical: 22,
    two-float arithmetic. Assumed."""
    launch_latency_s: Leaf
    """Start-up time of one operator whose work is not queued. Typical: 1.3 µs (Trainium2).
    Assumed."""
    fixed_area_mm2: Leaf
    """Die area that no other field changes: host interface. Typical: 11.2 mm² (16 PCIe 5 lanes)."""
    num_dies: Leaf
    """Compute dies per package. Typical: 2 (Trainium2)."""
    package_cost_usd: Leaf
    """Cost of interposer, substrate and assembly of one package. Typical: 451 USD (CoWoS).
    Assumed."""
    hbm_cost_usd_per_byte: Leaf
    """HBM cost. Typical: 10 USD/GB. Assumed."""
    checkpoint_bandwidth_bytes_per_s: Leaf
    """Write rate of one chip to remote storage: its share of the server's path. Typical:
    0.625 GB/s (Trainium2, EBS)."""
    matrix_efficiency_fraction: Leaf = 1.0
    """Sustained over peak matrix rate of large GEMMs at the set clock; what a power limit takes
    comes on top. Typical: 0.65 (H100, B200), 0.79 (A100), fitted."""
    attention_efficiency_fraction: Leaf = 1.0
    """Matrix rate of a fused attention kernel over that of large GEMMs. Typical: 0.85
    (H100), 0.47 (A100)."""
    fp4_speedup_ratio: Leaf = 1.0
    """Peak FP4 rate over peak FP16 rate. Default: 1, no FP4 units. Typical: 4 (B200), 6 (GB300)."""
    hbm_efficiency_fraction: Leaf = 1.0
    """Sustained over peak HBM bandwidth of long streams. Typical: 0.85."""
    power_limit_w: Leaf | None = None
    """Mean chip power of a step above which the clock is throttled. Optional: without it no clock
    is solved for."""
    die_link_bandwidth_bytes_per_s: Leaf = 0.0
    """Bandwidth from one die to the other dies of the package, in one direction."""
    bond_yield_fraction: Leaf = 1.0
    """Yield per bond of a die or HBM stack to the package."""
    package_yield_fraction: Leaf = 1.0
    """Yield of package assembly, independent of the number of bonds."""
    num_hbm_stacks: Leaf = 0.0
    """HBM stacks bonded to the package. Only used with a bond yield. Typical: 4 (Trainium2)."""
    hbm_latency_s: Leaf = 0.7e-6
    """Time from a request to the HBM until its data arrive in SRAM. Default: 0.7 µs, GPUs under
    load. Typical: 2 µs (Trainium2, DMA)."""
    spare_unit_ratio: Leaf = 1.0
    """Compute units on the dies over those in use; the others are disabled for yield. Typical:
    144 / 132 (H100)."""
    spare_sram_ratio: Leaf = 1.0
    """SRAM on the compute dies, spare included, over `sram.capacity_bytes`. Typical: 96 / 83
    (H100); below 1 with a cache in base dies (MI300X)."""
    cache_fraction: Leaf = 0.0
    """Share of the SRAM that is a hardware cache with tags. Typical: 0.6 (H100, L2)."""
    dot_product_length: Leaf = 1.0
    """Products that are aligned and added before one FP32 accumulation. Default: 1, each PE
    accumulates (systolic). Typical: 16 (H100)."""
    accumulator_column_bytes: Leaf = 16384.0
    """Accumulators and registers per column of an array. Default: 16 KiB, equal for PSUM of
    Trainium2 (2 MiB per 128 columns), accumulators of TPU v1, registers of A100 and H100."""
    array_port_bytes: Leaf = 0.0
    """Bytes per cycle between the on-chip network and one array. Default: 0, derived: both
    operands of an array that has no scratchpad of its own. Typical: 256 (H100, 64 per SM)."""
    vector_clock_hz: Leaf = 0.0
    """Clock of the vector engines that gives `vector_flop_per_s`. Default: 0, `nominal_clock_hz`.
    Typical: 1.08 GHz (Trainium2)."""
    issue_lane_ratio: Leaf = 1.0
    """Lanes with control over FP32 units. Typical: 1 (H100), 2 (A100), 0.5 (MI300X, packed
    FP32)."""
    int32_per_fp32_ratio: Leaf = 1.0
    """INT32 units over FP32 units. Typical: 0.5 (H100)."""
    fp64_shared_fraction: Leaf = 0.0
    """Share of the FP64 rate that runs on multipliers of the matrix engines. Typical: 0.5 (H100:
    67 TFLOP/s with, 34 without)."""
    num_base_dies: Leaf = 0.0
    """Active dies below the compute dies, with the interfaces. Typical: 4 (MI300X)."""
    hbm_carbon_g_per_byte: Leaf = 65e-9
    """CO2 equivalent of DRAM manufacturing. Typical: 65 g/GB, DDR4 at 10 nm (ACT,
    dram_hynix.yaml)."""
    package_carbon_g: Leaf = 150.0
    """CO2 equivalent of one package. Typical: 150 g. Assumed, of the order of one IC in ACT."""
    emulated_fp64_flop_ratio: Leaf = 36.0
    """16-bit FLOP per FP64 FLOP of a GEMM emulated on the matrix engines. Default: 36 products of 8
    slices (Ozaki scheme, Numer. Algorithms 59, 2012). Typical: 12 to 18 measured (INT8, GH200)."""
