"""`[[layers]]` of model files, numbers that change the kinds of layers, impossible models."""

from pathlib import Path

import jax
import pytest

from hwdse.config import ConfigError, load_search, load_workload
from hwdse.evaluation import evaluate_exact
from hwdse.workload.transformer.dense_transformer import num_parameters

MODEL = """
name = "small"

[model]
num_layers = 12
hidden = 512
feedforward = 2048
num_heads = 8
num_kv_heads = 4
head_dim = 64
vocabulary = 32000
num_positions = 0
num_mlp_matrices = 3
num_embeddings = 2
num_norm_vectors = 1
num_bias = 0
"""
LOCAL = "\n[[layers]]\ncount = 5\nsliding_window = 256\n"
GLOBAL = "\n[[layers]]\ncount = 1\n"
EXPERTS = "num_experts = 8\nexperts_per_token = 2\nexpert_feedforward = 1024\n"
TASK = "\n[pretraining]\nseq_len = 1024\nglobal_batch = 64\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def job_of(text):
    Path("small.toml").write_text(text + TASK)
    return load_workload("small.toml")


def test_tables_of_layers_have_the_fields_that_differ():
    model = job_of(MODEL + LOCAL + GLOBAL).model
    local, rest = model.layers
    assert local.given() == {"sliding_window": 256.0}
    assert rest.given() == {}
    assert [entry.count for entry in model.layers] == [5.0, 1.0]
    assert [layer.sliding_window for layer in model.layer_models] == [256.0, 0.0]


def test_dense_layers_of_a_mixture_need_one_key():
    tables = "\n[[layers]]\ncount = 2\nnum_experts = 0\n\n[[layers]]\ncount = 10\n"
    listed = job_of(MODEL + EXPERTS + tables).model
    first = job_of(f"{MODEL}{EXPERTS}num_dense_layers = 2\n").model
    with jax.enable_x64(True):
        assert num_parameters(listed) == num_parameters(first)
    assert [kind.is_mixture for (kind,) in listed.kinds] == [False, True]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (MODEL + LOCAL + "\n[[layers]]\ncount = 6\n",
         r"small.toml \[layers 2\] count = 6: expected counts that add up to num_layers, 12, or "
         "to at most half of it for a list that is repeated; all tables have 11"),
        (MODEL + LOCAL + "num_layers = 3\n",
         r"small.toml \[layers 1\] num_layers = 3: expected one of the keys"),
        (MODEL + "\n[[layers]]\nsliding_window = 256\n",
         r"small.toml \[layers 1\] count is missing"),
        (MODEL + "\n[[layers]]\ncount = 1.5\n", r"\[layers 1\] count = 1.5: expected a whole"),
        (MODEL + EXPERTS + "num_dense_layers = 2\n" + LOCAL + GLOBAL,
         r"\[model\] num_dense_layers = 2: expected 0 or left out beside \[\[layers\]\]"),
        (MODEL + LOCAL + "num_kv_heads = 3\n" + GLOBAL,
         r"\[layers 1\] num_kv_heads = 3: expected a divisor of num_heads, 8"),
        (MODEL + LOCAL + "num_experts = 8\n" + GLOBAL,
         r"\[layers 1\] experts_per_token = 0: expected a whole number from 1"),
        (MODEL + LOCAL + "num_qkv_bias = 2\n" + GLOBAL,
         r"\[layers 1\] num_qkv_bias = 2: expected 0 or 1"),
        (MODEL.replace("num_mlp_matrices = 3", "num_mlp_matrices = 17"),
         r"\[model\] num_mlp_matrices = 17: expected 2 or 3"),
    ],
)  # fmt: skip
def test_impossible_models_are_refused_in_one_line(text, error):
    with pytest.raises(ConfigError, match=error) as caught:
        job_of(text)
    assert "\n" not in str(caught.value)


SEARCH = """
title = "Upcycled"

[design]
system = "dgx_h100"
num_systems = 1
model = "small.toml"
software = "megatron_core"
checkpoint_interval = "60 min"

[design.mix]
fp64_flop_fraction = 0
fp8_flop_fraction = 0

[design.parallelism]
tensor = 1
pipeline = 1
micro_batch = 1
recompute_fraction = 0
tensor_overlap_fraction = 0

[objective]
minimize = "time_per_token"
"""
UPCYCLED = {"num_experts": 8, "experts_per_token": 2, "expert_feedforward": 1024}


def test_a_mixture_by_set_or_overrides_is_that_of_a_file():
    """Experts of a dense model, and a window, given after the file was read."""
    job_of(MODEL + EXPERTS + "sliding_window = 128\n")
    Path("x.toml").write_text(SEARCH)
    expected = evaluate_exact(*(lambda x: (x.base, x.workload))(load_search("x.toml")))
    job_of(MODEL)
    changes = {**UPCYCLED, "sliding_window": 128}
    sets = [f"workload.model.{name}={value}" for name, value in changes.items()]
    by_set = load_search("x.toml", sets)
    lines = "".join(f"{name} = {value}\n" for name, value in changes.items())
    Path("x.toml").write_text(f"{SEARCH}\n[overrides.workload.model]\n{lines}")
    by_table = load_search("x.toml")
    for found in (by_set, by_table):
        assert evaluate_exact(found.base, found.workload) == expected
    back = load_search("x.toml", [f"workload.model.{name}=0" for name in changes])
    dense = load_workload("small.toml")
    assert back.workload.model == dense.model
    assert back.workload.model.kinds == dense.model.kinds


def test_fields_of_a_table_of_layers_can_be_set():
    job_of(MODEL + LOCAL + GLOBAL)
    Path("x.toml").write_text(SEARCH)
    paths = ["workload.model.layers.0.sliding_window=512", "workload.model.layers.1.num_experts=4"]
    paths += ["workload.model.layers.1.experts_per_token=1"]
    paths += ["workload.model.layers.1.expert_feedforward=256"]
    model = load_search("x.toml", paths).workload.model
    assert model.layers[0].sliding_window == 512.0
    assert [kind.is_mixture for (kind,) in model.kinds] == [False, True]
