"""Rows of measured servers as models, designs and mixtures of steps.

Two kinds of files: windows of a server at a fixed number of sequences, with the prompts per token
that they had (`measured_serving_energy`), and closed loops of a number of users
(`measured_inference`).
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from hwdse.config import load_system
from hwdse.config.design.serving_files import load_engine_file
from hwdse.config.hardware.load_specs import System
from hwdse.serving.steps.step_mixture import StepMixture, step_mixture
from hwdse.specs.serving.engine import ServingDesign, ServingEngine, ServingFormats, ServingStrategy
from hwdse.specs.serving.requests import Requests
from hwdse.validation.serving.served_formats import preset_of_model, served_formats, served_model
from hwdse.validation.shared.reference_table import ReferenceTable
from hwdse.validation.shared.row_predictions import NoModelError
from hwdse.workload.serving.serving_memory import max_sequences
from hwdse.workload.transformer.model_config import Transformer

MACHINES: tuple[tuple[str, str, str], ...] = (
    ("GB300", "gb300_nvl72", "gb300"),
    ("GB200", "gb200_nvl72", "gb200"),
    ("GH200", "gh200_nvl32", "gh200"),
    ("A100", "dgx_a100", "a100"),
    ("H100", "dgx_h100", "h100"),
    ("H200", "dgx_h200", "h200"),
    ("B200", "p6_b200", "b200"),
    ("B300", "p6_b300", "b300"),
    ("MI300X", "mi300x_platform", "mi300x"),
    ("MI355X", "mi355x_platform", "mi355x"),
)
"""Part of a device's name in reference files, and its presets in configs/systems and
configs/chips."""
ENGINES: Mapping[str, str] = MappingProxyType(
    {
        "vllm": "vllm",
        "sglang": "sglang",
        "trtllm": "tensorrt_llm",
        "lmdeploy": "lmdeploy",
    }
)
"""Frameworks of the rows, and their presets in configs/serving_engines."""
WINDOW_ENGINE = "vllm_0_11"
"""Engine of the windows of the ML.ENERGY leaderboard."""
INFERENCEX_LENGTHS = (("1024", "1024"), ("8192", "1024"), ("1024", "8192"))
"""Lengths that only InferenceX's rows have. Its lengths are uniform from 0.8 to 1 of the nominal
ones, and every user sends ten requests, the first at once (RANDOM_RANGE_RATIO and --num-prompts of
its scripts, SemiAnalysisAI/InferenceX at 843c6254, Apache-2.0)."""
LENGTH_SHARE = 0.9
LENGTH_SPREAD_RATIO = 0.2 / 12.0**0.5 / LENGTH_SHARE
BURST_FRACTION = 0.1
WIDE_CACHES = (("vllm", "h100"), ("sglang", "h200"), ("sglang", "h100"), ("vllm", "a100"))
"""Engines and chips whose servers of InferenceX keep keys and values in 16 bits; all others with
quantized weights keep them in 8 (--kv-cache-dtype of the same scripts; configs of NVIDIA's
checkpoints)."""
SYSTEM_PROMPTS: Mapping[str, str] = MappingProxyType(
    {"general": "100", "general-lite": "100", "codegen": "100", "roleplay": "150",
     "reasoning": "100", "reasoning-lite": "100"}
)  # fmt: skip
"""Tokens of the shared system prompt by workload, as other rows of the workload say."""
DEFAULT_BUDGET = 8192.0
"""Tokens of a step of servers whose rows do not say."""


@dataclass(frozen=True)
class ServedJob:
    """A measured server: model, design, and the steps of its window."""

    model: Transformer
    preset: str
    """Preset of the model."""
    chip: str
    """Preset of the chip."""
    engine: str
    """Preset of the engine."""
    design: ServingDesign
    steps: StepMixture
    sequences: float
    """Decoding sequences of all replicas."""
    requests: Requests
    """Requests to all replicas."""


class Machine(NamedTuple):
    """Hardware of a row."""

    system: System
    chip: str
    """Preset of the chip."""


@cache
def machine_of(device: str) -> Machine:
    """Hardware of a device by its name."""
    for part, system, chip in MACHINES:
        if part in device.upper():
            return Machine(load_system(system), chip)
    raise NoModelError("no preset of this device")


class TableJobs(NamedTuple):
    """Rows of a table that are jobs of the model."""

    jobs: list[ServedJob]
    index: list[int]
    """Row of each job."""
    skipped: Counter[str]
    """Numbers of the other rows by reason."""


def table_jobs(
    table: ReferenceTable, job_of: Callable[[Mapping[str, str]], ServedJob]
) -> TableJobs:
    """Jobs of the rows of a table; `job_of` raises `NoModelError` for the others."""
    cells = {name: table.text(name) for name in table.columns}
    found = TableJobs([], [], Counter())
    for i in range(len(table)):
        try:
            found.jobs.append(job_of({name: texts[i] for name, texts in cells.items()}))
            found.index.append(i)
        except NoModelError as reason:
            found.skipped[str(reason)] += 1
    return found


def window_job(row: Mapping[str, str], parts: "JobParts") -> ServedJob:
    """Window of a server at a number of sequences, with its prompts and mean context."""
    preset = preset_of_model(row["model"])
    machine = machine_of(row["gpu"])
    chips, tensor = float(row["num_gpus"]), float(row["attention_tp"])
    experts = float(row["expert_ep"]) if is_mixture(preset) else 1.0
    strategy = ServingStrategy(
        tensor=tensor, attention_data=float(row["attention_dp"]), expert=experts
    )
    engine = dataclasses.replace(
        parts.engine(WINDOW_ENGINE),
        token_budget=float(row.get("max_num_batched_tokens") or DEFAULT_BUDGET),
    )
    formats = _formats(preset, row["weight_precision"], machine, 16.0)
    sequences = float(row["avg_batch_size"])
    is_hybrid = any(kind.has_state for kinds in served_model(preset).kinds for kind in kinds)
    prompt, cached = float(row["uncached_input_tokens"]), float(row["mean_input_tokens"])
    # the prefix cache is off for models with states
    prompt = cached if is_hybrid else prompt
    steps = step_mixture(
        sequences,
        cached + float(row["window_mean_age_tokens"]),
        sequences * float(row["window_prefills_per_token"]),
        prompt,
        cached - 0.5 * prompt,
        engine.token_budget,
    )
    design = parts.design(machine, chips, engine, formats, strategy)
    requests = Requests(cached, float(row["mean_output_tokens"]), concurrency=sequences)
    model = served_model(preset)
    return ServedJob(model, preset, machine.chip, WINDOW_ENGINE, design, steps, sequences, requests)


def loop_job(row: Mapping[str, str], parts: "JobParts") -> ServedJob:
    """Closed loop of a number of users; every replica has its share of them.

    Of two rows at the same configuration and with equal times, one has `moe_tp` x `moe_ep` chips
    where the other has `moe_ep`: the source multiplied the two fields of its records (tensor and
    expert parallelism over the same chips). Rows with equal fields above 1 run on `moe_ep` chips.
    """
    preset = preset_of_model(row["model"])
    machine = machine_of(row["device"])
    name = ENGINES.get(row["framework"])
    if name is None:
        raise NoModelError(f"framework {row['framework']}: no engine")
    if float(row["pp"] or 1.0) > 1.0:
        raise NoModelError("pipeline stages of unknown micro-batches")
    chips, strategy = _loop_strategy(row, preset)
    model = served_model(preset)
    if float(model.num_heads) % strategy.tensor:
        raise NoModelError("tensor-parallel degree that does not divide the heads")
    engine = parts.engine(name)
    is_narrow = row["precision"] in ("fp8", "fp4") and (name, machine.chip) not in WIDE_CACHES
    formats = _formats(preset, row["precision"], machine, 8.0 if is_narrow else 16.0)
    design = parts.design(machine, chips, engine, formats, strategy)
    requests = _loop_requests(row, name)
    prompt, generated = float(requests.input_tokens), float(requests.output_tokens)
    context = prompt + 0.5 * generated
    wanted = float(row["concurrency"]) / float(design.num_replicas)
    fits = float(
        max_sequences(
            model,
            formats,
            strategy,
            engine,
            machine.system.chip.hbm.capacity_bytes,
            prompt + generated,
        )
    )
    if fits < 1.0:
        raise NoModelError("weights do not fit")
    sequences = min(wanted, fits)
    steps = step_mixture(
        sequences, context, sequences / generated, prompt, 0.5 * prompt, engine.token_budget
    )
    return ServedJob(
        model,
        preset,
        machine.chip,
        name,
        design,
        steps,
        sequences * float(design.num_replicas),
        requests,
    )


def _loop_requests(row: Mapping[str, str], engine: str) -> Requests:
    """Requests of a row.

    Sweeps other than InferenceX's have fixed lengths. With them, the users of an engine that stops
    decoding for prompts (SGLang) stay together: every prompt is sent with all others.
    """
    is_random = (row["isl"], row["osl"]) in INFERENCEX_LENGTHS
    share = LENGTH_SHARE if is_random else 1.0
    spread = LENGTH_SPREAD_RATIO if is_random else 0.0
    return Requests(
        share * float(row["isl"]),
        share * float(row["osl"]),
        concurrency=float(row["concurrency"]),
        input_spread_ratio=spread,
        output_spread_ratio=spread,
        burst_fraction=1.0 if engine == "sglang" and not is_random else BURST_FRACTION,
    )


def rate_job(row: Mapping[str, str], parts: "JobParts") -> ServedJob:
    """Server at a constant request rate, which is 1 per second here; its system prompts are cached.

    Rows without the tokens of their system prompt have that of `SYSTEM_PROMPTS`.
    """
    preset = preset_of_model(row["model"])
    machine = machine_of(row["chip"])
    engine = dataclasses.replace(
        parts.engine("vllm"),
        token_budget=float(row["max_num_batched_tokens"]),
        max_sequences=float(row["max_num_seqs"]),
    )
    strategy = ServingStrategy(tensor=float(row["tp"]))
    formats = _formats(preset, row["precision"], machine, 16.0)
    shared = row["system_prompt_tokens"] or SYSTEM_PROMPTS.get(row["workload"])
    if shared is None:
        raise NoModelError(f"workload {row['workload']}: unknown system prompt")
    page = float(engine.page_tokens)
    requests = Requests(
        float(row["mean_input_tokens"]),
        float(row["output_tokens"]),
        arrival_rate_per_s=1.0,
        arrival_spread_ratio=0.0,
        cached_input_tokens=page * (float(shared) // page),
    )
    prompt = float(requests.input_tokens - requests.cached_input_tokens)
    steps = step_mixture(
        1.0, float(requests.input_tokens), 0.0, prompt, prompt, float(engine.token_budget)
    )
    model = served_model(preset)
    design = parts.design(machine, float(row["chips"]), engine, formats, strategy)
    return ServedJob(model, preset, machine.chip, "vllm", design, steps, 1.0, requests)


def _loop_strategy(row: Mapping[str, str], preset: str) -> tuple[float, ServingStrategy]:
    """Chips and strategy of a row."""
    chips, tensor = float(row["num_chips"]), float(row["tp"])
    groups = max(float(row["attn_dp"] or 1.0), 1.0)
    shards, experts = (max(float(row[name] or 1.0), 1.0) for name in ("moe_tp", "moe_ep"))
    if shards == experts > 1.0 and shards * experts == tensor * groups:
        chips /= shards
        tensor, groups = (experts, 1.0) if groups == 1.0 else (1.0, experts)
    if not is_mixture(preset):
        experts = 1.0
    return chips, ServingStrategy(tensor=tensor, attention_data=groups, expert=experts)


def is_mixture(preset: str) -> bool:
    """True for a model with experts."""
    return any(kind.is_mixture for kinds in served_model(preset).kinds for kind in kinds)


def _formats(preset: str, precision: str, machine: Machine, kv_bits: float) -> ServingFormats:
    has_fp4 = float(machine.system.chip.fp4_speedup_ratio) > 1.0
    return served_formats(preset, precision, has_fp4=has_fp4, kv_bits=kv_bits)


@dataclass(frozen=True)
class JobParts:
    """Engines of jobs: those of presets, or of a fit."""

    engines: Mapping[str, ServingEngine]

    def engine(self, name: str) -> ServingEngine:
        """Engine of a preset."""
        return self.engines[name]

    def design(
        self,
        machine: Machine,
        num_chips: float,
        engine: ServingEngine,
        formats: ServingFormats,
        strategy: ServingStrategy,
    ) -> ServingDesign:
        """Design of a server of `num_chips` chips."""
        return ServingDesign(
            chip=machine.system.chip,
            cluster=dataclasses.replace(machine.system.cluster, num_chips=num_chips),
            kernels=machine.system.kernels,
            engine=engine,
            formats=formats,
            strategy=strategy,
        )


def preset_parts() -> JobParts:
    """Engines of the presets."""
    names = {WINDOW_ENGINE, *ENGINES.values()} - {"lmdeploy"}
    return JobParts({name: load_engine_file(name).engine for name in sorted(names)})
