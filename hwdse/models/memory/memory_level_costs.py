"""Time and energy of the memory levels of a core, from the traffic of a mapping."""

from hwdse.numerics.array_types import Leaf
from hwdse.numerics.relaxation import EXACT, Relaxation, largest, maximum, total
from hwdse.specs.hardware.accelerator import Accelerator, Level, num_instances
from hwdse.specs.mappings.loop_nest import LevelTraffic, MappingCosts, NestTraffic


def port_bytes_per_s(level: Level, accelerator: Accelerator) -> tuple[Leaf, Leaf]:
    """Read and write bandwidth of all ports of a level (B/s); on-chip levels scale with the
    clock."""
    scale = num_instances(level.ports, accelerator)
    if level.follows_clock:
        scale = scale * accelerator.clock_hz / accelerator.nominal_clock_hz
    return scale * level.read_bandwidth_bytes_per_s, scale * level.write_bandwidth_bytes_per_s


def port_time_s(
    traffic: LevelTraffic, level: Level, accelerator: Accelerator, relaxation: Relaxation = EXACT
) -> Leaf:
    r"""Time that a level's ports need for the bytes of one operator (s).

    $(r + w) / (P \beta)$ if reads and writes share ports, else
    $\max(r / (P \beta_r), w / (P \beta_w))$; P ports. On-chip bandwidths scale with the clock.
    Assumes that ports are never idle while data is pending (perfect overlap, as Timeloop).
    """
    read_rate, write_rate = port_bytes_per_s(level, accelerator)
    reads, writes = total(traffic.reads), total(traffic.writes)
    if level.shares_port:
        return (reads + writes) / read_rate
    return maximum(reads / read_rate, writes / write_rate, relaxation)


def access_energy_j_per_byte(level: Level, accelerator: Accelerator) -> tuple[Leaf, Leaf]:
    """Energy per byte read from and written to a level, $e_0 + a (S / B)^x$ with B banks (J/B).

    $x = 1$ is the linear law of DOSA (MICRO 2023) for 40 nm, $e_0 = 0$ a power law as in CACTI,
    $a = 0$ a constant.
    """
    bank_bytes = level.capacity_bytes / num_instances(level.banks, accelerator)
    slope = level.energy_slope * bank_bytes**level.energy_exponent
    return level.read_energy_j_per_byte + slope, level.write_energy_j_per_byte + slope


def level_energy_j(traffic: LevelTraffic, level: Level, accelerator: Accelerator) -> Leaf:
    """Energy of one operator's accesses to a level, at the nominal voltage (J)."""
    read_j, write_j = access_energy_j_per_byte(level, accelerator)
    return read_j * total(traffic.reads) + write_j * total(traffic.writes)


def mapping_costs(
    traffic: NestTraffic, accelerator: Accelerator, relaxation: Relaxation = EXACT
) -> MappingCosts:
    """Roofline time and energy of one operator: multipliers and all levels overlap perfectly.

    Excludes leakage, which the caller adds from the area. Source of the accounting: Parashar et
    al., Timeloop, ISPASS 2019, section V.
    """
    compute_s = traffic.compute_cycles / accelerator.clock_hz
    pairs = list(zip(traffic.levels, accelerator.levels, strict=True))
    level_s = tuple(port_time_s(moved, level, accelerator, relaxation) for moved, level in pairs)
    level_j = tuple(level_energy_j(moved, level, accelerator) for moved, level in pairs)
    mac_j = accelerator.mac_energy_j * traffic.num_macs
    return MappingCosts(
        traffic=traffic,
        compute_s=compute_s,
        level_s=level_s,
        time_s=largest((compute_s, *level_s), relaxation),
        mac_j=mac_j,
        level_j=level_j,
        energy_j=mac_j + sum(level_j, start=0.0),
        used_ratio=tuple(total(moved.used) / level.capacity_bytes for moved, level in pairs),
    )
