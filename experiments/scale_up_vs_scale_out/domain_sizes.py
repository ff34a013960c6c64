"""Study A: scale-up domains of 1 to 576 chips in a cluster of fixed size."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from best_strategies import OVERLAP, Point, base_design, best_of, with_optimal_interval

from hwdse.config import load_software, load_workload
from hwdse.evaluation import evaluate
from hwdse.specs.design import Design
from hwdse.workload.transformer.dense_transformer import num_parameters

NUM_CHIPS = 4608
JOBS = MappingProxyType({"Llama 3 405B": "llama3_405b", "DeepSeek-V3": "deepseek_v3"})
BATCH_TOKENS = (1_179_648, 4_718_592, 18_874_368)
"""144, 576 and 2304 sequences of 8192 tokens. The largest is close to the batch of Llama 3 405B
(16.8 M tokens) and 3/10 of that of DeepSeek-V3."""
BATCH = BATCH_TOKENS[2]
SWITCHED = (1, 4, 8, 16, 32, 64, 72, 128, 144, 256, 288, 512, 576)
TORI = MappingProxyType(
    {
        1: (1, 1, 1), 4: (4, 1, 1), 8: (4, 2, 1), 16: (4, 4, 1), 32: (4, 4, 2), 64: (4, 4, 4),
    }
)  # fmt: skip
"""Torus dimensions by domain size: 16 is a Trn2 server, 64 an UltraServer. Ports of a missing
dimension are idle."""
SPARES = MappingProxyType({72: 64, 144: 128, 288: 256, 576: 512})
"""Domain sizes of nine times a power of two, and the chips in use if a ninth are spares. Then 8/9
of the chips process 8/9 of the batch."""
CASES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "base": {},
        "scale-out x 2": {"scale_out_ratio": 2.0},
        "scale-out x 4": {"scale_out_ratio": 4.0},
        "scale-up x 2": {"scale_up_ratio": 2.0},
        "no overlap": {"overlap": 0.0, "data_overlap": 0.0},
        "90 % overlap": {"overlap": 0.9},
        "no ZeRO-3": {"max_zero": 2.0},
        "Neuron software": {"software": 1.0},
    }
)
SMALL_BATCH_CASES = {"scale-out x 2", "scale-out x 4", "Neuron software"}
DEFAULTS = MappingProxyType(
    {
        "scale_out_ratio": 1.0, "scale_up_ratio": 1.0, "overlap": OVERLAP, "data_overlap": 1.0,
        "software": 0.0, "max_zero": 3.0,
    }
)  # fmt: skip
SWITCH_USD = MappingProxyType({1: 0.0, 72: 1000.0, 576: 3000.0})
"""Price of the scale-up fabric per chip by largest domain size; assumed. Zero for single chips, one
switch port in a fabric of one tier, three ports in a fabric of two tiers. A port of 640 GB/s in
each direction for 1000 USD costs 0.2 USD per Gb/s."""
REFERENCE = 16
"""Domain size to which others are compared: a Trn2 server."""


def case_points(topology: str) -> list[Point]:
    """Points of all domain sizes, batches and cases."""
    domains = SWITCHED if topology == "switch" else tuple(TORI)
    points = []
    for tokens in BATCH_TOKENS:
        for index, (name, changes) in enumerate(CASES.items()):
            if index and tokens != BATCH and not SMALL_BATCH_CASES & {name}:
                continue
            if index and topology == "torus":
                continue
            varied = {"case": float(index), **DEFAULTS, **changes}
            points += [Point(NUM_CHIPS, domain, tokens, varied) for domain in domains]
            if topology == "switch":
                num_used, batch = NUM_CHIPS * 8 // 9, tokens * 8 // 9
                points += [Point(num_used, domain, batch, varied) for domain in SPARES.values()]
    return points


def design_with(topology: str, base: Design, parameters: float) -> Any:
    """Function from the values of a point to its design."""
    software, measured = base.software, load_software("neuron")
    sizes = jnp.asarray(list(TORI.values()), float)

    def design_of(fields: dict[str, Any]) -> Design:
        chip, domain = base.chip, fields["domain"]
        torus = (domain,)
        shares, ratios = (1.0,), (1.0,)
        if topology == "torus":
            row = sizes[jnp.argmin(jnp.abs(jnp.asarray(list(TORI), float) - domain))]
            torus = (row[0], row[1], row[2])
            shares = base.cluster.torus_bandwidth_fractions
            ratios = base.cluster.torus_latency_ratios
        cluster = base.cluster.replace(
            num_chips=fields["num_chips"],
            torus_sizes=torus,
            torus_bandwidth_fractions=shares,
            torus_latency_ratios=ratios,
            topology=topology,
        )
        chip = chip.replace(
            link=faster(chip.link, fields["scale_up_ratio"]),
            network=faster(chip.network, fields["scale_out_ratio"]),
        )
        stack = {
            field.name: (1.0 - fields["software"]) * getattr(software, field.name)
            + fields["software"] * getattr(measured, field.name)
            for field in dataclasses.fields(software)
        }
        parallelism = base.parallelism.replace(
            tensor_overlap_fraction=fields["overlap"],
            expert_overlap_fraction=fields["overlap"],
            data_overlap_fraction=fields["data_overlap"],
        )
        design = base.replace(
            chip=chip, cluster=cluster, parallelism=parallelism, software=software.replace(**stack)
        )
        return with_optimal_interval(design, parameters)

    return design_of


def faster(link: Any, ratio: Any) -> Any:
    """Link with its bandwidth multiplied by a ratio."""
    return link.replace(bandwidth_bytes_per_s=ratio * link.bandwidth_bytes_per_s)


def switch_usd(domain: float) -> float:
    """Capital cost of the scale-up fabric per chip; assumed."""
    return next(price for largest, price in SWITCH_USD.items() if domain <= largest)


def study() -> list[dict[str, Any]]:
    """One row per job, topology, batch, case and domain size."""
    rows = []
    for title, name in JOBS.items():
        job, base = load_workload(name), base_design()
        parameters = float(num_parameters(job.model))
        chip_usd = float(evaluate(base, job).chip_cost_usd) + base.cluster.server_cost_usd_per_chip
        for topology in ("switch", "torus"):
            points = [
                dataclasses.replace(point, global_batch=round(point.global_batch / job.seq_len))
                for point in case_points(topology)
            ]
            found = best_of(job, points, design_with(topology, base, parameters))
            found = [{"job": title, "topology": topology} | row for row in found]
            rows += choose_spares([of_all_chips(row, chip_usd) for row in found])
    return [with_costs(row, rows) for row in rows]


def of_all_chips(row: dict[str, Any], chip_usd: float) -> dict[str, Any]:
    """Metrics of a job with idle chips, relative to all chips; idle chips add capital cost only."""
    ratio = NUM_CHIPS / row["num_chips"]
    whole = {"case": tuple(CASES)[int(row["case"])], "batch_tokens": round(row["tokens"] * ratio)}
    if ratio == 1.0:
        return row | whole
    idle_usd = per_usd(row) * chip_usd * (1.0 - 1.0 / ratio)
    return row | whole | {
        "domain": {used: built for built, used in SPARES.items()}[row["domain"]],
        "mfu_fraction": row["mfu_fraction"] / ratio,
        "cost_usd_per_mtoken": row["cost_usd_per_mtoken"] + idle_usd,
    }  # fmt: skip


def choose_spares(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fastest of the rows with and without spares, for each case, batch and domain size.

    A switched domain may also be used as several smaller domains whose size divides it. Groups
    that do not divide the large domain can then be placed.
    """
    best: dict[Any, dict[str, Any]] = {}
    for row in rows:
        is_split = row["topology"] == "switch"
        sizes = [d for d in SWITCHED if d % row["domain"] == 0] if is_split else [row["domain"]]
        for domain in sizes:
            key = (-row["batch_tokens"], tuple(CASES).index(row["case"]), domain)
            if key not in best or row["tokens_per_s"] > best[key]["tokens_per_s"]:
                best[key] = row | {"domain": domain, "used_as": row["domain"]}
    return [best[key] for key in sorted(best)]


def per_usd(row: dict[str, Any]) -> float:
    """Cost of a million tokens per USD of capital per chip, over the lifetime."""
    return 1e6 * NUM_CHIPS / (base_design().cluster.lifetime_s * row["effective_tokens_per_s"])


def with_costs(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Row with speedup, cost with switches and break-even price of the fabric.

    `break_even_usd`: additional fabric capital per chip, relative to domains of `REFERENCE` chips,
    at which the cost per token equals that of these domains.
    """
    same = ("job", "topology", "case", "batch_tokens")
    (base,) = (
        other
        for other in rows
        if other["domain"] == REFERENCE and all(other[key] == row[key] for key in same)
    )
    cheaper = base["cost_usd_per_mtoken"] - row["cost_usd_per_mtoken"]
    extra = switch_usd(row["domain"]) if row["topology"] == "switch" else 0.0
    return row | {
        "speedup": row["tokens_per_s"] / base["tokens_per_s"],
        "break_even_usd": cheaper / per_usd(row),
        "cost_with_switches_usd_per_mtoken": row["cost_usd_per_mtoken"] + per_usd(row) * extra,
    }
