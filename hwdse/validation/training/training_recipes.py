"""Words of a recipe as fields of a design: number format, overlap, memory, CUDA graphs.

A word that a row does not have leaves the value of its stack.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from hwdse.specs.number_formats import PrecisionMix
from hwdse.specs.software import Software
from hwdse.validation.training.training_cells import cell_number, cell_text

OVERLAPS: Mapping[str, tuple[str, float, float]] = MappingProxyType(
    {
        "tp_overlap": ("num_tensor_slices", 4.0, 1.0),
        "dp_overlap": ("data_overlap_fraction", 1.0, 0.0),
        "moe_overlap": ("expert_overlap_fraction", 1.0, 0.0),
    }
)
"""Field of `Software` by the column that says whether a recipe overlaps its collectives, with its
values for true and false. Userbuffers of Transformer Engine split a product into four pieces
(`num_splits`)."""
CAPTURED: Mapping[str, float] = MappingProxyType(
    {"full_iteration": 1.0, "local full_iteration": 1.0, "mcore": 1.0, "none": 0.0, "": 0.0}
)
"""Fraction of the host's work that CUDA graphs replay, by the text of `cuda_graph`."""
CAPTURED_MODULES = 0.8
"""The same for graphs of single modules, as in `transformer_engine attn+moe_router`. Fitted on the
public rows of 2025-26: 0.8."""
GRAPHS_OF_SOURCE: Mapping[str, str] = MappingProxyType({"mlperf_training_5.1": "full_iteration"})
"""Text of `cuda_graph` of rows that have none: MLPerf submissions capture an iteration."""
COUNTED_BY_HOST = ("", "alltoall", "deepep")
"""Dispatchers whose host reads how many tokens each expert has before it issues the layer."""
DROPPED = "dropped"
"""Word of a note on recipes with a capacity per expert, whose shapes are fixed."""
ONCE_PER_NODE = ("hybridep", "deepep")
"""Dispatchers that send a token once to each scale-up domain."""
EIGHT_BIT, FOUR_BIT = "8", "fp4"
"""Parts of the names of number formats whose GEMMs run in eight and in four bits."""


def _overlaps_of(row: Mapping[str, str]) -> dict[str, float]:
    """Fields of the overlap that a recipe states."""
    cells = {column: cell_text(row, column) for column in OVERLAPS}
    return {
        field: value if cells[column] == "true" else otherwise
        for column, (field, value, otherwise) in OVERLAPS.items()
        if cells[column]
    }


MODULES: Mapping[str, str] = MappingProxyType(
    {
        "core_attn": "attention_recompute_fraction",
        "layernorm": "norm_recompute_fraction",
        "moe_act": "activation_recompute_fraction",
        "mlp": "mlp_recompute_fraction",
        "mla_up_proj": "projection_recompute_fraction",
    }
)
"""Field of `Parallelism` by the module of Megatron Core that a recipe recomputes."""
KEPT_TENSORS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "mlp_recompute_fraction": frozenset({"mlpwi"}),
        "norm_recompute_fraction": frozenset({"mlpwi"}),
        "output_recompute_fraction": frozenset({"out_proj"}),
        "attention_recompute_fraction": frozenset({"context", "out_proj"}),
    }
)
"""Tensors of MaxText of which one is enough that a module is not recomputed, for recipes that keep
queries, keys and values."""
_BLOCK = re.compile(r"block: (?P<layers>\d+) layer")
_OFFLOADED_LAYERS = re.compile(r"activations of (?P<layers>\d+) layers")


def recomputation_of(row: Mapping[str, str]) -> dict[str, float]:
    """Fractions of recomputed layers and modules, and of offloaded activations, of a recipe.

    Texts: modules of Megatron Core joined by `+`, a number of whole layers per stage, or the
    tensors that MaxText keeps on the device or on the host (`custom: query_proj=offload ...`).
    """
    text, fields = cell_text(row, "recompute_modules"), {}
    if text.startswith("custom:"):
        fields = _of_kept_tensors(dict(part.split("=") for part in text.split()[1:]))
    elif block := _BLOCK.match(text):
        stage = math.ceil(float(row["num_layers"]) / cell_number(row["pp"], 1.0))
        fields["recompute_fraction"] = min(float(block["layers"]) / stage, 1.0)
    else:
        fields = {MODULES[name]: 1.0 for name in text.split("+") if name in MODULES}
    if layers := _OFFLOADED_LAYERS.match(cell_text(row, "offload")):
        fields["offload_fraction"] = min(float(layers["layers"]) / float(row["num_layers"]), 1.0)
    return fields


def _of_kept_tensors(kept: Mapping[str, str]) -> dict[str, float]:
    """Recomputation and offload of a recipe of MaxText, by kept tensor and its place.

    Recipes that do not keep queries, keys and values recompute whole layers from their input.
    """
    fields = {"offload_fraction": float("offload" in kept.values())}
    if "query_proj" not in kept:
        return fields
    recomputed = {field: float(not tensors & set(kept)) for field, tensors in KEPT_TENSORS.items()}
    return {"recompute_fraction": 0.0, **recomputed, **fields}


@dataclass(frozen=True)
class ModelRecipe:
    """Properties of the recipes of a source for a model that the rows do not contain."""

    state_bytes: float = 12.0
    """Bytes of optimizer state per parameter: FP32 weights and moments."""
    activation_input_bytes: float = 2.0
    """Bytes per element of the saved inputs of activation functions."""
    num_loss_tiles: float = 1.0
    """Parts of the tokens for the loss."""
    prediction_modules: float = 0.0
    """Modules of multi-token prediction, for rows that do not state them."""


RECIPES: Mapping[tuple[str, str], ModelRecipe] = MappingProxyType(
    {
        # Moments in 16 bits (exp_avg_dtype, exp_avg_sq_dtype of the pre-training recipes).
        ("megatron_bridge", "deepseekv3"): ModelRecipe(state_bytes=8.0),
        ("megatron_bridge", "kimik2"): ModelRecipe(state_bytes=8.0),
        # mtp_num_layers = 2 of recipes/nemotronh; the printed rates of Ultra count two as well.
        **{
            ("megatron_bridge", name): ModelRecipe(prediction_modules=2.0)
            for name in ("nemotron3super", "nemotron3ultra", "nemotron3.5lightning")
        },
        # FP8_ACT = 1 of the configs without tensor parallelism.
        ("mlperf_training_5.1", "llama270b"): ModelRecipe(activation_input_bytes=1.0),
        # num_vocab_tiling = 16.
        ("tpu_recipes", "gemma3"): ModelRecipe(state_bytes=10.0, num_loss_tiles=16.0),
        # FP32 weights and moments, no stored 16-bit weights: two bytes less.
        ("tpu_recipes", ""): ModelRecipe(state_bytes=10.0),
    }
)
"""Recipes by source and start of the model's name, without hyphens; the first that fits counts."""


def recipe_of(row: Mapping[str, str]) -> ModelRecipe:
    """Recipe of the source of a row for its model."""
    name = row["model"].lower().replace("-", "")
    for (source, start), recipe in RECIPES.items():
        if row["source_id"] == source and name.startswith(start):
            return recipe
    return ModelRecipe()


def mix_of(row: Mapping[str, str], unstated: str) -> PrecisionMix:
    """Number formats of a row; `unstated` is the format of rows that name none."""
    name = row["number_format"] or unstated
    is_fp4, is_fp8 = FOUR_BIT in name, EIGHT_BIT in name
    return PrecisionMix(
        fp64_flop_fraction=0.0,
        fp8_flop_fraction=float(is_fp8),
        fp4_flop_fraction=float(is_fp4),
    )


def software_of(row: Mapping[str, str], software: Software) -> Software:
    """Stack with the overlap, the dispatcher and the memory of a recipe, without the host's work
    that its CUDA graphs replay.

    The host reads the tokens of each expert for all-to-alls of NCCL, unless tokens beyond a
    capacity are dropped or a graph holds the whole iteration.
    """
    recipe = recipe_of(row)
    graph = cell_text(row, "cuda_graph") or GRAPHS_OF_SOURCE.get(row["source_id"], "")
    captured = CAPTURED.get(graph, CAPTURED_MODULES)
    dispatcher = cell_text(row, "moe_dispatcher")
    reads_counts = dispatcher in COUNTED_BY_HOST and DROPPED not in cell_text(row, "note")
    return replace(
        software,
        dispatch_time_s=(1.0 - captured) * software.dispatch_time_s,
        expert_sync_s=float(reads_counts and captured < 1.0) * software.expert_sync_s,
        node_dispatch_fraction=(
            float(dispatcher in ONCE_PER_NODE) if dispatcher else software.node_dispatch_fraction
        ),
        activation_input_bytes=recipe.activation_input_bytes,
        num_loss_tiles=recipe.num_loss_tiles,
        **_overlaps_of(row),
    )
