"""Limits of small or few scratchpads: bytes in flight from HBM, busiest scratchpad, fusion.

Double buffering: one half of a scratchpad is in use, the other half arrives from HBM. Each has a
resident tile (`hbm_traffic.RESIDENT_FRACTION`) and streamed data. The split is fixed, so that more
of any resource never slows a design. Buffers of collectives (chunks of a ring, some MiB at most)
are not subtracted.
"""

import dataclasses

import jax.numpy as jnp

from hwdse.models.memory.hbm_traffic import ACCUMULATOR_BYTES
from hwdse.numerics.array_types import PerOp, Scalar
from hwdse.numerics.relaxation import EXACT, Relaxation, num_tiles, positive_part
from hwdse.specs.hardware.chip import Chip, Memory, SystolicArray
from hwdse.workload.gemms import Gemms

IN_FLIGHT_FRACTION = 0.5
"""Fraction of the SRAM that may be in flight: the half that arrives. Assumed."""
IN_FLIGHT_POWER = 4.0
"""Sharpness of the transition from bandwidth to latency; 1.19 (2^(1/4)) below both where they are
equal. Assumed."""
STREAM_BUFFERS = 2.0
"""Copies of a block of keys and values, one in use and one in flight."""


def sustained_hbm_bytes_per_s(chip: Chip) -> Scalar:
    r"""HBM bandwidth of long streams (B/s): efficiency times bandwidth, limited by bytes in flight.

    Little's law: a bandwidth $\beta$ over a latency $\lambda$ has $\beta \lambda$ bytes in flight,
    which need a place in the scratchpads. With at most $\phi S$ of them,
    $\beta_{max} = \phi S / \lambda$, and
    $\beta = \beta_0 / (1 + (\beta_0 / \beta_{max})^4)^{1/4}$. Rises with HBM bandwidth and SRAM.
    Source: Little, Operations Research 9(3), 1961.
    """
    bandwidth = chip.hbm_efficiency_fraction * chip.hbm.bandwidth_bytes_per_s
    largest = IN_FLIGHT_FRACTION * chip.sram.capacity_bytes / chip.hbm_latency_s
    # The smaller quotient is raised to the power, so that nothing overflows.
    less, more = jnp.minimum(bandwidth, largest), jnp.maximum(bandwidth, largest)
    ratio = less / more
    return less / (1.0 + ratio**IN_FLIGHT_POWER) ** (1.0 / IN_FLIGHT_POWER)


def balanced_sram(chip: Chip, relaxation: Relaxation = EXACT) -> Memory:
    r"""SRAM with the bandwidth that equally loaded arrays obtain from private scratchpads.

    Of A arrays on P scratchpads, $\lceil A / P \rceil$ share the busiest one, which has $1 / P$ of
    the bandwidth. The others wait for it: the factor is $A / (P \lceil A / P \rceil)$.
    """
    arrays, scratchpads = chip.array.num_arrays, chip.num_scratchpads
    busiest = num_tiles(arrays, scratchpads, relaxation, "arrays")
    used_fraction = arrays / (scratchpads * busiest)
    return dataclasses.replace(
        chip.sram, bandwidth_bytes_per_s=chip.sram.bandwidth_bytes_per_s * used_fraction
    )


def fused_attention_bytes(gemms: Gemms, array: SystolicArray, bytes_per_element: PerOp) -> PerOp:
    r"""Working set of a fused attention kernel on one array (B).

    Block of queries $b_q d$, blocks of keys and values $b_k d$ with the next ones in flight, sums
    of the output $b_q d$ in FP32, scores $b_q b_k$ in FP32 and as operand, and maximum and sum per
    query. $b_q$ and $b_k$ are rows and columns of the array; d is the smaller of the extents k and
    n: that of a head. Source: FlashAttention-2 (Dao 2023), algorithm 1, with double buffering.
    """
    queries = jnp.minimum(array.rows, gemms.m)
    head = jnp.minimum(gemms.k, gemms.n)
    keys = jnp.minimum(array.cols, jnp.maximum(gemms.k, gemms.n))
    operands = queries * head + 2.0 * STREAM_BUFFERS * keys * head + queries * keys
    sums = queries * head + queries * keys + 2.0 * queries
    return bytes_per_element * operands + ACCUMULATOR_BYTES * sums


def with_spilled_scores(
    gemms: Gemms,
    is_attention: PerOp,
    sram: Memory,
    num_scratchpads: PerOp,
    array: SystolicArray,
    bytes_per_element: PerOp,
) -> Gemms:
    r"""GEMMs whose operands on chip go to HBM as far as fused attention finds no place.

    A scratchpad with $A / P$ arrays needs as many working sets W (`fused_attention_bytes`). Of
    scores and probabilities the fraction $\max(1 - S / (W A / P), 0)$ is written to HBM and read
    back, S being the capacity of one scratchpad. Operators without weights only.
    """
    arrays = jnp.maximum(array.num_arrays / num_scratchpads, 1.0)
    needed_bytes = arrays * fused_attention_bytes(gemms, array, bytes_per_element)
    spilled = is_attention * positive_part(
        1.0 - sram.capacity_bytes / num_scratchpads / needed_bytes
    )
    return dataclasses.replace(
        gemms,
        a_in_hbm=gemms.a_in_hbm + spilled * (1.0 - gemms.a_in_hbm),
        c_in_hbm=gemms.c_in_hbm + spilled * (1.0 - gemms.c_in_hbm),
    )
