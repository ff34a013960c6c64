"""Levers of latency-optimised serving of Llama 3.1 70B: tokens per second of one user.

    python experiments/latency_optimised/run.py

Prompts of 1,000 and answers of 300 tokens. Every row adds one lever to the row before it. Published
(AWS machine-learning blog, "Optimizing AI responsiveness", about 1,600 calls of Amazon Bedrock): 30
tokens/s at the median, 137 latency-optimised, hardware and load not told.
"""

import dataclasses
from typing import Any

from hwdse.config import load_search
from hwdse.config.search.job_source import JobSource
from hwdse.evaluation import evaluate_exact
from hwdse.workload.serving.format_names import FORMATS

SERVERS = {
    "Trainium2, 16 chips": ("trn2_48xlarge", "neuron", 16.0),
    "H100, 8 chips": ("dgx_h100", "vllm", 8.0),
    "H200, 8 chips": ("dgx_h200", "vllm", 8.0),
}
PUBLISHED = (30.2, 137.0)
BUSY, QUIET = 64.0, 4.0
"""Requests in flight per replica."""
SMALL = 4.0
"""Chips of a replica of a server that is laid out for throughput."""
DRAFT = {"draft_tokens": 3.0, "acceptance_fraction": 0.8}
"""EAGLE-3 of Llama 3.1 8B on Trainium2: 0.86, 0.84 and 0.88 of its drafts in turn are accepted (AWS
Neuron documentation); assumed a little lower."""


def rows(server: str) -> list[tuple[str, Any]]:
    """Levers and evaluations of a server."""
    system, engine, chips = SERVERS[server]
    flags = {"system": system, "model": "llama3_70b", "engine": engine, "strategy": f"TP{SMALL:g}"}
    loaded = load_search(JobSource(None, {"design": {**flags, "concurrency": 64}}))
    design: Any = loaded.base
    task: Any = loaded.workload
    found = []

    def add(lever: str, users: float, **changes: Any) -> None:
        nonlocal design
        design = dataclasses.replace(design, **changes)
        requests = dataclasses.replace(
            task.requests,
            input_tokens=1000.0,
            output_tokens=300.0,
            concurrency=users * float(design.num_replicas),
        )
        found.append((lever, evaluate_exact(design, dataclasses.replace(task, requests=requests))))

    add(f"TP{SMALL:g}, {BUSY:g} requests a replica, BF16", BUSY)
    whole = dataclasses.replace(design.strategy, tensor=chips)
    add(f"TP{chips:g}: all chips for one replica", BUSY, strategy=whole)
    add(f"{QUIET:g} requests a replica", QUIET)
    add("FP8 weights and products", QUIET, formats=FORMATS["fp8"])
    drafted = dataclasses.replace(whole, **DRAFT)
    add("3 draft tokens, 0.8 accepted", QUIET, strategy=drafted)
    return found


def main() -> None:
    """Print the table."""
    print("| server | lever | tokens/s of a user | of a chip | first token (ms) |")
    print("| --- | --- | --- | --- | --- |")
    for server in SERVERS:
        for lever, found in rows(server):
            print(
                f"| {server} | {lever} | {found.interactivity_tokens_per_s:.0f} "
                f"| {found.chip_tokens_per_s:.0f} | {1e3 * found.ttft_s:.0f} |"
            )
    print(f"\nPublished: {PUBLISHED[0]:g} tokens/s, latency-optimised {PUBLISHED[1]:g}.")


if __name__ == "__main__":
    main()
