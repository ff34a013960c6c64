"""Unit, range and integrality of every spec field, derived from its name."""

import math
from dataclasses import dataclass

from hwdse.config.files.errors import did_you_mean
from hwdse.units.parse_units import example, split_field, to_base

LATENT = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
"""Extents of latent attention."""
MIXTURE = (
    "num_experts",
    "experts_per_token",
    "num_shared_experts",
    "expert_feedforward",
    "num_dense_layers",
    "num_router_bias",
)
"""Counts of a mixture of experts."""
WHOLE = frozenset(
    {
        "rows",
        "cols",
        "num_arrays",
        "num_dies",
        "num_chips",
        "num_systems",
        "torus_sizes",
        "pod_chips",
        "tensor",
        "pipeline",
        "micro_batch",
        "num_layers",
        "hidden",
        "feedforward",
        "num_heads",
        "num_kv_heads",
        "head_dim",
        "vocabulary",
        "num_positions",
        "num_mlp_matrices",
        "num_embeddings",
        "num_norm_vectors",
        "num_bias",
        "num_layer_norms",
        "num_head_norm_vectors",
        *LATENT,
        *MIXTURE,
        "context",
        "expert",
        "virtual_pipeline",
        "num_layer_messages",
        "seq_len",
        "global_batch",
        "remote_every_count",
        "num_kept",
        "num_spare_nodes",
        "p",
        "q",
        "n",
        "k",
        "block_p",
        "block_k",
    }
)
"""Counts, which are whole numbers; the last six are extents of a tile."""

MAY_BE_ZERO = frozenset(
    {
        "latency_s",
        "collective_launch_s",
        "rendezvous_s",
        "launch_latency_s",
        "energy_j_per_byte",
        "fp64_per_fp16_ratio",
        "fp64_traffic_bytes_per_flop",
        "fixed_area_mm2",
        "min_voltage_v",
        "leakage_voltage_v",
        "die_link_bandwidth_bytes_per_s",
        "num_hbm_stacks",
        "hbm_carbon_g_per_byte",
        "package_carbon_g",
        "grid_carbon_g_per_j",
        "server_carbon_g",
        "fab_energy_j_per_mm2",
        "fab_gas_g_per_mm2",
        "fab_materials_g_per_mm2",
        "fab_grid_g_per_j",
        "package_cost_usd",
        "hbm_cost_usd_per_byte",
        "dram_cost_usd_per_byte",
        "hbm_phy_area_mm2_per_bytes_per_s",
        "read_energy_j_per_byte",
        "write_energy_j_per_byte",
        "energy_slope",
        "energy_exponent",
        "leakage_w_per_mm2",
        "defects_per_mm2",
        "threshold_voltage_v",
        "wafer_cost_usd",
        "restart_time_s",
        "downtime_s",
        "local_restart_time_s",
        "detection_time_s",
        "silent_detection_time_s",
        "repair_time_s",
        "num_spare_nodes",
        "straggler_cv_ratio",
        "storage_usd_per_byte_per_s",
        "electricity_usd_per_j",
        "server_cost_usd_per_chip",
        "num_positions",
        "num_bias",
        "num_head_norm_vectors",
        *LATENT,
        *MIXTURE,
        "optimizer_state_bytes_per_parameter",
        "fp64_flop_per_s",
        "dispatch_time_s",
        "dispatch_spread_ratio",
        "num_elementwise_kernels",
        "step_overhead_s",
    }
)
"""Fields that may be zero, meaning absent; all others are above zero."""

AT_LEAST_ONE = frozenset(
    (
        "power_overhead_ratio",
        "mac_overhead_ratio",
        "fp8_speedup_ratio",
        "fp64_area_ratio",
        "load_imbalance_ratio",
        "context",
        "expert",
        "virtual_pipeline",
        "num_layer_messages",
        "remote_every_count",
        "num_kept",
    )
)

LARGEST = 1e60
"""Bound of every magnitude, so that products of a few fields stay finite in float64."""


@dataclass(frozen=True)
class FieldRule:
    """Allowed numbers of a field, in its base unit."""

    unit: str
    low: float
    is_low_allowed: bool
    high: float
    is_whole: bool

    def describe(self) -> str:
        """Allowed numbers in words, for error messages."""
        kind = "a whole number" if self.is_whole else "a number"
        if self.unit != "1":
            kind = f"a number of {self.unit} or a text such as '{example(self.unit)}',"
        if self.high < LARGEST:
            return f"{kind} from {self.low:g} to {self.high:g}"
        return f"{kind} {'of at least' if self.is_low_allowed else 'above'} {self.low:g}"

    def check(self, value: object) -> float:
        """`value` in the base unit. Raises `ValueError` with the allowed values."""
        try:
            number = to_base(value, self.unit)
        except ValueError:
            if self.unit == "1":
                raise ValueError(self.describe()) from None
            raise
        in_range = self.low <= number <= self.high and (self.is_low_allowed or number > self.low)
        if not in_range or (self.is_whole and number != math.floor(number)):
            raise ValueError(self.describe())
        return number


def rule_of(name: str) -> FieldRule:
    """Rule of a field by its name, such as `clock_hz`, `tensor_overlap_fraction`, `rows`."""
    unit = split_field(name)[1]
    if name.endswith(("_fraction", "_fractions")):
        # Divisors are above zero.
        is_divisor = name.endswith(("_efficiency_fraction", "_network_fraction", "_yield_fraction"))
        return FieldRule("1", 0.0, not is_divisor, 1.0, False)
    low = 1.0 if name in AT_LEAST_ONE else 0.0
    return FieldRule(unit, low, low > 0 or name in MAY_BE_ZERO, LARGEST, name in WHOLE)


def field_of(key: str, fields: list[str]) -> str | None:
    """Field of a key that is its name with or without the unit, or None."""
    if key in fields:
        return key
    for name in fields:
        if split_field(name)[0] == key:
            return name
    return None


def short_names(fields: list[str]) -> list[str]:
    """Names of the fields without their units, as in TOML."""
    return [split_field(name)[0] for name in fields]


def near_field(key: str, fields: list[str]) -> str:
    """`; did you mean 'x'?` among names with and without units, or an empty string."""
    return did_you_mean(key, dict.fromkeys(short_names(fields) + fields))


def likely_field(key: str, fields: list[str]) -> str | None:
    """Field that a misspelled key was meant to be, or None."""
    hint = near_field(key, fields)
    return field_of(hint.split("'")[1], fields) if hint else None
