"""Presets and number formats of the models that measured servers run, by name and precision."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from hwdse.config.design.model_and_task import load_model_file
from hwdse.specs.serving.engine import ServingFormats
from hwdse.validation.shared.row_predictions import NoModelError
from hwdse.workload.transformer.model_config import Transformer

PRESETS: tuple[tuple[str, str], ...] = (
    ("codellama-13b", "llama2_13b"),
    ("codellama-34b", "llama2_34b"),
    ("deepseek-r1", "deepseek_v3"),
    ("deepseek-v3", "deepseek_v3"),
    ("gemma-3-12b", "gemma3_12b"),
    ("gemma-3-27b", "gemma3_27b"),
    ("gpt-oss-120b", "gpt_oss_120b"),
    ("gpt-oss-20b", "gpt_oss_20b"),
    ("internlm-20b", "internlm_20b"),
    ("kimi-k2", "kimi_k2"),
    ("llama-2-13b", "llama2_13b"),
    ("llama-2-70b", "llama2_70b"),
    ("llama-2-7b", "llama2_7b"),
    ("llama2-13b", "llama2_13b"),
    ("llama2-70b", "llama2_70b"),
    ("llama2-7b", "llama2_7b"),
    ("llama-3-70b", "llama3_70b"),
    ("llama-3-8b", "llama3_8b"),
    ("llama-3.1-405b", "llama3_405b"),
    ("llama-3.1-70b", "llama3_70b"),
    ("llama-3.1-8b", "llama3_8b"),
    ("llama-3.3-70b", "llama3_70b"),
    ("llama-4-maverick", "llama4_maverick"),
    ("llama-4-scout", "llama4_scout"),
    ("minimax-m2", "minimax_m2_5"),
    ("mistral-nemo", "mistral_nemo_12b"),
    ("mixtral-8x22b", "mixtral_8x22b"),
    ("mixtral-8x7b", "mixtral_8x7b"),
    ("nemotron-nano-12b", "nemotron_nano_12b_v2"),
    ("nemotron-nano-9b", "nemotron_nano_9b_v2"),
    ("qwen2.5-14b", "qwen2_5_14b"),
    ("qwen2.5-32b", "qwen2_5_32b"),
    ("qwen2.5-7b", "qwen2_5_7b"),
    ("qwen3-14b", "qwen3_14b"),
    ("qwen3-235b", "qwen3_235b_a22b"),
    ("qwen3-30b", "qwen3_30b_a3b"),
    ("qwen3-32b", "qwen3_32b"),
    ("qwen3-8b", "qwen3_8b"),
    ("qwen3-coder-30b", "qwen3_30b_a3b"),
    ("qwen3-coder-480b", "qwen3_coder_480b_a35b"),
    ("qwen3.5-397b", "qwen3_5_397b_a17b"),
)
"""Part of a model's name in reference files, and its preset in configs/models."""
ATTENTION_16 = {"attention_bits": 16.0, "attention_math_bits": 16.0}
MXFP4 = {"expert_bits": 4.25}
"""MXFP4: a scale of 8 bits per 32 elements (OCP Microscaling Formats)."""
NVFP4_BITS = 4.5
"""NVFP4: a scale of 8 bits per 16 elements (NVIDIA, arXiv 2509.25149)."""
KEPT_WIDE: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        # Llama 3 paper, section 6.2: MLPs alone
        "llama3_405b fp8": ATTENTION_16,
        # model card: routed experts alone
        "llama4_maverick fp8": {**ATTENTION_16, "dense_bits": 16.0, "dense_math_bits": 16.0},
    }
)
"""Parts of published low-precision checkpoints that stay in 16 bits, by preset and precision."""


def preset_of_model(name: str) -> str:
    """Preset of a model by its name in a reference file."""
    text = name.lower()
    for part, preset in PRESETS:
        if part in text:
            return preset
    raise NoModelError("no preset of this model")


@cache
def served_model(preset: str) -> Transformer:
    """Model of a preset."""
    return load_model_file(preset).model


def served_formats(preset: str, precision: str, *, has_fp4: bool, kv_bits: float) -> ServingFormats:
    """Formats of a checkpoint of a model in a precision.

    FP8: all matrices but router, embedding and LM head. FP4: of mixtures the experts and dense
    MLPs, whose published checkpoints keep attention in 16 bits; of dense models all matrices. The
    experts of gpt-oss are MXFP4 in any precision, with 16-bit products on chips without FP4 units.
    """
    kind = precision.lower()
    if kind not in ("", "bf16", "fp16", "bfloat16", "fp8", "fp4", "nvfp4", "mxfp4"):
        raise NoModelError(f"precision {precision}: no formats")
    formats = ServingFormats(kv_bits=kv_bits)
    if preset.startswith("gpt_oss"):
        return dataclasses.replace(formats, **MXFP4, expert_math_bits=8.0 if has_fp4 else 16.0)
    if kind == "fp8":
        eight = {f"{part}_{end}": 8.0 for part in _PARTS for end in ("bits", "math_bits")}
        return dataclasses.replace(formats, **{**eight, **KEPT_WIDE.get(f"{preset} fp8", {})})
    if kind in ("fp4", "nvfp4"):
        four = {f"{part}_bits": NVFP4_BITS for part in _PARTS}
        math = {f"{part}_math_bits": 4.0 for part in _PARTS}
        is_mixture = any(k.is_mixture for kinds in served_model(preset).kinds for k in kinds)
        return dataclasses.replace(
            formats, **{**four, **math, **(ATTENTION_16 if is_mixture else {})}
        )
    return formats


_PARTS = ("dense", "expert", "attention")
