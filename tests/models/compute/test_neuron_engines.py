"""Cost rules of Trainium's engines: worked cases, limits, slopes, gradients.

Cycle rules are those of the AWS Neuron SDK (NKI architecture and performance guides, `nki.isa`).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hwdse.config.hardware.neuron_cores import load_engines
from hwdse.models.compute import neuron_engines

V2, V3, V4 = (load_engines(f"neuron_core_v{version}") for version in (2, 3, 4))
CORES = pytest.mark.parametrize("core", [V2, V3, V4], ids=("v2", "v3", "v4"))


def product(stationary, moving, core=V2, **options):
    return float(neuron_engines.matmul_cycles(stationary, moving, 1.0, core.tensor, **options))


@pytest.mark.parametrize(
    ("moving", "cycles"), [(512.0, 512.0), (128.0, 128.0), (64.0, 64.0), (1.0, 64.0)]
)
def test_a_matmul_takes_its_moving_columns_and_at_least_64_cycles(moving, cycles):
    assert product(128.0, moving) == cycles


def test_a_matrix_vector_product_is_faster_with_a_moving_vector():
    assert product(128.0, 1.0) == 64.0
    assert product(1.0, 128.0) == 128.0


def test_a_stationary_tile_loads_in_32_cycles_behind_the_matmul():
    assert product(128.0, 512.0, is_load_hidden=False) == 512.0 + 32.0
    assert product(128.0, 512.0) == 512.0
    slow = dataclasses.replace(V2.tensor, load_speedup_ratio=0.5)  # the load is the longer one
    assert float(neuron_engines.matmul_cycles(128.0, 64.0, 1.0, slow)) == 256.0


@pytest.mark.parametrize(
    ("core", "kind", "count"),
    [(V2, "matmul", 4), (V2, "broadcast", 2), (V2, "transpose", 4), (V3, "transpose", 2)],
)
def test_passes_of_fp32(core, kind, count):
    assert neuron_engines.passes("fp32", core.tensor, kind) == count
    assert neuron_engines.passes("bf16", core.tensor, kind) == 1.0


@CORES
def test_transposes(core):
    """max(P, min(64, F)) cycles."""
    assert float(neuron_engines.transpose_cycles(128.0, 128.0, "bf16", core.tensor)) == 128.0
    assert float(neuron_engines.transpose_cycles(32.0, 128.0, "bf16", core.tensor)) == 64.0
    assert float(neuron_engines.transpose_cycles(32.0, 16.0, "bf16", core.tensor)) == 32.0


@pytest.mark.parametrize(
    ("core", "name", "tflops"),
    [
        (V2, "bf16", 91.75),
        (V2, "fp32", 91.75 / 4),
        (V3, "bf16", 78.64),
        (V3, "fp8", 2 * 78.64),
        (V3, "fp32", 78.64 / 4),
        (V4, "mx", 4 * 78.64),
        (V4, "fp8", 78.64),
    ],
)
def test_peaks(core, name, tflops):
    """Also the rate of one full tile of 512 columns."""
    peak = float(neuron_engines.peak_flop_per_s(name, core.tensor))
    assert peak / 1e12 == pytest.approx(tflops, rel=1e-3)
    rows = neuron_engines.contraction_rows(name, core.tensor)
    cycles = float(neuron_engines.gemm_cycles(128.0, rows, 512.0, core.tensor, format_name=name))
    assert 2 * 128 * rows * 512 / cycles * core.tensor.clock_hz == pytest.approx(peak, rel=1e-6)


def test_sparsity_is_four_times_dense():
    dense, sparse = (
        neuron_engines.peak_flop_per_s("bf16", V3.tensor, k) for k in ("matmul", "sparse")
    )
    assert sparse == 4 * dense


def test_the_fp32_gemm_of_the_optimization_tutorial():
    """32768 matmuls of 512 columns in four passes at 2.4 GHz: 27.96 ms; measured 28.16."""
    with jax.enable_x64(True):
        cycles = neuron_engines.gemm_cycles(4096.0, 8192.0, 8192.0, V3.tensor, format_name="fp32")
    assert float(cycles) == 32768 * 512 * 4
    assert float(cycles) / V3.tensor.clock_hz == pytest.approx(27.96e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("n", "columns"),
    [(512, 512), (513, 512 + 64), (600, 600), (1024, 1024), (20, 64), (1100, 1100)],
)
def test_a_last_tile_below_64_columns_takes_64(n, columns):
    assert float(neuron_engines.gemm_cycles(128.0, 128.0, float(n), V2.tensor)) == columns


@CORES
@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=3, max_size=3))
def test_no_gemm_exceeds_the_peak(core, extents):
    m, k, n = (float(extent) for extent in extents)
    with jax.enable_x64(True):
        cycles = float(neuron_engines.gemm_cycles(m, k, n, core.tensor))
    peak = float(neuron_engines.peak_flop_per_s("bf16", core.tensor)) / core.tensor.clock_hz
    assert 2 * m * k * n / cycles <= peak * (1 + 1e-6)


LANE_CASES = [  # operation, elements, cycles on VectorE of NeuronCore-v2, fp32
    ("tensor_scalar", 512, 512),
    ("copy", 10, 64),
    ("activation", 300, 300),
    ("select", 64, 64),
    ("dropout", 65, 65),
    ("activation_reduce", 512, 512 + 64),
    ("tensor_scalar_reduce", 10, 64 + 64),
    ("tensor_tensor", 512, 1024),
    ("tensor_tensor", 16, 64),
    ("scalar_tensor_tensor", 100, 200),
    ("tensor_reduce", 512, 512),
    ("scan", 512, 1024),
    ("scan", 16, 64),
    ("memset", 512, 512),
    ("vector_reciprocal", 100, 800),
    ("reciprocal", 100, 100),
    ("bn_stats", 512, 512),
    ("bn_aggr", 300, 1300),
    ("bn_aggr", 6, 64),
    ("dynamic_copy", 100, 600),
    ("dynamic_copy", 700, 700),
    ("max8", 512, 512),
    ("find_index8", 512, 512),
    ("transpose32", 32, 64),
]


@pytest.mark.parametrize(("operation", "elements", "cycles"), LANE_CASES)
def test_instruction_notes_of_the_vector_engine(operation, elements, cycles):
    got = neuron_engines.lane_cycles(operation, float(elements), V2.vector)
    assert float(got) == pytest.approx(cycles)


@pytest.mark.parametrize("operation", ["iota", "affine_select"])
def test_gpsimd_runs_software(operation):
    assert float(neuron_engines.lane_cycles(operation, 512.0, V2.gpsimd)) == 150 + 512
    assert float(neuron_engines.gather_cycles(64.0, 8.0, 4.0, V2.gpsimd)) == 150 + 128
    assert float(neuron_engines.top_k_cycles(512.0, 8.0)) == 4 * 512 + 8


def test_every_operation_is_tested():
    assert {case[0] for case in LANE_CASES} | {"exp", "iota", "affine_select"} == set(
        neuron_engines.LANE_CYCLES
    )


def test_formats_and_locations_of_operands():
    def cycles(operation, core=V3, engine_name="vector", **options):
        return float(
            neuron_engines.lane_cycles(operation, 512.0, getattr(core, engine_name), **options)
        )

    assert cycles("tensor_tensor", format_name="bf16") == 512  # performance mode
    assert cycles("tensor_tensor", V2, format_name="bf16") == 1024
    assert cycles("tensor_tensor", in_psum=True) == 512
    assert cycles("tensor_reduce", format_name="bf16") == 256
    assert cycles("memset", format_name="bf16") == 256
    assert cycles("copy", format_name="bf16") == 128
    assert cycles("copy", format_name="bf16", in_psum=True) == 512
    assert cycles("exp", V4, "scalar") == 128
    assert cycles("exp", V3, "scalar") == cycles("activation", V3, "scalar") == 512


def test_a_dependent_instruction_waits():
    """A tiny one takes 64 + 100 cycles on v2; the guide measures 222 ns between two on v3."""
    tiny = [
        neuron_engines.lane_cycles("copy", 1.0, V2.vector, is_dependent=d) for d in (False, True)
    ]
    assert [float(cycles) for cycles in tiny] == [64.0, 164.0]
    cycles = V3.scalar.dependent_cycles
    assert cycles / V3.scalar.clock_hz == pytest.approx(222e-9, rel=0.01)


@pytest.mark.parametrize(
    ("size", "share"), [(128, 0.054), (256, 0.106), (1024, 0.425), (2048, 0.814), (8192, 0.984)]
)
def test_throughput_of_lone_transfers_follows_the_chart(size, share):
    assert float(neuron_engines.transfer_efficiency(float(size), V3.dma)) == pytest.approx(
        share, rel=0.04
    )


def test_one_engine_moves_32_kib_in_1416_ns():
    with jax.enable_x64(True):
        time = float(neuron_engines.lone_transfer_time_s(8192.0, 4.0, V3.dma))
    assert time == pytest.approx(1416e-9, rel=0.01)


@pytest.mark.parametrize(("core", "rate"), [(V2, 17e9), (V3, 23e9), (V4, 33e9)])
def test_full_packets_reach_the_measured_bandwidth(core, rate):
    assert float(neuron_engines.sustained_bytes_per_s(core.dma)) == pytest.approx(rate, rel=1e-6)
    with jax.enable_x64(True):
        time = float(neuron_engines.queued_transfer_time_s(1e9, 4096.0, core.dma))
        assert time == pytest.approx(1e9 / (16 * rate), rel=1e-6)
        lone = float(neuron_engines.lone_transfer_time_s(65536.0, 128.0, core.dma))
        queued = float(neuron_engines.queued_transfer_time_s(128 * 65536.0, 65536.0, core.dma))
    assert lone == pytest.approx(queued)  # equal for large transfers


def test_partitions_are_distributed_over_the_dma_engines():
    times = [
        float(neuron_engines.lone_transfer_time_s(4096.0, rows, V3.dma)) for rows in (8.0, 128.0)
    ]
    assert times[0] == pytest.approx(times[1])


def test_a_wide_stride_halves_sbuf():
    near, far = (float(neuron_engines.sbuf_time_s(1e6, V2.sbuf, stride)) for stride in (16.0, 17.0))
    assert far == 2 * near


@settings(max_examples=30, deadline=None)
@given(st.floats(1.0, 1e5), st.floats(1.01, 10.0))
def test_larger_rows_never_slow_down_a_transfer(row, factor):
    """At equal bytes; a packet split in two is bounded by full packets."""
    with jax.enable_x64(True):
        times = [
            float(neuron_engines.queued_transfer_time_s(1e6, r, V3.dma)) for r in (row, 2 * row)
        ]
        lone = [
            float(neuron_engines.lone_transfer_time_s(r, 128.0, V3.dma))
            for r in (row, factor * row)
        ]
    assert times[1] <= times[0] * (1 + 1e-9)
    assert lone[1] >= lone[0]


def test_gradients_agree_with_finite_differences():
    def cycles(clock_ghz, rows, n):
        tensor = dataclasses.replace(V3.tensor, clock_hz=clock_ghz * 1e9, rows=rows)
        rate = neuron_engines.peak_flop_per_s("bf16", tensor) / 1e12
        return neuron_engines.matmul_cycles(128.0, n, 4.0, tensor) / clock_ghz + rate

    def seconds(row_kib, bandwidth):
        dma = dataclasses.replace(V3.dma, bandwidth_bytes_per_s=bandwidth * 1e9)
        lone = neuron_engines.lone_transfer_time_s(row_kib * 1024.0, 128.0, dma)
        return 1e6 * (lone + neuron_engines.queued_transfer_time_s(1e6, row_kib * 1024.0, dma))

    with jax.enable_x64(True):
        check_grads(cycles, (2.4, 100.0, 300.0), order=1)
        check_grads(seconds, (3.0, 27.2), order=1, modes=["rev"])


@CORES
def test_gradients_are_finite_at_edges(core):
    def total(tensor, vector, dma, n):
        work = neuron_engines.gemm_cycles(n, n, n, tensor, format_name="fp32") / tensor.clock_hz
        lanes = neuron_engines.lane_cycles("exp", n, vector) / vector.clock_hz
        return jnp.sum(work + lanes + neuron_engines.queued_transfer_time_s(n, n, dma))

    for n in (1.0, 64.0, 512.0, 513.0, 1e6):
        inputs = (core.tensor, core.vector, core.dma, np.float32(n))
        slopes = jax.tree.leaves(jax.grad(total, argnums=(0, 1, 2, 3))(*inputs))
        assert all(bool(jnp.all(jnp.isfinite(slope))) for slope in slopes)


def test_a_batch_of_cores_and_of_sizes():
    sizes = jnp.asarray([128.0, 512.0, 4096.0])
    batched = jax.vmap(lambda clock: neuron_engines.gemm_cycles(
        sizes, sizes, sizes, dataclasses.replace(V3.tensor, clock_hz=clock)))(sizes)  # fmt: skip
    assert batched.shape == (3, 3)
    assert float(batched[0, 1]) == float(neuron_engines.gemm_cycles(512.0, 512.0, 512.0, V3.tensor))
