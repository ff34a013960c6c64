"""Models of the Neuron training benchmarks: config by name, and recomputation of the scripts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any

from hwdse.config import load_workload
from hwdse.workload.transformer.model_config import Transformer


@dataclass(frozen=True)
class NeuronModel:
    """A model of the benchmarks."""

    shape: Transformer
    is_causal: bool = True
    seq_len: float | None = None
    """Sequence length if fixed by the model: image patches and class token."""
    recompute: str = "full"
    """Recomputation of the neuronx-nemo-megatron script: full, selective (attention) or none."""


@dataclass(frozen=True)
class Named:
    """Model config by preset of configs/models, with replaced fields."""

    preset: str
    recompute: str = "full"
    fields: Mapping[str, float] = field(default_factory=dict)


def _gpt(num_layers: float, recompute: str) -> Named:
    """The GPT-3 shapes of hidden 8192 in the scripts gpt_23b.sh and gpt_46b.sh."""
    shape = {"num_layers": num_layers, "hidden": 8192.0, "feedforward": 32768.0}
    return Named("gpt3_175b", recompute, {**shape, "num_heads": 64.0, "num_kv_heads": 64.0})


DECODERS: Mapping[str, Named] = MappingProxyType(
    {
        # aws-neuron/neuronx-nemo-megatron, nemo/examples/nlp/language_modeling/gpt_*.sh, llama_*.sh
        "gpt36.7b": Named("gpt3_6_7b"),
        "gpt323b": _gpt(28.0, "selective"),
        "gpt346b": _gpt(56.0, "full"),
        "gpt3175b": Named("gpt3_175b", "selective"),
        "llama27b": Named("llama2_7b"),
        "llama213b": Named("llama2_13b"),
        "llama270b": Named("llama2_70b"),
        # Llama 3.1 has the shapes of Llama 3 (Llama 3 paper, table 3)
        "llama38b": Named("llama3_8b"),
        "llama370b": Named("llama3_70b"),
        "llama3.18b": Named("llama3_8b"),
        "llama3.170b": Named("llama3_70b"),
        "llama3.1405b": Named("llama3_405b"),
        # Salesforce/codegen25-7b-multi, config.json: Llama with a different vocabulary
        "codegen257b": Named("llama2_7b", fields={"vocabulary": 51200.0}),
        # EleutherAI/gpt-neox-20b and pythia-6.9b, config.json
        "gptneox20b": Named(
            "gpt3_6_7b",
            fields={
                "num_layers": 44.0,
                "hidden": 6144.0,
                "feedforward": 24576.0,
                "num_heads": 64.0,
                "num_kv_heads": 64.0,
                "head_dim": 96.0,
                "vocabulary": 50432.0,
                "num_positions": 0.0,
                "num_embeddings": 2.0,
            },
        ),
        "gptneox6.9b": Named(
            "gpt3_6_7b",
            fields={"vocabulary": 50432.0, "num_positions": 0.0, "num_embeddings": 2.0},
        ),
    }
)
"""Decoders by name in lower case without blanks and hyphens."""


def _encoder(num_layers: float, hidden: float, vocabulary: float, positions: float) -> Transformer:
    """Encoder with heads of 64, biases, GELU, an MLP of 4 times the width, LayerNorm."""
    return Transformer(
        num_layers=num_layers,
        hidden=hidden,
        feedforward=4.0 * hidden,
        num_heads=hidden / 64.0,
        num_kv_heads=hidden / 64.0,
        head_dim=64.0,
        vocabulary=vocabulary,
        num_positions=positions,
        num_mlp_matrices=2.0,
        num_embeddings=1.0,
        num_norm_vectors=2.0,
        num_bias=1.0,
    )


_BERT_WORDS = 30522.0
"""Vocabulary of bert-large-uncased. The Hugging Face model projects every position onto it, masked
or not, and the loss ignores the unmasked positions."""
_VIT_TOKENS = 197.0
"""Tokens of 224 x 224 pixels in patches of 16 x 16, and the class token."""

ENCODERS: Mapping[str, NeuronModel] = MappingProxyType(
    {
        # Devlin et al., arXiv 1810.04805, section 3
        "bertlarge": NeuronModel(_encoder(24.0, 1024.0, _BERT_WORDS, 512.0), False, None, "none"),
        "bertbase": NeuronModel(_encoder(12.0, 768.0, _BERT_WORDS, 512.0), False, None, "none"),
        # Dosovitskiy et al., arXiv 2010.11929, table 1. The embedding of a patch of 3 x 16 x 16
        # values is a square GEMM, represented by a vocabulary of 768.
        "vitbase": NeuronModel(
            _encoder(12.0, 768.0, 768.0, _VIT_TOKENS), False, _VIT_TOKENS, "none"
        ),
        "vitlarge": NeuronModel(
            _encoder(24.0, 1024.0, 768.0, _VIT_TOKENS), False, _VIT_TOKENS, "none"
        ),
    }
)
"""Encoders, with attention to all positions."""

UNEXPRESSED: Mapping[str, str] = MappingProxyType(
    {
        "clip": "CLIP: two encoders of different shape in one step",
        "visionperceiver": "Perceiver: cross-attention to an array of latents",
        "languageperceiver": "Perceiver: cross-attention to an array of latents",
    }
)
"""Reasons for families outside the model, by name prefix."""


def plain_name(model: str) -> str:
    """Model name without vendor, task, blanks and hyphens, as in the keys of this file."""
    words = re.sub(r"\(.*\)", "", model.lower())
    words = re.sub(r"\b(huggingface|hugging face|meta|amazon)\b", "", words)
    words = re.split(r"\b(?:continual|pre-?training|fine-?tuning|ph\d)\b", words)[0]
    return re.sub(r"[^a-z0-9.]", "", words)


@cache
def find_model(model: str) -> NeuronModel | None:
    """Model of that name in a benchmark; None if unknown."""
    name = plain_name(model)
    if name in ENCODERS:
        return ENCODERS[name]
    if name not in DECODERS:
        return None
    named = DECODERS[name]
    workload: Any = load_workload(named.preset)
    return NeuronModel(replace(workload.model, **named.fields), recompute=named.recompute)


def unexpressed_reason(model: str) -> str:
    """Reason why `find_model` returns None."""
    name = plain_name(model)
    for start, reason in UNEXPRESSED.items():
        if name.startswith(start):
            return reason
    return f"no shape for the model {model}"
