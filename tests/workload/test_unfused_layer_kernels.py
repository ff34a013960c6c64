"""Kernels of an unfused layer: FLOP of the GEMMs, traffic by hand, sharding, shapes."""

import jax
import numpy as np
import pytest
from support.trained_models import GPT3_175B, LLAMA3_70B, training

from hwdse.numerics.jit_compile import quick_jit
from hwdse.workload.kernels.unfused_layer_kernels import CALCULON, DATAFLOW, layer_kernels
from hwdse.workload.transformer.decoder_layer import decoder_gemms
from hwdse.workload.transformer.dense_transformer import layer_parameters
from hwdse.workload.transformer.gemm_groups import LayerSharding
from hwdse.workload.transformer.model_config import LayerKind

SEQ_LEN = 2048.0


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def kernels_of(model, tensor=1.0, sequence=1.0, streams=CALCULON, micro_batch=1.0):
    return layer_kernels(
        model, tensor, micro_batch, sequence, 2.0, seq_len=SEQ_LEN, streams=streams
    )


def of(kernels, name, work="forward"):
    index = kernels.names.index(name)
    return jax.tree.map(lambda x: float(x[index]), getattr(kernels, work))


def passes(kernels):
    return kernels.forward, kernels.input_gradient, kernels.weight_gradient


@pytest.mark.parametrize("model", [GPT3_175B, LLAMA3_70B])
@pytest.mark.parametrize("tensor", [1.0, 8.0, 16.0])
def test_matrix_flop_equal_those_of_the_gemms(model, tensor):
    kernels = kernels_of(model, tensor)
    gemms, executions = decoder_gemms(
        training(model), LayerSharding(tensor=tensor), LayerKind(False, False)
    )
    matrix = sum(np.sum(work.matrix_flop) for work in passes(kernels))
    linear = 2.0 * np.sum(executions.is_linear * gemms.num_macs)
    attention = 6.0 * np.sum((1.0 - executions.is_linear) * gemms.num_macs)
    assert matrix == pytest.approx(float(linear + attention), rel=1e-12)


@pytest.mark.parametrize("tensor", [1.0, 8.0])
def test_parameters_equal_the_layer_without_biases(tensor):
    kernels = kernels_of(LLAMA3_70B, tensor)
    total = float(np.sum(kernels.parameters))
    assert total == pytest.approx(float(layer_parameters(LLAMA3_70B, tensor)), rel=1e-12)


def test_traffic_equals_hand_calculation():
    own, scores = SEQ_LEN * 12288.0 / 8.0, SEQ_LEN**2 * 12.0
    kernels = kernels_of(GPT3_175B, 8.0)
    assert of(kernels, "softmax").memory_bytes == 4.0 * scores
    assert of(kernels, "attention_dropout").memory_bytes == 5.0 * scores
    assert of(kernels, "attention_residual").memory_bytes == 6.0 * own
    assert of(kernels, "attention_norm").memory_bytes == 4.0 * own + 4.0 * 12288.0
    assert of(kernels, "mlp_residual_fork", "input_gradient").vector_flop == 2.0 * own
    back = of(kernels_of(GPT3_175B, 8.0, streams=DATAFLOW), "softmax", "input_gradient")
    assert back.memory_bytes == 6.0 * scores


def test_gate_adds_one_operand():
    elements = SEQ_LEN * LLAMA3_70B.feedforward
    kernels = kernels_of(LLAMA3_70B, streams=DATAFLOW)
    assert of(kernels, "activation").memory_bytes == 3.0 * 2.0 * elements
    assert of(kernels, "activation", "input_gradient").memory_bytes == 5.0 * 2.0 * elements
    up = of(kernels, "mlp_up")
    assert up.matrix_flop == 2.0 * SEQ_LEN * 8192.0 * 2.0 * 28672.0


def test_one_rank_has_no_collectives_and_no_sequence_parallelism():
    with_it, without = kernels_of(GPT3_175B), kernels_of(GPT3_175B, sequence=0.0)
    for one, other in zip(jax.tree.leaves(with_it), jax.tree.leaves(without), strict=True):
        assert np.array_equal(one, other)
    for name in ("attention_gather", "attention_reduce", "mlp_gather", "mlp_reduce"):
        for work in ("forward", "input_gradient", "weight_gradient"):
            assert jax.tree.leaves(of(with_it, name, work)) == [0.0, 0.0, 0.0]


def test_sequence_parallelism_shards_elementwise_kernels_only():
    sharded, replicated = kernels_of(GPT3_175B, 8.0, 1.0), kernels_of(GPT3_175B, 8.0, 0.0)
    for name in sharded.names:
        ratio = 8.0 if name.endswith(("_residual", "residual_fork", "_output_dropout")) else 1.0
        ratio = 8.0 if name == "mlp_dropout" else ratio
        if "norm" in name or "gather" in name or "reduce" in name:
            continue
        for work in ("forward", "input_gradient"):
            assert (
                of(replicated, name, work).memory_bytes
                == ratio * of(sharded, name, work).memory_bytes
            )
    assert of(replicated, "mlp_norm").vector_flop == 8.0 * of(sharded, "mlp_norm").vector_flop


def test_strategies_vectorize_under_jit_with_correct_gradients():
    def time(tensor, micro_batch, sequence):
        kernels = kernels_of(LLAMA3_70B, tensor, sequence, DATAFLOW, micro_batch)
        work = passes(kernels)
        flop = sum((x.matrix_flop.sum() + 10.0 * x.vector_flop.sum()) / 1e15 for x in work)
        return flop + sum(x.memory_bytes.sum() for x in work) / 1e12

    points = np.array([[1.0, 2.0, 0.0], [2.0, 2.0, 1.0], [8.0, 1.0, 1.0]])
    function = quick_jit(jax.vmap(jax.value_and_grad(time, argnums=(0, 1, 2))))
    values, slopes = function(*points.T)
    each = [time(*point) for point in points]
    assert values == pytest.approx(np.array(each), rel=1e-12)
    assert all(np.all(np.isfinite(slope)) for slope in slopes)  # also on one rank
    step = 1e-4
    for axis in range(3):
        up, down = points.copy(), points.copy()
        up[:, axis] += step
        down[:, axis] -= step
        difference = (function(*up.T)[0] - function(*down.T)[0]) / (2.0 * step)
        # One rank is the limit without collectives.
        assert slopes[axis][1:] == pytest.approx(np.array(difference[1:]), rel=1e-5, abs=1e-9)
