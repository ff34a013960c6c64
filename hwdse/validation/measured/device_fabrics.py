"""Fabrics of devices, for calibration and validation of collectives.

Line rates and ports are published (`configs/chips`, data sheets of vendors, EC2 instance types);
no constant is fitted. `fits` is the device whose fitted library costs apply if a device has none:
the device with the same generation of link and switch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np


@dataclass(frozen=True)
class Fabric:
    """Ports of one chip and of its node."""

    name: str
    bandwidth_bytes_per_s: float
    """Line rate of all scale-up ports of a chip, one direction."""
    fits: str
    has_in_switch: bool = False
    """True for in-switch reduction: NVSwitch of Hopper and later."""
    num_ports: float = 8.0
    """Network ports of a node."""
    port_bytes_per_s: float = 50e9
    num_multiprocessors: float = 132.0
    ring_ratios: Mapping[int, float] = field(default_factory=dict)
    """Links used by the rings of a group by group size, for fabrics without a switch."""

    def group_bandwidth(self, num_chips: np.ndarray) -> np.ndarray:
        """Line rate of a chip inside a group (B/s)."""
        rate = np.full(np.shape(num_chips), self.bandwidth_bytes_per_s)
        for size, ratio in self.ring_ratios.items():
            rate = np.where(num_chips == size, ratio * CUBE_LINK_BYTES_PER_S, rate)
        return rate

    def node_bandwidth(self, num_members: np.ndarray) -> np.ndarray:
        """Network bandwidth of `num_members` chips of one node together (B/s)."""
        return np.minimum(num_members, self.num_ports) * self.port_bytes_per_s


CUBE_LINK_BYTES_PER_S = 25e9
CUBE_RINGS: Mapping[int, float] = MappingProxyType(
    {2: 1.0, 3: 2.0, 4: 4.0, 5: 1.6, 6: 2.0, 7: 2.0, 8: 6.0}
)
"""One-way rings through the first GPUs of a DGX-1V hybrid cube mesh, by group size.

Links 0-1, 0-2, 1-3, 2-3 and their mirror are single, 0-3, 1-2, 0-4 and so on double; three two-way
rings pass all eight GPUs. In a group of five, GPU 4 is connected to GPU 0 only. This gives a tree
over single links instead of a ring, n up and n down, equivalent to 2 (p - 1) / p = 1.6 rings.
Source: NVIDIA, DGX-1 with V100 white paper, figure 4."""

_FABRICS = (
    Fabric("V100", 150e9, "V100", ring_ratios=CUBE_RINGS, port_bytes_per_s=12.5e9, num_ports=4.0),
    # NVLink 3, 12 links x 25 GB/s. Network: assumed four ports of 100 Gb/s as in p4d.24xlarge.
    Fabric(
        "A100", 300e9, "A100", num_ports=4.0, port_bytes_per_s=12.5e9, num_multiprocessors=108.0
    ),
    # NVLink 4, 18 links x 25 GB/s; 400 Gb/s of network per GPU (p5.48xlarge, DGX H100)
    Fabric("H100", 450e9, "H100", has_in_switch=True),
    Fabric("H200", 450e9, "H100", has_in_switch=True),
    Fabric("GH200", 450e9, "H100", has_in_switch=True),
    # H100 with 400 GB/s of NVLink, both directions
    Fabric("H800", 200e9, "H100", has_in_switch=True),
    # NVLink 5, 18 links x 50 GB/s
    Fabric("B200", 900e9, "B200", has_in_switch=True, num_multiprocessors=148.0),
    Fabric("B300", 900e9, "B200", has_in_switch=True, num_multiprocessors=148.0),
    Fabric("GB200", 900e9, "GB200", has_in_switch=True, num_multiprocessors=148.0),
    Fabric("GB300", 900e9, "GB200", has_in_switch=True, num_multiprocessors=148.0),
    # PCIe 4 x16 and PCIe 5 x16, no switch between cards
    Fabric("L40S", 32e9, "L40S", num_multiprocessors=142.0),
    Fabric("RTX-PRO-6000", 64e9, "L40S", num_multiprocessors=188.0),
    # PCIe 5 x8 (data sheet; 28.4 GB/s of payload)
    Fabric("B60", 28.4e9, "B60", num_multiprocessors=20.0),
)
FABRICS: Mapping[str, Fabric] = MappingProxyType({fabric.name: fabric for fabric in _FABRICS})


def find_fabric(device: str) -> Fabric | None:
    """Fabric with the longest name contained in a device name such as `H100-SXM5-80GB`."""
    text = device.upper().replace("_", "-").replace(" ", "-")
    found = [name for name in FABRICS if name in text]
    return FABRICS[max(found, key=len)] if found else None
