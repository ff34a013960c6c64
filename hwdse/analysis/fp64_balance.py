"""Precision balance, first of the four balances: optimal ratio of peak FP64 to 16-bit FLOP/s."""

import jax
import jax.numpy as jnp

from hwdse.models.memory.scratchpad_limits import sustained_hbm_bytes_per_s
from hwdse.models.precision import format_split, fp64_emulation, precision_mix
from hwdse.models.silicon.area import fp64_cost_ratio
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import SMALLEST, SMALLEST_DIVISOR
from hwdse.specs.design import Design
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.number_formats import PrecisionMix
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.training.fp64_work import fp64_rates
from hwdse.training.gemm_operator_costs import peak_flop_per_s


@struct.dataclass
class PrecisionBalance:
    """Native FP64 : 16-bit ratio of a chip, optimal ratio for a job, and penalty.

    The ratio varies at iso-area: both kinds of units together keep their area. Times are relative
    to that of all FLOP at the 16-bit rate with the full area.
    """

    current_ratio: Leaf
    """Peak FP64 rate of the native units over the 16-bit peak."""
    optimal_ratio: Leaf
    """Ratio with the shortest time; 0 if native units do not pay off."""
    penalty_fraction: Leaf
    """Time at the current ratio over time at the optimal ratio, minus 1."""
    elasticity: Leaf
    """d ln(time) / d ln(ratio) at the current ratio; below 0 if more FP64 would be faster."""
    suited_fp64_fraction: Leaf
    """FP64 fraction of all FLOP for which the current ratio is optimal. Assumes that all FP64 work
    runs on native units, serialized with the other work and not memory-bound."""
    largest_useful_ratio: Leaf
    """Total FP64 rate (two-float arithmetic included) over the 16-bit peak, above which memory
    bounds the FP64 work outside GEMMs; huge without traffic."""
    current_time_ratio: Leaf
    optimal_time_ratio: Leaf
    is_emulated: Leaf
    """1 if emulation on 16-bit engines is faster for FP64 GEMMs at the current ratio."""
    optimum_is_emulated: Leaf
    """`is_emulated` at the optimal ratio."""


@struct.dataclass
class _Job:
    """Work of a job in units of all FLOP, and its bounds, for native or emulated FP64 GEMMs."""

    sixteen_bit: Leaf
    gemms: Leaf
    others: Leaf
    """FP64 work outside GEMMs."""
    cost_ratio: Leaf
    software_budget: Leaf
    """Budget share of native units with the rate of the two-float arithmetic."""
    memory_time: Leaf
    fixed_time: Leaf


def precision_balance(
    chip: Chip,
    mix: PrecisionMix,
    *,
    cost_ratio: Scalar | None = None,
    rest_time_ratio: Scalar = 1.0,
    fixed_time_ratio: Scalar = 0.0,
) -> PrecisionBalance:
    r"""Current and optimal FP64 : 16-bit ratio of a chip for a job, in closed form.

    The FP64 units have the budget share a, two-float arithmetic counts as a share v:
    $T(a) = w_{16} / (1 - a) + g \kappa / (a + v) + o \max(\kappa / (a + v), c)$ for 16-bit work
    $w_{16}$, FP64 GEMM work g and other FP64 work o that HBM may bound (c). Without the bound the
    optimum follows from $\sqrt{\kappa w_{64} / w_{16}}$. If the values with and without o bracket
    the bound $\kappa / c$, the bound is the optimum. If emulation is faster, all GEMMs are emulated
    (`models/precision/fp64_emulation`): n w more 16-bit work.

    `cost_ratio` is kappa, by default the area ratio; use `process.fp64_energy_ratio` if a power
    budget limits both kinds of units. `rest_time_ratio` is the time of the 16-bit work over its
    time at peak (1 / utilization). `fixed_time_ratio` is the time that no unit shortens, in the
    unit of the results. `design_precision_balance` takes both from an evaluation. Assumes
    serialized phases as in `evaluate`, units that scale with their share, and constant memory and
    vector engines.
    """
    kappa = fp64_cost_ratio(chip) if cost_ratio is None else cost_ratio
    times = (rest_time_ratio, fixed_time_ratio)
    native, emulated = (_job(chip, mix, kappa, times, is_emulated=x) for x in (False, True))
    current_share = _current_share(chip, kappa)
    current = [_time(current_share, job) for job in (native, emulated)]
    shares = [_optimal_share(job) for job in (native, emulated)]
    optimum = [_time(share, job) for share, job in zip(shares, (native, emulated), strict=True)]
    slopes = [jax.grad(_time)(current_share + 0.0, job) for job in (native, emulated)]
    is_emulated, optimum_is_emulated = current[1] < current[0], optimum[1] < optimum[0]
    time, optimal_time = jnp.minimum(*current), jnp.minimum(*optimum)
    slope = jnp.where(is_emulated, slopes[1], slopes[0])
    share = jnp.where(optimum_is_emulated, shares[1], shares[0])
    hbm_bytes_per_s = sustained_hbm_bytes_per_s(chip)
    useful = format_split.useful_peak_flop_per_s(mix.fp64_traffic_bytes_per_flop, hbm_bytes_per_s)
    return PrecisionBalance(
        current_ratio=chip.fp64_per_fp16_ratio,
        optimal_ratio=share / (kappa * jnp.maximum(1.0 - share, SMALLEST_DIVISOR)),
        penalty_fraction=time / optimal_time - 1.0,
        elasticity=slope * current_share * (1.0 - current_share) / time,
        suited_fp64_fraction=precision_mix.fp64_fraction_for_ratio(
            chip.fp64_per_fp16_ratio, kappa, 1.0
        ),
        largest_useful_ratio=useful / peak_flop_per_s(chip),
        current_time_ratio=time,
        optimal_time_ratio=optimal_time,
        is_emulated=jnp.where(is_emulated, 1.0, 0.0),
        optimum_is_emulated=jnp.where(optimum_is_emulated, 1.0, 0.0),
    )


def design_precision_balance(design: Design, evaluation: Evaluation) -> PrecisionBalance:
    """`precision_balance` of a design for the full step of its evaluation.

    Matrix time scales with the 16-bit peak and FP64 time with both peaks. All other time (memory,
    network, bubbles, host) is constant: it does not change the optimal ratio, but lowers penalty
    and elasticity. Assumes that the bounding resource of each operator does not change, hence a
    difference of a few percent to a search with the full model.
    """
    chip, mix = design.chip, design.mix
    speedup = precision_mix.mix_matrix_speedup_ratio(mix, chip)
    rest_s = evaluation.mfu_fraction * evaluation.step_time_s
    fixed_s = evaluation.step_time_s - evaluation.time.matrix - evaluation.time.fp64
    total_budget = 1.0 + fp64_cost_ratio(chip) * chip.fp64_per_fp16_ratio
    all_s = rest_s * speedup / (total_budget * jnp.maximum(1.0 - mix.fp64_flop_fraction, 1e-6))
    return precision_balance(
        chip,
        mix,
        rest_time_ratio=evaluation.time.matrix / rest_s,
        fixed_time_ratio=fixed_s / all_s,
    )


def _current_share(chip: Chip, kappa: Scalar) -> Scalar:
    """Budget share of the native FP64 units."""
    native = kappa * chip.fp64_per_fp16_ratio
    return native / (1.0 + native)


def _job(
    chip: Chip, mix: PrecisionMix, kappa: Scalar, times: tuple[Scalar, Scalar], *, is_emulated: bool
) -> _Job:
    share, gemms = mix.fp64_flop_fraction, mix.fp64_gemm_fraction
    speedup = precision_mix.mix_matrix_speedup_ratio(mix, chip)
    rest = (1.0 - share) * times[0] / speedup
    emulation = chip.emulated_fp64_flop_ratio * share * gemms
    whole_peak = peak_flop_per_s(chip) * (1.0 + kappa * chip.fp64_per_fp16_ratio)
    native, both = fp64_rates(chip)
    hbm_bytes_per_s = sustained_hbm_bytes_per_s(chip)
    return _Job(
        sixteen_bit=rest + emulation if is_emulated else rest,
        gemms=0.0 * share if is_emulated else share * gemms,
        others=fp64_emulation.native_fp64_work(share, gemms),
        cost_ratio=kappa,
        software_budget=kappa * (both - native) / whole_peak,
        memory_time=mix.fp64_traffic_bytes_per_flop * whole_peak / hbm_bytes_per_s,
        fixed_time=times[1],
    )


def _time(share: Scalar, job: _Job) -> Scalar:
    fp64 = job.cost_ratio / jnp.maximum(share + job.software_budget, SMALLEST_DIVISOR)
    sixteen_bit = job.sixteen_bit / jnp.maximum(1.0 - share, SMALLEST_DIVISOR)
    others = job.others * jnp.maximum(fp64, job.memory_time)
    return job.fixed_time + sixteen_bit + job.gemms * fp64 + others


def _optimal_share(job: _Job) -> Scalar:
    """Budget share of the FP64 units with the shortest time of serialized phases.

    T is convex in the share.
    """

    def unbound(fp64_work: Scalar) -> Scalar:
        odds = job.cost_ratio * fp64_work / jnp.maximum(job.sixteen_bit, SMALLEST_DIVISOR)
        root = jnp.sqrt(jnp.maximum(odds, SMALLEST))
        return (1.0 + job.software_budget) * root / (1.0 + root)

    largest = job.cost_ratio / jnp.maximum(job.memory_time, SMALLEST_DIVISOR)
    memory_limited = jnp.minimum(unbound(job.gemms + job.others), largest)
    return jnp.clip(jnp.maximum(unbound(job.gemms), memory_limited) - job.software_budget, 0.0, 1.0)
