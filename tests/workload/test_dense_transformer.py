"""Transformers: published parameter counts, FLOP by hand and by Calculon, activations."""

import csv
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.trained_models import (
    DEEPSEEK_V2,
    DEEPSEEK_V3,
    GPT3_175B,
    LLAMA3_70B,
    MIXTRAL,
    MODELS,
    PALM,
    QWEN3,
    gpt,
    training,
)

from hwdse.workload.transformer.decoder_layer import decoder_gemms, kept_bytes
from hwdse.workload.transformer.dense_transformer import (
    NORM_FLOP,
    RESIDUAL_FLOP,
    SOFTMAX_FLOP,
    attention_parameters,
    layer_parameters,
    layer_slice,
    mixture_layer_parameters,
    num_active_parameters,
    num_parameters,
    stage_parameters,
)
from hwdse.workload.transformer.gemm_groups import LayerSharding
from hwdse.workload.transformer.micro_batch_gemms import (
    GEMM_NAMES,
    lm_head_gemms,
    micro_batch_gemms,
)
from hwdse.workload.transformer.model_config import LayerKind

DATA = Path(__file__).parents[1] / "data"
DENSE = LayerKind(is_latent=False, is_mixture=False)
CORE = slice(GEMM_NAMES.index("scores"), GEMM_NAMES.index("values") + 1)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize(
    ("model", "total", "active"),
    [
        (MIXTRAL, 46.7e9, 12.75e9),  # 12.88e9 with the input embedding
        (DEEPSEEK_V2, 235.7e9, 20.85e9),  # published 236 and 21
        (DEEPSEEK_V3, 671.0e9, 36.6e9),  # README_WEIGHTS.md: 36.6, with the output head only
        (QWEN3, 235.1e9, 21.6e9),  # published 235 and 22
        (PALM, 540.36e9, 540.36e9),  # published 540.35
    ],
)
def test_total_and_active_parameters_equal_published_counts(model, total, active):
    assert num_parameters(model) == pytest.approx(total, rel=5e-4)
    assert num_active_parameters(model) == pytest.approx(active, rel=2e-3)


def test_megatron_models_have_the_published_size_formula():
    """Narayanan et al., arXiv 2104.04473, section 5: all parameters except the final norm."""
    for layers, hidden, heads in ((24.0, 2304.0, 24.0), (128.0, 25600.0, 160.0)):
        model = gpt(layers, hidden, 4.0 * hidden, heads, hidden / heads, 51200.0)
        share = 1.0 + 13.0 / (12.0 * hidden) + (51200.0 + 2048.0) / (12.0 * layers * hidden)
        formula = 12.0 * layers * hidden**2 * share
        assert num_parameters(model) - 2.0 * hidden == pytest.approx(formula, rel=1e-12)


@pytest.mark.parametrize("model", [MIXTRAL, DEEPSEEK_V3, QWEN3])
def test_expert_and_tensor_shards_add_up_to_the_layer(model):
    full = mixture_layer_parameters(model)
    experts = model.num_experts * 3.0 * model.hidden * model.expert_feedforward
    rank = mixture_layer_parameters(model, 1.0, 8.0)
    assert 8.0 * (rank - (full - experts)) == pytest.approx(float(experts), rel=1e-12)
    sharded = mixture_layer_parameters(model, 4.0, 2.0, 4.0)
    attention = attention_parameters(model, 4.0)
    router = model.num_experts * (model.hidden + model.num_router_bias)
    shared = model.num_shared_experts * 3.0 * model.hidden * model.expert_feedforward / 4.0
    assert sharded == pytest.approx(float(attention + router + shared + experts / 8.0), rel=1e-12)


def test_most_loaded_stage_has_the_layers_with_most_parameters():
    """61 layers in 16 stages: 4 layers with experts, or the 3 dense ones and one with experts."""
    single, experts = stage_parameters(DEEPSEEK_V3, 1.0, 1.0)
    assert single == num_parameters(DEEPSEEK_V3) - DEEPSEEK_V3.hidden
    assert experts == 58.0 * 256.0 * 3.0 * 7168.0 * 2048.0
    embedding, dense = 7168.0 * 129280.0, layer_parameters(DEEPSEEK_V3)
    mixture = mixture_layer_parameters(DEEPSEEK_V3, 1.0, 8.0)  # 32 experts on a rank
    assert stage_parameters(DEEPSEEK_V3, 1.0, 16.0, 8.0)[0] == 4.0 * mixture + embedding
    mixture = mixture_layer_parameters(DEEPSEEK_V3, 1.0, 64.0)  # 4 experts, fewer than 9
    first = 3.0 * dense + mixture + embedding
    assert stage_parameters(DEEPSEEK_V3, 1.0, 16.0, 64.0)[0] == first


@pytest.mark.parametrize("name", sorted(MODELS))
def test_parameters_equal_the_published_count(name):
    model, published = MODELS[name]
    assert num_parameters(model) == published


def test_biases_of_some_matrices_alone():
    """Published differences: 28 layers of (16384 + 4096) and 50400; 28 layers of 3584 + 2 x 512."""
    for name, added, fields in (
        ("gpt-j-6b", 623_840, ("num_mlp_bias", "num_lm_head_bias")),
        ("qwen2.5-7b", 129_024, ("num_qkv_bias",)),
    ):
        model, published = MODELS[name]
        assert published - num_parameters(model.replace(**dict.fromkeys(fields, 0.0))) == added


def test_biases_of_all_matrices_are_those_of_each():
    names = ("num_qkv_bias", "num_output_bias", "num_mlp_bias")
    for model in (GPT3_175B, MIXTRAL.replace(num_bias=1.0), DEEPSEEK_V3.replace(num_bias=1.0)):
        without = num_parameters(model.replace(num_bias=0.0))
        each = [num_parameters(model.replace(num_bias=0.0, **{n: 1.0})) - without for n in names]
        assert min(each) > 0.0
        assert sum(each) == num_parameters(model) - without
        none = model.replace(**dict.fromkeys(names, 0.0))
        assert num_parameters(none) == without


def test_gpt3_has_its_published_size():
    # The paper rounds to 174.6e9; GPT-2's vocabulary, positions and biases give 174,604,259,328
    # with the final norm, 0.002 % more.
    assert num_parameters(GPT3_175B) == pytest.approx(174.6e9, rel=1e-4)
    assert num_parameters(GPT3_175B) == 174_604_259_328


def matrix_parameters(model):
    """Weights of the matrices of a layer and of the vocabulary projection, by hand."""
    width = model.num_heads * model.head_dim
    kv_width = 2.0 * model.num_kv_heads * model.head_dim
    layer = model.hidden * (2.0 * width + kv_width + model.num_mlp_matrices * model.feedforward)
    return layer, model.hidden * model.vocabulary


@pytest.mark.parametrize("model", [LLAMA3_70B, GPT3_175B], ids=["llama3-70b", "gpt3"])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_training_flop_is_six_per_weight_and_token_plus_attention(model, fraction):
    job, micro_batch = training(model, 2048.0, fraction), 2.0
    tokens = 2048.0 * micro_batch
    layer_weights, head_weights = matrix_parameters(model)
    gemms, executions = decoder_gemms(job, LayerSharding(micro_batch), DENSE)
    width = model.num_heads * model.head_dim
    # Scores and values forward, two GEMMs each backward: 6 x 2 x s x width per token.
    attention_flop = 12.0 * fraction * job.seq_len * width * tokens
    flop = 2.0 * np.sum(executions.model * gemms.num_macs)
    assert flop == pytest.approx(6.0 * layer_weights * tokens + attention_flop, rel=1e-12)
    # The fused kernel repeats the scores in its backward pass.
    repeated = 2.0 * np.sum(executions.total * gemms.num_macs) - flop
    assert repeated == pytest.approx(attention_flop / 6.0, rel=1e-9)
    head, _ = lm_head_gemms(job, LayerSharding(micro_batch))
    assert 2.0 * np.sum(head.num_macs) == pytest.approx(6.0 * head_weights * tokens, rel=1e-12)


def test_flop_with_full_recomputation_equals_narayanan():
    """96 B s l h^2 (1 + s / 6h + V / 16 l h), 72 without the last pass over the layers
    (arXiv 2104.04473, section 3.1); scores of all pairs, kept in HBM."""
    layers, hidden, seq_len, vocabulary, micro_batch = 96.0, 12288.0, 2048.0, 51200.0, 4.0
    model = gpt(layers, hidden, 4.0 * hidden, 96.0, 128.0, vocabulary)
    job = training(model, seq_len)
    flop = {}
    for recompute in (0.0, 1.0):
        sharding = LayerSharding(
            micro_batch, recompute_fraction=recompute, fused_attention_fraction=0.0
        )
        gemms, executions, _ = micro_batch_gemms(job, sharding)
        repeats = jnp.where(executions.is_lm_head == 1.0, 1.0, layers)
        flop[recompute] = 2.0 * float(jnp.sum(repeats * executions.total * gemms.num_macs))
    scale = micro_batch * seq_len * layers * hidden**2
    head = 6.0 * vocabulary / (layers * hidden)
    attention = seq_len / (6.0 * hidden)
    assert flop[1.0] == pytest.approx(scale * (96.0 * (1.0 + attention) + head), rel=1e-12)
    assert flop[0.0] == pytest.approx(scale * (72.0 * (1.0 + attention) + head), rel=1e-12)


def test_full_recomputation_repeats_the_forward_pass():
    job = training(LLAMA3_70B)
    gemms, once = decoder_gemms(job, LayerSharding(), DENSE)
    _, twice = decoder_gemms(job, LayerSharding(recompute_fraction=1.0), DENSE)
    weights, _ = matrix_parameters(LLAMA3_70B)
    attention = 4.0 * job.seq_len * LLAMA3_70B.num_heads * LLAMA3_70B.head_dim
    forward_flop = (2.0 * weights + attention) * job.seq_len
    extra_flop = 2.0 * np.sum((twice.total - once.total) * gemms.num_macs)
    assert extra_flop == pytest.approx(forward_flop, rel=1e-12)
    assert np.array_equal(once.model, twice.model)


def test_elementwise_work_equals_hand_calculation():
    job = training(GPT3_175B)
    gemms, executions = decoder_gemms(job, LayerSharding(), DENSE)
    elements = job.seq_len * GPT3_175B.hidden
    scores = job.seq_len**2 * GPT3_175B.num_heads
    norms, residuals = 2.0 * sum(NORM_FLOP) * elements, 2.0 * sum(RESIDUAL_FLOP) * elements
    activation = (8.0 + 13.0) * job.seq_len * GPT3_175B.feedforward
    softmax = (2.0 * SOFTMAX_FLOP[0] + SOFTMAX_FLOP[1]) * scores  # forward, repeated, backward
    total = np.sum(executions.total * gemms.vector_flop * gemms.count)
    assert total == pytest.approx(norms + residuals + activation + softmax, rel=1e-12)


@pytest.mark.parametrize("tensor", [2.0, 8.0])
def test_tensor_ranks_have_equal_work(tensor):
    job = training(LLAMA3_70B)
    full, executions = decoder_gemms(job, LayerSharding(), DENSE)
    part, _ = decoder_gemms(job, LayerSharding(tensor=tensor), DENSE)
    work = np.sum(executions.total * full.num_macs), np.sum(executions.total * part.num_macs)
    assert work[1] * tensor == pytest.approx(float(work[0]), rel=1e-12)
    vector = [np.sum(executions.total * gemms.vector_flop * gemms.count) for gemms in (full, part)]
    assert vector[1] * tensor == pytest.approx(float(vector[0]), rel=1e-12)


def test_key_value_heads_are_replicated_beyond_their_number():
    at_limit, beyond = layer_slice(LLAMA3_70B, 8.0), layer_slice(LLAMA3_70B, 32.0)
    assert at_limit.kv_width == beyond.kv_width == 2.0 * 128.0
    assert beyond.query_width == at_limit.query_width / 4.0
    copies = 32.0 * layer_parameters(LLAMA3_70B, 32.0) - layer_parameters(LLAMA3_70B)
    kv_weights = 8192.0 * 2.0 * 8.0 * 128.0
    norms = 2.0 * 8192.0
    assert copies == pytest.approx(3.0 * kv_weights + 31.0 * norms, rel=1e-9)


def test_replicas_of_key_value_heads_are_not_model_flop():
    job = training(LLAMA3_70B)
    model_macs = []
    for tensor in (1.0, 8.0, 16.0, 64.0):
        gemms, executions = decoder_gemms(job, LayerSharding(tensor=tensor), DENSE)
        model_macs.append(float(np.sum(executions.model * gemms.num_macs) * tensor))
    assert model_macs == pytest.approx([model_macs[0]] * 4, rel=1e-12)


def test_stage_parameters_are_layers_and_one_embedding():
    single, experts = stage_parameters(LLAMA3_70B, 1.0, 1.0)
    assert experts == 0.0
    assert single == num_parameters(LLAMA3_70B) - LLAMA3_70B.hidden  # without the final norm
    embedding = 8192.0 * 128256.0
    most_loaded, _ = stage_parameters(LLAMA3_70B, 1.0, 3.0)  # 27, 27 and 26 layers
    assert most_loaded == 27.0 * layer_parameters(LLAMA3_70B) + embedding


# Comparison with Calculon -----------------------------------------------------------------------


def read(name):
    lines = [x for x in (DATA / name).read_text().splitlines() if not x.startswith("#")]
    return list(csv.DictReader(lines))


BLOCKS = {  # without overlap, which combines GEMMs with collectives
    row["row_id"]: row for row in read("calculon_public.csv") if row["tp_overlap"] == "none"
}
LINEAR = {  # GEMM names: names in Calculon
    "qkv": ("AttnBlock_Query", "AttnBlock_Key", "AttnBlock_Value"),
    "out": ("AttnBlock_MLP",),
    "up": ("MlpBlock_Mlp1",),
    "down": ("MlpBlock_Mlp2",),
}


def block_of(row_id):
    row = BLOCKS[row_id]
    shape = ("num_layers", "hidden", "feedforward", "num_heads", "head_dim")
    model = gpt(*(float(row[name]) for name in shape))
    job = training(model, float(row["seq_len"]))
    flop = {
        layer["layer"]: [
            float(layer[name])
            for name in ("forward_flop", "activation_grad_flop", "weight_grad_flop")
        ]
        for layer in read("calculon_layers_public.csv")
        if layer["row_id"] == row_id
    }
    return row, job, float(row["tp"]), float(row["micro_batch"]), flop


@pytest.mark.parametrize("row_id", sorted(BLOCKS))
def test_weight_gemms_equal_calculon(row_id):
    _, job, tensor, micro_batch, flop = block_of(row_id)
    gemms, _ = decoder_gemms(job, LayerSharding(micro_batch, tensor), DENSE)
    for matrix, names in LINEAR.items():
        first = GEMM_NAMES.index(matrix)
        theirs = np.sum([flop[name] for name in names], axis=0)
        ours = 2.0 * gemms.num_macs[first : first + 3]
        assert np.array_equal(ours, theirs), names


@pytest.mark.parametrize("row_id", sorted(BLOCKS))
def test_attention_gemms_equal_calculon(row_id):
    _, job, tensor, micro_batch, flop = block_of(row_id)
    gemms, executions = decoder_gemms(job, LayerSharding(micro_batch, tensor), DENSE)
    theirs = np.array([flop["AttnBlock_Multihead_Key_Query"], flop["AttnBlock_Multihead_Attn"]])
    once = 2.0 * gemms.num_macs[CORE]
    assert np.array_equal(once, theirs[:, 0])
    # Backward, Calculon counts two GEMMs of each kind. Here one has the shape of the scores (dP)
    # and three that of the values (dV, dQ, dK): the same work.
    assert np.sum((executions.model[CORE] - 1.0) * once) == np.sum(theirs[:, 1:])
    # The fused kernel also repeats the scores; Calculon keeps them in HBM.
    assert np.array_equal((executions.total - executions.model)[CORE] * once, [theirs[0, 0], 0.0])


@pytest.mark.parametrize("row_id", sorted(set(BLOCKS) - {"pub0074"}))  # heads wider than hidden
def test_activations_equal_korthikanti_without_scores_and_dropout(row_id):
    _, job, tensor, micro_batch, _ = block_of(row_id)
    full, recomputed = kept_bytes(job, LayerSharding(micro_batch, tensor), DENSE)
    elements = job.seq_len * micro_batch * job.model.hidden / tensor
    log_sums = 4.0 * job.seq_len * micro_batch * job.model.num_heads / tensor
    # 34 s b h / t with sequence parallelism and recomputed scores (arXiv 2205.05198, section 5);
    # two of these bytes are dropout masks, which are not modeled.
    assert full == pytest.approx((34.0 - 2.0) * elements + log_sums, rel=1e-12)
    assert recomputed == 2.0 * elements


@pytest.mark.parametrize("row_id", ["pub0001", "pub0003", "pub0005", "pub0007"])
def test_activations_are_below_calculon_by_masks_and_scratch(row_id):
    # Sequence parallelism with recomputed scores, the closest to a fused kernel. Calculon keeps
    # 34 s b h / t per block as above, and the scratch of the executed block.
    row, job, tensor, micro_batch, _ = block_of(row_id)
    pipeline, virtual_pipeline = float(row["pp"]), float(row["pp_interleave"])
    in_flight = min(float(row["global_batch"]) / float(row["dp"]) / micro_batch, pipeline)
    if virtual_pipeline > 1.0:
        in_flight *= 1.0 + (pipeline - 1.0) / (virtual_pipeline * pipeline)
    blocks = np.ceil(float(row["num_layers"]) / pipeline) * in_flight
    ratio = float(row["activation_bytes"]) / (
        blocks * kept_bytes(job, LayerSharding(micro_batch, tensor), DENSE)[0]
    )
    assert 34.0 / 32.0 < ratio < 1.16


def test_gradients_by_every_model_field_are_finite():
    def work(job):
        sharding = LayerSharding(tensor=8.0, recompute_fraction=0.5)
        gemms, executions = decoder_gemms(job, sharding, DENSE)
        return (executions.total * gemms.num_macs).sum() + num_parameters(job.model)

    # 8 ranks on 8 key-value heads are at the kink where copies begin.
    slopes = jax.grad(work)(training(LLAMA3_70B))
    assert all(np.isfinite(x) for x in jax.tree.leaves(slopes))
