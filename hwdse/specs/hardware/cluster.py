"""Cluster: topology of equal chips, failures, storage, electricity and cost of the surroundings."""

import flax.struct

from hwdse.numerics.array_types import Leaf


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
    host_copy_bandwidth_bytes_per_s: Leaf = 16e9
    """What one chip copies into its host's memory: DMA of Trainium, about 16 GB/s (Neuron docs, NKI
    memory hierarchy); 55 GB/s measured over PCIe 5 x16."""
    local_checkpoint_bandwidth_bytes_per_s: Leaf = 0.5e9
    """A chip's share of the write rate of its server's disks; assumed: four NVMe disks of 2 GB/s
    for 16 chips."""
    local_recovery_fraction: Leaf = 0.85
    """Share of failures that a local copy survives (SCR: Moody et al., SC 2010)."""
    local_restart_time_s: Leaf = 60.0
    """Restore from a local copy and warm-up; assumed."""
    detection_time_s: Leaf = 0.0
    """Mean time to notice a failure, hangs included, where `downtime_s` does not have it."""
    silent_failure_fraction: Leaf = 0.0
    """Share of failures that corrupt the state silently: 6 of 419 of Llama 3 (arXiv 2407.21783)."""
    silent_detection_time_s: Leaf = 0.0
    """Work done until such a corruption is found, all of it lost."""
    repair_time_s: Leaf = 0.0
    """Until a failed node is back; 0 where a spare is always at hand."""
    num_spare_nodes: Leaf = 0.0
    """Nodes that wait to replace failed ones; a node is whatever is replaced as one."""
    straggler_cv_ratio: Leaf = 0.0
    """Standard deviation over mean of the time that a rank takes for a step."""
    schedule_availability_fraction: Leaf = 1.0
    """Share of the calendar in which the job may run: maintenance, preemption."""
    storage_usd_per_byte_per_s: Leaf = 0.0
    """Price of remote storage."""
    grid_carbon_g_per_j: Leaf = 380.0 / 3.6e6
    """CO2 equivalent of the electricity: 380 g/kWh in the US (ACT, location_2022.yaml)."""
    server_carbon_g: Leaf = 0.0
    """CO2 equivalent of making a chip's share of host and network; not published."""
