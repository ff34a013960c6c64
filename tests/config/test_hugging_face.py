"""Models from config.json files: published parameter counts, layers, and parts not expressed."""

import json
from pathlib import Path

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdse.config import ConfigError
from hwdse.config.design.model_and_task import load_model_file
from hwdse.config.importers.hugging_face import model_tables_of_config
from hwdse.config.importers.imported_file import file_stem
from hwdse.config.importers.model_families import FAMILIES
from hwdse.workload.transformer.dense_transformer import num_parameters

FACTS = Path(__file__).parents[1] / "data" / "hf"
FILES = sorted(FACTS.glob("*.json"))
LLAMA = json.loads((FACTS / "llama31_8b.json").read_text())


def published_counts():
    """Parameters by file, from the table of the data's README."""
    rows = [line.split("|") for line in (FACTS / "README.md").read_text().splitlines()]
    return {
        row[1].strip(): float(row[3].replace(",", ""))
        for row in rows
        if len(row) == 5 and (FACTS / f"{row[1].strip()}.json").exists()
    }


PUBLISHED = published_counts()
NOT_IN_MODEL = {"gpt_oss_20b": 24 * 64}
"""Parameters that are listed as not expressed: the sinks of gpt-oss, one per layer and head."""


def facts(name):
    return json.loads((FACTS / f"{name}.json").read_text())


def imported(name, **changes):
    return model_tables_of_config({**facts(name), **changes})


def per_layer(file, key):
    """Value of a key for each layer of an imported model."""
    model = file.tables["model"]
    entries = file.tables.get("layers", [{"count": model["num_layers"]}])
    period = [entry.get(key, model.get(key, 0)) for entry in entries for _ in range(entry["count"])]
    return [period[index % len(period)] for index in range(model["num_layers"])]


def test_every_file_has_a_published_count():
    assert sorted(PUBLISHED) == [path.stem for path in FILES]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_parameters_equal_the_published_count(name):
    model = load_model_file(FACTS / f"{name}.json").model
    with jax.enable_x64(True):
        found = float(num_parameters(model)) + NOT_IN_MODEL.get(name, 0)
    if name == "deepseek_v3":  # published with three digits
        assert found == pytest.approx(PUBLISHED[name], rel=5e-4)
    else:
        assert found == PUBLISHED[name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_value_has_an_origin(path):
    file = model_tables_of_config(path)
    assert {f"model.{key}" for key in file.tables["model"]} <= set(file.notes)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_key_of_a_known_family_is_unknown(path):
    assert json.loads(path.read_text())["model_type"] in FAMILIES
    assert not [line for line in model_tables_of_config(path).not_expressed if "unknown" in line]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deepseek_v3", ["num_nextn_predict_layers = 1", 'quantization_config = "fp8"']),
        ("gemma3_27b", ["vision_config = ", "mm_tokens_per_image = 256"]),
        ("gpt_oss_20b", ["sinks = true", 'quantization_config = "mxfp4"']),
        ("gemma2_9b", ["attn_logit_softcapping = 50", "final_logit_softcapping = 30"]),
        ("llama31_8b", []),
        ("qwen3_30b_a3b", []),
    ],
)
def test_parts_without_a_counterpart_are_named(name, words):
    lines = imported(name).not_expressed
    assert len(lines) == len(words)
    for word in words:
        assert any(line.startswith(word) and line.endswith(")") for line in lines)


def test_unknown_keys_are_named_with_their_value():
    lines = imported("llama31_8b", layer_widths=[1, 2]).not_expressed
    assert lines == ("layer_widths = [1, 2] (unknown key)",)


def test_five_of_six_layers_of_gemma_3_are_local():
    windows = per_layer(imported("gemma3_27b"), "sliding_window")
    assert windows == [0 if index % 6 == 5 else 1024 for index in range(62)]


def test_layer_types_decide_over_the_pattern():
    types = ["full_attention"] * 2 + ["sliding_attention"] * 30
    file = imported("llama31_8b", layer_types=types, sliding_window=512)
    assert per_layer(file, "sliding_window") == [0, 0] + [512] * 30


def test_other_types_of_attention_are_named():
    file = imported("llama31_8b", layer_types=["chunked_attention"] * 32)
    assert file.not_expressed == ('layer_types = "chunked_attention" (modeled as full attention)',)


def test_window_of_all_layers_is_a_field_of_the_model():
    file = imported("mistral_7b_v01")
    assert file.tables["model"]["sliding_window"] == 4096
    assert "layers" not in file.tables


def test_qwen_windows_need_their_switch():
    off = imported("qwen25_7b", max_window_layers=20)
    on = imported("qwen25_7b", max_window_layers=20, use_sliding_window=True)
    assert per_layer(off, "sliding_window") == [0] * 28
    assert per_layer(on, "sliding_window") == [0] * 20 + [131072] * 8


def test_query_key_value_biases_of_qwen_alone():
    model = imported("qwen25_7b").tables["model"]
    keys = ("num_bias", "num_qkv_bias", "num_output_bias", "num_mlp_bias")
    assert [model[key] for key in keys] == [0, 1, 0, 0]


def test_first_layers_of_deepseek_are_dense():
    file = imported("deepseek_v3")
    assert file.tables["model"]["num_dense_layers"] == 3
    assert "layers" not in file.tables


def test_dense_layers_between_mixtures():
    file = imported("qwen3_30b_a3b", decoder_sparse_step=2, mlp_only_layers=[3])
    experts = per_layer(file, "num_experts")
    assert experts == [128 if index % 2 == 1 and index != 3 else 0 for index in range(48)]


def parameters(path, config):
    path.write_text(json.dumps(config))
    with jax.enable_x64(True):
        return float(num_parameters(load_model_file(path).model))


def test_every_second_layer_with_experts_is_the_mean_of_all_and_none(tmp_path):
    path, config = tmp_path / "config.json", facts("qwen3_30b_a3b")
    all_layers = parameters(path, config)
    every_second = parameters(path, {**config, "decoder_sparse_step": 2})
    none = parameters(path, {**config, "num_experts": None})
    assert every_second == (all_layers + none) / 2.0


def test_llama_4_alternates_experts_of_another_width_and_a_shared_one():
    config = {**LLAMA, "model_type": "llama4_text", "intermediate_size": 8192}
    experts = {"num_local_experts": 128, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2}
    file = model_tables_of_config({**config, **experts, "intermediate_size_mlp": 16384})
    model = file.tables["model"]
    assert (model["feedforward"], model["expert_feedforward"]) == (16384, 8192)
    assert model["num_shared_experts"] == 1
    assert per_layer(file, "num_experts") == [0, 128] * 16


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["full_attention", "sliding_attention"]), min_size=1, max_size=40))
def test_layers_repeat_to_the_types_that_were_given(types):
    file = imported(
        "llama31_8b", num_hidden_layers=len(types), layer_types=types, sliding_window=64
    )
    expected = [64 if kind == "sliding_attention" else 0 for kind in types]
    assert per_layer(file, "sliding_window") == expected
    assert sum(entry["count"] for entry in file.tables.get("layers", [])) <= len(types)


def test_query_latent_is_optional():
    lite = imported("deepseek_v2_lite").tables["model"]
    assert "q_lora_rank" not in lite
    assert imported("deepseek_v3").tables["model"]["q_lora_rank"] == 1536


def test_shared_expert_width_in_units_of_an_expert():
    file = imported(
        "qwen3_30b_a3b", model_type="qwen2_moe", shared_expert_intermediate_size=4 * 768
    )
    assert file.tables["model"]["num_shared_experts"] == 4


def test_unknown_architecture_is_read_by_its_keys():
    known = imported("llama31_8b")
    unknown = imported("llama31_8b", model_type="llama_like", architectures=["NewForCausalLM"])
    assert unknown.tables["model"] == known.tables["model"]
    assert [line.partition(" = ")[0] for line in unknown.not_expressed] == ["model_type"]


def test_activation_without_a_gate_in_an_unknown_architecture():
    file = imported("llama31_8b", model_type="new", hidden_act="relu2", layer_norm_eps=1e-5)
    model = file.tables["model"]
    assert (model["num_mlp_matrices"], model["num_norm_vectors"]) == (2, 2)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model_type": "mamba", "state_size": 16}, "mamba"),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*-"}, "mamba"),
        ({"model_type": "jamba", "mamba_d_conv": 4}, "mamba_d_conv"),
        ({"layer_types": ["linear_attention", "full_attention"] * 16}, "linear_attention"),
        ({"model_type": "recurrent_gemma"}, "recurrent_gemma"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder"),
    ],
)
def test_models_without_attention_in_every_layer_are_refused(changes, word):
    with pytest.raises(ConfigError) as error:
        imported("llama31_8b", **changes)
    text = str(error.value)
    assert word in text
    assert "\n" not in text
    assert "not modeled" in text


def test_keys_of_unused_state_space_layers_are_no_reason_to_refuse():
    types = ["full_attention"] * 32
    file = imported("llama31_8b", layer_types=types, mamba_d_conv=4)
    assert file.tables["model"] == imported("llama31_8b").tables["model"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "4096"}, 'hidden_size = "4096": expected a whole number'),
        ({"hidden_size": 4096.5}, "hidden_size = 4096.5: expected a whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0: expected a whole number of at least 1"),
        ({"num_hidden_layers": float("nan")}, "num_hidden_layers = nan: expected"),
        ({"num_attention_heads": True}, "num_attention_heads = true: expected"),
        ({"attention_bias": "yes"}, 'attention_bias = "yes": expected true or false'),
        ({"text_config": 3}, "text_config = 3: expected a table"),
        ({"num_attention_heads": 48}, "head_dim is missing"),
        (
            {"layer_types": ["full_attention"]},
            "layer_types = ['full_attention']: expected 32 values",
        ),
        (
            {"num_local_experts": 4, "num_experts_per_tok": 2, "mlp_only_layers": 3},
            "mlp_only_layers = 3: expected a list",
        ),
    ],
)
def test_wrong_values_are_one_line_with_the_key(changes, expected):
    with pytest.raises(ConfigError) as error:
        imported("llama31_8b", **changes)
    assert f"config.json {expected}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "expected valid JSON"),
        ("[1, 2]", "expected a JSON object, found a list"),
        ("\xff", "hidden"),
        ("{}", "num_hidden_layers is missing"),
    ],
)
def test_files_that_are_no_config(tmp_path, text, expected):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as error:
        model_tables_of_config(path)
    assert str(error.value).startswith(str(path))
    assert expected in str(error.value) or "UTF-8" in str(error.value)


def test_title_is_that_of_the_file_or_its_folder(tmp_path):
    path = tmp_path / "Llama-3.1-8B" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(LLAMA))
    assert model_tables_of_config(path).tables["name"] == "Llama-3.1-8B"
    assert model_tables_of_config(path).name == "llama_3_1_8b"
    path.write_text(json.dumps({**LLAMA, "_name_or_path": "meta-llama/Llama-3.1-8B-Base"}))
    assert model_tables_of_config(path).tables["name"] == "Llama-3.1-8B-Base"
    assert model_tables_of_config(path, name="mine").tables["name"] == "mine"


@given(st.text(max_size=30))
def test_file_stems_are_file_names(title):
    stem = file_stem(title)
    assert stem
    assert stem.isascii()
    assert stem.replace("_", "a").isalnum()
