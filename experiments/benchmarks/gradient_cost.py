"""Cost of a gradient in evaluations, on the cluster searches and the tile search of the repository.

    python experiments/benchmarks/gradient_cost.py [--repeats 60] [--against FOLDER]

Value and gradient of a batch over the value alone, both compiled as in a search: float64, quick
compilation, penalized constraints, all search dimensions. Two ratios per model: over the value of
the same model, and over the exact value of rounded designs, which searches count. The programs of a
row run in turn, and a ratio is the median over the rounds, so a busy machine disturbs all alike.
CPU time of the process. `--against` measures another checkout in the same turns.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).resolve()
ROOT = HERE.parents[2]
PROBLEMS = ("hardware", "strategies", "tiles")
BATCHES = (8, 64)
TEMPERATURE = 0.3
CALLS = 3
"""Calls per measurement."""


def programs(name: str, batch: int) -> tuple[dict[str, Callable[..., Any]], tuple[Any, ...]]:
    """Compiled programs by name, and their arguments."""
    import jax
    import jax.numpy as jnp

    sys.path.insert(0, str(pathlib.Path.cwd() / "experiments" / "search_comparison"))
    from problems import problem_of

    from hwdse.numerics.jit_compile import quick_options
    from hwdse.numerics.relaxation import EXACT, smooth

    problem = problem_of(name)
    objective_fn, space = problem.objective_fn, problem.space
    of_program = getattr(space, "program_bases", None)
    base = of_program(problem.base)[0] if of_program else space.variant_bases(problem.base)[0][1]
    base = jax.tree.map(float, base)
    units = space.snap_points(np.random.default_rng(0).random((batch, space.num_dims)))

    def penalized(design: Any, relaxation: Any) -> Any:
        objective, constraint_values = objective_fn(design, relaxation)
        return objective + jnp.sum(jnp.maximum(1.0 + constraint_values, 0.0) ** 2)

    def rounded(unit: Any, base: Any, _: Any) -> Any:
        return penalized(space.decode_rounded(unit, base), EXACT)

    def exact(unit: Any, base: Any, _: Any) -> Any:
        return penalized(space.decode(unit, base), EXACT)

    def relaxed(unit: Any, base: Any, temperature: Any) -> Any:
        return penalized(space.decode(unit, base), smooth(temperature))

    functions = {
        "evaluation": rounded,
        "exact value": exact,
        "exact gradient": jax.value_and_grad(exact),
        "smooth value": relaxed,
        "smooth gradient": jax.value_and_grad(relaxed),
    }
    arguments = jnp.asarray(units, float), base, TEMPERATURE
    compiled = {
        key: jax.jit(jax.vmap(function, (0, None, None)), compiler_options=quick_options())
        .lower(*arguments)
        .compile()
        for key, function in functions.items()
    }
    return compiled, arguments


def serve() -> None:
    """Run rounds on request: one line with a problem and a batch size, then one line per round."""
    import jax

    jax.config.update("jax_enable_x64", True)
    compiled: dict[str, Callable[..., Any]] = {}
    arguments: tuple[Any, ...] = ()
    for line in sys.stdin:
        request = json.loads(line)
        if request:
            compiled, arguments = programs(*request)
            for program in compiled.values():
                jax.block_until_ready(program(*arguments))
        times = {}
        for key, program in compiled.items():
            start = time.process_time()
            for _ in range(CALLS):
                jax.block_until_ready(program(*arguments))
            times[key] = (time.process_time() - start) / CALLS
        print(json.dumps(times), flush=True)


def started(root: pathlib.Path) -> subprocess.Popen[str]:
    """Process that serves the package of a checkout."""
    return subprocess.Popen(
        [sys.executable, str(HERE), "--serve"], text=True, cwd=root,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip


def asked(process: subprocess.Popen[str], request: list[Any]) -> dict[str, float]:
    """CPU seconds of each program in one round."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def ratios(rounds: list[dict[str, float]]) -> list[str]:
    """Cells: evaluation in µs per design, and medians of the paired ratios."""
    pairs = (
        ("exact gradient", "exact value"), ("smooth gradient", "smooth value"),
        ("exact gradient", "evaluation"), ("smooth gradient", "evaluation"),
    )  # fmt: skip
    return [f"{np.median([r[a] / r[b] for r in rounds]):.2f}" for a, b in pairs]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--against", type=pathlib.Path)
    parser.add_argument("--problems", nargs="*", default=PROBLEMS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    roots = {"this version": ROOT}
    if options.against is not None:
        roots = {"before": options.against.resolve(), **roots}
    print("| problem | batch | version | evaluation (µs) | exact / exact | smooth / smooth "
          "| exact / evaluation | smooth / evaluation |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    processes = {label: started(root) for label, root in roots.items()}
    for name in options.problems:
        for batch in BATCHES:
            for process in processes.values():
                asked(process, [name, batch])
            rounds: dict[str, list[dict[str, float]]] = {label: [] for label in roots}
            for _ in range(options.repeats):
                for label, process in processes.items():
                    rounds[label].append(asked(process, []))
            for label, found in rounds.items():
                micro_s = np.median([r["evaluation"] for r in found]) / batch * 1e6
                cells = [name, str(batch), label, f"{micro_s:.1f}", *ratios(found)]
                print(f"| {' | '.join(cells)} |", flush=True)
    for process in processes.values():
        process.communicate("")
    return None


if __name__ == "__main__":
    main()
