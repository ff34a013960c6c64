"""MoE layers and latent attention: FLOP by hand, sharding, imbalance, gradients."""

import jax
import numpy as np
import pytest
from support.trained_models import (
    DEEPSEEK_V3,
    GPT3_175B,
    LLAMA3_70B,
    MIXTRAL,
    PALM,
    QWEN3,
    training,
)

from hwdse.numerics.jit_compile import quick_jit
from hwdse.workload.transformer.decoder_layer import (
    context_bytes,
    decoder_gemms,
    kept_bytes,
    mean_kept_bytes,
    mean_layer_gemms,
)
from hwdse.workload.transformer.dense_transformer import NORM_FLOP
from hwdse.workload.transformer.gemm_groups import LayerSharding, stack_gemms
from hwdse.workload.transformer.latent_attention import key_dim
from hwdse.workload.transformer.layer_stacks import num_mixture_layers
from hwdse.workload.transformer.mixture_of_experts import (
    expert_messages,
    expert_tokens,
    mixture_kept_bytes,
)
from hwdse.workload.transformer.model_config import LayerKind

DENSE, MIXED = LayerKind(False, False), LayerKind(False, True)
LATENT, LATENT_MIXED = LayerKind(True, False), LayerKind(True, True)
ONE_RANK = LayerSharding()
MODELS = {
    "mixtral": (MIXTRAL, MIXED),
    "qwen3": (QWEN3, MIXED),
    "deepseek-v3": (DEEPSEEK_V3, LATENT_MIXED),
    "deepseek-v3 dense": (DEEPSEEK_V3, LATENT),
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def flop(job, sharding, kind, which="model"):
    gemms, executions = decoder_gemms(job, sharding, kind)
    return float(2.0 * np.sum(getattr(executions, which) * gemms.num_macs))


def active_weights(model, kind):
    """Active weights per token of one layer, by hand."""
    h = model.hidden
    if kind.is_latent:
        keys = key_dim(model)
        attention = h * (model.q_lora_rank + model.kv_lora_rank + model.qk_rope_head_dim)
        attention += model.num_heads * model.q_lora_rank * keys
        attention += model.num_heads * model.kv_lora_rank * 256.0
        attention += model.num_heads * model.v_head_dim * h
    else:
        attention = 2.0 * h * (model.num_heads + model.num_kv_heads) * model.head_dim
    if not kind.is_mixture:
        return attention + 3.0 * h * model.feedforward
    num_met = model.experts_per_token + model.num_shared_experts
    return attention + h * (model.num_experts + 3.0 * num_met * model.expert_feedforward)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_flop_is_six_per_active_weight_plus_attention(name, fraction):
    model, kind = MODELS[name]
    job = training(model, 4096.0, fraction)
    widths = 192.0 + 128.0 if kind.is_latent else 2.0 * model.head_dim
    attention = 6.0 * fraction * 4096.0 * model.num_heads * widths
    tokens = 2.0 * 4096.0
    expected = tokens * (6.0 * active_weights(model, kind) + attention)
    assert flop(job, LayerSharding(micro_batch=2.0), kind) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "sharding", [LayerSharding(), LayerSharding(2.0, 8.0), LayerSharding(2.0, 8.0, 4.0)]
)
def test_gemms_of_a_dense_layer_equal_hand_calculation(sharding):
    job = training(LLAMA3_70B, 8192.0, 0.5)
    gemms, executions = decoder_gemms(job, sharding, DENSE)
    tokens, t = (
        8192.0 * float(sharding.micro_batch) / float(sharding.context),
        float(sharding.tensor),
    )
    weights = [(8192.0, 10240.0 / t), (8192.0 / t, 8192.0), (8192.0, 57344.0 / t)]
    weights.append((28672.0 / t, 8192.0))
    sizes = [size for k, n in weights for size in ((tokens, k, n), (tokens, n, k), (k, tokens, n))]
    queries, keys = 8192.0 / float(sharding.context), 8192.0 * 0.5
    sizes[6:6] = [(queries, 128.0, keys), (queries, keys, 128.0)]
    assert [tuple(x) for x in zip(gemms.m, gemms.k, gemms.n, strict=True)] == sizes
    count = np.where(executions.is_linear == 1.0, 1.0, float(sharding.micro_batch) * 64.0 / t)
    np.testing.assert_array_equal(gemms.count, count)
    # Eight query heads share one key-value head.
    assert np.array_equal(gemms.b_in_hbm[6:8], [1.0 / 8.0] * 2)
    assert (gemms.c_in_hbm[6], gemms.a_in_hbm[7]) == (0.0, 0.0)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize(
    ("sharding", "num_ranks"),
    [
        (LayerSharding(tensor=4.0, expert_tensor=4.0), 4.0),
        (LayerSharding(context=8.0), 8.0),
        (LayerSharding(tensor=2.0, context=2.0, expert_tensor=2.0), 4.0),
    ],
)
def test_ranks_of_one_sequence_divide_its_work(name, sharding, num_ranks):
    model, kind = MODELS[name]
    job = training(model, 4096.0, 0.5)
    total, part = flop(job, ONE_RANK, kind), flop(job, sharding, kind)
    assert part * num_ranks == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize(
    "sharding", [LayerSharding(expert=8.0), LayerSharding(tensor=4.0, expert=8.0)]
)
def test_distributed_experts_have_the_same_work_on_other_tokens(sharding):
    """Each rank contributes its own tokens: fewer experts per rank, more tokens per expert."""
    job = training(MIXTRAL, 4096.0)
    same = LayerSharding(tensor=sharding.tensor, expert_tensor=sharding.tensor)
    assert flop(job, sharding, MIXED) == pytest.approx(flop(job, same, MIXED), rel=1e-12)
    assert expert_tokens(job, sharding) == 4096.0 / sharding.tensor * 8.0 * 2.0 / 8.0


def test_load_imbalance_adds_work_but_no_model_flop():
    even = training(DEEPSEEK_V3, 4096.0)
    uneven = training(DEEPSEEK_V3.replace(load_imbalance_ratio=1.5), 4096.0)
    sharding = LayerSharding(expert=64.0)
    assert expert_tokens(uneven, sharding) == 1.5 * expert_tokens(even, sharding)
    assert flop(uneven, sharding, LATENT_MIXED) == pytest.approx(flop(even, sharding, LATENT_MIXED))
    routed = 2.0 * 3.0 * 4096.0 * 8.0 * 3.0 * 7168.0 * 2048.0
    more = flop(uneven, sharding, LATENT_MIXED, "total") - flop(
        even, sharding, LATENT_MIXED, "total"
    )
    assert more == pytest.approx(0.5 * routed, rel=1e-9)
    assert mixture_kept_bytes(uneven, sharding) > mixture_kept_bytes(even, sharding)
    # One rank with all experts has no imbalance.
    assert expert_tokens(uneven, ONE_RANK) == expert_tokens(even, ONE_RANK)


def test_expert_messages_equal_hand_calculation():
    job = training(DEEPSEEK_V3, 4096.0)
    alone = expert_messages(job, LayerSharding(expert=64.0))
    assert alone.all_to_all_bytes == 4096.0 * 8.0 * 7168.0 * 2.0
    assert (alone.num_all_to_alls, alone.gather_bytes) == (4.0, 0.0)
    sharding = LayerSharding(tensor=4.0, expert=8.0, expert_tensor=4.0, recompute_fraction=1.0)
    shared = expert_messages(job, sharding)
    assert shared.all_to_all_bytes == alone.all_to_all_bytes / 4.0
    assert shared.gather_bytes == alone.all_to_all_bytes
    assert shared.num_all_to_alls == 6.0
    uneven = training(DEEPSEEK_V3.replace(load_imbalance_ratio=1.2), 4096.0)
    busiest = expert_messages(uneven, LayerSharding(expert=64.0)).all_to_all_bytes
    assert busiest == pytest.approx(1.2 * alone.all_to_all_bytes)


def test_context_ranks_exchange_keys_and_values():
    job = training(LLAMA3_70B, 8192.0)
    assert context_bytes(job, LayerSharding(context=4.0), DENSE) == 2.0 * 8192.0 * 2.0 * 8.0 * 128.0
    latent = context_bytes(training(DEEPSEEK_V3, 4096.0), LayerSharding(tensor=8.0), LATENT)
    assert latent == 2.0 * 4096.0 * 16.0 * (192.0 + 128.0)


def test_saved_activations_of_a_mixture_equal_hand_calculation():
    job = training(MIXTRAL, 4096.0)
    kept, recomputed = kept_bytes(job, ONE_RANK, MIXED)
    attention = 2.0 * 4096.0 + 2.0 * 8.0 * 128.0 + 2.0 * 32.0
    routed = 2.0 * (2.0 * 4096.0 + 3.0 * 14336.0)
    tokens = 4096.0
    assert kept == 2.0 * tokens * (4.0 * 4096.0 + attention + routed + 2.0 * 8.0)
    assert recomputed == 2.0 * tokens * 4096.0


@pytest.mark.parametrize("name", sorted(MODELS))
def test_full_recomputation_repeats_the_forward_pass_of_every_kind(name):
    model, kind = MODELS[name]
    job = training(model, 4096.0)
    gemms, executions = decoder_gemms(job, LayerSharding(recompute_fraction=1.0), kind)
    assert np.array_equal(executions.recompute, executions.forward)
    _, selective = decoder_gemms(job, LayerSharding(attention_recompute_fraction=1.0), kind)
    assert np.array_equal(selective.recompute, np.where(selective.is_linear == 0.0, 1.0, 0.0))
    assert np.all(gemms.m * gemms.k * gemms.n > 0.0)


def test_parallel_attention_and_mlp_have_one_norm():
    one, two = training(PALM, 2048.0), training(PALM.replace(num_layer_norms=2.0), 2048.0)
    elements = 2048.0 * PALM.hidden
    totals = []
    for job in (one, two):
        gemms, executions = decoder_gemms(job, ONE_RANK, DENSE)
        totals.append(float(np.sum(executions.total * gemms.vector_flop * gemms.count)))
    assert totals[1] - totals[0] == pytest.approx(sum(NORM_FLOP) * elements, rel=1e-9)
    kept = [float(kept_bytes(job, ONE_RANK, DENSE)[0]) for job in (one, two)]
    assert kept[1] - kept[0] == 2.0 * 2.0 * elements


@pytest.mark.parametrize("model", [LLAMA3_70B, MIXTRAL, DEEPSEEK_V3])
def test_mean_layer_times_num_layers_equals_the_model(model):
    job, sharding = training(model, 4096.0, 0.5), LayerSharding(recompute_fraction=1.0, expert=4.0)
    mixed = float(num_mixture_layers(model))
    kinds = [(k, mixed if k.is_mixture else model.num_layers - mixed) for k in model.kinds[0]]
    gemms, executions = stack_gemms(mean_layer_gemms(job, sharding)[0])
    kept = sum(num * float(kept_bytes(job, sharding, kind)[0]) for kind, num in kinds)
    assert float(mean_kept_bytes(job, sharding)[0]) * model.num_layers == pytest.approx(
        kept, rel=1e-12
    )
    for which in ("forward", "backward", "recompute", "model"):
        mean = float(2.0 * np.sum(getattr(executions, which) * gemms.num_macs))
        each = sum(num * flop(job, sharding, kind, which) for kind, num in kinds)
        assert mean * model.num_layers == pytest.approx(each, rel=1e-12)


def test_kinds_of_layers_are_detected():
    assert GPT3_175B.kinds == ((DENSE,),)
    assert MIXTRAL.kinds == ((MIXED,),)
    assert DEEPSEEK_V3.kinds == ((LATENT, LATENT_MIXED),)
    assert DEEPSEEK_V3.replace(num_layers=3.0).kinds == ((LATENT,),)


@pytest.mark.parametrize("name", ["mixtral", "deepseek-v3", "deepseek-v3 dense"])
def test_gradients_are_finite_and_strategies_vectorize(name):
    model, kind = MODELS[name]
    job = training(model, 4096.0, 0.5)

    def work(ranks, job):
        sharding = LayerSharding(tensor=ranks, expert=ranks, expert_tensor=ranks, context=ranks)
        gemms, executions = decoder_gemms(job, sharding, kind)
        sent = expert_messages(job, sharding).all_to_all_bytes
        total = (executions.total * (gemms.num_macs + gemms.vector_flop)).sum()
        return (
            total + sent + kept_bytes(job, sharding, kind)[0] + context_bytes(job, sharding, kind)
        )

    ranks = np.array([1.0, 2.0, 8.0])  # one rank is a kink of maxima and minima
    function = jax.value_and_grad(work, argnums=(0, 1))
    values, slopes = quick_jit(jax.vmap(function, (0, None)))(ranks, job)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slopes))
    assert values[2] == pytest.approx(float(work(8.0, job)), rel=1e-12)
