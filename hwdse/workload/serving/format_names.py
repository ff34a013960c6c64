"""Number formats of a service by name."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from hwdse.specs.serving.engine import ServingFormats

_FP8 = ServingFormats(
    dense_bits=8.0,
    dense_math_bits=8.0,
    expert_bits=8.0,
    expert_math_bits=8.0,
    attention_bits=8.0,
    attention_math_bits=8.0,
)
FORMATS: Mapping[str, ServingFormats] = MappingProxyType(
    {
        "bf16": ServingFormats(),
        "fp8": _FP8,
        "fp8_kv8": dataclasses.replace(_FP8, kv_bits=8.0),
        "nvfp4": dataclasses.replace(
            _FP8,
            dense_bits=4.5,
            dense_math_bits=4.0,
            expert_bits=4.5,
            expert_math_bits=4.0,
            kv_bits=8.0,
        ),
        "mxfp4": ServingFormats(expert_bits=4.25, expert_math_bits=16.0),
        "int8_weights": ServingFormats(dense_bits=8.0, expert_bits=8.0, attention_bits=8.0),
        "int4_weights": ServingFormats(dense_bits=4.25, expert_bits=4.25, attention_bits=4.25),
    }
)
"""bf16: all 16-bit. fp8: all projections and MLPs in 8 bits; fp8_kv8: the KV cache as well. nvfp4:
MLPs in 4 bits with a scale per 16 elements, projections of the attention and KV cache in 8 bits.
mxfp4: experts in 4 bits with a scale per 32, products in 16 bits (gpt-oss). int8_weights,
int4_weights: weights alone."""
