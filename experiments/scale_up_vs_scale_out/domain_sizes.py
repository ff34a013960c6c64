"""Study A: the same chips joined to scale-up domains of 1 to 576."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from best_layouts import HIDDEN, Point, base_design, best_of, with_best_interval

from hwdse.config import load_software, load_workload
from hwdse.evaluation import evaluate
from hwdse.specs.design import Design
from hwdse.workload.transformer.dense_transformer import num_parameters

NUM_CHIPS = 4608
JOBS = MappingProxyType({"Llama 3 405B": "llama3_405b", "DeepSeek-V3": "deepseek_v3"})
BATCH_TOKENS = (1_179_648, 4_718_592, 18_874_368)
"""144, 576 and 2304 sequences of 8192 tokens; the last is what Llama 3 405B trained with, nearly
(16.8 M), and 3/10 of DeepSeek-V3's."""
BATCH = BATCH_TOKENS[2]
SWITCHED = (1, 4, 8, 16, 32, 64, 72, 128, 144, 256, 288, 512, 576)
TORI = MappingProxyType(
    {
        1: (1, 1, 1), 4: (4, 1, 1), 8: (4, 2, 1), 16: (4, 4, 1), 32: (4, 4, 2), 64: (4, 4, 4),
    }
)  # fmt: skip
"""16 is a server and 64 an UltraServer as built; ports of a dimension that is not there idle."""
SPARES = MappingProxyType({72: 64, 144: 128, 288: 256, 576: 512})
"""Domains of nine times a power of two may keep a ninth as spares: then 8/9 of the chips run 8/9 of
the batch."""
CASES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "base": {},
        "network x 2": {"network": 2.0},
        "network x 4": {"network": 4.0},
        "link x 2": {"link": 2.0},
        "nothing hidden": {"hidden": 0.0, "data_hidden": 0.0},
        "90 % hidden": {"hidden": 0.9},
        "no ZeRO-3": {"largest_zero": 2.0},
        "Neuron software": {"software": 1.0},
    }
)
SMALL_BATCH_CASES = {"network x 2", "network x 4", "Neuron software"}
DEFAULTS = MappingProxyType(
    {
        "network": 1.0, "link": 1.0, "hidden": HIDDEN, "data_hidden": 1.0, "software": 0.0,
        "largest_zero": 3.0,
    }
)  # fmt: skip
SWITCH_USD = MappingProxyType({1: 0.0, 72: 1000.0, 576: 3000.0})
"""Assumed price of the scale-up fabric for a chip in domains of up to so many chips: nothing for
one, one port of a switch where a single tier joins all, three ports in a fabric of two tiers. A
port of 640 GB/s each way for 1000 USD is 0.2 USD for a Gb/s."""
REFERENCE = 16
"""Chips of the domain that others are compared with: a Trn2 server."""


def case_points(topology: str) -> list[Point]:
    """Every domain size, batch and case."""
    domains = SWITCHED if topology == "switch" else tuple(TORI)
    points = []
    for tokens in BATCH_TOKENS:
        for number, (name, changes) in enumerate(CASES.items()):
            if number and tokens != BATCH and not SMALL_BATCH_CASES & {name}:
                continue
            if number and topology == "torus":
                continue
            varied = {"case": float(number), **DEFAULTS, **changes}
            points += [Point(NUM_CHIPS, domain, tokens, varied) for domain in domains]
            if topology == "switch":
                most, batch = NUM_CHIPS * 8 // 9, tokens * 8 // 9
                points += [Point(most, domain, batch, varied) for domain in SPARES.values()]
    return points


def design_with(topology: str, base: Design, parameters: float) -> Any:
    """From the numbers of a point to its design."""
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
            link=faster(chip.link, fields["link"]), network=faster(chip.network, fields["network"])
        )
        stack = {
            field.name: (1.0 - fields["software"]) * getattr(software, field.name)
            + fields["software"] * getattr(measured, field.name)
            for field in dataclasses.fields(software)
        }
        parallelism = base.parallelism.replace(
            tensor_overlap_fraction=fields["hidden"],
            expert_overlap_fraction=fields["hidden"],
            data_overlap_fraction=fields["data_hidden"],
        )
        design = base.replace(
            chip=chip, cluster=cluster, parallelism=parallelism, software=software.replace(**stack)
        )
        return with_best_interval(design, parameters)

    return design_of


def faster(link: Any, ratio: Any) -> Any:
    """A link of that many times the bandwidth."""
    return link.replace(bandwidth_bytes_per_s=ratio * link.bandwidth_bytes_per_s)


def switch_usd(domain: float) -> float:
    """Assumed capital of the scale-up fabric for a chip."""
    return next(price for most, price in SWITCH_USD.items() if domain <= most)


def study() -> list[dict[str, Any]]:
    """A row for each job, topology, batch, case and domain size."""
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
    """Figures of a job that leaves chips idle over all chips; idle ones cost capital alone."""
    ratio = NUM_CHIPS / row["num_chips"]
    whole = {"case": tuple(CASES)[int(row["case"])], "batch_tokens": round(row["tokens"] * ratio)}
    if ratio == 1.0:
        return row | whole
    idle_usd = per_usd(row) * chip_usd * (1.0 - 1.0 / ratio)
    return row | whole | {
        "domain": {used: built for built, used in SPARES.items()}[row["domain"]],
        "mfu": row["mfu"] / ratio,
        "usd_per_million_tokens": row["usd_per_million_tokens"] + idle_usd,
    }  # fmt: skip


def choose_spares(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each case, batch and domain size the best of the rows with and without spares.

    Behind switches also of those of all sizes that divide it: a large domain may be used as
    several small ones, so that groups which do not divide it still have a place.
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
    """What a dollar of capital for each of all chips adds to a million tokens, over a lifetime."""
    return 1e6 * NUM_CHIPS / (base_design().cluster.lifetime_s * row["effective_tokens_per_s"])


def with_costs(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Adds what a token costs with the fabric, and what the fabric may cost.

    `break_even_usd`: capital for a chip that makes a token as dear as in domains of `REFERENCE`
    chips, beside what these cost.
    """
    same = ("job", "topology", "case", "batch_tokens")
    (base,) = (
        other
        for other in rows
        if other["domain"] == REFERENCE and all(other[key] == row[key] for key in same)
    )
    cheaper = base["usd_per_million_tokens"] - row["usd_per_million_tokens"]
    extra = switch_usd(row["domain"]) if row["topology"] == "switch" else 0.0
    return row | {
        "speedup": row["tokens_per_s"] / base["tokens_per_s"],
        "break_even_usd": cheaper / per_usd(row),
        "usd_with_switches": row["usd_per_million_tokens"] + per_usd(row) * extra,
    }
