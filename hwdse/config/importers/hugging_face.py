"""Model files from a `config.json` of Hugging Face Transformers.

The text part of a multimodal model is read. `model_families` adds the conventions of the
architecture. An unknown architecture is read by its keys. Encoder-decoders and models with
state-space or linear-attention layers are refused, since no layer of hwdse is like theirs.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwdse.config.files.errors import ConfigLocation, show
from hwdse.config.files.toml_files import TomlFile
from hwdse.config.importers.imported_file import (
    SOURCE,
    ImportedFile,
    SourceTable,
    file_stem,
    not_expressed,
    read_json,
)
from hwdse.config.importers.model_families import FAMILIES, GENERIC
from hwdse.config.importers.model_shape import read_shape

TEXT_PARTS = ("text_config", "llm_config", "language_config", "language_model_config")
"""Keys of the text part of a multimodal model."""
TEXT_ONLY = "only the text part is modeled"
NO_ATTENTION = re.compile(r"mamba|ssm|recurrent|linear_attention|linear_attn|rwkv|conv_L|hyena")
"""Keys, layer types and model types of layers that are not attention."""
LAYER_LISTS = ("layer_types", "layers_block_type", "block_types")
REASONS: Mapping[str, str] = {
    "quantization_config": "number formats belong to the job: [design.mix]",
    "compression_config": "number formats belong to the job: [design.mix]",
    "num_nextn_predict_layers": "modules for multi-token prediction are not modeled",
    "attention_chunk_size": "attention in chunks is modeled as full attention",
    "cross_attention_layers": "cross-attention to images is not modeled",
    "alibi": "position biases are not modeled",
    "attn_logit_softcapping": "a few vector operations per score are not modeled",
    "final_logit_softcapping": "a few vector operations per logit are not modeled",
    "index_n_heads": "sparse attention is modeled as full attention",
    "index_head_dim": "sparse attention is modeled as full attention",
    "index_topk": "sparse attention is modeled as full attention",
}
"""Reason by key, for known keys without a counterpart."""
_NO_EFFECT = """
_name_or_path _remove_final_layer_norm activation activation_function
apply_residual_connection_post_layernorm architectures attention_multiplier attn_implementation
attn_scale attn_temperature_tuning auto_map aux_loss_alpha cache_implementation classifier_dropout
clip_qkv do_layer_norm_before dtype embedding_multiplier ep_size experts_implementation
ffn_dropout floor_scale for_llm_class gradient_checkpointing hidden_act hidden_activation id2label
init_method init_std initial_context_length initializer_range is_decoder label2id layer_norm_eps
layer_norm_epsilon layerdrop layernorm_epsilon logit_scale logits_scaling max_position_embeddings
max_seq_len max_window_layers mlp_type model_type n_ctx n_group n_positions no_rope_layer_interval
no_rope_layers norm_eps norm_epsilon norm_topk_prob norm_type original_max_position_embeddings
output_attentions output_hidden_states output_router_logits partial_rotary_factor
position_embedding_type prefix pretraining_tp query_pre_attn_scalar reorder_and_upcast_attn
residual_multiplier return_dict rms_norm_eps rope_interleave rope_local_base_freq rope_parameters
rope_ratio rope_scaling rope_theta rope_traditional rope_type rotary rotary_dim rotary_emb_base
rotary_pct routed_scaling_factor router_aux_loss_coef router_jitter_noise router_z_loss_coef
scale_attn_by_inverse_layer_idx scale_attn_weights scoring_func seq_aux seq_length
summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj
swiglu_limit task_specific_params tokenizer_class topk_group torch_dtype transformers_version
use_bidirectional_attention use_cache use_mrope use_parallel_residual use_qk_norm use_rmsnorm
use_sliding_window
"""
NO_EFFECT = frozenset(_NO_EFFECT.split())
"""Keys without effect on sizes, work or memory."""
NO_EFFECT_ENDINGS = ("token_id", "token_ids", "token_index", "dropout", "pdrop", "dropout_prob")


def read_model_file(path: Path, label: str) -> tuple[TomlFile, tuple[str, ...]]:
    """Tables of the model in a `config.json`, and lines about what they do not express."""
    config, sha256 = read_json(path, label)
    found = _imported(config, ConfigLocation(label), _title(config, path))
    return TomlFile(path, label, dict(found.tables), sha256), found.not_expressed


def model_tables_of_config(
    source: str | Path | Mapping[str, Any], name: str | None = None
) -> ImportedFile:
    """Model file of a `config.json`, given as a path or as its object.

    `name` is the title of the model; its default is the name in the file, or that of its folder.
    Raises `ConfigError` with one line for a file that is no configuration of a decoder.
    """
    if isinstance(source, Mapping):
        return _imported(source, ConfigLocation("config.json"), name or _title(source, None))
    path = Path(source)
    config, _ = read_json(path, str(source))
    found = _imported(config, ConfigLocation(str(source)), name or _title(config, path))
    return replace(found, made_from=(path,))


def _title(config: Mapping[str, Any], path: Path | None) -> str:
    """Name of a model: from the file, from its folder, or from its type."""
    inside = config.get("_name_or_path")
    if isinstance(inside, str) and inside.isprintable() and inside.strip("/. "):
        return inside.rstrip("/").rpartition("/")[2]
    if path is not None:
        stem = path.stem if path.stem.lower() != "config" else path.resolve().parent.name
        if stem:
            return stem
    return str(config.get("model_type") or "model")


def _imported(config: Mapping[str, Any], where: ConfigLocation, title: str) -> ImportedFile:
    outer = SourceTable(config, where)
    part = outer.given(*TEXT_PARTS)
    text = outer.inner(part) if part is not None else outer
    for table in (outer, text):
        _refuse_other_layers(table)
    kind = str(text.raw("model_type") or outer.raw("model_type") or "")
    family = FAMILIES.get(kind, GENERIC)
    shape = read_shape(text, outer, family)
    lost = list(shape.lost)
    if family is GENERIC:
        reason = "unknown architecture, read by its keys alone; check gates, norms and biases"
        lost.append(not_expressed("model_type", kind, reason))
    for table in (text, outer) if part is not None else (text,):
        reasons = {**dict.fromkeys(_other_parts(table), TEXT_ONLY), **REASONS}
        lost += table.unread_lines(reasons, _without_effect(table), _default_reason(table, outer))
    architecture = _architecture(config)
    tables = {
        "name": title,
        "sources": [f"{title}, config.json ({architecture}, Hugging Face Transformers)"],
        **shape.tables,
    }
    notes = {**shape.notes, SOURCE: f"{architecture}; comments name keys of config.json"}
    usage = "hwdse evaluate --system p5_48xlarge:4 --model {path} --seq 4096 --batch 256"
    return ImportedFile("model", file_stem(title), tables, tuple(lost), notes, usage=usage)


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else "no architecture named"


def _without_effect(table: SourceTable) -> list[str]:
    return [key for key in table.table if key in NO_EFFECT or key.endswith(NO_EFFECT_ENDINGS)]


def _default_reason(table: SourceTable, outer: SourceTable) -> str:
    """Reason of keys without one: parts beside the text of a multimodal model, or unknown keys."""
    is_beside = table is outer and outer.given(*TEXT_PARTS) is not None
    return TEXT_ONLY if is_beside else "unknown key"


def _other_parts(table: SourceTable) -> list[str]:
    """Keys of the other parts of a multimodal model, such as `vision_config`."""
    return [key for key, value in table.table.items() if key.endswith("_config") and value]


def _refuse_other_layers(table: SourceTable) -> None:
    """Raise `ConfigError` for models that are not decoders with attention in every layer."""
    if table.raw("is_encoder_decoder"):
        expected = "a decoder; encoder-decoders are not modeled"
        raise table.error("is_encoder_decoder", True, expected)
    lists = [key for key in LAYER_LISTS if isinstance(table.table.get(key), list)]
    for key in lists or table.table:
        value = table.table[key]
        found = next((name for name in _layer_names(key, value) if NO_ATTENTION.search(name)), None)
        if found is not None:
            expected = (
                f"attention in every layer; {show(found)} stands for state-space, recurrent or "
                "linear-attention layers, which are not modeled"
            )
            raise table.error(key, value, expected)


def _layer_names(key: str, value: Any) -> list[str]:
    """Names of layer types in a key and its value; none for a key that is switched off."""
    if value is None or value is False or value == 0:
        return []
    if key in LAYER_LISTS and isinstance(value, list):
        return [str(item) for item in value]
    if key == "hybrid_override_pattern":
        return ["mamba"] if "M" in str(value) else []
    return [str(value)] if key == "model_type" else [key]
