"""Tables of both studies, and the scaling limits."""

import itertools
from typing import Any

from best_strategies import shares_of
from domain_sizes import BATCH_TOKENS, CASES, JOBS, NUM_CHIPS, switch_usd
from job_sizes import FABRICS

Rows = list[dict[str, Any]]
SHOWN_SIZES = (16, 64, 128, 1024, 4096, 16384, 65536, 131072, 262144, 458752)
MIN_GAIN = 1.5
"""Smallest throughput ratio per doubling of the chips at which a job still scales."""


def pick(rows: Rows, **wanted: Any) -> Rows:
    """Rows with the given values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def exposed(row: dict[str, Any]) -> float:
    """Exposed communication and pipeline bubble as a fraction of the step time."""
    return 1.0 - shares_of(row)["compute"]


def table(head: list[str], lines: list[list[str]]) -> str:
    """Markdown table."""
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines)) + "\n"


def millions(tokens: float) -> str:
    return f"{tokens / 1e6:.1f} M"


def by_domain(rows: Rows, job: str) -> str:
    """Step times, costs and break-even prices of one job over domain sizes."""
    found = {t: pick(rows, job=job, topology="switch", case="base", batch_tokens=t)
             for t in BATCH_TOKENS}  # fmt: skip
    head = ["domain (chips)"]
    head += [f"step time, {millions(t)} tokens (s)" for t in BATCH_TOKENS]
    head += [
        "communication and bubble (%)",
        "cost (USD/Mtoken)",
        "with switches (USD/Mtoken)",
        "switches (USD per chip)",
        "break-even over the fabric of 16 (USD per chip)",
    ]
    lines = []
    for few, some, many in zip(*found.values(), strict=True):
        times = [f"{row['batch_tokens'] / row['tokens_per_s']:.2f}" for row in (few, some, many)]
        prices = [f"{row['break_even_usd']:,.0f}" for row in (few, some, many)]
        lines.append(
            [
                f"{many['domain']}",
                *times,
                f"{100.0 * exposed(many):.0f}",
                f"{many['cost_usd_per_mtoken']:.4f}",
                f"{many['cost_with_switches_usd_per_mtoken']:.4f}",
                f"{switch_usd(many['domain']):,.0f}",
                " / ".join(prices),
            ]
        )
    return table(head, lines)


def strategies(rows: Rows, job: str) -> str:
    """Fastest strategies for the two largest batches."""
    head = ["domain (chips)"]
    head += [f"strategy, {millions(BATCH_TOKENS[i])} tokens per step" for i in (2, 1)]
    lines = []
    for domain in (1, 8, 16, 32, 64, 128, 256, 512):
        some, many = (
            pick(rows, job=job, topology="switch", case="base", batch_tokens=t, domain=domain)[0]
            for t in BATCH_TOKENS[1:]
        )
        lines.append([f"{domain}", many["strategy"], some["strategy"]])
    return table(head, lines)


def by_network(rows: Rows) -> str:
    """Effect of a faster scale-out network compared with that of a larger domain."""
    domains = (8, 16, 32, 64, 128, 512)
    head = ["job", "tokens per step", "scale-out bandwidth"] + [f"domain of {d}" for d in domains]
    lines = []
    for job in JOBS:
        for tokens in reversed(BATCH_TOKENS):
            (base,) = pick(rows, job=job, topology="switch", case="base", batch_tokens=tokens,
                           domain=16)  # fmt: skip
            for case, name in (("base", "x 1"), ("scale-out x 2", "x 2"), ("scale-out x 4", "x 4")):
                cells = [
                    pick(rows, job=job, topology="switch", case=case, batch_tokens=tokens, domain=d)
                    for d in domains
                ]
                ratios = [f"{row['tokens_per_s'] / base['tokens_per_s']:.2f}" for (row,) in cells]
                lines.append([job, millions(tokens), name, *ratios])
    return table(head, lines)


def by_case(rows: Rows) -> str:
    """Speedup over domains of 16 in the same case, under other assumptions."""
    domains = (4, 8, 32, 64, 128, 512)
    head = ["job", "assumption"] + [f"domain of {d}" for d in domains]
    lines = []
    for job in JOBS:
        for case in CASES:
            if case.startswith("scale-out") or (case == "no ZeRO-3" and job == "DeepSeek-V3"):
                continue
            found = [
                pick(rows, job=job, topology="switch", case=case, batch_tokens=BATCH_TOKENS[2],
                     domain=d)[0]
                for d in domains
            ]  # fmt: skip
            lines.append([job, case, *(f"{row['speedup']:.2f}" for row in found)])
        found = [pick(rows, job=job, topology="torus", batch_tokens=BATCH_TOKENS[2], domain=d)
                 for d in domains]  # fmt: skip
        cells = [f"{row[0]['speedup']:.2f}" if row else "" for row in found]
        lines.append([job, "torus as built", *cells])
    return table(head, lines)


def by_chips(rows: Rows, job: str, fabric: str) -> str:
    """Strong and weak scaling of one job over numbers of chips."""
    head = ["chips", "strong: step time (s)", "MFU (%)", "goodput (%)"]
    head += ["effective throughput (Mtokens/s)", "bottleneck besides compute (% of step time)"]
    head += ["strategy", "weak: MFU (%)", "effective throughput (Mtokens/s)"]
    lines = []
    for num in SHOWN_SIZES:
        (strong,) = pick(rows, job=job, fabric=fabric, scaling="strong", num_chips=num)
        (weak,) = pick(rows, job=job, fabric=fabric, scaling="weak", num_chips=num)
        if strong["hbm_used_ratio"] > 1.0:
            full = f"needs {strong['hbm_used_ratio']:.1f}x the HBM"
            lines.append([f"{num:,}", full, *[""] * 7])
            continue
        share = shares_of(strong)[strong["bottleneck"]]
        lines.append(
            [
                f"{num:,}",
                f"{strong['step_time_s']:.2f}",
                f"{100.0 * strong['mfu_fraction']:.1f}",
                f"{100.0 * strong['goodput_fraction']:.1f}",
                f"{strong['effective_tokens_per_s'] / 1e6:.3g}",
                f"{strong['bottleneck']} {100.0 * share:.0f}",
                strong["strategy"],
                f"{100.0 * weak['mfu_fraction']:.1f}",
                f"{weak['effective_tokens_per_s'] / 1e6:.3g}",
            ]
        )
    return table(head, lines)


def scaling_limits(rows: Rows) -> Rows:
    """Scaling limits: the last doubling with `MIN_GAIN` times the throughput without failures, and
    the sizes with the highest effective throughput."""
    found = []
    for job in JOBS:
        for fabric in FABRICS:
            for scaling in ("strong", "weak"):
                line = [row for row in pick(rows, job=job, fabric=fabric, scaling=scaling)
                        if row["hbm_used_ratio"] <= 1.0]  # fmt: skip
                last = line[0]
                for before, after in itertools.pairwise(line):
                    size = after["num_chips"] / before["num_chips"]
                    gain = after["tokens_per_s"] / before["tokens_per_s"]
                    if gain < MIN_GAIN ** (size - 1.0):
                        break
                    last = after
                following = line[min(line.index(last) + 1, len(line) - 1)]
                best = max(line, key=lambda row: row["effective_tokens_per_s"])
                fast = max(
                    line, key=lambda row: row["tokens_per_s"] * row["fast_restart_goodput_fraction"]
                )
                found.append(
                    {
                        "job": job, "fabric": fabric, "scaling": scaling,
                        "scales_to_chips": last["num_chips"],
                        "then_limited_by": following["bottleneck"],
                        "best_num_chips": best["num_chips"],
                        "best_effective_tokens_per_s": best["effective_tokens_per_s"],
                        "goodput_fraction": best["goodput_fraction"],
                        "fast_restart_num_chips": fast["num_chips"],
                        "fast_restart_effective_tokens_per_s": fast["tokens_per_s"]
                        * fast["fast_restart_goodput_fraction"],
                    }
                )  # fmt: skip
    return found


def limits_table(rows: Rows) -> str:
    """Scaling limits as a table."""
    head = [
        "job",
        "scaling",
        "domain",
        "doubling gives 1.5x or more up to (chips)",
        "then limited by",
    ]
    for restart in ("7 min", "40 s"):
        head += [f"highest effective throughput, restart in {restart} (Mtokens/s)", "at (chips)"]
    lines = [
        [
            end["job"], end["scaling"], end["fabric"], f"{end['scales_to_chips']:,}",
            "-" if end["scaling"] == "weak" else end["then_limited_by"],
            f"{end['best_effective_tokens_per_s'] / 1e6:.3g}", f"{end['best_num_chips']:,}",
            f"{end['fast_restart_effective_tokens_per_s'] / 1e6:.3g}",
            f"{end['fast_restart_num_chips']:,}",
        ]
        for end in scaling_limits(rows)
    ]  # fmt: skip
    return table(head, lines)


def all_tables(domains: Rows, sizes: Rows) -> str:
    """All tables of the README."""
    parts = []
    for job in JOBS:
        parts += [f"{job}, {NUM_CHIPS} chips in switched domains:\n", by_domain(domains, job)]
    for job in JOBS:
        parts += [f"Fastest strategies, {job}:\n", strategies(domains, job)]
    parts += ["Throughput over that of domains of 16 with the base scale-out bandwidth:\n"]
    parts += [by_network(domains)]
    parts += [f"Speedup over domains of 16, {millions(BATCH_TOKENS[2])} tokens per step:\n"]
    parts += [by_case(domains)]
    for job in JOBS:
        parts += [
            f"{job} on Trn2 UltraServers (torus of 64):\n",
            by_chips(sizes, job, "torus of 64"),
        ]
    return "\n".join([*parts, "Scaling limits:\n", limits_table(sizes)])
