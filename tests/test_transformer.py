"""Laws of transformers: published parameter counts, FLOP by hand and by Calculon, activations."""

import csv
from pathlib import Path

import jax
import numpy as np
import pytest

from hwdse.workload.transformer import (
    NORM_FLOP,
    RESIDUAL_FLOP,
    SOFTMAX_FLOP,
    Transformer,
    TransformerTraining,
    head_gemms,
    layer_activation_bytes,
    layer_gemms,
    layer_parameters,
    layer_slice,
    num_parameters,
    stage_parameters,
)

DATA = Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def llama(layers, hidden, feedforward, heads, kv_heads, vocabulary):
    """A model of the Llama family: rotary positions, RMSNorm, gated MLP, no biases."""
    head_dim = hidden / heads
    return Transformer(
        layers, hidden, feedforward, heads, kv_heads, head_dim, vocabulary, 0.0, 3.0, 2.0, 1.0, 0.0
    )


def gpt(layers, hidden, feedforward, heads, head_dim, vocabulary=50257.0, positions=2048.0):
    """A model of the GPT family: learned positions, LayerNorm, plain MLP, biases."""
    return Transformer(
        layers,
        hidden,
        feedforward,
        heads,
        heads,
        head_dim,
        vocabulary,
        positions,
        2.0,
        1.0,
        2.0,
        1.0,
    )


def training(model, seq_len=2048.0, attention_fraction=1.0):
    return TransformerTraining(model, seq_len, 64.0, attention_fraction, 4.0, 12.0)


LLAMA2_7B = llama(32.0, 4096.0, 11008.0, 32.0, 32.0, 32000.0)
LLAMA2_13B = llama(40.0, 5120.0, 13824.0, 40.0, 40.0, 32000.0)
LLAMA2_70B = llama(80.0, 8192.0, 28672.0, 64.0, 8.0, 32000.0)
LLAMA3_8B = llama(32.0, 4096.0, 14336.0, 32.0, 8.0, 128256.0)
LLAMA3_70B = llama(80.0, 8192.0, 28672.0, 64.0, 8.0, 128256.0)
LLAMA3_405B = llama(126.0, 16384.0, 53248.0, 128.0, 8.0, 128256.0)
GPT3_175B = gpt(96.0, 12288.0, 49152.0, 96.0, 128.0)
MODELS = {
    "llama2-7b": (LLAMA2_7B, 6_738_415_616),
    "llama2-13b": (LLAMA2_13B, 13_015_864_320),
    "llama2-70b": (LLAMA2_70B, 68_976_648_192),
    "llama3-8b": (LLAMA3_8B, 8_030_261_248),
    "llama3-70b": (LLAMA3_70B, 70_553_706_496),
    "llama3-405b": (LLAMA3_405B, 405_853_388_800),
}


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
    gemms, runs, useful = layer_gemms(job, 1.0, micro_batch, 0.0)
    width = model.num_heads * model.head_dim
    # Scores and values forward, two products each backward: 6 x 2 x s x width a token.
    attention_flop = 12.0 * fraction * job.seq_len * width * tokens
    flop = 2.0 * np.sum(useful * gemms.num_macs)
    assert flop == pytest.approx(6.0 * layer_weights * tokens + attention_flop, rel=1e-12)
    # The fused kernel forms the scores once more in its backward pass.
    repeated = 2.0 * np.sum(runs * gemms.num_macs) - flop
    assert repeated == pytest.approx(attention_flop / 6.0, rel=1e-9)
    head = head_gemms(job, 1.0, micro_batch)
    assert 2.0 * np.sum(head.num_macs) == pytest.approx(6.0 * head_weights * tokens, rel=1e-12)


def test_recomputing_repeats_the_forward_pass():
    job = training(LLAMA3_70B)
    gemms, once, useful = layer_gemms(job, 1.0, 1.0, 0.0)
    _, twice, still_useful = layer_gemms(job, 1.0, 1.0, 1.0)
    weights, _ = matrix_parameters(LLAMA3_70B)
    attention = 4.0 * job.seq_len * LLAMA3_70B.num_heads * LLAMA3_70B.head_dim
    forward_flop = (2.0 * weights + attention) * job.seq_len
    extra_flop = 2.0 * np.sum((twice - once) * gemms.num_macs)
    assert extra_flop == pytest.approx(forward_flop, rel=1e-12)
    assert np.array_equal(useful, still_useful)


def test_elementwise_work_by_hand():
    job = training(GPT3_175B)
    gemms, runs, _ = layer_gemms(job, 1.0, 1.0, 0.0)
    elements = job.seq_len * GPT3_175B.hidden
    scores = job.seq_len**2 * GPT3_175B.num_heads
    norms, residuals = 2.0 * sum(NORM_FLOP) * elements, 2.0 * sum(RESIDUAL_FLOP) * elements
    activation = (8.0 + 13.0) * job.seq_len * GPT3_175B.feedforward
    softmax = (2.0 * SOFTMAX_FLOP[0] + SOFTMAX_FLOP[1]) * scores  # forward, repeated, backward
    total = np.sum(runs * gemms.vector_flop * gemms.count)
    assert total == pytest.approx(norms + residuals + activation + softmax, rel=1e-12)


@pytest.mark.parametrize("tensor", [2.0, 8.0])
def test_tensor_ranks_share_the_work_evenly(tensor):
    job = training(LLAMA3_70B)
    whole, runs, _ = layer_gemms(job, 1.0, 1.0, 0.0)
    part, _, _ = layer_gemms(job, tensor, 1.0, 0.0)
    work = np.sum(runs * whole.num_macs), np.sum(runs * part.num_macs)
    assert work[1] * tensor == pytest.approx(float(work[0]), rel=1e-12)
    vector = [np.sum(runs * rows.vector_flop * rows.count) for rows in (whole, part)]
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
        gemms, _, runs = layer_gemms(job, tensor, 1.0, 0.0)
        useful.append(float(np.sum(runs * gemms.num_macs) * tensor))
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


BLOCKS = {row["row_id"]: row for row in read("calculon_public.csv")}
LINEAR = {  # our rows: those of Calculon
    0: ("AttnBlock_Query", "AttnBlock_Key", "AttnBlock_Value"),
    3: ("AttnBlock_MLP",),
    6: ("MlpBlock_Mlp1",),
    9: ("MlpBlock_Mlp2",),
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
    gemms, _, _ = layer_gemms(job, tensor, micro_batch, 0.0)
    for first, names in LINEAR.items():
        theirs = np.sum([flop[name] for name in names], axis=0)
        ours = 2.0 * gemms.num_macs[first : first + 3]
        assert np.array_equal(ours, theirs), names


@pytest.mark.parametrize("row_id", sorted(BLOCKS))
def test_attention_products_equal_calculon(row_id):
    _, job, tensor, micro_batch, flop = block_of(row_id)
    gemms, runs, useful = layer_gemms(job, tensor, micro_batch, 0.0)
    theirs = np.array([flop["AttnBlock_Multihead_Key_Query"], flop["AttnBlock_Multihead_Attn"]])
    once = 2.0 * gemms.num_macs[12:]
    assert np.array_equal(once, theirs[:, 0])
    # Backward Calculon counts two products of each kind; our rows have one like the scores (dP)
    # and three like the values (dV, dQ, dK), the same work.
    assert np.sum((useful[12:] - 1.0) * once) == np.sum(theirs[:, 1:])
    # The fused kernel repeats the scores on top; Calculon keeps them in memory.
    assert np.array_equal((runs - useful)[12:] * once, [theirs[0, 0], 0.0])


@pytest.mark.parametrize("row_id", sorted(set(BLOCKS) - {"pub0074"}))  # heads wider than hidden
def test_activations_are_korthikantis_without_scores_and_dropout(row_id):
    _, job, tensor, micro_batch, _ = block_of(row_id)
    whole, recomputed = layer_activation_bytes(job, tensor, micro_batch)
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
    pipeline, interleave = float(row["pp"]), float(row["pp_interleave"])
    in_flight = min(float(row["global_batch"]) / float(row["dp"]) / micro_batch, pipeline)
    if interleave > 1.0:
        in_flight *= 1.0 + (pipeline - 1.0) / (interleave * pipeline)
    blocks = np.ceil(float(row["num_layers"]) / pipeline) * in_flight
    ratio = float(row["activation_bytes"]) / (
        blocks * layer_activation_bytes(job, tensor, micro_batch)[0]
    )
    assert 34.0 / 32.0 < ratio < 1.16


def test_gradients_by_every_number_of_the_model_are_finite():
    def work(job):
        gemms, runs, _ = layer_gemms(job, 8.0, 1.0, 0.5)
        return (runs * gemms.num_macs).sum() + num_parameters(job.model)

    # 8 ranks on 8 key-value heads sit on the kink of the copies.
    slopes = jax.grad(work)(training(LLAMA3_70B))
    assert all(np.isfinite(x) for x in jax.tree.leaves(slopes))
