"""A core for loops over many tiles: what does not depend on the tile is worked out before."""

from dataclasses import replace

from hwdse.models.levels import access_energy_j_per_byte, port_bytes_per_s
from hwdse.specs.accelerator import Accelerator


def with_flat_ports(accelerator: Accelerator) -> Accelerator:
    """The same core with the energies and bandwidths of its levels worked out once."""
    levels = []
    for level in accelerator.levels:
        read_j, write_j = access_energy_j_per_byte(level, accelerator)
        read_rate, write_rate = port_bytes_per_s(level, accelerator)
        levels.append(
            replace(
                level,
                read_bandwidth_bytes_per_s=read_rate,
                write_bandwidth_bytes_per_s=write_rate,
                read_energy_j_per_byte=read_j,
                write_energy_j_per_byte=write_j,
                energy_slope=0.0,
                energy_exponent=0.0,
                ports="one",
                banks="one",
                follows_clock=False,
            )
        )
    return replace(accelerator, levels=tuple(levels))
