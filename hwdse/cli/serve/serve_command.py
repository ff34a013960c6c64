"""`hwdse serve`: latency, throughput, energy and cost of one service on one page."""

from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.common_options import Config, Json, Sets
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import print_json, print_table, say
from hwdse.report.metrics import SERVING
from hwdse.report.number_texts import significant

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch
    from hwdse.jobs.services.serving_answers import ServiceAnswer

NAME = "serve"
LATENCIES = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "itl": "inter-token latency",
    "latency": "end to end",
}
"""Latencies of `ServingState` with their names."""
WAITS = {
    "host_s": "host",
    "slot_wait_s": "wait for a sequence",
    "step_wait_s": "wait for the running step",
    "prefill_wait_s": "prompts before",
    "prefill_s": "own prompt",
    "burst_s": "start of the run",
}
"""Parts of the time to first token with their names."""
KINDS_OF_TOKENS = ("input", "cached_input", "output")
MILLION = 1e6
LEAST_S = 1e-9
"""Waits below this are rounding."""


def run(config: Config, sets: Sets = None, json: Json = False) -> None:
    """Serve a model: latency, throughput, joules and dollars a token, what limits each phase.

    Steady state of a stream of requests: at fixed concurrency (closed loop), or at an arrival rate
    (open loop). Percentiles are over requests; inter-token latency over tokens. Prices of tokens
    follow the derivative of the energy and cost of a request. A job is a service if it names an
    engine, a concurrency or a rate.

    \b
    Examples:
      hwdse serve --system dgx_h100 --model llama3_70b --engine vllm --strategy TP8
      hwdse serve --system dgx_h100 --model llama3_70b --engine sglang --strategy TP4 --rate 8
      hwdse serve --system trn2_48xlarge --model llama3_70b --engine vllm --strategy best
    """
    from hwdse.jobs.services.serving_answers import service_answer

    loaded = load_service(config, sets, NAME)
    design: Any = loaded.base
    task: Any = loaded.workload
    answer = service_answer(design, task)
    if json:
        print_json(_as_json(loaded, answer))
    else:
        _print(loaded, answer)


def load_service(config: Any, sets: list[str] | None, command: str) -> "LoadedSearch":
    """Job of a command that needs a service."""
    from hwdse.config import load_search
    from hwdse.specs.serving.engine import ServingDesign

    loaded = load_search(config, sets or ())
    if not isinstance(loaded.base, ServingDesign):
        raise CommandError(
            f"{command}: {loaded.title} is no service; expected a job with an engine, such as "
            "--system dgx_h100 --model llama3_70b --engine vllm"
        )
    return loaded


def _as_json(loaded: "LoadedSearch", answer: "ServiceAnswer") -> dict[str, Any]:
    import dataclasses

    from hwdse.config.design.strategy import text_of
    from hwdse.jobs.footing.figure_bands import bands_json, footing
    from hwdse.report.evaluation_json import warnings_json

    state = dataclasses.asdict(answer.evaluation.service.state)
    return {
        "title": loaded.title,
        "labels": dict(loaded.labels),
        "strategy": text_of(loaded.base, loaded.workload),
        "is_served": bool(state.pop("is_served")),
        **state,
        "chip_power_w": answer.evaluation.chip_power_w,
        "chip_tokens_per_s": answer.evaluation.chip_tokens_per_s,
        "user_tokens_per_s": answer.evaluation.interactivity_tokens_per_s,
        "energy_per_token_j": dict(answer.prices["energy_j"]),
        "cost_per_token_usd": dict(answer.prices["cost_usd"]),
        "elasticities": {name: dict(row) for name, row in answer.elasticities.items()},
        "decode_step_s": dataclasses.asdict(answer.evaluation.service.decode),
        "prefill_step_s": dataclasses.asdict(answer.evaluation.service.mixed),
        "memory_bytes": dataclasses.asdict(answer.evaluation.hbm),
        "warnings": warnings_json(loaded.base, answer.evaluation),
        "not_modeled": loaded.notes,
        "bands": bands_json(footing(loaded, loaded.base)),
    }


def _print(loaded: "LoadedSearch", answer: "ServiceAnswer") -> None:
    from hwdse.cli.shared import metric_tables
    from hwdse.cli.shared.reliance_output import print_bands, print_notes
    from hwdse.config.design.strategy import text_of

    design: Any = loaded.base
    metric_tables.print_warnings(loaded.base, answer.evaluation)
    _print_latencies(loaded, answer)
    _print_rates(answer, float(design.cluster.num_chips))
    _print_prices(answer)
    _print_steps(answer)
    metric_tables.print_breakdown(answer.evaluation, "hbm", "HBM of a chip", "B", kind=SERVING)
    _print_elasticities(answer)
    say(f"strategy: {text_of(loaded.base, loaded.workload)}; {loaded.labels['software']}")
    say(_limits_sentence(answer))
    print_bands(loaded, loaded.base)
    print_notes(loaded)


def _print_latencies(loaded: "LoadedSearch", answer: "ServiceAnswer") -> None:
    rows = []
    for name, label in LATENCIES.items():
        one = getattr(answer.evaluation.service.state, name)
        values = (one.mean_s, one.p50_s, one.p90_s, one.p99_s)
        rows.append([label, *(significant(1e3 * value) for value in values)])
    print_table(loaded.title, ["latency (ms)", "mean", "p50", "p90", "p99"], rows)
    parts = answer.evaluation.service.state.ttft_parts
    rows = [
        [label, significant(1e3 * value if value > LEAST_S else 0.0)]
        for name, label in WAITS.items()
        for value in [getattr(parts, name)]
    ]
    print_table("", ["mean time to first token by part", "time (ms)"], rows)


def _print_rates(answer: "ServiceAnswer", num_chips: float) -> None:
    state, found = answer.evaluation.service.state, answer.evaluation
    rows = [
        ["requests answered (1/s)", significant(state.request_rate_per_s)],
        ["most requests that can be served (1/s)", significant(state.capacity_rate_per_s)],
        ["output tokens (1/s)", significant(state.output_tokens_per_s)],
        ["output tokens of one user (1/s)", significant(found.interactivity_tokens_per_s)],
        ["output tokens per chip (1/s)", significant(found.chip_tokens_per_s)],
        [
            "input and output tokens per chip (1/s)",
            significant(state.total_tokens_per_s / num_chips),
        ],
        ["decoding sequences per replica", significant(state.decode_sequences)],
        ["KV cache in use (%)", significant(100.0 * state.kv_used_ratio)],
        ["mean chip power (W)", significant(found.chip_power_w)],
    ]
    print_table("", ["steady state", "value"], rows)


def _print_prices(answer: "ServiceAnswer") -> None:
    rows = []
    for label, name in (("energy (J)", "energy_j"), ("cost, facility included (USD)", "cost_usd")):
        price = answer.prices[name]
        rows.append([label, *(significant(MILLION * price[kind]) for kind in KINDS_OF_TOKENS)])
    heads = ["per million tokens", "input", "cached input", "output"]
    print_table("", heads, rows)


def _print_steps(answer: "ServiceAnswer") -> None:
    from hwdse.report.breakdowns import part_label

    both = (answer.evaluation.service.decode, answer.evaluation.service.mixed)
    names = [
        name
        for name in type(both[0]).__dataclass_fields__
        if any(float(getattr(one, name)) > 0.0 for one in both)
    ]
    names.sort(key=lambda name: -float(getattr(both[1], name)))
    rows = []
    for name in names:
        cells = []
        for one in both:
            value = float(getattr(one, name))
            cells += [significant(1e3 * value), f"{100.0 * value / float(one.step_s):.1f}"]
        rows.append([part_label(name, "time", kind=SERVING), *cells])
    totals = [cell for one in both for cell in (significant(1e3 * float(one.step_s)), "100.0")]
    rows.append(["total", *totals])
    heads = ["step", "decode only (ms)", "share (%)", "with prompts (ms)", "share (%)"]
    print_table("", heads, rows)


def _print_elasticities(answer: "ServiceAnswer") -> None:
    rows = []
    for name, row in answer.elasticities.items():
        values = [row["ttft_s"], row["tpot_s"], row["chip_tokens_per_s"], row["energy_per_token_j"]]
        rows.append([f"1 % more {name}", *(f"{value:+.2f}" for value in values)])
    heads = ["change (%)", "time to first token", "time per output token",
             "tokens/s per chip", "energy per token"]  # fmt: skip
    print_table("", heads, rows)


def _limits_sentence(answer: "ServiceAnswer") -> str:
    """Largest part of both kinds of steps."""
    from hwdse.report.breakdowns import part_label

    service, words = answer.evaluation.service, []
    for label, times, slow in (
        ("decoding", service.decode, float(service.decode_clock_ratio)),
        ("prompts", service.mixed, float(service.mixed_clock_ratio)),
    ):
        parts = {name: float(getattr(times, name)) for name in type(times).__dataclass_fields__}
        name = max(parts, key=lambda key: parts[key])
        share = 100.0 * parts[name] / float(times.step_s)
        clock = f" at {100.0 * slow:.0f} % of the clock (power limit)" if slow < 0.995 else ""
        words.append(f"{label}: {part_label(name, 'time', kind=SERVING)} {share:.0f} %{clock}")
    return "limited by " + "; ".join(words)
