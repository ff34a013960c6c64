"""Cost of a gradient in evaluations, on the three problems of experiments/search_comparison.

    python experiments/benchmarks/gradient_cost.py

Exact model of a batch against value and gradient of the smooth relaxation of the same batch, as in
a search: float64, quick compilation. Minimum CPU time of many repeats.
"""

import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "search_comparison"))
from problems import PROBLEMS, TITLES, problem_of

from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, smooth

BATCHES = (8, 64)
REPEATS = 30
TEMPERATURE = 0.3


def cpu_seconds(function: Callable[[Any], Any], units: Any) -> float:
    """Minimum CPU time of a compiled call."""
    jax.block_until_ready(function(units))
    minimum = np.inf
    for _ in range(REPEATS):
        start = time.process_time()
        for _ in range(3):
            jax.block_until_ready(function(units))
        minimum = min(minimum, (time.process_time() - start) / 3)
    return minimum


def main() -> None:
    """Print the table."""
    print("| problem | batch size (designs) | evaluation (µs) | gradient (µs) | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for name in PROBLEMS:
        problem = problem_of(name)
        objective_fn, space = problem.objective_fn, problem.space
        base = space.variant_bases(problem.base)[0][1]

        def value(unit, objective_fn=objective_fn, space=space, base=base):
            return objective_fn(space.decode_rounded(unit, base), EXACT)

        def loss(unit, objective_fn=objective_fn, space=space, base=base):
            design = space.decode(unit, base)
            objective, constraint_values = objective_fn(design, smooth(TEMPERATURE))
            return objective + jnp.sum(jnp.maximum(1.0 + constraint_values, 0.0) ** 2)

        evaluate, gradient = (
            quick_jit(jax.vmap(value)),
            quick_jit(jax.vmap(jax.value_and_grad(loss))),
        )
        for batch in BATCHES:
            generator = np.random.default_rng(0)
            units = jnp.asarray(space.snap_points(generator.random((batch, space.num_dims))))
            times = [
                cpu_seconds(function, units) / batch * 1e6 for function in (evaluate, gradient)
            ]
            print(f"| {TITLES[name]} | {batch} | {times[0]:.1f} | {times[1]:.1f} "
                  f"| {times[1] / times[0]:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
