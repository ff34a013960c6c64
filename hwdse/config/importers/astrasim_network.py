"""System from the network file of ASTRA-sim's analytical backend.

A `network.yml` has lists with one value per dimension: `topology`, `npus_count`, `bandwidth`
(GB/s per link and direction; the backend computes with GiB/s) and `latency` (ns per link). The
first dimensions are the scale-up domain of a preset system. The next one is its scale-out network,
a further one lies between pods of that network. Chips, energies and prices are those of the
preset. Source: astra-sim/astra-network-analytical, `NetworkParser.cpp`, `congestion_unaware`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwdse.config.files.errors import ConfigError, ConfigLocation, did_you_mean, listed
from hwdse.config.files.toml_files import read_bytes
from hwdse.config.importers.imported_file import (
    SOURCE,
    ImportedFile,
    SourceTable,
    not_expressed,
    quantity,
    read_json,
)
from hwdse.config.importers.preset_base import PresetBase

DEFAULT_BASE = "p5_48xlarge"
"""Preset system with the values that a network file lacks."""
KEYS = ("topology", "npus_count", "bandwidth", "latency")
TOPOLOGIES: Mapping[str, str] = {
    "Ring": "ring",
    "Switch": "switch",
    "FullyConnected": "fully_connected",
}
"""Topology of hwdse by block of ASTRA-sim."""
SWITCH_HOPS = 2.0
"""Links of a message through a switch."""
EXACT_LINK: Mapping[str, Any] = {
    "collective_launch": "0 s",
    "bandwidth_efficiency_fraction": 1.0,
    "rendezvous": "0 s",
    "eager_fraction": 1.0,
}
"""Link without the costs of a library, as in ASTRA-sim."""
SYSTEM_REASONS: Mapping[str, str] = {
    "endpoint-delay": "hwdse has no delay per message at the ends",
    "active-chunks-per-dimension": "a collective is not split into chunks",
    "preferred-dataset-splits": "a collective is not split into chunks",
    "scheduling-policy": "collectives are not scheduled as events",
    "collective-optimization": "dimensions are combined as in hwdse's hierarchical collectives",
    "peak-perf": "compute times come from the chip; roofline-enabled is off",
    "logical-dims": "collectives run on the physical dimensions",
}
ALGORITHM = "hwdse uses the fastest algorithm of the topology"


@dataclass(frozen=True)
class Dimension:
    """One dimension of the network."""

    topology: str
    size: int
    bandwidth_gib_per_s: float
    latency_ns: float

    @property
    def port_gib_per_s(self) -> float:
        """Rate of all links of a chip in this dimension, in one direction."""
        links = {"FullyConnected": self.size - 1.0}
        return self.bandwidth_gib_per_s * links.get(self.topology, 1.0)

    @property
    def message_ns(self) -> float:
        """Latency of a message to a neighbor, or through the switch."""
        return self.latency_ns * (SWITCH_HOPS if self.topology == "Switch" else 1.0)


def import_astrasim(
    paths: Sequence[Path], stem: str, base: str | None = None
) -> tuple[ImportedFile, ...]:
    """System of a `network.yml`; `system.json` and logical topologies may follow it.

    `base` is the preset system with the values that the network lacks. Raises `ConfigError` with
    one line for a file that is no network of the analytical backend.
    """
    network = [path for path in paths if path.suffix.lower() in (".yml", ".yaml")]
    others = [path for path in paths if path not in network]
    if len(network) != 1:
        names = listed(str(path) for path in paths)
        raise ConfigError(f"{names}: expected one network file of ASTRA-sim, ending in .yml")
    dimensions, lost = _read_network(network[0])
    preset = PresetBase.of(base or DEFAULT_BASE)
    num_inside = _num_inside(dimensions)
    inside, outside = dimensions[:num_inside], dimensions[num_inside:]
    overrides: dict[str, Any] = {}
    overrides |= _link_overrides("chip.link", *_scale_up(inside))
    cluster, notes = _cluster(inside, outside)
    if outside:
        first = outside[0]
        overrides |= _link_overrides("chip.network", first.port_gib_per_s, first.message_ns)
    lost += _outside_losses(outside, num_inside)
    for path in others:
        more, origins, lines = _read_system(path, preset)
        overrides |= more
        notes |= origins
        lost += lines
    label = network[0].name
    tables = {
        "name": f"network {label} with chips of {preset.name}",
        "base": preset.name,
        "sources": [f"{label} of ASTRA-sim; other values: preset {preset.name}"],
        "cluster": cluster,
        "overrides": overrides,
    }
    systems = math.prod(dimension.size for dimension in outside)
    usage = f"hwdse evaluate --system {{path}}:{systems} --model llama3_8b --batch 128"
    notes |= _link_notes(outside)
    notes[SOURCE] = (
        f"chips, energies and prices are those of {preset.name}; all chips of the file: "
        f"{systems} of these systems"
    )
    return (ImportedFile("system", stem, tables, tuple(lost), notes, tuple(paths), usage),)


def _num_inside(dimensions: Sequence[Dimension]) -> int:
    """Dimensions of the scale-up domain: the leading rings (a torus), or the first dimension."""
    rings = 0
    while rings < len(dimensions) and dimensions[rings].topology == "Ring":
        rings += 1
    return max(rings, 1)


def _scale_up(inside: Sequence[Dimension]) -> tuple[float, float]:
    """Port rate in GiB/s and latency in ns of the scale-up domain.

    A torus uses both directions of each ring; a single ring uses one, as the ring algorithm of
    ASTRA-sim does.
    """
    if len(inside) == 1:
        return inside[0].port_gib_per_s, inside[0].message_ns
    return sum(2.0 * one.bandwidth_gib_per_s for one in inside), _reference_ns(inside)


def _reference_ns(inside: Sequence[Dimension]) -> float:
    return max(one.latency_ns for one in inside)


def _cluster(
    inside: Sequence[Dimension], outside: Sequence[Dimension]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Table `[cluster]` and the origin of its values."""
    sizes = [one.size for one in inside]
    total = sum(one.bandwidth_gib_per_s for one in inside)
    reference = _reference_ns(inside)
    cluster: dict[str, Any] = {
        "num_chips": math.prod(sizes),
        "topology": "torus" if len(inside) > 1 else TOPOLOGIES[inside[0].topology],
        "torus_sizes": sizes,
        "torus_bandwidth_fractions": [one.bandwidth_gib_per_s / total for one in inside],
        "torus_latency_ratios": [
            one.latency_ns / reference if reference else 1.0 for one in inside
        ],
    }
    notes = {
        "cluster.num_chips": "product of npus_count of the scale-up domain",
        "cluster.topology": f"topology {listed(one.topology for one in inside)}",
        "cluster.torus_sizes": "npus_count",
    }
    cluster["pod_chips"] = math.prod(one.size for one in (*inside, *outside))
    notes["cluster.pod_chips"] = "all chips of the file"
    if len(outside) > 1:
        near, far = outside[0], outside[1]
        cluster["pod_chips"] = math.prod(sizes) * near.size
        ratio = max(near.port_gib_per_s / far.port_gib_per_s, 1.0)
        cluster["network_oversubscription_ratio"] = ratio
        notes["cluster.pod_chips"] = "chips below the last dimension"
        notes["cluster.network_oversubscription_ratio"] = "ratio of the outer bandwidths"
    return cluster, notes


def _link_overrides(path: str, gib_per_s: float, latency_ns: float) -> dict[str, Any]:
    """Overrides of the ports of a chip."""
    values = {
        "bandwidth": quantity(gib_per_s, "GiB/s"),
        "latency": quantity(latency_ns, "ns"),
        **EXACT_LINK,
    }
    return {f"{path}.{key}": value for key, value in values.items()}


def _link_notes(outside: Sequence[Dimension]) -> dict[str, str]:
    ports = "bandwidth x links of a chip; the backend computes GB/s as GiB/s"
    notes = {"overrides.chip.link.bandwidth": ports}
    notes["overrides.chip.link.latency"] = "latency of a link, two links through a switch"
    notes["overrides.chip.link.collective_launch"] = "no costs of a library in ASTRA-sim"
    if outside:
        notes["overrides.chip.network.bandwidth"] = ports
    return notes


def _outside_losses(outside: Sequence[Dimension], num_inside: int) -> list[str]:
    """Lines about outer dimensions that a scale-out network does not express."""
    lost = []
    for offset, one in enumerate(outside):
        number = num_inside + offset + 1
        if offset > 1:
            reason = "a domain, a scale-out network and pods of it, no further dimension"
            lost.append(not_expressed(f"dimension {number}", one.topology, reason))
            continue
        if one.topology != "Switch":
            reason = "the scale-out network is a switch with the ports of this dimension"
            lost.append(not_expressed(f"topology[{number - 1}]", one.topology, reason))
        if offset == 1:
            reason = "between pods the latency is that of the scale-out network"
            lost.append(not_expressed(f"latency[{number - 1}]", one.latency_ns, reason))
            if one.port_gib_per_s > outside[0].port_gib_per_s:
                reason = "pods are never joined faster than their chips"
                value = one.bandwidth_gib_per_s
                lost.append(not_expressed(f"bandwidth[{number - 1}]", value, reason))
    return lost


def _read_network(path: Path) -> tuple[list[Dimension], list[str]]:
    """Dimensions of a network file, and lines about its other keys."""
    label = str(path)
    table = SourceTable(parse_flat_yaml(read_bytes(path, label), label), ConfigLocation(label))
    names = [str(name) for name in table.items("topology")]
    for name in names:
        if name not in TOPOLOGIES:
            hint = did_you_mean(name, TOPOLOGIES)
            raise table.error("topology", name, f"one of {listed(TOPOLOGIES)}{hint}")
    sizes = _numbers(table, "npus_count", len(names), at_least=2.0)
    rates = _numbers(table, "bandwidth", len(names), at_least=1e-9)
    latencies = _numbers(table, "latency", len(names), at_least=0.0)
    if any(size != size // 1 for size in sizes):
        raise table.error("npus_count", sizes, "whole numbers")
    dimensions = [
        Dimension(name, int(size), rate, latency)
        for name, size, rate, latency in zip(names, sizes, rates, latencies, strict=True)
    ]
    return dimensions, list(table.unread_lines({}))


def _numbers(table: SourceTable, key: str, length: int, *, at_least: float) -> list[float]:
    """List of a key, one number per dimension."""
    items = table.items(key)
    if len(items) != length:
        raise table.error(key, items, f"{length} numbers, one per dimension")
    values = []
    for item in items:
        try:
            values.append(float(item))
        except (TypeError, ValueError):
            raise table.error(key, item, "a number") from None
        if not at_least <= values[-1] <= 1e15:
            raise table.error(key, item, f"a number of at least {at_least:g}")
    return values


def parse_flat_yaml(data: bytes, label: str) -> dict[str, Any]:
    """Keys of a YAML text of scalars and lists of scalars, as texts.

    Raises `ConfigError` with the line of anything else.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{label}: expected UTF-8 text in YAML") from None
    found: dict[str, Any] = {}
    key, pending = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        content = line.split("#", 1)[0].strip()
        if not content or content in ("---", "..."):
            continue
        if pending:
            pending += f" {content}"
        elif content.startswith("- ") and isinstance(found.get(key), list):
            found[key].append(content[2:].strip().strip("'\""))
            continue
        elif ":" in content and not line[0].isspace():
            key, _, pending = (part.strip() for part in content.partition(":"))
            found[key] = []
        else:
            raise ConfigError(f"{label} line {number}: expected KEY: [VALUE, ...]")
        if pending and (not pending.startswith("[") or pending.endswith("]")):
            found[key], pending = _yaml_value(pending), ""
    if pending:
        raise ConfigError(f"{label}: expected a closing bracket in the list of {key}")
    return found


def _yaml_value(text: str) -> Any:
    """A flow list of scalars, or one scalar as a list."""
    inside = text[1:-1] if text.startswith("[") else text
    return [item.strip().strip("'\"") for item in inside.split(",") if item.strip()]


def _read_system(
    path: Path, preset: PresetBase
) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Overrides of the chip from a `system.json`, their origin, and lines about its other keys."""
    config, _ = read_json(path, str(path))
    table = SourceTable(config, ConfigLocation(str(path)))
    if not {*SYSTEM_REASONS, "local-mem-bw"} & set(config):
        raise ConfigError(
            f"{path}: expected a system.json of ASTRA-sim, with keys such as endpoint-delay"
        )
    overrides: dict[str, Any] = {}
    notes: dict[str, str] = {}
    if table.given("local-mem-bw") is not None:
        overrides["chip.hbm.bandwidth"] = quantity(table.number("local-mem-bw"), "GB/s")
        notes["overrides.chip.hbm.bandwidth"] = "local-mem-bw"
    if table.raw("roofline-enabled") and table.given("peak-perf") is not None:
        peak = table.number("peak-perf")
        text = quantity(preset.array_clock(1e12 * peak) / 1e9, "GHz")
        overrides |= {"chip.array.clock": text, "chip.nominal_clock": text}
        notes["overrides.chip.array.clock"] = f"peak-perf = {peak:g} TFLOPS on the base's arrays"
    algorithms = {key: ALGORITHM for key in config if key.endswith("-implementation")}
    lines = table.unread_lines({**SYSTEM_REASONS, **algorithms}, default="no counterpart in hwdse")
    return overrides, notes, list(lines)
