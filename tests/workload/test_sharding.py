"""Sharding: conservation of work, message sizes by hand, memory footprint."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hwdse.specs.design import Parallelism
from hwdse.workload.gemms import Gemms, LayerList
from hwdse.workload.transformer.decoder_layer import mean_kept_bytes
from hwdse.workload.transformer.dense_transformer import layer_parameters, num_parameters
from hwdse.workload.transformer.gemm_groups import LayerSharding
from hwdse.workload.transformer.model_config import Transformer, TransformerTraining
from hwdse.workload.transformer.sharding import OPTIMIZER_FLOP, shard

MODEL = Transformer(80.0, 8192.0, 28672.0, 64.0, 8.0, 128.0, 128256.0, 0.0, 3.0, 2.0, 1.0, 0.0)
JOB = TransformerTraining(MODEL, 8192.0, 1024.0, 0.5, 4.0, 12.0)
ALONE = Parallelism(1.0, 1.0, 1.0, 0.0, 0.0)
SPREAD = Parallelism(8.0, 4.0, 2.0, 0.0, 0.5)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def total(memory):
    return sum(jax.tree.leaves(memory))


def step_work(step, num_chips):
    """Multiply-accumulates of all chips per step: each layer once, the LM head once."""
    per_row = step.executions.total * step.gemms.num_macs
    layers = jnp.dot(per_row, 1.0 - step.executions.is_lm_head) * step.mean_layers_per_stage
    head = jnp.dot(per_row, step.executions.is_lm_head) / step.pipeline
    return float(step.num_micro_batches * (layers + head) * num_chips)


@pytest.mark.parametrize(
    ("parallelism", "num_chips"),
    [
        (Parallelism(8.0, 1.0, 1.0, 0.0, 0.0), 8.0),
        (Parallelism(1.0, 4.0, 1.0, 0.0, 0.0), 4.0),
        (Parallelism(1.0, 1.0, 2.0, 0.0, 0.0), 64.0),
        (Parallelism(1.0, 1.0, 1.0, 0.0, 0.0, context=16.0), 16.0),
        (Parallelism(4.0, 2.0, 1.0, 0.0, 0.0, context=2.0, virtual_pipeline=5.0), 64.0),
        (SPREAD, 1024.0),
        (Parallelism(2.0, 3.0, 1.0, 0.0, 0.0), 24.0),  # 80 layers on 3 stages
    ],
)
def test_total_work_is_independent_of_the_strategy(parallelism, num_chips):
    alone = step_work(shard(JOB, ALONE, 1.0), 1.0)
    assert step_work(shard(JOB, parallelism, num_chips), num_chips) == pytest.approx(
        alone, rel=1e-12
    )


def test_product_of_degrees_is_the_number_of_chips():
    step = shard(JOB, SPREAD, 1024.0)
    assert step.tensor * step.pipeline * step.data == 1024.0
    assert step.num_micro_batches == step.full_micro_batches == 1024.0 / (32.0 * 2.0)
    assert step.layers_per_stage == step.mean_layers_per_stage == 20.0
    assert step.tokens_per_step == 8192.0 * 1024.0


def test_ragged_batches_and_stages_round_up():
    step = shard(JOB, Parallelism(1.0, 3.0, 1.0, 0.0, 0.0), 9.0)  # 1024 sequences on 3 replicas
    assert step.num_micro_batches == 342.0
    assert step.full_micro_batches == pytest.approx(1024.0 / 3.0)
    assert step.layers_per_stage == 27.0
    assert step.mean_layers_per_stage == pytest.approx(80.0 / 3.0)


def test_one_chip_has_the_memory_footprint_of_the_job():
    step = shard(JOB, ALONE, 1.0)
    parameters = num_parameters(MODEL) - MODEL.hidden  # without the final norm
    assert step.memory.weights == 2.0 * parameters
    assert step.memory.gradients == 4.0 * parameters
    assert step.memory.optimizer == 12.0 * parameters
    saved, _ = mean_kept_bytes(JOB, LayerSharding())
    assert step.memory.activations == 80.0 * saved
    # At the loss: FP32 logits, the FP32 gradient of the projection, two hidden states.
    logits, projection = 4.0 * 8192.0 * 128256.0, 4.0 * 8192.0 * 128256.0
    assert step.memory.buffers == logits + projection + 2.0 * 2.0 * 8192.0 * 8192.0
    assert step.checkpoint_bytes == 14.0 * num_parameters(MODEL)


def test_optimizer_state_is_sharded_over_the_replicas():
    few, many = shard(JOB, SPREAD, 64.0), shard(JOB, SPREAD, 1024.0)
    assert few.memory.optimizer == 16.0 * many.memory.optimizer
    assert few.memory.weights == many.memory.weights
    assert few.optimizer_flop == 16.0 * many.optimizer_flop
    parameters = many.optimizer_flop / OPTIMIZER_FLOP
    assert many.memory.optimizer == pytest.approx(12.0 * float(parameters))


@pytest.mark.parametrize("field", ["tensor", "pipeline"])
def test_footprint_decreases_with_the_degree(field):
    memories = [
        shard(JOB, ALONE.replace(**{field: degree}), 1024.0).memory
        for degree in (1.0, 2.0, 4.0, 8.0)
    ]
    for name in ("weights", "gradients"):
        assert np.all(np.diff([float(getattr(x, name)) for x in memories]) < 0.0)


def test_first_stage_keeps_one_micro_batch_per_stage():
    shallow = shard(JOB, Parallelism(8.0, 2.0, 1.0, 0.0, 0.0), 1024.0)
    deep = shard(JOB, Parallelism(8.0, 8.0, 1.0, 0.0, 0.0), 1024.0)
    # p stages x L/p layers x min(m, p) in flight / p: the same.
    assert shallow.memory.activations == pytest.approx(float(deep.memory.activations), rel=1e-12)
    # With fewer micro-batches than stages, fewer are in flight.
    starved = shard(JOB.replace(global_batch=4.0), Parallelism(8.0, 8.0, 1.0, 0.0, 0.0), 64.0)
    assert starved.memory.activations == pytest.approx(
        float(deep.memory.activations) / 2.0, rel=1e-12
    )


def test_recomputation_trades_memory_for_work():
    plain, recomputed = (
        shard(JOB, SPREAD.replace(recompute_fraction=fraction), 1024.0) for fraction in (0.0, 1.0)
    )
    assert recomputed.memory.activations < 0.2 * plain.memory.activations
    assert np.array_equal(
        recomputed.executions.recompute,
        recomputed.executions.forward * (1.0 - recomputed.executions.is_lm_head),
    )
    assert np.array_equal(plain.executions.recompute, np.zeros(17))
    for name in ("forward", "backward", "model"):
        assert np.array_equal(getattr(recomputed.executions, name), getattr(plain.executions, name))
    assert recomputed.messages.num_tensor_forward == plain.messages.num_tensor_forward
    assert recomputed.messages.num_tensor_backward == plain.messages.num_tensor_backward + 4.0


def test_messages_equal_hand_calculation():
    messages = shard(JOB, SPREAD, 1024.0).messages
    activation = 2.0 * 8192.0 * 2.0 * 8192.0  # bytes x tokens x sequences x hidden
    assert messages.tensor_bytes == activation
    assert messages.pipeline_bytes == activation / 8.0
    assert messages.num_tensor_forward == 4.0  # 2 gathers, 2 sums
    assert messages.num_tensor_backward == 6.0  # 2 + 2 gathers, 2 sums
    replicated = shard(JOB, SPREAD.replace(sequence_parallel_fraction=0.0), 1024.0).messages
    assert replicated.num_tensor_backward == 4.0  # 2 all-reduces
    assert replicated.pipeline_bytes == activation
    parameters = 20.0 * layer_parameters(MODEL, 8.0) + 8192.0 * 128256.0 / 8.0
    assert messages.gradient_bytes == 4.0 * parameters
    assert messages.weight_bytes == 2.0 * parameters


def layer_list(*rows):
    """Layer list of (m, k, n, count) rows with all operands in HBM."""
    m, k, n, count = (np.array(column) for column in zip(*rows, strict=True))
    one, zero = np.ones_like(m), np.zeros_like(m)
    gemms = Gemms(m, k, n, count, one, one, one, zero, zero)
    return LayerList(gemms, tuple(f"layer {i}" for i in range(len(m))))


def test_layer_lists_are_executed_once_on_every_chip():
    work = layer_list((100.0, 64.0, 10.0, 1.0), (10.0, 32.0, 50.0, 3.0))
    step = shard(work, SPREAD, 16.0)
    assert step.tokens_per_step == 16.0
    assert step.memory.weights == 2.0 * (64.0 * 10.0 + 3.0 * 32.0 * 50.0)
    assert step.memory.activations == 2.0 * (100.0 * 64.0 + 100.0 * 10.0)
    assert step.checkpoint_bytes == 0.0
    assert total(step.messages) == 0.0
    assert np.array_equal(step.executions.total, [1.0, 1.0])
    assert np.array_equal(step.executions.is_lm_head, [0.0, 0.0])


def test_gradients_are_finite_at_one_chip_one_layer_one_head():
    tiny = MODEL.replace(num_layers=1.0, num_heads=1.0, num_kv_heads=1.0)

    def sizes(job, parallelism, num_chips):
        step = shard(job, parallelism, num_chips)
        return (
            (step.executions.total * step.gemms.num_macs).sum()
            + total(step.memory)
            + total(step.messages)
        )

    slopes = jax.grad(sizes, (0, 1, 2))(JOB.replace(model=tiny), ALONE, 1.0)
    assert all(np.isfinite(x) for x in jax.tree.leaves(slopes))
