"""Unit, range and integrality of every spec field, derived from its name."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwdse.config.files.errors import did_you_mean
from hwdse.units.parse_units import example, split_field, to_base

LATENT = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
"""Extents of latent attention."""
MIXTURE = (
    "num_experts",
    "experts_per_token",
    "num_shared_experts",
    "expert_feedforward",
    "expert_hidden",
    "num_dense_layers",
    "num_router_bias",
)
"""Counts of a mixture of experts."""
BIASES = ("num_bias", "num_qkv_bias", "num_output_bias", "num_mlp_bias", "num_lm_head_bias")
"""Numbers of bias vectors of matrices: 0 or 1."""
STATE = (
    "num_state_heads",
    "state_head_dim",
    "state_dim",
    "num_state_groups",
    "state_conv_width",
    "state_chunk",
)
"""Extents of state-space layers."""
SWITCHES = ("num_attention_gates", "num_state_conv_bias", "num_delta_updates", "num_spread_layers")
"""Features of a model or of its layers: 0 or 1."""
REQUESTS = (
    "concurrency",
    "arrival_rate_per_s",
    "arrival_spread_ratio",
    "cached_input_tokens",
    "input_spread_ratio",
    "output_spread_ratio",
    "burst_fraction",
)
"""Values of a stream of requests."""
ENGINE = (
    "step_host_s",
    "sequence_s",
    "logit_s",
    "block_s",
    "quantization_s",
    "expert_parallel_s",
    "prefill_block_s",
    "request_host_s",
    "exchange_launch_s",
    "busiest_rank_ratio",
    "page_tokens",
)
"""Costs of an inference stack."""
WHOLE = frozenset(
    {
        "rows",
        "cols",
        "num_arrays",
        "num_dies",
        "num_base_dies",
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
        *BIASES,
        *STATE,
        *SWITCHES,
        "count",
        "sliding_window",
        "attention_chunk",
        "num_layer_norms",
        "num_head_norm_vectors",
        *LATENT,
        *MIXTURE,
        "context",
        "expert",
        "expert_tensor",
        "attention_data",
        "draft_tokens",
        "virtual_pipeline",
        "first_stage_layers",
        "last_stage_layers",
        "num_layer_messages",
        "num_predicted_tokens",
        "num_loss_tiles",
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
        "num_base_dies",
        "cache_fraction",
        "array_port_bytes",
        "accumulator_column_bytes",
        "vector_clock_hz",
        "fp64_shared_fraction",
        "int32_per_fp32_ratio",
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
        "clock_energy_j_per_mm2",
        "host_power_w",
        "supply_loss_fraction",
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
        *BIASES,
        *STATE,
        *SWITCHES,
        "feedforward",
        "num_heads",
        "sliding_window",
        "attention_chunk",
        "num_norm_vectors",
        "num_head_norm_vectors",
        *LATENT,
        *MIXTURE,
        "optimizer_state_bytes_per_parameter",
        "segment_tokens",
        "expert_tensor",
        "first_stage_layers",
        "last_stage_layers",
        "fp64_flop_per_s",
        "dispatch_time_s",
        "expert_sync_s",
        "dispatch_spread_ratio",
        "num_elementwise_kernels",
        "step_overhead_s",
        "runtime_memory_bytes",
        *REQUESTS,
        *ENGINE,
        "draft_tokens",
    }
)
"""Fields that may be zero, meaning absent; all others are above zero."""

AT_LEAST_ONE = frozenset(
    (
        "pue_ratio",
        "network_oversubscription_ratio",
        "mac_overhead_ratio",
        "fp8_speedup_ratio",
        "fp4_speedup_ratio",
        "spare_unit_ratio",
        "dot_product_length",
        "fp64_area_ratio",
        "load_imbalance_ratio",
        "context",
        "expert",
        "virtual_pipeline",
        "num_layer_messages",
        "num_tensor_slices",
        "num_predicted_tokens",
        "num_loss_tiles",
        "remote_every_count",
        "num_kept",
    )
)

LARGEST = 1e60
"""Bound of every magnitude, so that products of a few fields stay finite in float64."""


class UnitInKey(float):
    """A number whose key names its unit, as in `clock_hz = 2.4e9`."""


def in_unit_of_key(key: str, value: Any) -> Any:
    """`value` as `UnitInKey` if it is a number, or the numbers of a table or list, and the key
    names a unit; other values unchanged."""
    if split_field(key)[1] == "1":
        return value
    if isinstance(value, Mapping):
        return {name: in_unit_of_key(key, item) for name, item in value.items()}
    if isinstance(value, list):
        return [in_unit_of_key(key, item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    try:
        return UnitInKey(value)
    except OverflowError:
        return value


def with_units_of_keys(table: Any) -> Any:
    """Tables with every number whose key names its unit as `UnitInKey`."""
    if isinstance(table, Mapping):
        return {
            key: in_unit_of_key(str(key), with_units_of_keys(item)) for key, item in table.items()
        }
    return [with_units_of_keys(item) for item in table] if isinstance(table, list) else table


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
            kind = f"{self.with_unit},"
        if self.high < LARGEST:
            return f"{kind} from {self.low:g} to {self.high:g}"
        return f"{kind} {'of at least' if self.is_low_allowed else 'above'} {self.low:g}"

    @property
    def with_unit(self) -> str:
        """Quantity in words with an example."""
        return f"a number with a unit such as '{example(self.unit)}'"

    def check(self, value: object) -> float:
        """`value` in the base unit. Raises `ValueError` with the allowed values.

        A number without a unit is refused for a quantity, since 4 is neither 4 B/s nor 4 TB/s. Zero
        needs no unit.
        """
        is_bare = isinstance(value, int | float) and not isinstance(value, bool | UnitInKey)
        if is_bare and self.unit != "1" and value != 0.0:
            raise ValueError(self.with_unit)
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
