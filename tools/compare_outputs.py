"""Compare two records of `tools/record_outputs.py` number by number, bit for bit.

`python tools/compare_outputs.py OLD.json NEW.json` maps the names of version 0.1 to those of 0.2
(`RENAMED`), flattens both sides and reports every number, truth value and missing key that
differs. Texts (titles, file names, messages) are counted only. Exit code 1 if anything differs.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RENAMED = {  # words of keys, at any depth
    "figures": "published",
    "useful_tokens_per_s": "effective_tokens_per_s",
    "matrix_utilization_fraction": "mfu_fraction",
    "cost_usd_per_token": "cost_per_token_usd",
    "carbon_g_per_token": "carbon_per_token_g",
    "hbm_bytes_per_chip": "hbm_traffic_bytes",
    "flop_per_chip": "hardware_flop",
    "chip_price_usd_per_s": "chip_operating_cost_usd_per_s",
    "best_checkpoint_interval_s": "optimal_checkpoint_interval_s",
    "clock_ratio": "throttled_clock_ratio",
    "tensor_network": "tensor_comm",
    "context_network": "context_comm",
    "expert_network": "expert_comm",
    "pipeline_network": "pipeline_comm",
    "data_network": "data_comm",
    "leakage_j": "static_j",
    "limited_by": "bound_by",
    "shortages": "capacity_violations",
    "interleave": "virtual_pipeline",
    "sequence_fraction": "sequence_parallel_fraction",
    "optimizer_cut_fraction": "optimizer_shard_fraction",
    "gradient_cut_fraction": "gradient_shard_fraction",
    "weight_cut_fraction": "weight_shard_fraction",
    "optimizer_bytes_per_parameter": "optimizer_state_bytes_per_parameter",
    "straggler_variation_ratio": "straggler_cv_ratio",
    "needed_bytes_per_flop": "required_bytes_per_flop",
    "provided_bytes_per_flop": "available_bytes_per_flop",
    "starved_ratio": "demand_ratio",
    "reuse_flop_per_byte": "intensity_flop_per_byte",
    "num_changed_verdicts": "num_reclassified",
    "prices_per_unit": "shadow_prices_per_unit",
    "rounding_waste": "quantization_loss",
    "reading_gap": "relaxation_gap",
    "held_by": "bound_by",
    "is_bound": "passed_bound_checks",
    "gap": "optimality_gap",
    "worth": "optimality",
    "better_neighbors_taken": "num_improvements",
    "better_neighbors_left": "is_local_optimum",
    "layouts": "strategies",
    "holds": "is_met",
    "variance_shares": "variance_contributions",
    "present": "current",
    "best": "optimum",
    "present_ratio": "current_ratio",
    "best_ratio": "optimal_ratio",
    "present_time_ratio": "current_time_ratio",
    "best_time_ratio": "optimal_time_ratio",
    "within_one_percent": "one_percent_range",
    "loss_fraction": "penalty_fraction",
    "best_is_end_of_range": "optimum_is_at_range_end",
    "best_is_emulated": "optimum_is_emulated",
    "knobs": "parameters",
    "share_it_suits": "suited_fp64_fraction",
    "moved_bytes": "traffic_bytes",
    "least_bytes": "lower_bound_bytes",
    "above_least_ratio": "traffic_over_bound_ratio",
    "place": "resource",
    "needed": "required",
}
PATHS = (  # (pattern, replacement) of dotted keys, after the words
    (r"\b(link|network)\.launch_s\b", r"\1.collective_launch_s"),
    (r"\b(link|network)\.efficiency_fraction\b", r"\1.bandwidth_efficiency_fraction"),
    (r"\bworkload\.gradient_bytes\b", "workload.gradient_element_bytes"),
    (r"\benergy\.leakage\b", "energy.static"),
    (r"\barea\.fixed\b", "area.other"),
    (r"\bbreakdowns\.time\b", "breakdowns.time_s"),
    (r"\bbreakdowns\.energy\b", "breakdowns.energy_j"),
    (r"\bbreakdowns\.area\b", "breakdowns.area_mm2"),
    (r"\bbreakdowns\.hbm\b", "breakdowns.hbm_bytes"),
    (r"^knobs\b", "parameters"),
    (r"\bshare_it_suits\b", "suited_fp64_fraction"),
    (r"\bmemory\.product_bytes\b", "memory.gemm_bytes"),
    (r"(capacity_violations\.\d+)\.place\b", r"\1.resource"),
    (r"(capacity_violations\.\d+)\.needed\b", r"\1.required"),
    (r"^(strategies\.\d+)\.time\.(\w+)$", r"\1.time.\2_s"),
    (r"^(strategies\.\d+)\.hbm\.(\w+)$", r"\1.hbm.\2_bytes"),
    (r"^by$", "sort_by"),
    (r"^scored$", "num_evaluated"),
    (r"^fit$", "num_feasible"),
    (r"\boptimality\.all_neighbors\b", "optimality.is_exhaustive"),
    (r"_of_limit\b", "_limit_ratio"),
    (r"^(front\.(?:\d+\.)?)(time_per_token|step_time)(?=\.|$)", r"\1\2_s"),
    (r"^(front\.(?:\d+\.)?)energy_per_token(?=\.|$)", r"\1energy_per_token_j"),
    (r"^(front\.(?:\d+\.)?)cost_per_token\b", r"\1cost_per_token_usd"),
)
INVERTED = frozenset({"is_local_optimum"})
IGNORED = re.compile(r"(^|\.)(elapsed_s|seconds|files|folder|file)(\.|$)")
"""Clocks and places of files."""


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _flat(item, (*path, str(index)))
    else:
        yield path, value


def _without_reasons(printed: dict[str, Any]) -> dict[str, Any]:
    """Skipped rows of an error table as sorted counts: their reasons are texts."""
    skipped = printed.get("rows_skipped")
    return printed if skipped is None else {**printed, "rows_skipped": sorted(skipped.values())}


def _new_key(path: tuple[str, ...]) -> str:
    text = ".".join(path)
    text = ".".join(RENAMED.get(word, word) for word in text.split("."))
    for pattern, replacement in PATHS:
        text = re.sub(pattern, replacement, text)
    return text


def compare(old: dict[str, Any], new: dict[str, Any]) -> tuple[int, int, list[str]]:
    """Numbers that are equal, texts that differ, and lines about everything else that differs."""
    before = {_new_key(path): value for path, value in _flat(_without_reasons(old))}
    after = {".".join(path): value for path, value in _flat(_without_reasons(new))}
    num_equal, num_texts, lines = 0, 0, []
    for key in sorted(before.keys() | after.keys()):
        if IGNORED.search(key):
            continue
        if key not in after:
            lines.append(f"missing: {key} = {before[key]!r}")
        elif key not in before:
            lines.append(f"new: {key} = {after[key]!r}")
        else:
            was, now = before[key], after[key]
            if key.rpartition(".")[2] in INVERTED and isinstance(was, bool):
                was = not was
            if isinstance(was, str) and isinstance(now, str):
                num_texts += was != now
            elif was == now and type(was) is type(now):
                num_equal += 1
            else:
                lines.append(f"differs: {key}: {was!r} -> {now!r}")
    return num_equal, num_texts, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--lines", type=int, default=20, help="differences shown per command")
    options = parser.parse_args()
    old, new = (json.loads(path.read_text()) for path in (options.old, options.new))
    total, num_bad, num_texts = 0, 0, 0
    for key, was in old.items():
        now = new.get(key)
        if now is None or was["exit_code"] != now["exit_code"]:
            code = None if now is None else now["exit_code"]
            print(f"{key}: exit code {was['exit_code']} -> {code}")
            num_bad += 1
            continue
        if was["json"] is None:
            continue
        num_equal, texts, lines = compare(was["json"], now["json"])
        total, num_bad, num_texts = total + num_equal, num_bad + len(lines), num_texts + texts
        if lines:
            print(f"{key}: {len(lines)} differ, {num_equal} equal")
            print("\n".join(f"  {line}" for line in lines[: options.lines]))
    print(
        f"{len(old)} commands: {total} numbers equal to the last bit, {num_bad} differ, "
        f"{num_texts} texts differ"
    )
    raise SystemExit(bool(num_bad))


if __name__ == "__main__":
    main()
