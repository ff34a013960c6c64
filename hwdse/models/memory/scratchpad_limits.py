"""Limits of small or few scratchpads: bytes in flight, busiest scratchpad, fused kernels.

Double buffering: one half of a scratchpad is in use, the other half arrives from HBM. Each has a
resident tile (`hbm_traffic.RESIDENT_FRACTION`) and streamed data, which a collective's chunks take
the place of. The split is fixed, so that more of any resource never slows a design.
"""

import dataclasses

import jax.numpy as jnp

from hwdse.models.memory.hbm_traffic import ACCUMULATOR_BYTES
from hwdse.numerics.array_types import PerOp, Scalar
from hwdse.numerics.relaxation import EXACT, Relaxation, num_tiles, positive_part
from hwdse.specs.hardware.chip import Chip, Link, Memory, SystolicArray
from hwdse.workload.gemms import Gemms

IN_FLIGHT_FRACTION = 0.5
"""Fraction of the SRAM that may be in flight: the half that arrives. Assumed."""
COLLECTIVE_FRACTION = 0.125
"""Fraction of the SRAM for the chunks of collectives: the streamed quarter of the half in use.
Assumed."""
IN_FLIGHT_POWER = 4.0
"""Sharpness of the transition from bandwidth to latency; 1.19 (2^(1/4)) below both where they are
equal. Assumed."""
STREAM_BUFFERS = 2.0
"""Copies of a block of keys and values, one in use and one in flight."""


def _limited(rate: Scalar, largest: Scalar) -> Scalar:
    r"""Rate below another one: $\beta / (1 + (\beta / \beta_{max})^4)^{1/4}$; rises with both."""
    # The smaller quotient is raised to the power, so that nothing overflows.
    less, more = jnp.minimum(rate, largest), jnp.maximum(rate, largest)
    ratio = less / more
    return less / (1.0 + ratio**IN_FLIGHT_POWER) ** (1.0 / IN_FLIGHT_POWER)


def sustained_hbm_bytes_per_s(chip: Chip) -> Scalar:
    r"""HBM bandwidth of long streams (B/s): efficiency times bandwidth, limited by bytes in flight.

    Little's law: a bandwidth $\beta$ over a latency $\lambda$ has $\beta \lambda$ bytes in flight,
    which need a place in the scratchpads. With at most $\phi S$ of them,
    $\beta_{max} = \phi S / \lambda$. Rises with HBM bandwidth and SRAM. Source: Little, Operations
    Research 9(3), 1961; the transition (`_limited`) is assumed.
    """
    bandwidth = chip.hbm_efficiency_fraction * chip.hbm.bandwidth_bytes_per_s
    largest = IN_FLIGHT_FRACTION * chip.sram.capacity_bytes / chip.hbm_latency_s
    return _limited(bandwidth, largest)


def with_sustained_links(chip: Chip) -> Chip:
    r"""Chip whose links have the bandwidth that the chunks of collectives in SRAM sustain.

    A step of a collective reads a chunk from HBM and adds or stores the one that arrives. Both pass
    the SRAM: $\beta (\lambda_{HBM} + \lambda_{link})$ bytes are in flight, in a fraction
    `COLLECTIVE_FRACTION` of it. Transition and source: `sustained_hbm_bytes_per_s`.
    """

    def sustained(link: Link) -> Link:
        held_bytes = COLLECTIVE_FRACTION * chip.sram.capacity_bytes
        largest = held_bytes / (chip.hbm_latency_s + link.latency_s)
        efficiency = link.bandwidth_efficiency_fraction
        limited = _limited(efficiency * link.bandwidth_bytes_per_s, largest) / efficiency
        return dataclasses.replace(link, bandwidth_bytes_per_s=limited)

    return dataclasses.replace(chip, link=sustained(chip.link), network=sustained(chip.network))


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


def fused_elementwise_bytes(gemms: Gemms, array: SystolicArray, bytes_per_element: PerOp) -> PerOp:
    """Working set of a product with fused elementwise work on one array (B).

    A tile of sums in FP32, and tiles of another operand (residual, gate) and of the result, one in
    use and one in flight each. Rows and columns of the array, or of the product if it is smaller.
    """
    tile = jnp.minimum(array.rows, gemms.m) * jnp.minimum(array.cols, gemms.n)
    return tile * (ACCUMULATOR_BYTES + 2.0 * STREAM_BUFFERS * bytes_per_element)


def spilled_result_bytes(
    gemms: Gemms,
    sram: Memory,
    num_scratchpads: PerOp,
    array: SystolicArray,
    bytes_per_element: PerOp,
) -> PerOp:
    r"""HBM bytes of results between products and their elementwise work, all counts.

    As far as fused kernels find no place, $\max(1 - S / (W A / P), 0)$ as in `with_spilled_scores`,
    a product writes its result to HBM and the elementwise work reads it. Zero for products
    without elementwise work.
    """
    arrays = jnp.maximum(array.num_arrays / num_scratchpads, 1.0)
    needed_bytes = arrays * fused_elementwise_bytes(gemms, array, bytes_per_element)
    spilled = positive_part(1.0 - sram.capacity_bytes / num_scratchpads / needed_bytes)
    is_fused = jnp.where(gemms.vector_flop > 0.0, 1.0, 0.0)
    moved = 2.0 * bytes_per_element * gemms.m * gemms.n * gemms.count
    return is_fused * spilled * moved
