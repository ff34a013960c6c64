"""Area and energy ratios of number formats, and time of jobs with phases in several formats."""

import jax.numpy as jnp

from hwdse.models.energy import arithmetic_unit_costs
from hwdse.models.memory.scratchpad_limits import sustained_hbm_bytes_per_s
from hwdse.models.precision import format_split
from hwdse.numerics.array_types import PerOp, Scalar
from hwdse.specs.hardware.chip import Chip
from hwdse.specs.number_formats import FORMATS, JobPhases, NumberFormat
from hwdse.training.fp64_work import fp64_rates
from hwdse.training.gemm_operator_costs import peak_flop_per_s, vector_rate_flop_per_s


def _accumulator(number: NumberFormat) -> NumberFormat:
    """Accumulator format: FP64 for FP64, FP32 for narrower formats."""
    return FORMATS["fp64" if number.total_bits > FORMATS["fp32"].total_bits else "fp32"]


def format_area_ratios(formats: tuple[str, ...], reference: str = "fp16") -> PerOp:
    """Area of a MAC unit of each format over that of the reference, for any process node.

    This is kappa of `models/precision/format_split` under an area budget. FP64 over FP16: 8.6.
    Datapath only (`models/energy/arithmetic_unit_costs`); accumulators are FP32, for FP64 they are
    FP64. Raises `ValueError` for an unknown format.
    """
    areas = [
        arithmetic_unit_costs.format_mac_area_mm2(number, _accumulator(number))
        for number in map(_known, (*formats, reference))
    ]
    return jnp.stack(areas[:-1]) / areas[-1]


def format_energy_ratios(formats: tuple[str, ...], reference: str = "fp16") -> PerOp:
    """Energy of a MAC of each format over that of the reference: kappa under a power budget.

    FP64 over FP16: 7.4.
    """
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
    """Peak FLOP/s of a chip in a number format.

    FP64 includes two-float arithmetic, FP32 and TF32 run on the vector engines, 16-bit formats on
    the matrix engines, narrower formats at their FP8 rate. Raises `ValueError` for an unknown
    format.
    """
    bits = _known(number_format).total_bits
    if bits == 64.0:
        return fp64_rates(chip)[1]
    if bits > 16.0:
        return vector_rate_flop_per_s(chip)
    speedup = chip.fp8_speedup_ratio if bits < 16.0 else 1.0
    return peak_flop_per_s(chip) * speedup


def job_phase_times_s(job: JobPhases, total_flop: Scalar, chip: Chip) -> PerOp:
    """Seconds of each phase of a job on one chip, bound by its units or by sustained HBM."""
    peaks = jnp.stack([jnp.asarray(format_peak_flop_per_s(chip, name)) for name in job.formats])
    bytes_per_s = sustained_hbm_bytes_per_s(chip)
    flop = total_flop * job.flop_fraction
    return format_split.phase_times_s(flop, peaks, job.traffic_bytes_per_flop, bytes_per_s)


def job_time_s(
    job: JobPhases, total_flop: Scalar, chip: Chip, overlap_power: Scalar = 1.0
) -> Scalar:
    r"""Seconds of a job of phases on one chip: $(\sum t_i^p)^{1/p}$; p = 1 serializes phases."""
    times = job_phase_times_s(job, total_flop, chip)
    serialized_s = jnp.sum(times, axis=-1)
    return serialized_s * format_split.job_time_ratio(times / serialized_s, overlap_power)
