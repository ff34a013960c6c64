"""The tables of both studies, and the numbers that answer them."""

import itertools
from typing import Any

from best_layouts import shares_of
from domain_sizes import BATCH_TOKENS, CASES, JOBS, NUM_CHIPS, switch_usd
from job_sizes import FABRICS

Rows = list[dict[str, Any]]
SHOWN_SIZES = (16, 64, 128, 1024, 4096, 16384, 65536, 131072, 262144, 458752)
MIN_GAIN = 1.5
"""Where twice the chips give less than this many times the tokens, scaling has stopped."""


def pick(rows: Rows, **wanted: Any) -> Rows:
    """The rows with these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def exposed(row: dict[str, Any]) -> float:
    """Share of the step in which chips wait for others: communication and pipeline bubble."""
    return 1.0 - shares_of(row)["compute"]


def table(head: list[str], lines: list[list[str]]) -> str:
    """Markdown."""
    rule = ["---"] * len(head)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines)) + "\n"


def millions(tokens: float) -> str:
    return f"{tokens / 1e6:.1f} M"


def by_domain(rows: Rows, job: str) -> str:
    """Times, costs and break-even of one job over domain sizes."""
    found = {t: pick(rows, job=job, topology="switch", case="base", batch_tokens=t)
             for t in BATCH_TOKENS}  # fmt: skip
    head = ["chips of a domain"]
    head += [f"step, {millions(t)} tokens" for t in BATCH_TOKENS]
    head += [
        "waiting",
        "USD a M tokens",
        "with switches",
        "fabric may cost more than that of 16 by",
    ]
    lines = []
    for few, some, many in zip(*found.values(), strict=True):
        times = [f"{row['batch_tokens'] / row['tokens_per_s']:.2f} s" for row in (few, some, many)]
        may = [f"{row['break_even_usd']:,.0f}" for row in (few, some, many)]
        lines.append(
            [
                f"{many['domain']}",
                *times,
                f"{exposed(many):.0%}",
                f"{many['usd_per_million_tokens']:.4f}",
                f"{many['usd_with_switches']:.4f} (+{switch_usd(many['domain']):,.0f})",
                " / ".join(may),
            ]
        )
    return table(head, lines)


def strategies(rows: Rows, job: str) -> str:
    """The best layouts, for the largest and the smallest batch."""
    head = ["domain", f"best layout, {millions(BATCH_TOKENS[2])}", f"{millions(BATCH_TOKENS[1])}"]
    lines = []
    for domain in (1, 8, 16, 32, 64, 128, 256, 512):
        some, many = (
            pick(rows, job=job, topology="switch", case="base", batch_tokens=t, domain=domain)[0]
            for t in BATCH_TOKENS[1:]
        )
        lines.append([f"{domain}", many["layout"], some["layout"]])
    return table(head, lines)


def by_network(rows: Rows) -> str:
    """What a faster network does in small domains, beside a larger domain."""
    domains = (8, 16, 32, 64, 128, 512)
    head = ["job", "tokens a step", "network"] + [f"domain of {d}" for d in domains]
    lines = []
    for job in JOBS:
        for tokens in reversed(BATCH_TOKENS):
            (base,) = pick(rows, job=job, topology="switch", case="base", batch_tokens=tokens,
                           domain=16)  # fmt: skip
            for case, name in (("base", "x 1"), ("network x 2", "x 2"), ("network x 4", "x 4")):
                cells = [
                    pick(rows, job=job, topology="switch", case=case, batch_tokens=tokens, domain=d)
                    for d in domains
                ]
                ratios = [f"{row['tokens_per_s'] / base['tokens_per_s']:.2f}" for (row,) in cells]
                lines.append([job, millions(tokens), name, *ratios])
    return table(head, lines)


def by_case(rows: Rows) -> str:
    """Speed over that of 16 in the same case, under other assumptions."""
    domains = (4, 8, 32, 64, 128, 512)
    head = ["job", "assumption"] + [f"domain of {d}" for d in domains]
    lines = []
    for job in JOBS:
        for case in CASES:
            if case.startswith("network") or (case == "no ZeRO-3" and job == "DeepSeek-V3"):
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
    """Strong and weak scaling of one job."""
    head = ["chips", "strong: step", "MFU", "goodput", "useful tokens/s", "most waiting", "layout"]
    head += ["weak: MFU", "useful tokens/s"]
    lines = []
    for num in SHOWN_SIZES:
        (strong,) = pick(rows, job=job, fabric=fabric, scaling="strong", num_chips=num)
        (weak,) = pick(rows, job=job, fabric=fabric, scaling="weak", num_chips=num)
        if strong["hbm_used_ratio"] > 1.0:
            full = f"needs {strong['hbm_used_ratio']:.1f} times the memory"
            lines.append([f"{num:,}", full, *[""] * 7])
            continue
        share = shares_of(strong)[strong["limit"]]
        lines.append(
            [
                f"{num:,}",
                f"{strong['step_time_s']:.2f} s",
                f"{strong['mfu']:.1%}",
                f"{strong['goodput']:.1%}",
                f"{strong['effective_tokens_per_s'] / 1e6:.3g} M",
                f"{strong['limit']} {share:.0%}",
                strong["layout"],
                f"{weak['mfu']:.1%}",
                f"{weak['effective_tokens_per_s'] / 1e6:.3g} M",
            ]
        )
    return table(head, lines)


def ends(rows: Rows) -> Rows:
    """Where each scaling ends: the last doubling that gives `MIN_GAIN` times the tokens without
    failures, and the size with most useful tokens."""
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
                most = max(line, key=lambda row: row["effective_tokens_per_s"])
                fast = max(line, key=lambda row: row["tokens_per_s"] * row["fast_goodput"])
                found.append(
                    {
                        "job": job, "fabric": fabric, "scaling": scaling,
                        "scales_to_chips": last["num_chips"],
                        "then_limited_by": line[min(line.index(last) + 1, len(line) - 1)]["limit"],
                        "most_useful_chips": most["num_chips"],
                        "most_useful_tokens_per_s": most["effective_tokens_per_s"],
                        "goodput": most["goodput"],
                        "fast_chips": fast["num_chips"],
                        "fast_tokens_per_s": fast["tokens_per_s"] * fast["fast_goodput"],
                    }
                )  # fmt: skip
    return found


def ends_table(rows: Rows) -> str:
    """`ends` in words."""
    head = ["job", "scaling", "domain", "doubling gives 1.5 times or more up to", "then waits for"]
    head += ["most useful tokens/s (restart in 7 min)", "the same, restart in 40 s"]
    lines = [
        [
            end["job"], end["scaling"], end["fabric"], f"{end['scales_to_chips']:,} chips",
            "-" if end["scaling"] == "weak" else end["then_limited_by"],
            f"{end['most_useful_tokens_per_s'] / 1e6:.3g} M on {end['most_useful_chips']:,}",
            f"{end['fast_tokens_per_s'] / 1e6:.3g} M on {end['fast_chips']:,}",
        ]
        for end in ends(rows)
    ]  # fmt: skip
    return table(head, lines)


def all_tables(domains: Rows, sizes: Rows) -> str:
    """Everything that the README shows."""
    parts = []
    for job in JOBS:
        parts += [f"{job}, {NUM_CHIPS} chips in switched domains:\n", by_domain(domains, job)]
    for job in JOBS:
        parts += [f"Best layouts, {job}:\n", strategies(domains, job)]
    parts += ["Tokens a second over those of domains of 16 with the network as it is:\n"]
    parts += [by_network(domains)]
    parts += [f"Tokens a second over those of domains of 16, {millions(BATCH_TOKENS[2])} tokens:\n"]
    parts += [by_case(domains)]
    for job in JOBS:
        parts += [
            f"{job} on Trn2 UltraServers (torus of 64):\n",
            by_chips(sizes, job, "torus of 64"),
        ]
    return "\n".join([*parts, "Where scaling ends:\n", ends_table(sizes)])
