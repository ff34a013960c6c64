"""Work of decoding steps of served models: bytes from HBM and FLOP of one token.

Of a step with B sequences: weights once for each group of attention ranks, the distinct experts of
its tokens, the KV cache of the context, recurrent state, and the sampling of the next tokens. FLOP:
two a weight and token, attention over the context. Prompts between the steps are part of the step.
Architectures: `served_models.csv` beside this file.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hwdse.validation.shared.reference_table import read_table

MODELS = Path(__file__).with_name("served_models.csv")
SAMPLING_BYTES_PER_ENTRY = 350.0
"""HBM bytes of sampling one token, per entry of the vocabulary: sorting logits for top-p in many
passes. Fitted on serving rows of H100 and B200."""
EXPERT_ROWS, EXPERT_ROWS_FP8 = 16.0, 128.0
"""Least rows of a product of one expert: kernels pad the tokens of an expert to a block. FP8 of
DeepGEMM: 128 rows; 16-bit kernels of vLLM for few tokens: 16. Assumed, not looked up."""


@dataclass(frozen=True)
class ServedModel:
    """Architecture of a served model; columns of `served_models.csv`."""

    wide_parameters: float
    fp8_parameters: float
    expert_parameters: float
    expert_bits: float
    num_experts: float
    experts_per_token: float
    full_layers: float
    window_layers: float
    window_tokens: float
    kv_elements: float
    score_flop: float
    state_bytes: float
    vocabulary: float


@dataclass(frozen=True)
class DecodingStep:
    """One step of a server, all GPUs together."""

    batch: float
    """Sequences that decode."""
    prompt_tokens: float
    """Tokens of prompts that are processed in the step."""
    context: float
    """Mean tokens of context of a sequence."""
    attention_groups: float
    """Data-parallel groups that each read the weights outside of the experts."""


@dataclass(frozen=True)
class StepWork:
    """Work of a step, all GPUs together."""

    hbm_bytes: float
    flop: float
    fp8_fraction: float


@cache
def served_models() -> dict[str, ServedModel]:
    """Served models by name."""
    table = read_table(MODELS)
    names = [name for name in table.columns if name != "model"]
    columns = [table.numbers(name, at_least=0.0) for name in names]
    rows = zip(table.text("model"), zip(*columns, strict=True), strict=True)
    return {model: ServedModel(*(float(x) for x in values)) for model, values in rows}


def step_work(model: ServedModel, step: DecodingStep) -> StepWork:
    """Bytes and FLOP of one step."""
    tokens = step.batch + step.prompt_tokens
    attended = model.full_layers * step.context + model.window_layers * min(
        step.context, model.window_tokens
    )
    dense_bytes = 2.0 * model.wide_parameters + model.fp8_parameters
    expert_rows, distinct = _expert_rows(model, tokens)
    hbm_bytes = (
        dense_bytes * step.attention_groups
        + distinct * model.expert_parameters * model.expert_bits / 8.0
        + step.batch * (2.0 * model.kv_elements * attended + model.state_bytes)
        + step.batch * SAMPLING_BYTES_PER_ENTRY * model.vocabulary
    )
    expert_flop = 2.0 * model.expert_parameters * expert_rows
    is_fp8 = model.expert_bits == 8.0
    fp8_flop = 2.0 * model.fp8_parameters * tokens + (expert_flop if is_fp8 else 0.0)
    wide_flop = (
        2.0 * model.wide_parameters * tokens
        + step.batch * model.score_flop * attended
        + (0.0 if is_fp8 else expert_flop)
    )
    flop = wide_flop + fp8_flop
    return StepWork(hbm_bytes, flop, fp8_flop / flop)


def _expert_rows(model: ServedModel, tokens: float) -> tuple[float, float]:
    """Rows of all products of routed experts with their padding, and experts with a token.

    Uniform routing: an expert has no token with the probability $(1 - k / E)^T$.
    """
    if model.num_experts == 0.0:
        return 0.0, 0.0
    share = model.experts_per_token / model.num_experts
    distinct = model.num_experts * (1.0 - (1.0 - share) ** tokens)
    block = EXPERT_ROWS_FP8 if model.expert_bits == 8.0 else EXPERT_ROWS
    rows = max(distinct * block, model.experts_per_token * tokens + 0.5 * distinct * block)
    return rows, distinct
