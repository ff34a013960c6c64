"""Small weight-stationary cores and operators for the tests of tiles and best mappings."""

import jax.numpy as jnp

from hwdse.config.hardware.accelerators import load_accelerator
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator, Operands
from hwdse.specs.mappings.tiles import RESIDENCIES, Tile
from hwdse.workload.loops.operators import Operators, gemm_operators

KIB = 1024.0


def core(rows=16.0, cols=16.0, scratchpad=128 * KIB, accumulator=32 * KIB) -> Accelerator:
    """Gemmini with other sizes; energy per access is independent of the capacity."""
    base = load_accelerator("gemmini")
    levels = [level.replace(energy_slope=0.0) for level in base.levels]
    levels[1] = levels[1].replace(capacity_bytes=scratchpad)
    levels[2] = levels[2].replace(capacity_bytes=accumulator)
    levels[3] = levels[3].replace(capacity_bytes=rows * cols)
    return base.replace(rows=rows, cols=cols, levels=tuple(levels))


def unified_core(rows=16.0, cols=16.0, memory=128 * KIB) -> Accelerator:
    """Core with one memory for inputs, weights and sums of four bytes."""
    base = core(rows, cols, memory)
    dram, scratchpad, _, registers = base.levels
    memory_of_all = scratchpad.replace(
        keeps=OPERANDS, word_bytes=Operands(1.0, 1.0, 4.0), read_bandwidth_bytes_per_s=8e9
    )
    return base.replace(levels=(dram, memory_of_all, registers))


def gemms(m, k, n) -> Operators:
    """GEMMs with sizes as arrays of the default float type."""
    sizes = jnp.broadcast_arrays(*(jnp.atleast_1d(jnp.asarray(x, float)) for x in (m, k, n)))
    return gemm_operators(*sizes, jnp.ones_like(sizes[0]))


def convs(**sizes) -> Operators:
    """Convolutions; omitted sizes are 1."""
    names = ("r", "s", "p", "q", "c", "k", "n")
    steps = ("stride_p", "stride_q", "dilation_r", "dilation_s", "count")
    columns = {name: sizes.get(name, 1.0) for name in (*names, *steps)}
    arrays = jnp.broadcast_arrays(
        *(jnp.atleast_1d(jnp.asarray(x, float)) for x in columns.values())
    )
    return Operators(**dict(zip(columns, arrays, strict=True)), names=())


def tile(residency, p, k, rows, cols, **others) -> Tile:
    """A tile of a GEMM, or of a convolution with q and n in `others`."""
    extents = {"q": 1.0, "n": 1.0, "block_p": p, "block_k": k, **others}
    numbers = {"p": p, "k": k, "rows": rows, "cols": cols, **extents}
    arrays = {name: jnp.asarray(x, float) for name, x in numbers.items()}
    return Tile(**arrays, residency=RESIDENCIES[residency])
