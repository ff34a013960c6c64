"""Shape of a decoder from the keys of a `config.json` and the conventions of its family.

`read_shape` returns the tables of a model file: sizes, attention, MLP, experts, embeddings, and
the layers that differ from the others (dense or with a sliding window).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hwdse.config.importers.imported_file import SourceTable, not_expressed
from hwdse.config.importers.model_families import Bias, Family

NUM_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HIDDEN = ("hidden_size", "n_embd", "n_embed", "d_model")
HEADS = ("num_attention_heads", "n_head", "n_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
FEEDFORWARD = (
    "intermediate_size_mlp",
    "intermediate_size",
    "n_inner",
    "ffn_dim",
    "ffn_hidden_size",
)
POSITIONS = ("max_position_embeddings", "n_positions")
EXPERTS = ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
TOP_EXPERTS = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk")
SHARED_EXPERTS = ("n_shared_experts", "num_shared_experts")
LATENT = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "activation")
UNGATED = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "relu2", "quick_gelu")
"""Activation functions of MLPs without a gate, in an unknown architecture."""
LAYER_EPSILONS = ("layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon")
FULL, SLIDING = "full_attention", "sliding_attention"
CONVENTION = "convention of the architecture"
DENSE_LAYER = {
    "num_experts",
    "experts_per_token",
    "num_shared_experts",
    "expert_feedforward",
    "num_router_bias",
}
"""Keys that are 0 in a dense layer of a model with experts."""


@dataclass
class Shape:
    """Tables of a model under construction."""

    text: SourceTable
    outer: SourceTable
    family: Family
    values: dict[str, Any] = field(default_factory=dict)
    """Table `[model]`."""
    layers: list[dict[str, Any]] = field(default_factory=list)
    """Tables `[[layers]]`."""
    notes: dict[str, str] = field(default_factory=dict)
    """Origin by dotted path."""
    lost: list[str] = field(default_factory=list)
    """Lines about parts that the tables do not express."""

    @property
    def tables(self) -> dict[str, Any]:
        """Tables of a model file."""
        return {"model": self.values, **({"layers": self.layers} if self.layers else {})}

    def put(self, name: str, value: float, origin: str) -> None:
        """Set a key of `[model]` with its origin."""
        self.values[name] = value
        self.notes[f"model.{name}"] = origin

    def read(self, name: str, keys: Sequence[str], at_least: int = 1) -> int:
        """Set a key of `[model]` from the first of several keys, or the family's default."""
        key = self.text.given(*keys)
        default = next((k for k in keys if k in self.family.defaults), None)
        if key is None and default is not None:
            self.put(name, self.family.defaults[default], f"{default}, default of the architecture")
        else:
            self.put(name, self.text.count(key or keys[0], at_least=at_least), key or keys[0])
        return self.values[name]

    def is_on(self, switch: Bias) -> bool:
        """Truth of a convention: constant, or a key of the file with the family's default."""
        if isinstance(switch, bool):
            return switch
        return self.text.flag(switch, default=bool(self.family.defaults.get(switch, False)))


def read_shape(text: SourceTable, outer: SourceTable, family: Family) -> Shape:
    """Shape of the decoder in `text`, a part of `outer` or the same table."""
    shape = Shape(text, outer, family, lost=list(family.remarks))
    shape.read("num_layers", NUM_LAYERS)
    shape.read("hidden", HIDDEN)
    _read_mlp(shape)
    _read_attention(shape)
    shape.read("vocabulary", ("vocab_size", "padded_vocab_size"))
    _read_embeddings(shape)
    if text.raw("word_embed_proj_dim") not in (None, shape.values["hidden"]):
        value, reason = text.raw("word_embed_proj_dim"), "a projected embedding is not modeled"
        shape.lost.append(not_expressed("word_embed_proj_dim", value, reason))
    _read_norms(shape)
    _read_biases(shape)
    is_mixture = _read_experts(shape)
    _read_layers(shape, is_mixture, _windows(shape))
    return shape


def _read_mlp(shape: Shape) -> None:
    hidden = shape.values["hidden"]
    if shape.text.given(*FEEDFORWARD) is not None or "intermediate_size" in shape.family.defaults:
        shape.read("feedforward", FEEDFORWARD)
    elif shape.text.given("expansion_ratio") is not None:
        ratio = shape.text.number("expansion_ratio")
        shape.put("feedforward", round(ratio * hidden), "expansion_ratio x hidden size")
    elif shape.text.given("moe_intermediate_size") is not None:
        shape.put("feedforward", 4 * hidden, "4 x hidden size; no layer is dense")
    else:
        shape.put("feedforward", 4 * hidden, f"4 x hidden size, {CONVENTION}")
    matrices, origin = shape.family.mlp_matrices, CONVENTION
    if matrices is None:
        key = shape.text.given(*ACTIVATIONS)
        name = str(shape.text.raw(key)) if key is not None else "not given"
        matrices = 2 if name in UNGATED else 3
        origin = f"assumed from the activation function, {name}"
    shape.put("num_mlp_matrices", matrices, f"{'gate' if matrices == 3 else 'no gate'}, {origin}")


def _read_attention(shape: Shape) -> None:
    text = shape.text
    heads = shape.read("num_heads", HEADS)
    is_new = text.flag("new_decoder_architecture", default=False)
    has_one = text.flag("multi_query", default=text.raw("model_type") == "falcon")
    if has_one and not is_new:
        text.given(*KV_HEADS)
        shape.put("num_kv_heads", 1, "multi_query")
    elif text.given(*KV_HEADS) is not None or "num_key_value_heads" in shape.family.defaults:
        shape.read("num_kv_heads", KV_HEADS)
    else:
        shape.put("num_kv_heads", heads, "as many as query heads")
    if text.given("head_dim") is not None or "head_dim" in shape.family.defaults:
        shape.read("head_dim", ("head_dim",))
    elif text.given("kv_lora_rank") is not None:
        shape.put("head_dim", sum(text.count(key) for key in LATENT[:2]), "not used")
    elif shape.values["hidden"] % heads:
        raise text.where.missing(
            "head_dim", "the elements per head, as hidden / heads is no whole number"
        )
    else:
        shape.put("head_dim", shape.values["hidden"] // heads, "hidden size / heads")
    if text.given("kv_lora_rank") is not None:
        shape.read("kv_lora_rank", ("kv_lora_rank",))
        if text.given("q_lora_rank") is not None:
            shape.read("q_lora_rank", ("q_lora_rank",))
        for key in LATENT:
            shape.read(key, (key,))


def _read_embeddings(shape: Shape) -> None:
    family = shape.family
    given = shape.text.raw("tie_word_embeddings")
    if given is None:
        given = shape.outer.raw("tie_word_embeddings")
    is_tied = family.is_tied if given is None else bool(given)
    origin = "tie_word_embeddings" if given is not None else f"tied embeddings, {CONVENTION}"
    if given is None and not is_tied:
        origin = f"separate output projection, {CONVENTION}"
    shape.put("num_embeddings", 1 if is_tied else 2, origin)
    positions = 0
    if family.has_positions:
        key = shape.text.given(*POSITIONS)
        positions = shape.text.count(key or POSITIONS[0], at_least=1) + family.extra_positions
        origin = f"{key}" + (f" + {family.extra_positions}" if family.extra_positions else "")
        shape.put("num_positions", positions, origin)
    else:
        shape.put("num_positions", 0, "no learned positions")


def _read_norms(shape: Shape) -> None:
    family, text = shape.family, shape.text
    vectors, origin = family.norm_vectors, CONVENTION
    if vectors is None:
        key = text.given(*LAYER_EPSILONS)
        vectors = 2 if key is not None else 1
        origin = f"assumed from {key}" if key is not None else "assumed"
    names = {0: "no learned vectors", 1: "RMSNorm", 2: "LayerNorm"}
    shape.put("num_norm_vectors", vectors, f"{names[vectors]}, {origin}")
    norms = family.layer_norms
    if text.raw("model_type") == "falcon":
        is_parallel = text.flag("parallel_attn", default=True)
        two = text.raw("num_ln_in_parallel_attn")
        is_new = text.flag("new_decoder_architecture", default=False)
        norms = 1 if is_parallel and (two == 1 or (two is None and not is_new)) else 2
    shape.put("num_layer_norms", norms, CONVENTION)
    if shape.is_on(family.head_norms):
        if family.has_wide_norms:
            number = shape.values["num_heads"] + shape.values["num_kv_heads"]
            shape.put("num_head_norm_vectors", number, "RMSNorm over all heads of queries and keys")
        else:
            shape.put("num_head_norm_vectors", 2, "RMSNorm of queries and keys")


def _read_biases(shape: Shape) -> None:
    family = shape.family
    switches = {
        "num_qkv_bias": family.qkv_bias,
        "num_output_bias": family.output_bias,
        "num_mlp_bias": family.mlp_bias,
    }
    found = {name: int(shape.is_on(switch)) for name, switch in switches.items()}
    origins = {n: s if isinstance(s, str) else CONVENTION for n, s in switches.items()}
    if len(set(found.values())) == 1:
        shape.put("num_bias", found["num_qkv_bias"], "; ".join(dict.fromkeys(origins.values())))
    else:
        shape.put("num_bias", 0, "differs by matrix")
        for name in found:
            shape.put(name, found[name], origins[name])
    if shape.is_on(family.head_bias):
        shape.put("num_lm_head_bias", 1, CONVENTION)


def _read_experts(shape: Shape) -> list[bool]:
    """Sizes of the experts; for each layer, true if it has a mixture."""
    text, num_layers = shape.text, shape.values["num_layers"]
    key = text.given(*EXPERTS)
    if key is None or text.count(key) == 0:
        return [False] * num_layers
    shape.read("num_experts", (key,))
    shape.read("experts_per_token", TOP_EXPERTS)
    _read_expert_width(shape)
    _read_shared_experts(shape)
    if shape.is_on(shape.family.router_bias) or text.raw("topk_method") == "noaux_tc":
        shape.put("num_router_bias", 1, "a bias per expert balances or shifts the router")
    return _mixture_layers(shape)


def _read_expert_width(shape: Shape) -> None:
    text = shape.text
    if text.given("moe_intermediate_size") is not None:
        shape.read("expert_feedforward", ("moe_intermediate_size",))
    elif text.given("intermediate_size_mlp") is not None:
        shape.read("expert_feedforward", ("intermediate_size",))
    else:
        shape.put("expert_feedforward", shape.values["feedforward"], "intermediate_size")


def _read_shared_experts(shape: Shape) -> None:
    text, width = shape.text, shape.values["expert_feedforward"]
    if text.given(*SHARED_EXPERTS) is not None:
        shape.read("num_shared_experts", SHARED_EXPERTS, at_least=0)
    elif text.given("shared_expert_intermediate_size") is not None:
        shared = text.count("shared_expert_intermediate_size")
        shape.put("num_shared_experts", shared / width, "shared_expert_intermediate_size / width")
    elif text.raw("model_type") == "llama4_text":
        shape.put("num_shared_experts", 1, CONVENTION)
    if shape.values.get("num_shared_experts") == 0:
        del shape.values["num_shared_experts"]


def _mixture_layers(shape: Shape) -> list[bool]:
    """For each layer, true if it has a mixture of experts and not one MLP."""
    text, num_layers = shape.text, shape.values["num_layers"]
    first = text.count("first_k_dense_replace") if text.given("first_k_dense_replace") else 0
    frequency = text.raw("moe_layer_freq")
    if isinstance(frequency, list):
        return [bool(flag) for flag in _one_per_layer(shape, "moe_layer_freq")]
    is_sparse = [index >= first for index in range(num_layers)]
    if isinstance(frequency, int) and frequency > 1:
        is_sparse = [on and index % frequency == 0 for index, on in enumerate(is_sparse)]
    for key in ("decoder_sparse_step", "interleave_moe_layer_step"):
        step = text.count(key, at_least=1) if text.given(key) else 1
        is_sparse = [on and (index + 1) % step == 0 for index, on in enumerate(is_sparse)]
    dense = text.items("mlp_only_layers") if text.raw("mlp_only_layers") else []
    if text.raw("moe_layers"):
        listed = text.items("moe_layers")
        is_sparse = [index in listed for index in range(num_layers)]
    return [on and index not in dense for index, on in enumerate(is_sparse)]


def _one_per_layer(shape: Shape, key: str) -> list[Any]:
    """List of a key with one value per layer."""
    items, num_layers = shape.text.items(key), shape.values["num_layers"]
    if len(items) != num_layers:
        raise shape.text.error(key, items, f"{num_layers} values, one per layer")
    return items


def _windows(shape: Shape) -> list[int]:
    """For each layer, the tokens of its sliding window; 0 for full attention."""
    text, family, num_layers = shape.text, shape.family, shape.values["num_layers"]
    if not family.has_window:
        return [0] * num_layers
    if text.given("sliding_window", "sliding_window_size") is not None:
        window = text.count("sliding_window", at_least=1)
    else:
        window = 0 if "sliding_window" in text.table else family.defaults.get("sliding_window", 0)
    if text.given("layer_types") is not None:
        types = _one_per_layer(shape, "layer_types")
        for other in sorted({str(kind) for kind in types} - {FULL, SLIDING, "attention"}):
            shape.lost.append(not_expressed("layer_types", other, "modeled as full attention"))
        return [window if kind == SLIDING else 0 for kind in types]
    if family.window_switch is not None:
        first = text.count("max_window_layers") if text.given("max_window_layers") else 0
        is_on = text.flag(family.window_switch, default=False)
        return [window if is_on and index >= first else 0 for index in range(num_layers)]
    key = text.given("sliding_window_pattern", "_sliding_window_pattern")
    period = text.count(key, at_least=1) if key is not None else family.period
    return [window if family.is_sliding(index, period) else 0 for index in range(num_layers)]


def _read_layers(shape: Shape, is_mixture: list[bool], windows: list[int]) -> None:
    """Set the layers that differ: dense ones of a model with experts, sliding windows."""
    if len(set(windows)) == 1 and windows[0]:
        shape.put("sliding_window", windows[0], "sliding_window of all layers")
    num_dense = is_mixture.index(True) if True in is_mixture else 0
    dense_first = [index >= num_dense for index in range(len(is_mixture))]
    if len(set(windows)) == 1 and is_mixture in (dense_first, [False] * len(is_mixture)):
        if num_dense:
            shape.put("num_dense_layers", num_dense, "layers before the first with experts")
        return
    runs = _runs(_one_period(list(zip(windows, is_mixture, strict=True))))
    has_windows, has_both = len(set(windows)) > 1, len(set(is_mixture)) > 1
    for index, ((window, mixture), count) in enumerate(runs):
        entry: dict[str, Any] = {"count": count}
        if has_windows and window:
            entry["sliding_window"] = window
        if has_both and not mixture:
            entry |= dict.fromkeys(DENSE_LAYER & set(shape.values), 0)
        shape.layers.append(entry)
        attention = f"sliding window of {window}" if window else "full attention"
        mlp = (", experts" if mixture else ", dense MLP") if has_both else ""
        shape.notes[f"layers.{index}.count"] = f"{attention}{mlp}"


def _one_period(kinds: list[Any]) -> list[Any]:
    """Shortest beginning of a list that gives the list when it is repeated twice or more, or it."""
    lengths = (*range(1, len(kinds) // 2 + 1), len(kinds))
    fits = (n for n in lengths if all(kinds[i] == kinds[i % n] for i in range(len(kinds))))
    return kinds[: next(fits)]


def _runs(kinds: list[Any]) -> list[tuple[Any, int]]:
    """Equal neighbors of a list with their number."""
    return [(kind, len(list(group))) for kind, group in itertools.groupby(kinds)]
