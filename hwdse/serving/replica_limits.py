"""Limits of one replica as the model of queues sees them: sequences, KV cache, tokens of a step."""

from hwdse.numerics.array_types import Scalar
from hwdse.numerics.ties import larger
from hwdse.specs.serving.engine import ServingDesign
from hwdse.specs.serving.requests import Requests
from hwdse.specs.serving.serving_metrics import ReplicaLimits
from hwdse.workload.serving.serving_memory import cache_bytes, sequence_bytes
from hwdse.workload.serving.serving_task import ServingTask


def longest_tokens(requests: Requests) -> Scalar:
    """Tokens of the mean request at its end."""
    return requests.input_tokens + requests.output_tokens


def token_cache_bytes(design: ServingDesign, task: ServingTask) -> Scalar:
    """Bytes of the KV cache of one chip per token of a sequence of the mean length.

    Sliding windows and recurrent states count by what the sequence holds at its end.
    """
    tokens = longest_tokens(task.requests)
    held = sequence_bytes(task.model, design.formats, design.strategy, tokens)
    return held / (tokens * design.strategy.attention_data)


def replica_limits(design: ServingDesign, task: ServingTask) -> ReplicaLimits:
    """Limits of a replica of a design.

    A replica whose weights leave no room for a request gets the room of one: its times are finite,
    and `hbm_used_ratio` above 1 says that it does not fit.
    """
    engine = design.engine
    free = cache_bytes(
        task.model, design.formats, design.strategy, engine, design.chip.hbm.capacity_bytes
    )
    least = longest_tokens(task.requests) + engine.page_tokens
    return ReplicaLimits(
        max_sequences=engine.max_sequences,
        kv_capacity_tokens=larger(free / token_cache_bytes(design, task), least),
        token_budget=engine.token_budget,
        request_host_s=engine.request_host_s,
        page_tokens=engine.page_tokens,
        tokens_per_step=design.strategy.tokens_per_step,
    )
