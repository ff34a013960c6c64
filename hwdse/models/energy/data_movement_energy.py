"""Energy per bit of DRAM, links and SRAM ports: constants with sources.

Values include both ends of the path unless noted. The full path of a GPU from DRAM to its L2 cache
takes about five times the device energy (21 pJ/bit, K40 era).
"""

from collections.abc import Mapping
from types import MappingProxyType

BITS_PER_BYTE = 8.0

DRAM_PJ_PER_BIT: Mapping[str, float] = MappingProxyType(
    {
        "hbm2": 3.97,  # device and interposer (O'Connor et al., MICRO 2017)
        "hbm2_path": 7.03,  # 450 pJ per 64 bits with controller and PHY (Jouppi et al., ISCA 2021)
        "hbm2e": 3.9,  # survey of vendor data, device
        "hbm3": 3.7,  # survey of vendor data, device; other texts 3.0 to 7
        "hbm3e": 3.5,  # survey of vendor data, device
        "hbm4": 2.5,  # assumed: projections are 2.5 to 3.0
        "gddr5": 14.0,  # O'Connor et al., MICRO 2017
        "gddr6": 6.48,  # middle of 350 to 480 pJ per 64 bits (Jouppi et al., ISCA 2021)
        "lpddr5": 9.0,  # full system, derived from vendor data
        "lpddr5x": 7.5,  # full system, derived from vendor data
        "ddr4": 20.0,  # full system, derived from vendor data
        "ddr5": 14.0,  # full system, derived from vendor data
    }
)
"""DRAM by generation (pJ/bit); comments name the boundary."""

LINK_PJ_PER_BIT: Mapping[str, float] = MappingProxyType(
    {
        "ucie_advanced": 0.25,  # on an interposer, 2 mm (UCIe 1.0)
        "ucie_standard": 0.5,  # on an organic package, 25 mm (UCIe 1.0)
        "bow": 0.75,  # Bunch of Wires, terminated, 0.5 to 1.0 (OCP BoW 2.0)
        "lipincon": 0.56,  # TSMC, VLSI 2019
        "xsr": 1.1,  # 113 Gb/s in package at 5 nm (Gangasani et al., IEEE SSCL 2025)
        "nvlink_c2c": 1.3,  # Grace Hopper whitepaper
        "pcie5": 6.5,  # derived: 5 x NVLink-C2C (NVIDIA's claim)
        "serdes_long_reach": 5.0,  # assumed: 112 Gb/s over copper, 4 to 6
        "neuronlink": 6.5,  # assumed: not published; as PCIe 5, 5 to 8
        "nvlink": 6.5,  # assumed: board-level SerDes, as PCIe 5
        "efa": 18.75,  # assumed: Ethernet over pluggable optics
        "optics_pluggable": 18.75,  # 15 W for 800 Gb/s (Meta and Broadcom)
        "optics_co_packaged": 6.75,  # 5.4 W for 800 Gb/s (Meta and Broadcom); others 4.4 to 11.25
    }
)
"""Links by name (pJ/bit)."""


def j_per_byte(pj_per_bit: float) -> float:
    """Energy in the unit of `Memory.energy_j_per_byte` and `Link.energy_j_per_byte` (J/B)."""
    return pj_per_bit * 1e-12 * BITS_PER_BYTE


SRAM_PORT_J_PER_BYTE: Mapping[float, float] = MappingProxyType(
    {45.0: 1.295e-12, 32.0: 0.726e-12, 22.0: 0.394e-12, 7.0: 0.23e-12}
)
"""Read energy of a 64 KiB macro with a 32-byte port by node (J/B), the reference of
`sram_energy_j_per_byte` in `voltage_and_leakage`. CACTI 7; 7 nm from the 4 MiB VMEM of TPU v4,
2.0 pJ (accelforge)."""
SRAM_WRITE_RATIO = 1.1
"""Write energy per byte relative to read energy: 1.0 to 1.2 above 64 KiB (CACTI 7; TPU v4: 1.18 and
1.26)."""
