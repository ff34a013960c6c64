"""Conventions of model families on Hugging Face that their config.json does not contain.

A config.json has sizes and a few switches. Biases, normalizations, gates and layers with a sliding
window follow from the code of the architecture: huggingface/transformers, `configuration_*.py`
(defaults of missing keys) and `modeling_*.py`, version 4.57. Families are found by `model_type`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

Bias = bool | str
"""True, False, or the key of config.json that switches it on."""
IsSliding = Callable[[int, int], bool]
"""True if layer `index` of those with a pattern of `period` layers has the sliding window."""


def _all_layers(index: int, period: int) -> bool:
    return True


def _all_but_last_of_period(index: int, period: int) -> bool:
    return (index + 1) % period != 0


@dataclass(frozen=True)
class Family:
    """Conventions of one `model_type`."""

    mlp_matrices: int | None = 3
    """Matrices per MLP: 3 with a gate; None: by the activation function."""
    norm_vectors: int | None = 1
    """Vectors per normalization: 1 RMSNorm, 2 LayerNorm; None: by the name of its epsilon."""
    layer_norms: int = 2
    is_tied: bool = True
    """Default of `tie_word_embeddings`."""
    qkv_bias: Bias = "attention_bias"
    output_bias: Bias = "attention_bias"
    mlp_bias: Bias = "mlp_bias"
    head_bias: Bias = False
    """Bias of the output projection to the vocabulary."""
    router_bias: Bias = False
    head_norms: Bias = False
    """RMSNorm of `head_dim` elements on queries and keys."""
    has_wide_norms: bool = False
    """True if these norms span all heads."""
    has_positions: bool = False
    """True with learned positions."""
    extra_positions: int = 0
    """Learned positions beyond the largest position."""
    is_sliding: IsSliding = _all_layers
    period: int = 1
    """Default of the pattern's period."""
    has_window: bool = True
    """False if `sliding_window` has no effect."""
    window_switch: str | None = None
    """Key that switches the sliding windows on; then layers from `max_window_layers` have them."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of keys that a config.json of this family may leave out."""
    remarks: tuple[str, ...] = ()
    """Parts of the architecture that the model does not express."""


_LLAMA = Family(is_tied=False)
_QWEN2 = Family(
    is_tied=False,
    qkv_bias=True,
    output_bias=False,
    mlp_bias=False,
    window_switch="use_sliding_window",
)
_QWEN3 = Family(is_tied=False, head_norms=True, mlp_bias=False, window_switch="use_sliding_window")
_ALL_BIASES: Any = {"qkv_bias": True, "output_bias": True, "mlp_bias": True}
_NO_BIAS: Any = {"qkv_bias": False, "output_bias": False, "mlp_bias": False}
_DEEPSEEK = Family(is_tied=False, qkv_bias=False, output_bias=False, mlp_bias=False)
_GEMMA3 = Family(
    layer_norms=4,
    head_norms=True,
    mlp_bias=False,
    is_sliding=_all_but_last_of_period,
    period=6,
    defaults={
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "sliding_window": 4096,
    },
)
_GLM4 = Family(is_tied=False, output_bias=False, mlp_bias=False, head_norms="use_qk_norm")

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "llama": _LLAMA,
        "mistral": _LLAMA,
        "ministral": _LLAMA,
        "mixtral": _LLAMA,
        "granite": _LLAMA,
        "smollm3": Family(is_tied=True),
        "phi3": Family(is_tied=False, **_NO_BIAS),
        "qwen2": _QWEN2,
        "qwen2_moe": replace(
            _QWEN2, remarks=("shared_expert_gate = 1 (a gate of the shared expert per layer)",)
        ),
        "qwen2_vl": _QWEN2,
        "qwen2_5_vl": _QWEN2,
        "qwen2_vl_text": _QWEN2,
        "qwen2_5_vl_text": _QWEN2,
        "qwen3": _QWEN3,
        "qwen3_moe": _QWEN3,
        "qwen3_vl_text": _QWEN3,
        "qwen3_vl_moe_text": _QWEN3,
        "gemma": Family(mlp_bias=False, defaults={"head_dim": 256}),
        "gemma2": Family(
            layer_norms=4,
            mlp_bias=False,
            is_sliding=_all_but_last_of_period,
            period=2,
            defaults={"head_dim": 256, "sliding_window": 4096},
        ),
        "gemma3": _GEMMA3,
        "gemma3_text": _GEMMA3,
        "gpt2": Family(
            mlp_matrices=2,
            norm_vectors=2,
            has_positions=True,
            has_window=False,
            **_ALL_BIASES,
        ),
        "gpt_bigcode": Family(
            mlp_matrices=2, norm_vectors=2, has_positions=True, has_window=False, **_ALL_BIASES
        ),
        "gptj": Family(
            mlp_matrices=2,
            norm_vectors=2,
            layer_norms=1,
            is_tied=False,
            qkv_bias=False,
            output_bias=False,
            mlp_bias=True,
            head_bias=True,
        ),
        "gpt_neox": Family(
            mlp_matrices=2,
            norm_vectors=2,
            is_tied=False,
            mlp_bias=True,
            defaults={"attention_bias": True},
        ),
        "opt": Family(
            mlp_matrices=2,
            norm_vectors=2,
            has_positions=True,
            extra_positions=2,
            qkv_bias="enable_bias",
            output_bias="enable_bias",
            mlp_bias="enable_bias",
            defaults={"enable_bias": True},
        ),
        "falcon": Family(
            mlp_matrices=2,
            norm_vectors=2,
            qkv_bias="bias",
            output_bias="bias",
            mlp_bias="bias",
        ),
        "phi": Family(
            mlp_matrices=2,
            norm_vectors=2,
            layer_norms=1,
            is_tied=False,
            head_bias=True,
            **_ALL_BIASES,
        ),
        "starcoder2": Family(
            mlp_matrices=2,
            norm_vectors=2,
            qkv_bias="use_bias",
            output_bias="use_bias",
            mlp_bias="use_bias",
            defaults={"use_bias": True},
        ),
        "deepseek_v2": _DEEPSEEK,
        "deepseek_v3": _DEEPSEEK,
        "kimi_k2": _DEEPSEEK,
        "gpt_oss": Family(
            is_tied=False,
            mlp_bias=True,
            router_bias=True,
            is_sliding=_all_but_last_of_period,
            period=2,
            defaults={"attention_bias": True},
            remarks=("sinks = true (one learned score per head and layer; adds no matrix work)",),
        ),
        "olmo": Family(norm_vectors=0, is_tied=False, mlp_bias=False),
        "olmo2": Family(is_tied=False, mlp_bias=False, head_norms=True, has_wide_norms=True),
        "olmo3": Family(
            is_tied=False,
            mlp_bias=False,
            head_norms=True,
            has_wide_norms=True,
            is_sliding=_all_but_last_of_period,
            period=4,
        ),
        "nemotron": Family(mlp_matrices=2, norm_vectors=2, is_tied=False),
        "glm4_moe": _GLM4,
        "llama4_text": _LLAMA,
    }
)
"""Conventions by `model_type`."""
GENERIC = Family(mlp_matrices=None, norm_vectors=None, head_norms="use_qk_norm")
"""Reading of an unknown `model_type`: by its keys alone."""
