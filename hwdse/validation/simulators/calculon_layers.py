"""Unfused layer kernels against the layers of Calculon's transformer block.

The file has one layer of one configuration per row. The configurations are in a second table, by
`row_id`; its file name is the same without `_layers`. The kernels of
`workload/kernels/unfused_layer_kernels.py` follow Calculon's convention (`CALCULON`): no fused
attention, an MLP of two matrices with GELU, LayerNorm, dropout, one kernel per elementwise
operation. With TP overlap, Calculon fuses a GEMM with its collective and counts the traffic by
separate rules (`_fused_linear`). Times depend on Calculon's system and are not compared.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    read_table,
)
from hwdse.workload.kernels.unfused_layer_kernels import (
    CALCULON,
    KernelMaker,
    Kernels,
    KernelWork,
    layer_kernels,
    stacked,
)
from hwdse.workload.transformer.dense_transformer import layer_slice
from hwdse.workload.transformer.model_config import Transformer

NUMBER_BYTES = {"float8": 1.0, "float16": 2.0, "bfloat16": 2.0, "float32": 4.0}
LAYERS = {
    "AttnBlock_Fork": "attention_residual_fork",
    "AttnBlock_LayerNorm": "attention_norm",
    "AttnBlock_F": "attention_gather",
    "AttnBlock_Multihead_Fork": "attention_fork",
    "AttnBlock_KV_Fork": "kv_fork",
    "AttnBlock_Query": "query",
    "AttnBlock_Key": "key",
    "AttnBlock_Value": "value",
    "AttnBlock_QKV_AG": "gathered_query_key_value",
    "AttnBlock_Query_AG": "gathered_query",
    "AttnBlock_Multihead_Key_Query": "scores",
    "AttnBlock_Multihead_SoftMax": "softmax",
    "AttnBlock_Multihead_DropOut": "attention_dropout",
    "AttnBlock_Multihead_Attn": "values",
    "AttnBlock_MLP": "attention_output",
    "AttnBlock_MLP_RS": "reduced_attention_output",
    "AttnBlock_G": "attention_reduce",
    "AttnBlock_DropOut": "attention_output_dropout",
    "AttnBlock_Residual": "attention_residual",
    "MlpBlock_Fork": "mlp_residual_fork",
    "MlpBlock_LayerNorm": "mlp_norm",
    "MlpBlock_F": "mlp_gather",
    "MlpBlock_Mlp1": "mlp_up",
    "MlpBlock_Mlp1_AG": "gathered_mlp_up",
    "MlpBlock_GeLU": "activation",
    "MlpBlock_Mlp2": "mlp_down",
    "MlpBlock_Mlp2_RS": "reduced_mlp_down",
    "MlpBlock_G": "mlp_reduce",
    "MlpBlock_DropOut": "mlp_dropout",
    "MlpBlock_Residual": "mlp_residual",
}
"""Kernel of hwdse by the layer name of Calculon."""
PASSES = {
    "forward": "forward",
    "activation_grad": "input_gradient",
    "weight_grad": "weight_gradient",
}
"""Pass of hwdse by the name in Calculon."""
QUANTITIES = (
    *(f"{name}_{unit}" for name in PASSES for unit in ("flop", "bytes")),
    "weight_bytes",
    "weight_gradient_bytes",
    "optimizer_flop",
    "optimizer_bytes",
    "optimizer_bytes_held",
    "tp_forward_bytes_inner",
    "tp_backward_bytes_inner",
)
"""Compared columns, if present in the file."""
OPTIMIZER_FLOP, MOMENT_BYTES, MASTER_BYTES = 11.0, 8.0, 4.0
"""Adam, per parameter; a master copy only if weights have less than four bytes."""
SHAPE = ("num_layers", "hidden", "feedforward", "num_heads", "head_dim")
COUNTS = (*SHAPE, "seq_len", "tp", "dp", "micro_batch")
CHOICES = {
    "number_format": tuple(NUMBER_BYTES),
    "attention": ("multihead", "multiquery"),
    "tp_comm": ("all_reduce", "split_at_chunk_edge", "sequence_parallel"),
    "tp_overlap": ("none", "pipe", "ring"),
    "shard_optimizer": ("False", "True", "false", "true"),
}


def validate(path: Path) -> ValidationReport:
    """Error table of FLOP and bytes of every pass, weights, gradients and optimizer work."""
    table = read_table(path, ["row_id", "layer"])
    expected = _expected(table)
    quantities = [name for name in QUANTITIES if name in table.columns]
    row_ids, layers = table.text("row_id"), table.text("layer")
    found = [expected.get((row_id, layer)) for row_id, layer in zip(row_ids, layers, strict=True)]
    known = {row_id for row_id, _ in expected}
    reasons = Counter(
        _skip_reason(row_id, layer, known)
        for row_id, layer, values in zip(row_ids, layers, found, strict=True)
        if values is None
    )
    comparisons = {
        name: Comparison(
            table.numbers(name),
            np.array([np.nan if values is None else values[name] for values in found]),
            resolution=0.0,
        )
        for name in quantities
    }
    return build_report("calculon_layers", path, comparisons, rows_skipped=reasons)


def _skip_reason(row_id: str, layer: str, known: set[str]) -> str:
    if row_id not in known:
        return "its configuration is not in the table of configurations"
    if layer in LAYERS:
        return "a layer that its configuration does not have"
    return f"unknown layer {layer}"


def _expected(layers: ReferenceTable) -> dict[tuple[str, str], dict[str, float]]:
    """Predictions for every layer of every configuration, by row and layer."""
    path = layers.path.with_name(layers.path.name.replace("_layers", "", 1))
    if path == layers.path:
        raise ValueError(
            f"{path}: expected '_layers' in the file's name; the table of configurations beside it "
            "has the name without"
        )
    table = read_table(path, ["row_id", *COUNTS, *CHOICES])
    wanted = set(layers.text("row_id"))
    numbers = {name: table.numbers(name, at_least=1.0, whole=True) for name in COUNTS}
    choices = {name: table.text(name, allowed) for name, allowed in CHOICES.items()}
    found = {}
    for index, row_id in enumerate(table.text("row_id")):
        if row_id in wanted:
            counts = {name: float(column[index]) for name, column in numbers.items()}
            picked = {name: column[index] for name, column in choices.items()}
            found |= {(row_id, k): v for k, v in _block(counts, picked).items()}
    return found


def _block(counts: dict[str, float], choices: dict[str, str]) -> dict[str, dict[str, float]]:
    """Columns of every layer of one configuration, with Calculon's names."""
    kv_heads = counts["num_heads"] if choices["attention"] == "multihead" else 1.0
    shape: dict[str, Any] = {name: counts[name] for name in SHAPE}
    model = Transformer(
        **shape,
        num_kv_heads=kv_heads,
        vocabulary=1.0,
        num_positions=0.0,
        num_mlp_matrices=2.0,
        num_embeddings=1.0,
        num_norm_vectors=2.0,
        num_bias=0.0,
    )
    sequence = float(choices["tp_comm"] == "sequence_parallel")
    element = NUMBER_BYTES[choices["number_format"]]
    batch = (counts["tp"], counts["micro_batch"])
    with jax.enable_x64(True):
        kernels = layer_kernels(
            model, *batch, sequence, element, seq_len=counts["seq_len"], streams=CALCULON
        )
        if choices["tp_overlap"] != "none":
            kernels = _fused(kernels, counts, model, sequence, element)
        kernels = jax.tree.map(np.asarray, kernels)
    shards = counts["dp"] if choices["shard_optimizer"].lower() == "true" else 1.0
    message = element * counts["seq_len"] * counts["micro_batch"] * model.hidden
    message *= float(counts["tp"] > 1.0)
    names = {ours: theirs for theirs, ours in LAYERS.items()}
    return {
        names[name]: _columns(kernels, index, element, shards) | _messages(name, message, sequence)
        for index, name in enumerate(kernels.names)
    }


def _columns(kernels: Kernels, index: int, element: float, shards: float) -> dict[str, float]:
    """FLOP, bytes and weights of one kernel, with Calculon's column names."""
    values = {}
    for theirs, ours in PASSES.items():
        work = getattr(kernels, ours)
        values[f"{theirs}_flop"] = work.matrix_flop[index] + work.vector_flop[index]
        values[f"{theirs}_bytes"] = work.memory_bytes[index]
    parameters = kernels.parameters[index]
    state_bytes = parameters / shards * (MOMENT_BYTES + (MASTER_BYTES if element < 4.0 else 0.0))
    return values | {
        "weight_bytes": element * parameters,
        "weight_gradient_bytes": element * parameters / shards,
        "optimizer_flop": OPTIMIZER_FLOP * parameters / shards,
        "optimizer_bytes": state_bytes,
        "optimizer_bytes_held": state_bytes,
    }


def _messages(name: str, message: float, sequence: float) -> dict[str, float]:
    """Bytes of the TP collective of a kernel inside a chunk of layers."""
    sums, passes = message, sequence * message
    is_gather = name.startswith("gathered") or name.endswith("_gather")
    is_sum = name.startswith("reduced") or name.endswith("_reduce")
    forward, backward = (passes, sums) if is_gather else (sums, passes) if is_sum else (0.0, 0.0)
    return {"tp_forward_bytes_inner": forward, "tp_backward_bytes_inner": backward}


def _fused_linear(
    maker: KernelMaker,
    name: str,
    extents: tuple[float, float, float],
    kept: tuple[float, float],
) -> Kernels:
    """A GEMM fused with its collective; the backward pass moves its weights and kept tensors.

    `kept` are the elements of the input and of the output gradient. With sequence parallelism,
    Calculon keeps one of t tiles of a gathered input, and the gradient. Without it, Calculon keeps
    the full input, but no gradient. For a reduced output, it keeps two gradients of the same
    sizes, one of them a buffer, and the input only with sequence parallelism.
    """
    linear = maker.linear(name, *extents)
    traffic = maker.bytes_per_element * (extents[1] * extents[2] + sum(kept))
    back = KernelWork(linear.forward.matrix_flop, 0.0, traffic)
    return replace(linear, input_gradient=back, weight_gradient=back)


def _gathered(
    maker: KernelMaker, name: str, extents: tuple[float, float, float], tp: float, sequence: float
) -> Kernels:
    tokens, k, n = extents
    kept = (tokens * k / tp, tokens * n) if sequence else (tokens * k, 0.0)
    return _fused_linear(maker, name, extents, kept)


def _reduced(
    maker: KernelMaker, name: str, extents: tuple[float, float, float], tp: float, sequence: float
) -> Kernels:
    tokens, k, n = extents
    kept = (tokens * k, 2.0 * tokens * n / tp) if sequence else (0.0, 2.0 * tokens * n)
    return _fused_linear(maker, name, extents, kept)


def _fused(
    kernels: Kernels, counts: dict[str, float], model: Transformer, sequence: float, e: float
) -> Kernels:
    """Kernels with every collective fused with its GEMM, as in Calculon's TP overlap.

    Queries, keys and values are one GEMM. With shared keys and values, only the queries are fused.
    """
    maker, tp = KernelMaker(e, CALCULON), counts["tp"]
    tokens, hidden = counts["seq_len"] * counts["micro_batch"], model.hidden
    part = layer_slice(model, tp)
    width, inner = part.query_width, part.feedforward
    own = {n: jax.tree.map(lambda x, i=i: x[i], kernels) for i, n in enumerate(kernels.names)}
    own = {name: replace(kernel, names=(name,)) for name, kernel in own.items()}
    if model.num_kv_heads == model.num_heads:
        name, extents = "gathered_query_key_value", (tokens, hidden, 3.0 * width)
        own["query"] = _gathered(maker, name, extents, tp, sequence)
        del own["attention_fork"], own["key"], own["value"]
    else:
        extents = (tokens, hidden, width)
        own["query"] = _gathered(maker, "gathered_query", extents, tp, sequence)
        own["attention_fork"] = maker.fork("kv_fork", tokens * hidden, 2.0)
    up, down, output = (tokens, hidden, inner), (tokens, inner, hidden), (tokens, width, hidden)
    own["mlp_up"] = _gathered(maker, "gathered_mlp_up", up, tp, sequence)
    own["mlp_down"] = _reduced(maker, "reduced_mlp_down", down, tp, sequence)
    own["attention_output"] = _reduced(maker, "reduced_attention_output", output, tp, sequence)
    collectives = ("attention_gather", "attention_reduce", "mlp_gather", "mlp_reduce")
    return stacked([kernel for name, kernel in own.items() if name not in collectives])
