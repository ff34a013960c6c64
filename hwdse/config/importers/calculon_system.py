"""Chip and system of hwdse from a system file of Calculon.

Calculon has one peak rate and steps of efficiency per engine and memory; here they are the rates
of large operations, and tile quantization, launches and latencies follow from the chip. A message
of Calculon takes a fixed latency and its bytes over the rate of the network: the latency becomes
`collective_launch`.
"""

from collections.abc import Mapping
from typing import Any

from hwdse.config.importers.imported_file import SourceTable, not_expressed, quantity
from hwdse.config.importers.preset_base import PresetBase

FORMATS_16 = ("float16", "bfloat16")
SWITCH_OPS: Mapping[str, tuple[float, float | None]] = {
    "p2p": (1.0, None),
    "reduce_scatter": (1.0, -1.0),
    "all_gather": (1.0, -1.0),
    "all_reduce": (2.0, -1.0),
}
"""Factors (k, o) of the bytes k (1 + o / g) that g chips behind a switch move per message byte."""
IN_SWITCH = ((1.0, 0.0), (1.0, 1.0))
"""Factors of an all-reduce inside the switch."""
NO_POWER_LIMIT = "1 MW"
"""More than any chip draws: its clock is never throttled."""
STEPS = "hwdse derives the rate of smaller operations from tiles, launches and latencies"
Found = tuple[dict[str, Any], list[str], dict[str, str]]
"""Tables, lines about what they do not express, and origins by path."""


def domain_size(system: SourceTable, num_chips: int | None) -> int:
    """Chips of a scale-up domain: those of the first network, at most `num_chips`."""
    first = _networks(system)[0]
    size = first.count("size", at_least=1)
    return size if num_chips is None else min(size, num_chips)


def chip_tables(system: SourceTable, preset: PresetBase) -> Found:
    """Tables of a chip: engines, memory, scale-up and scale-out ports."""
    matrix, lost, notes = _matrix_tables(system, preset)
    vector, more = _vector_rate(system)
    hbm = system.inner("mem1")
    efficiency, below = _top_efficiency(hbm, "MB_efficiency", "MB")
    chip = {
        **matrix,
        "vector_flop_per_s": vector,
        "attention_efficiency_fraction": 1.0,
        "hbm_efficiency_fraction": efficiency,
        "launch_latency": "0 s",
        "power_limit": NO_POWER_LIMIT,
        "hbm": {
            "capacity": quantity(hbm.number("GiB"), "GiB"),
            "bandwidth": quantity(hbm.number("GBps"), "GB/s"),
        },
    }
    networks = _networks(system)
    for name, table in zip(
        ("link", "network"), (networks[0], networks[min(1, len(networks) - 1)]), strict=True
    ):
        chip[name] = {
            "bandwidth": quantity(table.number("bandwidth"), "GB/s"),
            "bandwidth_efficiency_fraction": table.number("efficiency", at_most=1.0),
            "latency": "0 s",
            "collective_launch": quantity(table.number("latency", above=-1.0), "s"),
            "rendezvous": "0 s",
            "eager_fraction": 1.0,
        }
        index = table.where.table_name
        notes[f"{name}.bandwidth"] = f"{index}.bandwidth"
        notes[f"{name}.collective_launch"] = f"{index}.latency, independent of the number of chips"
    notes |= {
        "vector_flop_per_s": "vector.float16.tflops",
        "attention_efficiency_fraction": "Calculon has one efficiency for all GEMMs",
        "hbm_efficiency_fraction": "mem1.MB_efficiency of large operations",
        "launch_latency": "Calculon has no launches",
        "power_limit": "Calculon has none; more than any chip draws, in place of that of the base",
        "hbm.capacity": "mem1.GiB",
        "hbm.bandwidth": "mem1.GBps",
    }
    return chip, [*lost, *more, *below, *_memory_losses(system)], notes


def system_tables(
    system: SourceTable, preset: PresetBase, chip: Mapping[str, Any], num_chips: int | None
) -> Found:
    """Tables of a system with the domain of the first network."""
    networks = _networks(system)
    size = domain_size(system, num_chips)
    is_reducing = _factors(networks[0], "all_reduce") in IN_SWITCH
    cluster = {
        "num_chips": size,
        "topology": "reducing_switch" if is_reducing else "switch",
        "torus_sizes": [size],
        "torus_bandwidth_fractions": [1.0],
        "torus_latency_ratios": [1.0],
        "pod_chips": max(size, networks[-1].count("size", at_least=1)),
        "network_oversubscription_ratio": 1.0,
    }
    notes = {
        "cluster.num_chips": "networks[0].size",
        "cluster.topology": "networks[0].ops.all_reduce",
        "cluster.pod_chips": "size of the last network",
    }
    lost = []
    for index, table in enumerate(networks):
        lost += _network_losses(table, index, is_reducing=is_reducing)
    tables: dict[str, Any] = {"cluster": cluster}
    repeated = preset.repeated_overrides(chip)
    if repeated:
        tables["overrides"] = repeated
        notes |= {f"overrides.{path}": "of the chip, not of the base" for path in repeated}
    return tables, lost, notes


def _matrix_tables(system: SourceTable, preset: PresetBase) -> Found:
    matrix = system.inner("matrix")
    key = matrix.given(*FORMATS_16)
    if key is None:
        raise matrix.where.missing("float16", "a table of the 16-bit rate (or bfloat16)")
    engine = matrix.inner(key)
    peak = engine.number("tflops")
    efficiency, lost = _top_efficiency(engine, "gflops_efficiency", "GFLOP")
    clock = quantity(preset.array_clock(1e12 * peak) / 1e9, "GHz")
    lost += [
        not_expressed(f"matrix.{name}", "a table", "number formats are FP64, 16-bit and FP8")
        for name in matrix.unread()
        if name != "float8"
    ]
    ratio = 1.0
    if matrix.given("float8") is not None:
        eight = matrix.inner("float8")
        ratio = eight.number("tflops") / peak
        top, _ = _top_efficiency(eight, "gflops_efficiency", "GFLOP")
        if top != efficiency:
            reason = f"one efficiency of GEMMs, {efficiency:g} of {key}"
            lost.append(not_expressed("matrix.float8.gflops_efficiency", top, reason))
    tables = {
        "nominal_clock": clock,
        "array": {"clock": clock},
        "fp8_speedup_ratio": ratio,
        "matrix_efficiency_fraction": efficiency,
    }
    notes = {
        "nominal_clock": "as the arrays",
        "array.clock": f"matrix.{key}.tflops = {peak:g} on the arrays of the base",
        "fp8_speedup_ratio": "matrix.float8" if ratio != 1.0 else "no FP8 rate: as 16 bit",
        "matrix_efficiency_fraction": f"matrix.{key}.gflops_efficiency of large operations",
    }
    return tables, lost, notes


def _vector_rate(system: SourceTable) -> tuple[str, list[str]]:
    """Peak rate of the vector engines, and a line about its efficiency."""
    vector = system.inner("vector")
    key = vector.given(*FORMATS_16, "float32")
    engine = vector.inner(key or "float16")
    steps = engine.items("gflops_efficiency")
    reason = "vector engines reach their peak rate"
    line = not_expressed(f"{engine.where.table_name}.gflops_efficiency", steps, reason)
    others = [
        not_expressed(f"vector.{name}", "a table", "one rate of the vector engines")
        for name in vector.unread()
    ]
    return quantity(engine.number("tflops"), "TFLOPS"), [line, *others]


def _top_efficiency(table: SourceTable, key: str, unit: str) -> tuple[float, list[str]]:
    """Efficiency of the largest operations, and a line about the steps below."""
    steps = table.items(key)
    for step in steps:
        is_pair = isinstance(step, list) and len(step) == 2
        if not is_pair or not all(isinstance(x, int | float) for x in step) or not 0 < step[1] <= 1:
            raise table.error(key, step, f"pairs of {unit} and an efficiency from 0 to 1")
    ordered = sorted(steps, reverse=True)
    if len(ordered) == 1:
        return float(ordered[0][1]), []
    name = f"{table.where.table_name}.{key}"
    return float(ordered[0][1]), [not_expressed(name, ordered[1:], STEPS)]


def _memory_losses(system: SourceTable) -> list[str]:
    lost = []
    if system.given("mem2") is not None:
        second = system.inner("mem2")
        size, rate = (second.number(key, above=-1.0) for key in ("GiB", "GBps"))
        value = f"{size:g} GiB at {rate:g} GB/s"
        lost.append(not_expressed("mem2", value, "offload into a second memory is not modeled"))
    if system.choice("processing_mode", ("roofline", "no_overlap")) == "no_overlap":
        reason = "compute and memory time of an operator overlap in hwdse (roofline)"
        lost.append(not_expressed("processing_mode", "no_overlap", reason))
    return lost


def _networks(system: SourceTable) -> list[SourceTable]:
    found = system.items("networks")
    tables = []
    for index, item in enumerate(found):
        if not isinstance(item, Mapping):
            raise system.error("networks", item, "a list of tables")
        tables.append(SourceTable(item, system.where.table(f"networks[{index}]")))
    return tables


def _factors(table: SourceTable, name: str) -> tuple[float, float | None]:
    """Factors (k, o) of an operation of a network."""
    ops = table.inner("ops")
    pair = ops.items(name)
    is_pair = len(pair) == 2 and isinstance(pair[0], int | float)
    if not is_pair or not isinstance(pair[1], int | float | None):
        raise ops.error(name, pair, "a pair of numbers, such as [2.0, -1]")
    return float(pair[0]), None if pair[1] is None else float(pair[1])


def _network_losses(table: SourceTable, index: int, *, is_reducing: bool) -> list[str]:
    """Lines about a network: its operations, its share of the chip, and further tiers."""
    name = f"networks[{index}]"
    if index > 1:
        value = f"{table.number('bandwidth'):g} GB/s"
        return [not_expressed(name, value, "a scale-up and a scale-out network only")]
    lost = []
    for operation, expected in SWITCH_OPS.items():
        found = _factors(table, operation)
        is_in_switch = index == 0 and is_reducing and operation == "all_reduce"
        if found != expected and not is_in_switch:
            text = f"bytes follow from the topology, {list(expected)} for a switch"
            lost.append(not_expressed(f"{name}.ops.{operation}", list(found), text))
    usage = table.number("processor_usage", above=-1.0, at_most=1.0)
    if usage:
        reason = "collectives take no share of the compute engines"
        lost.append(not_expressed(f"{name}.processor_usage", usage, reason))
    return lost
