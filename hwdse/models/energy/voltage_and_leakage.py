"""Supply voltage of a clock, access energy of SRAM, and leakage power."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import is_known
from hwdse.specs.hardware.chip import Chip, Process

SRAM_REFERENCE_BYTES = 65536.0
SRAM_EXPONENT = 0.52
"""Read energy grows with capacity^0.52 from 64 KiB to 16 MiB: CACTI 7, 22 nm, 32-byte port."""
VELOCITY_EXPONENT = 1.3
"""Alpha of the alpha-power law for short channels: Sakurai and Newton, JSSC 25(2), 1990."""
VECTOR_ENERGY_RATIO = 1.4
"""FP32 element operation relative to a 16-bit MAC with FP32 accumulation. At 7 nm an add takes
0.38 pJ and a multiply 1.31 pJ; their mean is 0.85 pJ against 0.59 pJ. Jouppi et al., ISCA 2021,
table 2."""
ACCUMULATOR_MACRO_BYTES = 2.0 * 1024.0**2
"""PSUM of one TensorEngine, 2 MiB: AWS Neuron SDK, NKI architecture guides."""
LARGEST_RISE = 40.0
"""Largest exponent of leakage, so that it and its slope stay finite in float32."""
SMALLEST_OVERDRIVE_V = 1e-3
"""Least supply above the threshold, should the greatest voltage of a process leave none."""
_NEWTON_STEPS = 8


@jax.custom_jvp
def _log_overdrive(log_target: Scalar, threshold_v: Scalar) -> Scalar:
    """Solution of a y - ln(Vt + e^y) = target for y = ln(V - Vt); the left side increases with
    y."""
    y = log_target + 0.0 * threshold_v
    for _ in range(_NEWTON_STEPS):
        over = jnp.exp(y)
        voltage = threshold_v + over
        residual = VELOCITY_EXPONENT * y - jnp.log(voltage) - log_target
        y = y - residual / (VELOCITY_EXPONENT - over / voltage)
    return y


@_log_overdrive.defjvp
def _log_overdrive_jvp(primals, tangents):
    log_target, threshold_v = primals
    y = _log_overdrive(log_target, threshold_v)
    voltage = threshold_v + jnp.exp(y)
    slope = VELOCITY_EXPONENT - jnp.exp(y) / voltage
    return y, (tangents[0] + tangents[1] / voltage) / slope


@struct.dataclass
class OperatingPoint:
    """Clock and supply voltage of the engines and scratchpads of a chip."""

    clock_ratio: Leaf
    """Clock over the set clock of the chip."""
    voltage_v: Leaf


def _overdrive_v(clock_ratio: Scalar, process: Process) -> Scalar:
    """Supply above the threshold for `clock_ratio` times the nominal clock (V)."""
    nominal_over = process.nominal_voltage_v - process.threshold_voltage_v
    log_nominal = VELOCITY_EXPONENT * jnp.log(nominal_over) - jnp.log(process.nominal_voltage_v)
    log_target = log_nominal + jnp.log(clock_ratio)
    return jnp.exp(_log_overdrive(log_target, process.threshold_voltage_v))


def supply_voltage_v(clock_ratio: Scalar, process: Process) -> Scalar:
    r"""Supply voltage for `clock_ratio` times the nominal clock (V).

    Alpha-power law $f \propto (V - V_t)^\alpha / V$, inverted by Newton's method with the implicit
    derivative. The result is at least the minimum voltage of the process; below it only the clock
    falls. Holds for some tens of percent around the nominal clock. Threshold and nominal voltage
    are those of the process. Source: Sakurai and Newton, IEEE JSSC 25(2), 1990.
    """
    over_v = _overdrive_v(clock_ratio, process)
    return jnp.maximum(process.threshold_voltage_v + over_v, process.min_voltage_v)


def clock_ratio_at(voltage_v: Scalar, process: Process) -> Scalar:
    r"""Clock at a supply voltage over the nominal clock, the law of `supply_voltage_v`:
    $((V - V_t) / (V_n - V_t))^\alpha V_n / V$, explicit and in plain arithmetic."""
    threshold_v, nominal_v = process.threshold_voltage_v, process.nominal_voltage_v
    over_ratio = (voltage_v - threshold_v) / (nominal_v - threshold_v)
    return over_ratio**VELOCITY_EXPONENT * nominal_v / voltage_v


def operating_points(chip: Chip) -> Callable[[Scalar], OperatingPoint]:
    r"""Operating points of a chip as a function of $z = \ln(o / o_{set}) \le 0$.

    o is the supply above the threshold, $o_{set}$ that of the set clock, at most what the greatest
    voltage leaves. z = 0 is the highest operating point: the set clock, or the clock of the
    greatest voltage if that is lower. By the law of `supply_voltage_v`,
    $f / f_{set} = e^{\alpha z} (V_t + o_{set}) / (V_t + o)$: explicit in o, so that a search over z
    inverts nothing.
    """
    process = chip.process
    threshold_v = process.threshold_voltage_v
    wanted_v = _overdrive_v(chip.array.clock_hz / chip.nominal_clock_hz, process)
    set_v, set_ratio = wanted_v, 1.0
    if process.max_voltage_v is not None:
        greatest_v = jnp.maximum(process.max_voltage_v - threshold_v, SMALLEST_OVERDRIVE_V)
        set_v = jnp.minimum(wanted_v, greatest_v)
        set_ratio = (set_v / wanted_v) ** VELOCITY_EXPONENT * (
            (threshold_v + wanted_v) / (threshold_v + set_v)
        )

    def point(log_share: Scalar) -> OperatingPoint:
        over_v = set_v * jnp.exp(log_share)
        speed = jnp.exp(VELOCITY_EXPONENT * log_share) * (threshold_v + set_v)
        return OperatingPoint(
            set_ratio * speed / (threshold_v + over_v),
            jnp.maximum(threshold_v + over_v, process.min_voltage_v),
        )

    def highest() -> OperatingPoint:
        return OperatingPoint(set_ratio, jnp.maximum(threshold_v + set_v, process.min_voltage_v))

    return lambda log_share: highest() if is_known(log_share, 0.0) else point(log_share)


def dynamic_energy_ratio(clock_ratio: Scalar, process: Process) -> Scalar:
    """Switching energy relative to the nominal clock, $(V / V_n)^2$."""
    return (supply_voltage_v(clock_ratio, process) / process.nominal_voltage_v) ** 2


def sram_energy_j_per_byte(macro_bytes: Scalar, reference_j_per_byte: Scalar) -> Scalar:
    r"""Energy per byte read from or written to a scratchpad of `macro_bytes` (J/B).

    $e = e_{64\,KiB} (S / 64\,KiB)^{0.52}$; fitted for 64 KiB to 16 MiB and extrapolated beyond.
    """
    return reference_j_per_byte * (macro_bytes / SRAM_REFERENCE_BYTES) ** SRAM_EXPONENT


def leakage_power_w(area_mm2: Scalar, voltage_ratio: Scalar, process: Process) -> Scalar:
    r"""Leakage power of an area (W), $\rho A (V / V_n) e^{(V - V_n) / V_0}$.

    $\rho A (V / V_n)^2$ if the process has no $V_0$. Subthreshold current rises exponentially with
    the supply voltage because the drain lowers the barrier: Roy, Mukhopadhyay, Mahmoodi-Meimand,
    Proc. IEEE 91(2), 2003. The quadratic law is an assumption that holds for some tens of percent
    around nominal.
    """
    nominal_w = process.leakage_w_per_mm2 * area_mm2
    scale_v = process.leakage_voltage_v
    if is_known(scale_v, 0.0):
        return nominal_w * voltage_ratio**2
    is_given = jnp.asarray(scale_v) > 0.0
    rise = process.nominal_voltage_v * (voltage_ratio - 1.0) / jnp.where(is_given, scale_v, 1.0)
    return nominal_w * jnp.where(
        is_given, voltage_ratio * jnp.exp(jnp.minimum(rise, LARGEST_RISE)), voltage_ratio**2
    )
