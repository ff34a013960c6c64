"""Studies of one design: the four balances, operand delivery and reuse, mixed-format jobs.

The package imports `evaluation`, `objectives`, `search.space` and all packages below them. Public
names load on first use:

- `parameter_balances`: current value, optimum, penalty and elasticity of each balance parameter.
- `ParameterBalance`: one result of `parameter_balances`.
- `precision_balance`: optimal FP64 : 16-bit ratio of a chip for a format mix, in closed form.
- `design_precision_balance`: `precision_balance` for the full step of an evaluation.
- `memory_balance`: required and available bytes per FLOP of every memory level.
- `balanced_sram_bytes`: smallest SRAM at which HBM does not limit.
- `compare_operand_delivery`: bytes and energy per FLOP: systolic array, vector units, no sharing.
- `systolic_reuse`: words per storage location of GEMMs on a systolic array.
- `simd_reuse`: words per storage location of GEMMs on vector units.
- `row_stationary_reuse`: words per storage location of convolutions on a row-stationary array.
- `format_area_ratios`: area of a MAC unit of each number format over that of a reference.
- `format_energy_ratios`: energy of a MAC in each number format over that of a reference.
- `job_time_s`: time of a job with phases in several number formats.
"""

from typing import TYPE_CHECKING

from hwdse.lazy_names import lazy_names

if TYPE_CHECKING:
    from hwdse.analysis.fp64_balance import design_precision_balance, precision_balance
    from hwdse.analysis.memory_level_balance import balanced_sram_bytes, memory_balance
    from hwdse.analysis.mixed_format_jobs import (
        format_area_ratios,
        format_energy_ratios,
        job_time_s,
    )
    from hwdse.analysis.operand_delivery import compare_operand_delivery
    from hwdse.analysis.operand_reuse import row_stationary_reuse, simd_reuse, systolic_reuse
    from hwdse.analysis.resource_balance import ParameterBalance, parameter_balances

__all__ = [
    "ParameterBalance",
    "balanced_sram_bytes",
    "compare_operand_delivery",
    "design_precision_balance",
    "format_area_ratios",
    "format_energy_ratios",
    "job_time_s",
    "memory_balance",
    "parameter_balances",
    "precision_balance",
    "row_stationary_reuse",
    "simd_reuse",
    "systolic_reuse",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "fp64_balance": (
            "design_precision_balance",
            "precision_balance",
        ),
        "memory_level_balance": (
            "balanced_sram_bytes",
            "memory_balance",
        ),
        "mixed_format_jobs": (
            "format_area_ratios",
            "format_energy_ratios",
            "job_time_s",
        ),
        "operand_delivery": ("compare_operand_delivery",),
        "operand_reuse": (
            "row_stationary_reuse",
            "simd_reuse",
            "systolic_reuse",
        ),
        "resource_balance": (
            "ParameterBalance",
            "parameter_balances",
        ),
    },
)
