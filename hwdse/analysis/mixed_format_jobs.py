"""Number formats on silicon: what their units cost, and jobs of phases in several of them."""

import jax.numpy as jnp

from hwdse.models.energy import arithmetic_unit_costs
from hwdse.models.precision import format_split
from hwdse.numerics.array_types import PerOp, Scalar
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.number_formats import FORMATS, JobPhases, NumberFormat
from hwdse.training.fp64_work import fp64_rates
from hwdse.training.gemm_operator_costs import peak_flop_per_s, vector_rate_flop_per_s


def _accumulator(number: NumberFormat) -> NumberFormat:
    """fp64 sums up in fp64, all narrower formats in fp32."""
    return FORMATS["fp64" if number.total_bits > FORMATS["fp32"].total_bits else "fp32"]


def format_area_ratios(formats: tuple[str, ...], reference: str = "fp16") -> PerOp:
    """kappa of `models.format_split` under a budget of area: multiply-add of each format over that
    of the reference, whatever the node; sums in fp32, of fp64 in fp64. fp64 over fp16: 8.6.

    Datapath alone (`models.unit_energy`). Raises `ValueError` for an unknown format.
    """
    areas = [
        arithmetic_unit_costs.format_mac_area_mm2(number, _accumulator(number))
        for number in map(_known, (*formats, reference))
    ]
    return jnp.stack(areas[:-1]) / areas[-1]


def format_energy_ratios(formats: tuple[str, ...], reference: str = "fp16") -> PerOp:
    """The same for energies: kappa under a budget of power. fp64 over fp16: 7.4."""
    energies = [
        arithmetic_unit_costs.format_mac_energy_j(number, _accumulator(number))
        for number in map(_known, (*formats, reference))
    ]
    return jnp.stack(energies[:-1]) / energies[-1]


def _known(name: str) -> NumberFormat:
    if name not in FORMATS:
        allowed = ", ".join(FORMATS)
        raise ValueError(f"number format {name!r}: expected one of {allowed}")
    return FORMATS[name]


def format_peak_flop_per_s(chip: Chip, number_format: str) -> Scalar:
    """Peak of a chip in a format: fp64 with two-float arithmetic, fp32 and tf32 of the vector
    engines, 16-bit of the arrays, and narrower formats at their fp8 rate.

    Raises `ValueError` for a name that `FORMATS` does not have.
    """
    bits = _known(number_format).total_bits
    if bits == 64.0:
        return fp64_rates(chip)[1]
    if bits > 16.0:
        return vector_rate_flop_per_s(chip)
    speedup = chip.fp8_speedup_ratio if bits < 16.0 else 1.0
    return peak_flop_per_s(chip) * speedup


def job_phase_times_s(job: JobPhases, total_flop: Scalar, chip: Chip) -> PerOp:
    """Seconds of each phase of a job on one chip: its units, or HBM (sustained)."""
    peaks = jnp.stack([jnp.asarray(format_peak_flop_per_s(chip, name)) for name in job.formats])
    bytes_per_s = chip.hbm_efficiency_fraction * chip.hbm.bandwidth_bytes_per_s
    flop = total_flop * job.flop_fraction
    return format_split.phase_times_s(flop, peaks, job.traffic_bytes_per_flop, bytes_per_s)


def job_time_s(
    job: JobPhases, total_flop: Scalar, chip: Chip, overlap_power: Scalar = 1.0
) -> Scalar:
    r"""Seconds of a job of phases on one chip: $(\sum t_i^p)^{1/p}$, p = 1 for phases in turn."""
    times = job_phase_times_s(job, total_flop, chip)
    whole = jnp.sum(times, axis=-1)
    return whole * format_split.job_time_ratio(times / whole, overlap_power)
