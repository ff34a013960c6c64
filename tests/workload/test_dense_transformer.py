"""Laws of transformers: published parameter counts, FLOP by hand and by Calculon, activations."""

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
        (DEEPSEEK_V2, 235.7e9, 20.85e9),  # printed 236 and 21
        (DEEPSEEK_V3, 671.0e9, 36.6e9),  # README_WEIGHTS.md: 36.6, with the output head only
        (QWEN3, 235.1e9, 21.6e9),  # printed 235 and 22
        (PALM, 540.36e9, 540.36e9),  # printed 540.35
    ],
)
def test_parameters_of_mixtures_and_of_what_a_token_meets(model, total, active):
    assert num_parameters(model) == pytest.approx(total, rel=5e-4)
    assert num_active_parameters(model) == pytest.approx(active, rel=2e-3)


def test_megatron_models_have_the_size_of_their_formula():
    """Narayanan et al., arXiv 2104.04473, section 5: all but the final norm."""
    for layers, hidden, heads in ((24.0, 2304.0, 24.0), (128.0, 25600.0, 160.0)):
        model = gpt(layers, hidden, 4.0 * hidden, heads, hidden / heads, 51200.0)
        share = 1.0 + 13.0 / (12.0 * hidden) + (51200.0 + 2048.0) / (12.0 * layers * hidden)
        formula = 12.0 * layers * hidden**2 * share
        assert num_parameters(model) - 2.0 * hidden == pytest.approx(formula, rel=1e-12)


@pytest.mark.parametrize("model", [MIXTRAL, DEEPSEEK_V3, QWEN3])
def test_expert_and_tensor_ranks_hold_the_layer_together(model):
    whole = mixture_layer_parameters(model)
    experts = model.num_experts * 3.0 * model.hidden * model.expert_feedforward
    rank = mixture_layer_parameters(model, 1.0, 8.0)
    assert 8.0 * (rank - (whole - experts)) == pytest.approx(float(experts), rel=1e-12)
    cut = mixture_layer_parameters(model, 4.0, 2.0, 4.0)
    attention = attention_parameters(model, 4.0)
    router = model.num_experts * (model.hidden + model.num_router_bias)
    shared = model.num_shared_experts * 3.0 * model.hidden * model.expert_feedforward / 4.0
    assert cut == pytest.approx(float(attention + router + shared + experts / 8.0), rel=1e-12)


def test_the_fullest_stage_of_a_mixture_has_its_experts():
    whole = stage_parameters(DEEPSEEK_V3, 1.0, 1.0)
    assert whole == num_parameters(DEEPSEEK_V3) - DEEPSEEK_V3.hidden
    stage = stage_parameters(DEEPSEEK_V3, 1.0, 16.0, 64.0)
    layer = mixture_layer_parameters(DEEPSEEK_V3, 1.0, 64.0)
    assert stage == 4.0 * layer + 7168.0 * 129280.0


@pytest.mark.parametrize("name", sorted(MODELS))
def test_parameters_equal_the_published_count(name):
    model, published = MODELS[name]
    assert num_parameters(model) == published


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
def test_training_flop_is_six_a_weight_and_token_and_attention(model, fraction):
    job, micro_batch = training(model, 2048.0, fraction), 2.0
    tokens = 2048.0 * micro_batch
    layer_weights, head_weights = matrix_parameters(model)
    gemms, runs = decoder_gemms(job, LayerSharding(micro_batch), DENSE)
    width = model.num_heads * model.head_dim
    # Scores and values forward, two products each backward: 6 x 2 x s x width a token.
    attention_flop = 12.0 * fraction * job.seq_len * width * tokens
    flop = 2.0 * np.sum(runs.model * gemms.num_macs)
    assert flop == pytest.approx(6.0 * layer_weights * tokens + attention_flop, rel=1e-12)
    # The fused kernel forms the scores once more in its backward pass.
    repeated = 2.0 * np.sum(runs.total * gemms.num_macs) - flop
    assert repeated == pytest.approx(attention_flop / 6.0, rel=1e-9)
    head, _ = lm_head_gemms(job, LayerSharding(micro_batch))
    assert 2.0 * np.sum(head.num_macs) == pytest.approx(6.0 * head_weights * tokens, rel=1e-12)


def test_flop_is_narayanans_with_full_recomputation():
    """96 B s l h^2 (1 + s / 6h + V / 16 l h), 72 without the last pass over the layers
    (arXiv 2104.04473, section 3.1); scores of all pairs, kept in memory."""
    layers, hidden, seq_len, vocabulary, micro_batch = 96.0, 12288.0, 2048.0, 51200.0, 4.0
    model = gpt(layers, hidden, 4.0 * hidden, 96.0, 128.0, vocabulary)
    job = training(model, seq_len)
    flop = {}
    for again in (0.0, 1.0):
        cut = LayerSharding(micro_batch, recompute_fraction=again, fused_attention_fraction=0.0)
        gemms, runs = micro_batch_gemms(job, cut)
        repeats = jnp.where(runs.is_lm_head == 1.0, 1.0, layers)
        flop[again] = 2.0 * float(jnp.sum(repeats * runs.total * gemms.num_macs))
    scale = micro_batch * seq_len * layers * hidden**2
    head = 6.0 * vocabulary / (layers * hidden)
    attention = seq_len / (6.0 * hidden)
    assert flop[1.0] == pytest.approx(scale * (96.0 * (1.0 + attention) + head), rel=1e-12)
    assert flop[0.0] == pytest.approx(scale * (72.0 * (1.0 + attention) + head), rel=1e-12)


def test_recomputing_repeats_the_forward_pass():
    job = training(LLAMA3_70B)
    gemms, once = decoder_gemms(job, LayerSharding(), DENSE)
    _, twice = decoder_gemms(job, LayerSharding(recompute_fraction=1.0), DENSE)
    weights, _ = matrix_parameters(LLAMA3_70B)
    attention = 4.0 * job.seq_len * LLAMA3_70B.num_heads * LLAMA3_70B.head_dim
    forward_flop = (2.0 * weights + attention) * job.seq_len
    extra_flop = 2.0 * np.sum((twice.total - once.total) * gemms.num_macs)
    assert extra_flop == pytest.approx(forward_flop, rel=1e-12)
    assert np.array_equal(once.model, twice.model)


def test_elementwise_work_by_hand():
    job = training(GPT3_175B)
    gemms, runs = decoder_gemms(job, LayerSharding(), DENSE)
    elements = job.seq_len * GPT3_175B.hidden
    scores = job.seq_len**2 * GPT3_175B.num_heads
    norms, residuals = 2.0 * sum(NORM_FLOP) * elements, 2.0 * sum(RESIDUAL_FLOP) * elements
    activation = (8.0 + 13.0) * job.seq_len * GPT3_175B.feedforward
    softmax = (2.0 * SOFTMAX_FLOP[0] + SOFTMAX_FLOP[1]) * scores  # forward, repeated, backward
    total = np.sum(runs.total * gemms.vector_flop * gemms.count)
    assert total == pytest.approx(norms + residuals + activation + softmax, rel=1e-12)


@pytest.mark.parametrize("tensor", [2.0, 8.0])
def test_tensor_ranks_share_the_work_evenly(tensor):
    job = training(LLAMA3_70B)
    whole, runs = decoder_gemms(job, LayerSharding(), DENSE)
    part, _ = decoder_gemms(job, LayerSharding(tensor=tensor), DENSE)
    work = np.sum(runs.total * whole.num_macs), np.sum(runs.total * part.num_macs)
    assert work[1] * tensor == pytest.approx(float(work[0]), rel=1e-12)
    vector = [np.sum(runs.total * rows.vector_flop * rows.count) for rows in (whole, part)]
    assert vector[1] * tensor == pytest.approx(float(vector[0]), rel=1e-12)


def test_key_value_heads_are_copied_beyond_their_number():
    at_limit, beyond = layer_slice(LLAMA3_70B, 8.0), layer_slice(LLAMA3_70B, 32.0)
    assert at_limit.kv_width == beyond.kv_width == 2.0 * 128.0
    assert beyond.query_width == at_limit.query_width / 4.0
    copies = 32.0 * layer_parameters(LLAMA3_70B, 32.0) - layer_parameters(LLAMA3_70B)
    kv_weights = 8192.0 * 2.0 * 8.0 * 128.0
    norms = 2.0 * 8192.0
    assert copies == pytest.approx(3.0 * kv_weights + 31.0 * norms, rel=1e-9)


def test_copies_of_key_value_heads_are_no_useful_work():
    job = training(LLAMA3_70B)
    useful = []
    for tensor in (1.0, 8.0, 16.0, 64.0):
        gemms, runs = decoder_gemms(job, LayerSharding(tensor=tensor), DENSE)
        useful.append(float(np.sum(runs.model * gemms.num_macs) * tensor))
    assert useful == pytest.approx([useful[0]] * 4, rel=1e-12)


def test_stages_hold_layers_and_an_embedding():
    whole = stage_parameters(LLAMA3_70B, 1.0, 1.0)
    assert whole == num_parameters(LLAMA3_70B) - LLAMA3_70B.hidden  # without the final norm
    embedding = 8192.0 * 128256.0
    fullest = stage_parameters(LLAMA3_70B, 1.0, 3.0)  # 27, 27 and 26 layers
    assert fullest == 27.0 * layer_parameters(LLAMA3_70B) + embedding


# Calculon: numbers of another model ------------------------------------------------------------


def read(name):
    lines = [x for x in (DATA / name).read_text().splitlines() if not x.startswith("#")]
    return list(csv.DictReader(lines))


BLOCKS = {  # without overlap, which joins products with collectives
    row["row_id"]: row for row in read("calculon_public.csv") if row["tp_overlap"] == "none"
}
LINEAR = {  # our rows: those of Calculon
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
def test_weight_products_equal_calculon(row_id):
    _, job, tensor, micro_batch, flop = block_of(row_id)
    gemms, _ = decoder_gemms(job, LayerSharding(micro_batch, tensor), DENSE)
    for matrix, names in LINEAR.items():
        first = GEMM_NAMES.index(matrix)
        theirs = np.sum([flop[name] for name in names], axis=0)
        ours = 2.0 * gemms.num_macs[first : first + 3]
        assert np.array_equal(ours, theirs), names


@pytest.mark.parametrize("row_id", sorted(BLOCKS))
def test_attention_products_equal_calculon(row_id):
    _, job, tensor, micro_batch, flop = block_of(row_id)
    gemms, runs = decoder_gemms(job, LayerSharding(micro_batch, tensor), DENSE)
    theirs = np.array([flop["AttnBlock_Multihead_Key_Query"], flop["AttnBlock_Multihead_Attn"]])
    once = 2.0 * gemms.num_macs[CORE]
    assert np.array_equal(once, theirs[:, 0])
    # Backward Calculon counts two products of each kind; our rows have one like the scores (dP)
    # and three like the values (dV, dQ, dK), the same work.
    assert np.sum((runs.model[CORE] - 1.0) * once) == np.sum(theirs[:, 1:])
    # The fused kernel repeats the scores on top; Calculon keeps them in memory.
    assert np.array_equal((runs.total - runs.model)[CORE] * once, [theirs[0, 0], 0.0])


@pytest.mark.parametrize("row_id", sorted(set(BLOCKS) - {"pub0074"}))  # heads wider than hidden
def test_activations_are_korthikantis_without_scores_and_dropout(row_id):
    _, job, tensor, micro_batch, _ = block_of(row_id)
    whole, recomputed = kept_bytes(job, LayerSharding(micro_batch, tensor), DENSE)
    elements = job.seq_len * micro_batch * job.model.hidden / tensor
    log_sums = 4.0 * job.seq_len * micro_batch * job.model.num_heads / tensor
    # 34 s b h / t with sequence parallelism and recomputed scores (arXiv 2205.05198, section 5);
    # two of them are dropout masks, which today's models do not have.
    assert whole == pytest.approx((34.0 - 2.0) * elements + log_sums, rel=1e-12)
    assert recomputed == 2.0 * elements


@pytest.mark.parametrize("row_id", ["pub0001", "pub0003", "pub0005", "pub0007"])
def test_activations_lie_below_calculons_by_masks_and_scratch(row_id):
    # Sequence parallelism with recomputed scores, which is nearest to a fused kernel. Calculon
    # holds 34 s b h / t a block as above and the scratch of the one block that is running.
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


def test_gradients_by_every_number_of_the_model_are_finite():
    def work(job):
        cut = LayerSharding(tensor=8.0, recompute_fraction=0.5)
        gemms, runs = decoder_gemms(job, cut, DENSE)
        return (runs.total * gemms.num_macs).sum() + num_parameters(job.model)

    # 8 ranks on 8 key-value heads sit on the kink of the copies.
    slopes = jax.grad(work)(training(LLAMA3_70B))
    assert all(np.isfinite(x) for x in jax.tree.leaves(slopes))
