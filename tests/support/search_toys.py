"""Two small accelerator models for searches: 8 hardware parameters, or 29 with mapping.

Cycles with rounded-up folds, memory traffic with rounded-up tiles, a network term and failures.
The objective is the energy-delay product under limits of area and power. Numbers are round and of
realistic size only.
"""

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.relaxation import EXACT, maximum, num_tiles
from hwdse.search.space.search_space import Dimension, SearchSpace

LAYERS = (  # m, k, n, count
    (4096.0, 1024.0, 3072.0, 4.0),
    (4096.0, 1024.0, 1024.0, 4.0),
    (4096.0, 1000.0, 4096.0, 4.0),
    (3136.0, 576.0, 64.0, 3.0),
    (784.0, 1152.0, 128.0, 4.0),
    (196.0, 2304.0, 256.0, 6.0),
    (49.0, 4608.0, 512.0, 3.0),
)


@struct.dataclass
class ToyChip:
    rows: object
    cols: object
    sram_mib: object
    hbm_tb_per_s: object
    links: object
    clock_ghz: object
    fp64_share: object
    interval_s: object
    tiles: tuple


TOY_BASE = ToyChip(128.0, 128.0, 24.0, 1.0, 4.0, 1.4, 0.1, 600.0, ((256.0, 256.0, 256.0),) * 7)

HARDWARE = (
    Dimension("rows", 8.0, 512.0, "log", 8.0),
    Dimension("cols", 8.0, 512.0, "log", 8.0),
    Dimension("sram_mib", 4.0, 256.0, "log", 4.0),
    Dimension("hbm_tb_per_s", 0.5, 8.0, "log", 0.5),
    Dimension("links", 1.0, 18.0, "log", 1.0),
    Dimension("clock_ghz", 0.6, 2.4, "linear", 0.05),
    Dimension("fp64_share", 0.0, 0.5, "linear", 0.01),
    Dimension("interval_s", 10.0, 7200.0, "log", 10.0),
)
TOY_8 = SearchSpace(HARDWARE)
TOY_29 = SearchSpace(
    HARDWARE
    + tuple(
        Dimension(f"tiles.{layer}.{axis}", 16.0, 4096.0, "log", 16.0)
        for layer in range(7)
        for axis in range(3)
    )
)


def _totals(chip, relaxation, is_mapped):
    """Time in ms, traffic in MB, and the largest working set in MiB."""
    time, traffic, working_set = 0.0, 0.0, 0.0
    for (m, k, n, count), tile in zip(LAYERS, chip.tiles, strict=True):
        if is_mapped:
            tile_m, tile_n, tile_k = (
                jnp.minimum(*pair) for pair in zip(tile, (m, n, k), strict=True)
            )
        else:
            side = jnp.sqrt(chip.sram_mib * 2.0**20 / 12.0)
            tile_m, tile_n, tile_k = jnp.minimum(side, m), jnp.minimum(side, n), side
        folds = num_tiles(k, chip.rows, relaxation) * num_tiles(n, chip.cols, relaxation)
        blocks = num_tiles(m, tile_m, relaxation) if is_mapped else 1.0
        cycles = folds * (m + blocks * (2.0 * chip.rows + chip.cols - 2.0))
        compute_ms = cycles / (chip.clock_ghz * 1e6) / (1.0 - 0.9 * chip.fp64_share)
        loads = num_tiles(n, tile_n, relaxation) * m * k + num_tiles(m, tile_m, relaxation) * k * n
        megabytes = 2e-6 * (loads + m * n * num_tiles(k, tile_k, relaxation))
        memory_ms = megabytes / (chip.hbm_tb_per_s * 1e3)
        time = time + count * maximum(compute_ms, memory_ms, relaxation)
        traffic = traffic + count * megabytes
        need = 2.0 * (tile_m * tile_k + tile_k * tile_n + 2.0 * tile_m * tile_n) / 2.0**20
        working_set = maximum(working_set, need, relaxation)
    return time, traffic, working_set


def _make_values(is_mapped):
    def values_of(chip, relaxation):
        time, traffic, working_set = _totals(chip, relaxation, is_mapped)
        time = time + 0.3 * 8.0 / chip.links + 0.05 / (0.02 + chip.fp64_share)
        overhead = 15.0 / chip.interval_s + chip.interval_s / (2.0 * 12_000.0)
        time = time * (1.0 + overhead)
        macs = sum(m * k * n * count for m, k, n, count in LAYERS)
        energy = macs * 1e-9 * (0.4 + 0.25 * chip.clock_ghz**2) + 0.05 * traffic
        area = (
            3e-3 * chip.rows * chip.cols * (1.0 + 2.0 * chip.fp64_share)
            + 1.5 * chip.sram_mib
            + 12.0 * chip.hbm_tb_per_s
            + 4.0 * chip.links
        )
        static_w = 0.1 * area + 3.0 * chip.links + 12.0 * chip.hbm_tb_per_s
        energy = energy + static_w * time
        peak_w = static_w + 1.2e-3 * chip.rows * chip.cols * chip.clock_ghz**3
        constraint_values = [jnp.log(area / 450.0), jnp.log(peak_w / 350.0)]
        if is_mapped:
            constraint_values.append(jnp.log(working_set / chip.sram_mib))
        return time, energy, area, jnp.stack(constraint_values)

    return values_of


def _make_objective(is_mapped):
    values_of = _make_values(is_mapped)

    def objective_fn(chip, relaxation):
        time, energy, _, constraint_values = values_of(chip, relaxation)
        return jnp.log(energy * time), constraint_values

    return objective_fn


def _make_objectives(is_mapped):
    values_of = _make_values(is_mapped)

    def objectives_fn(chip, relaxation):
        *values, constraint_values = values_of(chip, relaxation)
        return jnp.log(jnp.stack(values)), constraint_values

    return objectives_fn


objective_8 = _make_objective(False)
objective_29 = _make_objective(True)
objectives_8 = _make_objectives(False)
"""Logs of time, energy and area."""
objectives_29 = _make_objectives(True)


def three_objectives_8(chip):
    """Energy-delay product, a size and a rate: three conflicting objectives."""
    log_objective, constraint_values = objective_8(chip, EXACT)
    size = jnp.log(chip.rows * chip.cols + 100.0 * chip.sram_mib)
    return jnp.stack([log_objective, size, jnp.log(chip.clock_ghz * chip.links)]), constraint_values
