"""Study B: strong and weak scaling of one job, from one server to Project Rainier."""

from types import MappingProxyType
from typing import Any

from best_strategies import STATE_BYTES, Point, base_design, best_of, shares_of
from domain_sizes import DEFAULTS, JOBS, design_with

from hwdse.config import load_workload
from hwdse.models.reliability.single_level_checkpoint import best_ettr_fraction
from hwdse.workload.transformer.dense_transformer import num_parameters

SIZES = (16, 64, *(2**power for power in range(7, 19)), 458_752)
"""Chips: one server, one UltraServer, ... The largest size is 7168 of Rainier's 7812 UltraServers,
which divides evenly; the other 644 are spares."""
BATCHES = MappingProxyType({"Llama 3 405B": 2048, "DeepSeek-V3": 16384})
"""Sequences per step for strong scaling: the batch of Llama 3 405B, and close to DeepSeek-V3's
(15360). With seven times a power of two chips, 7/8 of it, so that DP ranks divide the batch."""
TOKENS_PER_CHIP = 4096
"""Tokens per step and chip, for weak scaling."""
FAST_RESTART_S = (30.0, 10.0)
"""Restart time and downtime (s) with hot spares and state copied between chips."""
FABRICS = MappingProxyType({"torus of 64": ("torus", 64), "switch of 512": ("switch", 512)})


def points_of(title: str, seq_len: float, largest: int) -> list[Point]:
    """Points of strong and weak scaling, distinguished by `weak`."""
    points = []
    for num in SIZES:
        domain = min(largest, 16 if num < 64 else num)
        weak = round(num * TOKENS_PER_CHIP / seq_len)
        strong = BATCHES[title] * 7 // 8 if num % 7 == 0 else BATCHES[title]
        for is_weak, batch in ((0.0, strong), (1.0, weak)):
            points.append(Point(num, domain, batch, {"weak": is_weak, **DEFAULTS}))
    return points


def study() -> list[dict[str, Any]]:
    """One row per job, fabric, kind of scaling and number of chips."""
    rows = []
    for title, name in JOBS.items():
        job, base = load_workload(name), base_design()
        parameters = float(num_parameters(job.model))
        for fabric, (topology, largest) in FABRICS.items():
            design_of = design_with(topology, base, parameters)
            for row in best_of(job, points_of(title, job.seq_len, largest), design_of):
                if topology == "switch" and row["num_chips"] < largest:
                    continue
                kind = "weak" if row["weak"] else "strong"
                fast = fast_restart_goodput(row["num_chips"], parameters)
                given = {"job": title, "fabric": fabric, "scaling": kind}
                given |= {"fast_restart_goodput_fraction": fast}
                rows.append(given | row | {"bottleneck": bottleneck(row)})
    return rows


def fast_restart_goodput(num_chips: int, parameters: float) -> float:
    """Goodput with `FAST_RESTART_S` at the optimal checkpoint interval."""
    base = base_design()
    cluster = base.cluster
    rate = min(
        num_chips * base.chip.checkpoint_bandwidth_bytes_per_s,
        cluster.storage_bandwidth_bytes_per_s,
    )
    mtbf_s = cluster.chip_mtbf_s / num_chips
    return float(best_ettr_fraction(STATE_BYTES * parameters / rate, *FAST_RESTART_S, mtbf_s))


def bottleneck(row: dict[str, Any]) -> str:
    """Largest part of the step time besides compute."""
    shares = shares_of(row)
    shares.pop("compute")
    return max(shares, key=lambda label: shares[label])
