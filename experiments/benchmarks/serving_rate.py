"""Evaluations of a service per second, and what a gradient costs.

    python experiments/benchmarks/serving_rate.py

Closed loops of 1 to 4096 users of Llama 3 70B on a DGX H100, TP8: steady state with all figures of
an evaluation, in one float32 batch. The gradient is that of the time per output token by every leaf
of the design; both programs are compiled alike.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse import evaluate
from hwdse.config import load_search
from hwdse.config.search.job_source import JobSource
from hwdse.numerics.jit_compile import quick_jit, thorough_jit

JOB = {"system": "dgx_h100", "model": "llama3_70b", "engine": "vllm", "strategy": "TP8"}
NUM_ROWS = 1024
REPEATS = 5


def seconds(function: Callable[..., Any], *args: Any) -> tuple[float, float]:
    """First and median later time of a call."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(time.perf_counter() - start)
    return times[0], float(np.median(times[1:]))


def main() -> None:
    """Print rates and the ratio."""
    loaded = load_search(JobSource(None, {"design": {**JOB, "concurrency": 64}}))
    design, task = jax.tree.map(float, (loaded.base, loaded.workload))
    users = jnp.asarray(2.0 ** (np.arange(NUM_ROWS) % 13), jnp.float32)

    def evaluation(design: Any, users: Any) -> Any:
        requests = task.requests.replace(concurrency=users)
        return evaluate(design, task.replace(requests=requests))

    def batched(function: Callable[..., Any], compiled: Callable[..., Any]) -> Any:
        return compiled(jax.vmap(function, in_axes=(None, 0)))

    slopes = jax.grad(lambda design, users: jnp.log(evaluation(design, users).tpot_s))
    first_s, all_s = seconds(batched(evaluation, thorough_jit), design, users)
    _, quick_s = seconds(batched(evaluation, quick_jit), design, users)
    _, gradient_s = seconds(batched(slopes, quick_jit), design, users)
    print(f"compile {first_s:.1f} s, {NUM_ROWS / all_s:,.0f} evaluations/s")
    print(f"gradient / evaluation {gradient_s / quick_s:.2f}")


if __name__ == "__main__":
    main()
