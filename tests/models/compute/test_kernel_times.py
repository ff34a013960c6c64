"""Laws of the times of single kernels: products, attention, elementwise work, experts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdse.config.hardware.kernel_library import kernel_library
from hwdse.models.compute.attention_times import (
    AttentionWork,
    attention_bytes,
    attention_flop,
    attention_pairs,
    attention_time_s,
)
from hwdse.models.compute.elementwise_times import elementwise_time_s
from hwdse.models.compute.expert_times import (
    ExpertWork,
    expert_bytes,
    expert_flop,
    expert_time_s,
    padded_rows,
)
from hwdse.models.compute.gemm_times import gemm_bytes, gemm_flop, gemm_time_s, joined_s
from hwdse.specs.kernel_formats import KERNEL_FORMATS
from hwdse.validation.kernels.kernel_devices import device_rates

RATES = device_rates()["H100-SXM5-80GB"]
COSTS = kernel_library()["h100"]
PLAIN = KERNEL_FORMATS["plain"]
FREE = dataclasses.replace(COSTS, start_s=0.0, matrix_fraction=1.0, hbm_fraction=1.0)
SIZE = st.integers(1, 20_000).map(float)


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def decode(batch=64.0, kv_len=4096.0, heads=64.0, kv_heads=8.0, **other):
    return AttentionWork(batch, 1.0, kv_len, heads, kv_heads, 128.0, 128.0, **other)


def prefill(q_len=4096.0, batch=1.0, **other):
    return AttentionWork(batch, q_len, q_len, 64.0, 8.0, 128.0, 128.0, is_decode=0.0, **other)


def test_flop_and_bytes_of_a_hand_worked_product():
    assert gemm_flop(3.0, 5.0, 7.0) == 210.0
    assert gemm_bytes(3.0, 5.0, 7.0, PLAIN) == 2.0 * (21.0 + 35.0 + 15.0)
    assert gemm_bytes(3.0, 5.0, 7.0, KERNEL_FORMATS["int4_weight_only"]) == 42.0 + 17.5 + 30.0


@settings(max_examples=40, deadline=None)
@given(m=SIZE, n=SIZE, k=SIZE)
def test_a_product_is_never_faster_than_the_roofline(m, n, k):
    least = max(gemm_flop(m, n, k) / RATES.matrix_flop_per_s, 2.0 * n * k / RATES.hbm_bytes_per_s)
    assert gemm_time_s(m, n, k, PLAIN, RATES, FREE) >= least * (1.0 - 1e-9)


@settings(max_examples=40, deadline=None)
@given(m=SIZE, n=SIZE, k=SIZE, is_mean=st.booleans())
def test_a_larger_product_never_takes_less_time(m, n, k, is_mean):
    base = gemm_time_s(m, n, k, PLAIN, RATES, COSTS, is_mean_m=is_mean)
    for larger in ((2.0 * m, n, k), (m, n, 2.0 * k), (m + 1.0, n, k)):
        assert gemm_time_s(*larger, PLAIN, RATES, COSTS, is_mean_m=is_mean) >= base * (1 - 1e-9)


@settings(max_examples=40, deadline=None)
@given(m=st.floats(1.0, 5000.0), n=SIZE, k=SIZE)
def test_more_rows_of_a_mean_batch_never_take_more_time_per_row(m, n, k):
    def per_row(rows):
        return gemm_time_s(rows, n, k, PLAIN, RATES, COSTS, is_mean_m=True) / rows

    # Activations that leave the cache may cost a little more each.
    assert per_row(1.3 * m) <= per_row(m) * 1.02


def test_a_single_row_streams_the_weights_at_the_sustained_bandwidth():
    n = k = 16_384.0
    time_s = gemm_time_s(1.0, n, k, PLAIN, RATES, COSTS)
    least = COSTS.start_s + 2.0 * n * k / (RATES.hbm_bytes_per_s * COSTS.hbm_fraction)
    assert least < time_s < 1.1 * least


def test_a_large_product_runs_at_the_sustained_rate():
    size = 16_384.0
    time_s = gemm_time_s(size, size, size, PLAIN, RATES, COSTS)
    rate = gemm_flop(size, size, size) / time_s / RATES.matrix_flop_per_s
    assert 0.9 * COSTS.matrix_fraction < rate <= COSTS.matrix_fraction


def test_one_row_more_than_a_wave_costs_a_wave_in_a_benchmark_only():
    n, k = 128.0 * RATES.num_units, 8192.0
    steps = [gemm_time_s(m, n, k, PLAIN, RATES, COSTS) for m in (128.0, 129.0)]
    means = [gemm_time_s(m, n, k, PLAIN, RATES, COSTS, is_mean_m=True) for m in (128.0, 129.0)]
    assert steps[1] / steps[0] > 1.03
    assert means[1] / means[0] < 1.02


def test_narrow_weights_help_where_memory_bounds():
    def time_s(m, name):
        return gemm_time_s(m, 8192.0, 8192.0, KERNEL_FORMATS[name], RATES, COSTS)

    fixed = KERNEL_FORMATS["int4_weight_only"].fixed_s
    assert time_s(1.0, "int4_weight_only") - fixed < 0.45 * time_s(1.0, "plain")
    assert time_s(8192.0, "int4_weight_only") > 0.9 * time_s(8192.0, "plain")


def test_weights_that_take_turns_do_not_stay_in_the_cache():
    args = (1.0, 2048.0, 2048.0, PLAIN, RATES, dataclasses.replace(COSTS, cache_ratio=2.0))
    assert gemm_time_s(*args, 1.0) < gemm_time_s(*args)


@pytest.mark.parametrize(("a", "b"), [(1.0, 2.0), (3.0, 3.0), (1e-9, 1.0)])
def test_joined_parts_lie_between_their_maximum_and_their_sum(a, b):
    assert max(a, b) <= joined_s(a, b) <= a + b
    assert joined_s(a, b) == joined_s(b, a)


def test_pairs_of_a_causal_mask_count_by_hand():
    assert attention_pairs(3.0, 3.0, 1e18) == 6.0
    assert attention_pairs(2.0, 5.0, 1e18) == 4.0 + 5.0
    # window 3: queries 4 and 5 of 5 see three keys each
    assert attention_pairs(5.0, 5.0, 3.0) == 1.0 + 2.0 + 3.0 + 3.0 + 3.0
    assert attention_flop(decode(1.0, 10.0, 2.0, 1.0)) == 2.0 * 2.0 * 256.0 * 10.0


def test_latent_decode_moves_each_latent_once():
    work = AttentionWork(1.0, 1.0, 1000.0, 16.0, 1.0, 576.0, 512.0, is_value_in_key=1.0)
    assert attention_bytes(work) == 2.0 * 16.0 * (576.0 + 512.0) + 1000.0 * 576.0 * 2.0


def test_long_decode_streams_keys_at_the_sustained_bandwidth():
    work = decode(batch=256.0, kv_len=16_384.0)
    least = attention_bytes(work) / (RATES.hbm_bytes_per_s * COSTS.kv_fraction)
    assert least < attention_time_s(work, RATES, COSTS) < 1.5 * least


@settings(max_examples=30, deadline=None)
@given(batch=st.floats(1.0, 512.0), keys=st.floats(1.0, 1e5))
def test_more_keys_or_sequences_never_take_less_time(batch, keys):
    base = attention_time_s(decode(batch, keys), RATES, COSTS)
    assert attention_time_s(decode(2.0 * batch, keys), RATES, COSTS) >= base * (1.0 - 1e-9)
    assert attention_time_s(decode(batch, 2.0 * keys), RATES, COSTS) >= base * (1.0 - 1e-9)


def test_narrow_keys_and_windows_shorten_long_decode():
    whole = attention_time_s(decode(kv_len=65_536.0), RATES, COSTS)
    assert attention_time_s(decode(kv_len=65_536.0, kv_bytes=1.0), RATES, COSTS) < 0.7 * whole
    assert attention_time_s(decode(kv_len=65_536.0, window=1024.0), RATES, COSTS) < 0.2 * whole


def test_prefill_grows_with_the_square_of_long_prompts():
    times = [attention_time_s(prefill(n), RATES, COSTS) for n in (16_384.0, 32_768.0)]
    assert 3.3 < times[1] / times[0] < 4.1


def test_mean_prompts_have_no_steps_and_agree_at_whole_blocks():
    def time_s(q_len, is_mean):
        return attention_time_s(prefill(q_len), RATES, COSTS, is_mean_load=is_mean)

    assert time_s(1024.0, True) == pytest.approx(time_s(1024.0, False))
    values = [time_s(q, True) for q in np.linspace(200.0, 260.0, 61)]
    assert np.max(np.diff(values)) < 0.02 * values[0]


def test_elementwise_time_is_a_start_or_a_stream():
    small = elementwise_time_s(1e3, RATES, COSTS)
    assert small == pytest.approx(COSTS.stream_start_s, rel=0.01)
    large = elementwise_time_s(1e10, RATES, COSTS) - COSTS.stream_start_s
    assert large == pytest.approx(1e10 / (RATES.hbm_bytes_per_s * COSTS.stream_fraction), rel=1e-3)
    assert elementwise_time_s(1e10, RATES, COSTS, num_kernels=2.0) > large


def test_experts_with_few_tokens_move_weights_and_with_many_multiply():
    few = ExpertWork(8.0, 8.0, 4096.0, 14_336.0)
    many = ExpertWork(8.0, 65_536.0, 4096.0, 14_336.0)
    weights, _ = expert_bytes(few, PLAIN)
    assert weights == 3.0 * 8.0 * 4096.0 * 14_336.0 * 2.0
    least = weights / (RATES.hbm_bytes_per_s * COSTS.expert_hbm_fraction)
    assert least < expert_time_s(few, PLAIN, RATES, COSTS) < 1.2 * least + COSTS.expert_start_s
    rate = RATES.matrix_flop_per_s * COSTS.matrix_fraction * COSTS.expert_fraction
    assert expert_time_s(many, PLAIN, RATES, COSTS) > expert_flop(many) / rate
    assert padded_rows(few) < 2.0 * few.rows + 1e-9
    assert padded_rows(many) < many.rows * 1.01


def test_gradients_are_finite_at_the_smallest_and_largest_sizes():
    def products(x):
        return gemm_time_s(x, x, x, PLAIN, RATES, COSTS, is_mean_m=True)

    def attention(x):
        return attention_time_s(decode(x, x), RATES, COSTS) + attention_time_s(
            prefill(x), RATES, COSTS, is_mean_load=True
        )

    def experts(x):
        return expert_time_s(ExpertWork(x, x, 64.0, 64.0), PLAIN, RATES, COSTS)

    for function in (products, attention, experts, lambda x: elementwise_time_s(x, RATES, COSTS)):
        slopes = jax.vmap(jax.grad(lambda x, f=function: jnp.sum(f(x))))(jnp.array([1.0, 3.5, 1e4]))
        assert np.all(np.isfinite(slopes))


def test_every_row_of_the_library_is_possible():
    for name, costs in kernel_library().items():
        for field in dataclasses.fields(costs):
            assert getattr(costs, field.name) > 0.0, (name, field.name)
        for share in ("hbm_fraction", "kv_fraction", "stream_fraction", "expert_hbm_fraction"):
            assert getattr(costs, share) <= 1.0, (name, share)
