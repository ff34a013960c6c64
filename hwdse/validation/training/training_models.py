"""Models of published training runs: a preset by name, or a decoder with the sizes of the row."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any

from hwdse.config import load_workload
from hwdse.config.files.toml_files import preset_names
from hwdse.validation.training.training_cells import cell_number, cell_text
from hwdse.validation.training.training_recipes import recipe_of
from hwdse.workload.transformer.model_config import LayerOverrides, Transformer

NAMED_MODELS = MappingProxyType(
    {
        "deepseekv2": "deepseek_v2",
        "deepseekv3": "deepseek_v3",
        "nemotron35lightning": "nemotron_3_nano",
    }
)
"""Presets of models with more parameters than the columns, by name in letters and digits; those
with the name of a preset need no entry. Lightning has the shape of Nemotron 3 Nano."""
TRUNCATED_DENSE_LAYERS = 1.0
"""Dense layers of a mixture of experts with reduced depth."""
WINDOWED_LAYERS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"half of the layers with a window": (1.0, 1.0), "5 of 6 layers with a window": (5.0, 1.0)}
)
"""Consecutive layers with and without the sliding window, by the words of `model_kind`."""
LATENT = "latent attention"
"""Words of `model_kind` for attention whose ranks are no columns of a file."""
OTHER_KIND = "other"
"""`model_kind` of layers that are neither attention nor MLP."""


@cache
def _named_model(name: str) -> Any:
    workload: Any = load_workload(name)
    return workload.model


@cache
def _presets_by_name() -> Mapping[str, str]:
    return {_plain(name): name for name in preset_names("models")}


def _plain(name: str) -> str:
    """Name of a model in lower case, up to the first space, letters and digits only."""
    return re.sub("[^a-z0-9]", "", name.lower().partition(" ")[0])


def _preset_name(row: Mapping[str, str]) -> str | None:
    """Preset of the model of a row: dense models follow from the columns and need none."""
    name = _plain(row["model"])
    if name in NAMED_MODELS:
        return NAMED_MODELS[name]
    return _presets_by_name().get(name) if _is_special(row) else None


def _is_special(row: Mapping[str, str]) -> bool:
    return cell_text(row, "model_kind") not in ("", "dense")


def model_problem(row: Mapping[str, str]) -> str | None:
    """Reason why the columns and presets do not give the model of a row; None if they do."""
    kind, has_preset = cell_text(row, "model_kind"), _preset_name(row) is not None
    if not has_preset and (LATENT in kind or kind == OTHER_KIND):
        return f"no preset for model {row['model']}"
    sizes = () if kind == OTHER_KIND else ("num_layers", "hidden", "num_heads")
    for column in (*sizes, "seq_len", "global_batch", "num_chips"):
        if not row[column]:
            return f"no {column}"
    if has_preset:
        return None
    is_mixture = "mixture" in kind or "mixture" in row["scope"]
    if is_mixture and not (cell_text(row, "num_experts") and cell_text(row, "expert_feedforward")):
        return "no num_experts or expert_feedforward"
    if "window" in kind and not _window_pattern(kind):
        return f"model_kind {kind}"
    return None


def model_of(row: Mapping[str, str], is_block_parallel: bool) -> Transformer:
    """Model of a row: a preset by name, else a decoder with the sizes of the row.

    Layers of multi-token prediction are added, with their passes of the LM head.
    """
    name = _preset_name(row)
    model = _of_columns(row, is_block_parallel) if name is None else _of_preset(name, row)
    unstated = recipe_of(row).prediction_modules
    return _with_modules(model, cell_number(cell_text(row, "mtp_layers"), unstated))


def _with_modules(model: Transformer, num_modules: float) -> Transformer:
    """Model with modules of multi-token prediction: a layer each, or in a hybrid a layer of every
    kind but state-space layers (`mtp_hybrid_override_pattern` "*E" of Megatron Core)."""
    if model.num_state_heads == 0.0:
        changes: dict[str, Any] = {"num_layers": model.num_layers + num_modules}
    else:
        layers = tuple(
            replace(one, count=one.count + num_modules) if one.num_state_heads == 0.0 else one
            for one in model.layers
        )
        changes = {"layers": layers, "num_layers": sum(one.count for one in layers)}
    return replace(model, num_predicted_tokens=1.0 + num_modules, **changes)


def _of_preset(name: str, row: Mapping[str, str]) -> Transformer:
    """Preset with the depth of the row."""
    model = _named_model(name)
    num_layers = cell_number(row["num_layers"], model.num_layers)
    if num_layers == model.num_layers:
        return model
    dense = min(model.num_dense_layers, TRUNCATED_DENSE_LAYERS)
    return replace(model, num_layers=num_layers, num_dense_layers=dense)


def _of_columns(row: Mapping[str, str], is_block_parallel: bool) -> Transformer:
    heads, hidden = cell_number(row["num_heads"]), cell_number(row["hidden"])
    matrices = cell_number(row["mlp_matrices"], 2.0)
    is_gated = matrices > 2.5

    def count(column: str) -> float:
        return cell_number(cell_text(row, column), 0.0)

    return Transformer(
        num_layers=cell_number(row["num_layers"]),
        hidden=hidden,
        feedforward=cell_number(row["feedforward"], 4.0 * hidden),
        num_heads=heads,
        num_kv_heads=cell_number(row["num_kv_heads"], heads),
        head_dim=cell_number(row["head_dim"], hidden / heads),
        vocabulary=cell_number(row["vocab"], 51200.0),
        num_positions=0.0 if is_gated else cell_number(row["seq_len"]),
        num_mlp_matrices=matrices,
        num_embeddings=2.0 if is_gated else 1.0,
        num_norm_vectors=1.0 if is_gated else 2.0,
        num_bias=0.0 if is_gated else 1.0,
        num_layer_norms=1.0 if is_block_parallel else 2.0,
        num_head_norm_vectors=count("head_norms"),
        num_experts=count("num_experts"),
        experts_per_token=count("experts_per_token"),
        num_shared_experts=count("num_shared_experts"),
        expert_feedforward=count("expert_feedforward"),
        num_dense_layers=count("num_dense_layers"),
        layers=_layers(row, count("attention_window")),
    )


def _window_pattern(kind: str) -> tuple[float, float] | None:
    return next((counts for words, counts in WINDOWED_LAYERS.items() if words in kind), None)


def _layers(row: Mapping[str, str], window: float) -> tuple[LayerOverrides, ...]:
    pattern = _window_pattern(cell_text(row, "model_kind"))
    if pattern is None or window == 0.0:
        return ()
    return LayerOverrides(pattern[0], sliding_window=window), LayerOverrides(pattern[1])


def adapter_fraction(model: Transformer, rank: float, num_parameters: float) -> float:
    """Parameters of low-rank adapters of the attention's matrices (LoRA) over all of the model."""
    query, key_value = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    sides = 2.0 * model.hidden + 2.0 * query + 2.0 * key_value
    return float(rank * sides * model.num_layers / num_parameters)
