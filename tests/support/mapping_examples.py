"""A published mapping, row p000 of the AccelForge reference, as specs.

BERT's query projection, C[512, 768] = A[512, 768] B[768, 768], on a weight-stationary array of
64 x 64 in 40 nm with a scratchpad for A and B and an accumulator for C. The bytes are those that
AccelForge 1.0.467 counts for DRAM[ABC] > SRAM[A] > for n tile 64 > SRAM[B] > ACC[C] > for k tile 64
> rows k x 64 > columns n x 64 > REG[B] > for m tile 1.
"""

import numpy as np

from hwdse.config import load_chip
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator, Level, Operands
from hwdse.specs.mappings.loop_nest import Accounting, LevelTraffic, LoopNest, NestTier, NestTraffic
from hwdse.workload.loops.operators import DIMS, gemm_operators

ACCOUNTING = Accounting(fractional_edges=False, elides_first_read=True, drains_outputs=True)
M, K, N = 512.0, 768.0, 768.0
GEMM = gemm_operators(M, K, N, 36.0, ("query",))
KIB = 1024.0


def level(name, keeps, capacity_bytes, bandwidth_bytes_per_s, energy_j_per_byte, **others):
    fields = {"ports": "one", "banks": "one", "shares_port": True, "follows_clock": True}
    return Level(
        capacity_bytes=capacity_bytes,
        read_bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        write_bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        read_energy_j_per_byte=energy_j_per_byte,
        write_energy_j_per_byte=energy_j_per_byte,
        energy_slope=0.0,
        energy_exponent=1.0,
        word_bytes=Operands(1.0, 1.0, 4.0 if name == "accumulator" else 1.0),
        name=name,
        keeps=keeps,
        **{**fields, **others},
    )


CORE = Accelerator(
    rows=64.0,
    cols=64.0,
    clock_hz=1e9,
    nominal_clock_hz=1e9,
    mac_energy_j=0.5608e-12,
    levels=(
        level("DRAM", OPERANDS, 16.0 * KIB**3, 3.2e10, 100e-12, follows_clock=False),
        level("scratchpad", ("weights", "inputs"), 512.0 * KIB, 1.28e11, 8 * 1.66957e-12),
        level("accumulator", ("outputs",), 256.0 * KIB, 5.12e11, 8 * 0.0731875e-12),
        level("registers", ("weights",), 4096.0, 1e16, 8 * 0.060932715e-12, banks="pes"),
    ),
    process=load_chip("trainium2").process,
    fixed_area_mm2=1.0,
    package_cost_usd=1.0,
    dram_cost_usd_per_byte=1e-9,
    rows_dims="C",
    cols_dims="K",
)


def operands(weights=0.0, inputs=0.0, outputs=0.0):
    return Operands(weights, inputs, outputs)


TRAFFIC = NestTraffic(
    levels=(
        LevelTraffic(operands(589824.0, 393216.0), operands(0.0, 0.0, 393216.0),
                     operands(589824.0, 393216.0, 393216.0)),
        LevelTraffic(operands(589824.0, 4718592.0), operands(589824.0, 393216.0),
                     operands(49152.0, 393216.0)),
        LevelTraffic(operands(outputs=18874368.0), operands(outputs=18874368.0),
                     operands(outputs=131072.0)),
        LevelTraffic(operands(M * K * N), operands(589824.0), operands(4096.0)),
    ),
    compute_cycles=M * K * N / 64.0**2,
    num_macs=M * K * N,
)  # fmt: skip
TIERS = (
    NestTier("DRAM", OPERANDS),
    NestTier("scratchpad", ("inputs",)),
    NestTier("scratchpad", ("weights",)),
    NestTier("accumulator", ("outputs",)),
    NestTier("registers", ("weights",)),
)


def nest(temporal, spatial=(), order=()):
    """A nest of these tiers from {(tier, letter): bound}; `order` lists loops outermost first."""
    bounds, unrolled, position = (np.ones((len(TIERS), len(DIMS))) for _ in range(3))
    for (tier, letter), bound in dict(temporal).items():
        bounds[tier, DIMS.index(letter)] = bound
    for (tier, letter), bound in dict(spatial).items():
        unrolled[tier, DIMS.index(letter)] = bound
    for index, (tier, letter) in enumerate(order):
        position[tier, DIMS.index(letter)] = index
    return LoopNest(temporal=bounds, position=position, spatial=unrolled, tiers=TIERS)


NEST = nest({(1, "K"): 12.0, (3, "C"): 12.0, (4, "P"): 512.0}, {(3, "C"): 64.0, (3, "K"): 64.0})
