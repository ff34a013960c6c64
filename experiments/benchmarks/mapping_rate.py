"""Evaluation rate of the mapper, in float32 on a batch of cores.

    python experiments/benchmarks/mapping_rate.py [--designs 4096] [--devices 2]

One evaluation is one tile (its count and strip) under one residency, for one operator on one core:
the other extents of the tile in closed form, traffic of all levels, time, energy, and comparison
with the best so far. The batch is a plain array axis. JAX runs one program per device at a time, so
each CPU core is a device with its part of the batch. Run it on an idle machine.
"""

import argparse
import json
import os
import time

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.config.hardware.accelerators import load_accelerator
from hwdse.core.mapper.mapper import HARDWARE, best_mapping
from hwdse.core.mapper.mapspace import methods, num_choices
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.workload.loops.operators import Operators, gemm_operators

GEMMS = (
    (512, 768, 768),
    (512, 768, 3072),
    (512, 3072, 768),
    (512, 64, 512),
    (12544, 147, 64),
    (784, 1152, 128),
    (8, 4096, 4096),
    (2048, 4096, 4096),
)
"""m, k, n of layers of BERT, ResNet-50 and a language model."""
KIB = 1024.0
REPEATS = 15


def operators() -> Operators:
    """GEMMs on the first axis; the second axis is for cores."""
    m, k, n = (jnp.asarray(column, jnp.float32)[:, None] for column in zip(*GEMMS, strict=True))
    return gemm_operators(m, k, n, jnp.ones_like(m))


def cores(num_designs: int, seed: int = 0) -> Accelerator:
    """Gemmini-like cores with rows, columns and both memories drawn from powers of two."""
    rng, base = np.random.default_rng(seed), load_accelerator("gemmini")
    rows, cols = (jnp.asarray(2.0 ** rng.integers(3, 9, num_designs), jnp.float32) for _ in "rc")
    scratchpad, accumulator = (
        jnp.asarray(KIB * 2.0 ** rng.integers(4, 12, num_designs), jnp.float32) for _ in "sa"
    )
    dram, inputs, sums, registers = base.levels
    levels = (
        dram,
        inputs.replace(capacity_bytes=scratchpad),
        sums.replace(capacity_bytes=accumulator),
        registers.replace(capacity_bytes=rows * cols),
    )
    return base.replace(rows=rows, cols=cols, levels=levels)


def evaluations(work: Operators) -> int:
    """Number of tiles that the mapper evaluates for one core."""
    tried = [num_choices(work, method) for _, method in methods(HARDWARE, is_perfect=False)]
    return work.p.size * sum(int(counts) * int(strips) for counts, strips in tried)


@jax.jit
def best(work: Operators, core: Accelerator) -> tuple[jax.Array, ...]:
    """Energy-delay product, residency and main extents of the best mappings."""
    found = best_mapping(work, core)
    return found.costs.energy_j * found.costs.time_s, found.residency, found.tile.p, found.tile.k


def rate(num_designs: int, num_devices: int) -> dict[str, float]:
    """Median wall and CPU seconds of a batch, and evaluations per second."""
    work, each = operators(), num_designs // num_devices
    devices = jax.devices("cpu")[:num_devices]
    parts = [jax.device_put((work, cores(each, seed)), d) for seed, d in enumerate(devices)]

    def run() -> None:
        jax.block_until_ready([best(*part) for part in parts])

    start = time.perf_counter()
    run()
    compile_s = time.perf_counter() - start
    walls, cpus = [], []
    for _ in range(REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    count = evaluations(work) * each * num_devices
    wall_s, cpu_s = float(np.median(walls)), float(np.median(cpus))
    return {
        "evaluations": count,
        "devices": num_devices,
        "compile_s": compile_s,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "evaluations_per_s": count / wall_s,
        "evaluations_per_cpu_s": count / cpu_s,
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Print the rates as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--designs", type=int, default=4096)
    parser.add_argument("--devices", type=int, default=os.cpu_count())
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", options.devices)
    print(json.dumps(rate(options.designs, options.devices), indent=2))


if __name__ == "__main__":
    main()
