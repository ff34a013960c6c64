"""Saved activations by module, format and trained weights; frozen weights, packed sequences."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trained_models import DEEPSEEK_V3, LLAMA3_8B, LLAMA3_405B, MIXTRAL, training

from hwdse.specs.design import Parallelism
from hwdse.specs.number_formats import PrecisionMix
from hwdse.specs.software import Software
from hwdse.training.strategy_rules import MODULES
from hwdse.workload.gemms import ExecutionCounts
from hwdse.workload.transformer.decoder_layer import kept_bytes
from hwdse.workload.transformer.gemm_groups import LayerSharding, attended_fraction
from hwdse.workload.transformer.micro_batch_gemms import gemm_names, layer_sharding
from hwdse.workload.transformer.model_config import LayerKind
from hwdse.workload.transformer.sharding import shard

DENSE = LayerKind(is_latent=False, is_mixture=False)
EXPERTS = LayerKind(is_latent=False, is_mixture=True)
LATENT = LayerKind(is_latent=True, is_mixture=False)
ALONE = Parallelism(1.0, 1.0, 1.0, 0.0)
PLAIN, ENGINE = Software(), Software(low_precision_kept_fraction=1.0)
FP8 = PrecisionMix(fp64_flop_fraction=0.0, fp8_flop_fraction=1.0)
FP4 = PrecisionMix(fp64_flop_fraction=0.0, fp8_flop_fraction=0.0, fp4_flop_fraction=1.0)
JOB = training(LLAMA3_8B)
S, H, F, Q, KV, HEADS = JOB.seq_len, 4096.0, 14336.0, 4096.0, 2048.0, 32.0


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def per_token(job=JOB, kind=DENSE, **fields):
    return float(kept_bytes(job, LayerSharding(**fields), kind)[0]) / S


WHOLE = 4.0 * 2.0 * H + 2.0 * (2.0 * Q + KV) + 4.0 * HEADS + 2.0 * 3.0 * F
"""Two norm inputs and outputs; queries, keys, values, output, log-sums; gate, up and product."""


@pytest.mark.parametrize(
    ("fields", "saved"),
    [
        ({}, 0.0),
        ({"norm_recompute_fraction": 1.0}, 2.0 * 2.0 * H),
        ({"norm_recompute_fraction": 0.5}, 2.0 * H),
        ({"activation_recompute_fraction": 1.0}, 2.0 * F),
        ({"mlp_recompute_fraction": 1.0}, 6.0 * F),
        ({"output_recompute_fraction": 1.0}, 2.0 * H),
        ({"activation_input_bytes": 1.0}, 2.0 * F),
        # Inputs of three GEMMs in one byte; that of the output projection once more.
        ({"kept_input_bytes": 1.0, "kept_copy_bytes": 1.0}, 2.0 * H + F - Q),
    ],
)
def test_modules_save_the_bytes_of_their_tensors(fields, saved):
    assert per_token(**fields) == pytest.approx(WHOLE - saved, rel=1e-12)


def test_latent_projections_are_recomputed_from_their_latents():
    job, heads = training(DEEPSEEK_V3), 128.0
    whole = per_token(job, LATENT)
    without = per_token(job, LATENT, projection_recompute_fraction=1.0)
    assert whole - without == pytest.approx(2.0 * heads * (192.0 + 192.0 + 128.0), rel=1e-12)


def test_experts_keep_their_outputs_only_for_router_weights_applied_to_them():
    job, routed = training(MIXTRAL), 2.0
    whole = per_token(job, EXPERTS)
    before = per_token(job, EXPERTS, expert_output_kept_fraction=0.0)
    assert whole - before == pytest.approx(routed * 2.0 * MIXTRAL.hidden, rel=1e-12)
    low = per_token(job, EXPERTS, kept_input_bytes=1.0, kept_copy_bytes=0.0)
    inputs = 2.0 * MIXTRAL.hidden + routed * (MIXTRAL.hidden + MIXTRAL.expert_feedforward)
    assert whole - low == pytest.approx(inputs, rel=1e-12)


def test_frozen_layers_keep_what_input_gradients_need():
    frozen = JOB.replace(trainable_fraction=0.0)
    products = 2.0 * 2.0 * H + 2.0 * F  # norm outputs and gated product
    assert per_token(frozen) == pytest.approx(WHOLE - products, rel=1e-12)


@pytest.mark.parametrize(("mix", "input_bytes"), [(FP8, 1.0), (FP4, 0.5625)])
def test_inputs_are_saved_in_the_format_of_the_mix_by_stacks_that_do_so(mix, input_bytes):
    sharding = layer_sharding(ALONE, ENGINE, mix)
    assert (sharding.kept_input_bytes, sharding.kept_copy_bytes) == (input_bytes, input_bytes)
    wide = layer_sharding(ALONE, Software(), mix)
    assert (wide.kept_input_bytes, wide.kept_copy_bytes) == (2.0, 0.0)


# Footprint -----------------------------------------------------------------------------------


def memory_of(job=JOB, parallelism=ALONE, software=PLAIN, mix=FP8, num_chips=8.0):
    return jax.tree.map(float, shard(job, parallelism, num_chips, software, mix).memory)


def test_offloaded_activations_leave_the_chip():
    here, half = (memory_of(parallelism=ALONE.replace(offload_fraction=x)) for x in (0.0, 0.5))
    assert half.activations == pytest.approx(0.5 * here.activations, rel=1e-12)


def test_loss_tiles_divide_the_logits():
    one, four = (memory_of(software=Software(num_loss_tiles=x)) for x in (1.0, 4.0))
    assert one.buffers - four.buffers == pytest.approx(0.75 * 4.0 * S * 128256.0, rel=1e-12)


def test_frozen_weights_have_neither_gradients_nor_state():
    trained, frozen = memory_of(), memory_of(JOB.replace(trainable_fraction=0.0))
    assert (frozen.gradients, frozen.optimizer) == (0.0, 0.0)
    assert frozen.weights == trained.weights
    # Transformer Engine stores frozen weights in eight bits.
    low = memory_of(JOB.replace(trainable_fraction=0.0), software=ENGINE)
    assert low.weights == pytest.approx(0.5 * trained.weights, rel=1e-12)


def test_a_short_first_stage_leaves_the_second_as_the_fullest():
    """126 layers in 16 x 4 virtual stages of two: 158 with 128 layers (1 + 15 / 64), less 2 x 2."""
    job = training(LLAMA3_405B).replace(global_batch=256.0)
    interleaved = ALONE.replace(tensor=8.0, pipeline=16.0, virtual_pipeline=4.0)
    short = memory_of(job, interleaved, num_chips=128.0)
    full = memory_of(
        job.replace(model=job.model.replace(num_layers=128.0)), interleaved, num_chips=128.0
    )
    assert short.activations == pytest.approx(full.activations * 154.0 / 158.0, rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(
    fractions=st.fixed_dictionaries({name: st.floats(0.0, 1.0) for name in MODULES}),
    full=st.floats(0.0, 1.0),
    low=st.floats(0.0, 1.0),
)
def test_recomputation_never_needs_more_and_never_less_than_the_inputs(fractions, full, low):
    strategy = ALONE.replace(
        recompute_fraction=full, **{k: (1.0 - full) * v for k, v in fractions.items()}
    )
    job = training(DEEPSEEK_V3.replace(num_layers=4.0))
    software = Software(low_precision_kept_fraction=low)
    found = memory_of(job, strategy, software).activations
    plain = memory_of(job, ALONE.replace(recompute_fraction=full), software).activations
    # With low precision and nothing recomputed, the attention output exists twice.
    assert 4.0 * 2.0 * S * DEEPSEEK_V3.hidden <= found * (1.0 + 1e-12)
    assert found <= plain * (1.0 + 1e-12)


# Work ----------------------------------------------------------------------------------------


def executions_of(job, parallelism=ALONE) -> dict[str, tuple[float, float, float]]:
    """Forward, backward and recomputed executions by operator."""
    counts: ExecutionCounts = shard(job, parallelism, 8.0).executions
    columns = [np.asarray(x) for x in (counts.forward, counts.backward, counts.recompute)]
    return dict(zip(gemm_names(job), zip(*map(tuple, columns), strict=True), strict=True))


def test_frozen_weights_have_no_weight_gradients():
    trained, frozen = (
        executions_of(JOB.replace(trainable_fraction=fraction)) for fraction in (1.0, 0.0)
    )
    for name, counts in trained.items():
        expected = (0.0, 0.0, 0.0) if name.endswith("_dw") else counts
        assert frozen[name] == expected, name


def test_frozen_weights_send_no_gradients_and_write_no_checkpoint():
    step = shard(JOB.replace(trainable_fraction=0.0), ALONE, 8.0)
    assert float(step.messages.gradient_bytes) == float(step.messages.weight_bytes) == 0.0
    assert float(step.checkpoint_bytes) == float(step.optimizer_traffic_bytes) == 0.0
    # Sharded weights are gathered, frozen or not.
    sharded = ALONE.replace(weight_shard_fraction=1.0)
    gathers = [
        float(shard(job, sharded, 8.0).messages.weight_bytes)
        for job in (JOB, JOB.replace(trainable_fraction=0.0))
    ]
    assert gathers[0] == gathers[1] > 0.0


def test_every_predicted_token_runs_the_head():
    one, two = (
        executions_of(JOB.replace(model=JOB.model.replace(num_predicted_tokens=n)))
        for n in (1.0, 2.0)
    )
    for name, counts in one.items():
        factor = 2.0 if name.startswith("head") else 1.0
        assert two[name] == tuple(factor * x for x in counts), name


RECOMPUTED = {
    "mlp_recompute_fraction": {"up"},
    "output_recompute_fraction": {"out"},
    "projection_recompute_fraction": {"query_up", "key_value_up"},
    "attention_recompute_fraction": {"scores", "values"},
    "norm_recompute_fraction": set(),
    "activation_recompute_fraction": set(),
}


@pytest.mark.parametrize("field", MODULES)
def test_modules_repeat_their_own_operators(field):
    job = training(DEEPSEEK_V3)
    plain, again = executions_of(job), executions_of(job, ALONE.replace(**{field: 1.0}))
    repeated = {name for name, counts in again.items() if counts[2] > plain[name][2]}
    assert {name.partition("_1")[0] for name in repeated} == RECOMPUTED[field]


@pytest.mark.parametrize("field", ["norm_recompute_fraction", "activation_recompute_fraction"])
def test_recomputed_elementwise_work_runs_in_the_backward_pass(field):
    """Once more per recomputed layer: the forward bytes of the norms, or of the activation."""
    plain, again = (shard(JOB, ALONE.replace(**{field: x}), 8.0) for x in (0.0, 1.0))
    added = np.asarray(again.gemms.extra_bytes) - np.asarray(plain.gemms.extra_bytes)
    each = 2.0 * 4.0 * S * H if field.startswith("norm") else 2.0 * S * F
    assert added.sum() == pytest.approx(each, rel=1e-12)
    backward = np.asarray(plain.executions.backward)
    assert np.all(backward[added > 0.0] == 1.0)


# Packed sequences ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("segment", "window", "expected"),
    [
        (0.0, 0.0, 0.5),
        (2048.0, 0.0, 0.5),
        (512.0, 0.0, 0.125),
        (9000.0, 0.0, 0.5),  # at most the sequence
        (512.0, 512.0, 0.125),
        (1024.0, 512.0, 0.25 * 0.75),
    ],
)
def test_documents_attend_to_themselves(segment, window, expected):
    model = LLAMA3_8B.replace(sliding_window=window)
    job = training(model, 2048.0, 0.5).replace(segment_tokens=segment)
    assert float(attended_fraction(job)) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(segment=st.floats(1.0, 1e5), window=st.floats(1.0, 1e5))
def test_attention_of_documents_is_bounded_with_a_finite_slope(segment, window):
    def fraction(tokens):
        model = LLAMA3_8B.replace(sliding_window=window)
        return attended_fraction(training(model, 2048.0, 0.5).replace(segment_tokens=tokens))

    assert 0.0 < float(fraction(segment)) <= 0.5
    assert np.isfinite(jax.grad(fraction)(segment))
