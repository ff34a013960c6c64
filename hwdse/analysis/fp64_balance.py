"""First of the four balances: peak fp64 over peak 16-bit, of a chip and for a job."""

import flax.struct
import jax
import jax.numpy as jnp

from hwdse.models.precision import format_split, fp64_emulation, precision_mix
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import SMALLEST, SMALLEST_DIVISOR
from hwdse.specs.design import Design
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.number_formats import PrecisionMix
from hwdse.specs.results.evaluation_result import Evaluation
from hwdse.training.fp64_work import fp64_rates
from hwdse.training.gemm_operator_costs import peak_flop_per_s


@flax.struct.dataclass
class PrecisionBalance:
    """How far a chip's native fp64 : 16-bit ratio is from the best for a job.

    Whatever the ratio, both kinds of units together take what they take now. Times are over that
    of all flops at the 16-bit rate with the whole of it.
    """

    current_ratio: Leaf
    """Peak fp64 of the native units over the 16-bit peak."""
    optimal_ratio: Leaf
    """The one with the least time; 0 where native units do not pay."""
    penalty_fraction: Leaf
    """Time with the present ratio over that with the best one, less one."""
    elasticity: Leaf
    """d ln(time) / d ln(ratio) at the present ratio; below 0 where more fp64 would be faster."""
    suited_fp64_fraction: Leaf
    """fp64 share of all flops for which the present ratio is best, of jobs with all fp64 work on
    native units, in turn with the rest and not bound by memory."""
    largest_useful_ratio: Leaf
    """Of the whole fp64 rate, two-float arithmetic included: above it memory bounds the fp64 work
    outside of matrix products; huge without traffic."""
    current_time_ratio: Leaf
    optimal_time_ratio: Leaf
    is_emulated: Leaf
    """1 where the 16-bit engines are faster at fp64 matrix products with the present ratio."""
    optimum_is_emulated: Leaf
    """The same with the best ratio."""


@flax.struct.dataclass
class _Job:
    """Work in units of all flops, and what bounds it, for one way to run fp64 products."""

    sixteen_bit: Leaf
    products: Leaf
    others: Leaf
    cost_ratio: Leaf
    software_budget: Leaf
    """Share of the budget that native units as fast as the two-float arithmetic would take."""
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
    r"""Present and best fp64 : 16-bit ratio of a chip for a job, in closed form.

    Of a budget the fp64 units have the share a, so with v for two-float arithmetic
    $T(a) = w_{16} / (1 - a) + g \kappa / (a + v) + o \max(\kappa / (a + v), c)$: 16-bit work,
    fp64 matrix products, other fp64 work that HBM may bound. Where the ends of
    $\sqrt{\kappa w_{64} / w_{16}}$ with and without the others bracket the bound $\kappa / c$, it
    is the optimum. Products are emulated where that is faster, all of them (see
    `models.emulation`): n w more 16-bit work.

    `cost_ratio` is kappa: of the areas as a rule, `process.fp64_energy_ratio` where a power
    budget limits both kinds of units at once. `rest_time_ratio` is the time of the 16-bit work
    over that at peak (1 / utilization), `fixed_time_ratio` what no unit shortens, in the unit of
    the results; `design_precision_balance` takes both from an evaluation. Phases run one after
    the other, as in `evaluate`. All units of the budget are assumed to scale with their share,
    memory and vector engines to stay.
    """
    kappa = chip.process.fp64_area_ratio if cost_ratio is None else cost_ratio
    times = (rest_time_ratio, fixed_time_ratio)
    native, emulated = (_job(chip, mix, kappa, times, is_emulated=x) for x in (False, True))
    present_share = _present_share(chip, kappa)
    present = [_time(present_share, job) for job in (native, emulated)]
    shares = [_best_share(job) for job in (native, emulated)]
    best = [_time(share, job) for share, job in zip(shares, (native, emulated), strict=True)]
    slopes = [jax.grad(_time)(present_share + 0.0, job) for job in (native, emulated)]
    is_emulated, optimum_is_emulated = present[1] < present[0], best[1] < best[0]
    time, best_time = jnp.minimum(*present), jnp.minimum(*best)
    slope = jnp.where(is_emulated, slopes[1], slopes[0])
    share = jnp.where(optimum_is_emulated, shares[1], shares[0])
    hbm_bytes_per_s = chip.hbm_efficiency_fraction * chip.hbm.bandwidth_bytes_per_s
    useful = format_split.useful_peak_flop_per_s(mix.fp64_traffic_bytes_per_flop, hbm_bytes_per_s)
    return PrecisionBalance(
        current_ratio=chip.fp64_per_fp16_ratio,
        optimal_ratio=share / (kappa * jnp.maximum(1.0 - share, SMALLEST_DIVISOR)),
        penalty_fraction=time / best_time - 1.0,
        elasticity=slope * present_share * (1.0 - present_share) / time,
        suited_fp64_fraction=precision_mix.fp64_fraction_for_ratio(
            chip.fp64_per_fp16_ratio, kappa, 1.0
        ),
        largest_useful_ratio=useful / peak_flop_per_s(chip),
        current_time_ratio=time,
        optimal_time_ratio=best_time,
        is_emulated=jnp.where(is_emulated, 1.0, 0.0),
        optimum_is_emulated=jnp.where(optimum_is_emulated, 1.0, 0.0),
    )


def design_precision_balance(design: Design, evaluation: Evaluation) -> PrecisionBalance:
    r"""`precision_balance` of a design in the whole step that `evaluate` found for it.

    What the step spends in matrix products goes with the 16-bit peak, its fp64 time with both
    peaks, and all else (memory, network, bubbles, host) stays: it does not move the best ratio,
    and makes loss and elasticity smaller. Time is that of a step. Assumes that what bounds a row
    stays so, hence a few percent off a search that evaluates the whole model.
    """
    chip, mix = design.chip, design.mix
    speedup = precision_mix.mix_matrix_speedup_ratio(mix, chip.fp8_speedup_ratio)
    rest_s = evaluation.mfu_fraction * evaluation.step_time_s
    fixed_s = evaluation.step_time_s - evaluation.time.matrix - evaluation.time.fp64
    whole = 1.0 + chip.process.fp64_area_ratio * chip.fp64_per_fp16_ratio
    all_s = rest_s * speedup / (whole * jnp.maximum(1.0 - mix.fp64_flop_fraction, 1e-6))
    return precision_balance(
        chip,
        mix,
        rest_time_ratio=evaluation.time.matrix / rest_s,
        fixed_time_ratio=fixed_s / all_s,
    )


def _present_share(chip: Chip, kappa: Scalar) -> Scalar:
    """Share of the budget that the native fp64 units have."""
    native = kappa * chip.fp64_per_fp16_ratio
    return native / (1.0 + native)


def _job(
    chip: Chip, mix: PrecisionMix, kappa: Scalar, times: tuple[Scalar, Scalar], *, is_emulated: bool
) -> _Job:
    share, gemms = mix.fp64_flop_fraction, mix.fp64_gemm_fraction
    speedup = precision_mix.mix_matrix_speedup_ratio(mix, chip.fp8_speedup_ratio)
    rest = (1.0 - share) * times[0] / speedup
    more = chip.emulated_fp64_flop_ratio * share * gemms
    whole_peak = peak_flop_per_s(chip) * (1.0 + kappa * chip.fp64_per_fp16_ratio)
    native, both = fp64_rates(chip)
    hbm_bytes_per_s = chip.hbm_efficiency_fraction * chip.hbm.bandwidth_bytes_per_s
    return _Job(
        sixteen_bit=rest + more if is_emulated else rest,
        products=0.0 * share if is_emulated else share * gemms,
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
    return job.fixed_time + sixteen_bit + job.products * fp64 + others


def _best_share(job: _Job) -> Scalar:
    """Share of the fp64 units with the least time of phases in turn; T is convex in it."""

    def unbound(fp64_work: Scalar) -> Scalar:
        odds = job.cost_ratio * fp64_work / jnp.maximum(job.sixteen_bit, SMALLEST_DIVISOR)
        root = jnp.sqrt(jnp.maximum(odds, SMALLEST))
        return (1.0 + job.software_budget) * root / (1.0 + root)

    largest = job.cost_ratio / jnp.maximum(job.memory_time, SMALLEST_DIVISOR)
    whole = jnp.minimum(unbound(job.products + job.others), largest)
    return jnp.clip(jnp.maximum(unbound(job.products), whole) - job.software_budget, 0.0, 1.0)
