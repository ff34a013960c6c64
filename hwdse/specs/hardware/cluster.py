"""Cluster: topology, failures, storage, electricity and cost outside the accelerator packages."""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf

MULTI_DIMENSIONAL = ("torus", "optical_torus", "mesh")
"""Topologies of a scale-up domain with several dimensions; the others have one."""


@struct.dataclass
class Cluster:
    """Equal chips in scale-up domains, joined by a scale-out network.

    A domain has product(`torus_sizes`) chips. The network has full bisection bandwidth
    within a pod and less between pods. Rings and switches have one dimension.

    >>> import hwdse
    >>> cluster = hwdse.load_system("dgx_h100").cluster
    >>> cluster.num_chips, cluster.topology
    (8.0, 'reducing_switch')
    """

    num_chips: Leaf
    """Chips of the job. Typical: 64 per UltraServer (Trainium2)."""
    torus_sizes: tuple[Leaf, ...]
    """Chips along each dimension of a scale-up domain, innermost first. Typical: [4, 4, 4] (torus
    of Trn2), [8] (NVSwitch)."""
    torus_bandwidth_fractions: tuple[Leaf, ...]
    """Fraction of a chip's scale-up bandwidth per dimension; the sum is 1. Typical:
    [0.4, 0.4, 0.2] (Trn2 UltraServer)."""
    torus_latency_ratios: tuple[Leaf, ...]
    """Latency of a hop in each dimension over the latency of the scale-up link. Typical: 1.
    Assumed."""
    pod_chips: Leaf
    """Chips joined by the scale-out network at full bisection bandwidth, at least one domain.
    Typical: 100,000 (UltraCluster)."""
    network_oversubscription_ratio: Leaf
    """Bandwidth into the switches of a pod over bandwidth between pods. Typical: 1, full
    bisection."""
    chip_mtbf_s: Leaf
    """Mean time between failures per chip. Typical: 2000 days (Llama 3: 3.8 failures per 1000 days
    and node of 8 GPUs)."""
    restart_time_s: Leaf
    """Time to load the state and warm up after a failure; a failure can interrupt it. Typical:
    300 s. Assumed."""
    downtime_s: Leaf
    """Time for detection, rescheduling and replacement, during which no failure occurs. Typical:
    120 s. Assumed."""
    storage_bandwidth_bytes_per_s: Leaf
    """Write rate of the shared file system. Typical: 200 GB/s (200 TiB of FSx for Lustre).
    Assumed."""
    electricity_usd_per_j: Leaf
    """Electricity price. Typical: 0.08 USD/kWh. Assumed, US industrial price."""
    host_power_w: Leaf
    """Constant power of a chip's share of its node: processors, memory, network cards, switches.
    Typical: 206 W (HGX H100: 1.65 kW for 8)."""
    supply_loss_fraction: Leaf
    """Loss of the power supplies of a node, over what they take. Typical: 0.027 (HGX H100, 0.023 to
    0.03 measured)."""
    pue_ratio: Leaf
    """Power of the facility over that of its nodes: cooling, distribution. Typical: 1.1 (Google
    fleet)."""
    server_cost_usd_per_chip: Leaf
    """Capital cost per chip of host, network and rack, without the package. Typical: 5000 USD
    (Trainium2). Assumed."""
    lifetime_s: Leaf
    """Depreciation period. Typical: 4 years. Assumed."""
    topology: str = struct.field(pytree_node=False)
    """Topology of the scale-up domain: entry of `models.network.topology_collectives.TOPOLOGIES`.
    Typical: "torus" (Trainium2), "optical_torus" (TPU v4 and v5p: no wraparound in slices with a
    side of two chips), "mesh" (no wraparound), "reducing_switch" (H100)."""
    host_copy_bandwidth_bytes_per_s: Leaf = 16e9
    """Copy rate of one chip into host memory. Typical: 16 GB/s (DMA of Trainium, Neuron docs, NKI
    memory hierarchy), 55 GB/s measured over PCIe 5 x16."""
    local_checkpoint_bandwidth_bytes_per_s: Leaf = 0.5e9
    """Share of one chip of the write rate of its server's disks. Typical: 0.5 GB/s, four NVMe disks
    of 2 GB/s per 16 chips. Assumed."""
    local_recovery_fraction: Leaf = 0.85
    """Fraction of failures that a local checkpoint survives. Typical: 0.85 (SCR: Moody et al., SC
    2010)."""
    local_restart_time_s: Leaf = 60.0
    """Time to load a local checkpoint and warm up. Typical: 60 s. Assumed."""
    detection_time_s: Leaf = 0.0
    """Mean time to detect a failure, hangs included, if `downtime_s` does not contain it."""
    silent_failure_fraction: Leaf = 0.0
    """Fraction of failures that corrupt the state silently. Typical: 6 of 419 (Llama 3,
    arXiv 2407.21783)."""
    silent_detection_time_s: Leaf = 0.0
    """Time until a silent corruption is detected; the work of this time is lost."""
    repair_time_s: Leaf = 0.0
    """Time until a failed node returns. Zero: a spare node is always available."""
    num_spare_nodes: Leaf = 0.0
    """Nodes reserved to replace failed ones. A node is the unit of replacement."""
    straggler_cv_ratio: Leaf = 0.0
    """Coefficient of variation of the step time over ranks."""
    schedule_availability_fraction: Leaf = 1.0
    """Fraction of calendar time in which the job may run, after maintenance and preemption."""
    storage_usd_per_byte_per_s: Leaf = 0.0
    """Price of remote storage per byte and second kept. Written per month, "0.02 USD/GB/month"."""
    grid_carbon_g_per_j: Leaf = 380.0 / 3.6e6
    """CO2 equivalent of the electricity. Typical: 380 g/kWh, US (ACT, location_2022.yaml)."""
    server_carbon_g: Leaf = 0.0
    """CO2 equivalent of manufacturing a chip's share of host and network. Not published."""
