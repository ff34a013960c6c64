"""Trainium kernels: bytes and FLOP from their loops, overlap of engines, gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest
from jax.test_util import check_grads

from hwdse.config.hardware.neuron_cores import load_engines
from hwdse.core.neuron_kernel_time import kernel_times, stage_times
from hwdse.models.compute.neuron_engines import peak_flop_per_s
from hwdse.numerics.relaxation import smooth
from hwdse.workload.kernels import (
    attention_kernels,
    elementwise_kernels,
    fused_kernels,
    matmul_kernels,
)
from hwdse.workload.kernels.kernel_instructions import (
    Kernel,
    KernelStage,
    LaneWork,
    MatmulWork,
    Transfer,
)

V2, V3 = load_engines("neuron_core_v2"), load_engines("neuron_core_v3")
SIZES = (512.0, 1024.0, 2048.0)

KERNELS = {
    "tiled": lambda core: matmul_kernels.tiled_matmul(*SIZES, "fp32", core),
    "hoisted": lambda core: matmul_kernels.hoisted_matmul(*SIZES, "fp32", core),
    "free_blocked": lambda core: matmul_kernels.free_blocked_matmul(*SIZES, "bf16", core),
    "blocked": lambda core: matmul_kernels.blocked_matmul(*SIZES, "fp32", core),
    "grouped": lambda core: matmul_kernels.grouped_matmul(*SIZES, "fp8", core),
    "matmul": lambda core: matmul_kernels.matmul(*SIZES, "fp32", core, batch=2.0),
    "transpose_matmul": lambda core: matmul_kernels.transpose_matmul(*SIZES, "fp32", core),
    "swiglu": lambda core: fused_kernels.swiglu(*SIZES, "fp32", core),
    "lora": lambda core: fused_kernels.lora(*SIZES, 128.0, "fp32", core),
    "norm_matmul": lambda core: fused_kernels.norm_matmul(*SIZES, "fp32", core, is_added=True),
    "matmul_norm": lambda core: fused_kernels.matmul_norm(*SIZES, "fp32", core),
    "softmax_of_matmul": lambda core: attention_kernels.batched_softmax(
        2.0, 4096.0, 64.0, 4096.0, "fp32", core
    ),
    "attention": lambda core: attention_kernels.grouped_query_attention(
        1.0, 2048.0, 4.0, 2.0, 128.0, "fp32", core
    ),
    "fused_attention": lambda core: attention_kernels.fused_attention(2048.0, 128.0, "bf16", core),
    "adamw": lambda core: elementwise_kernels.adamw(*SIZES[:2], "fp32", core),
    "silu": lambda core: elementwise_kernels.silu(*SIZES[:2], "bf16", core),
    "softmax": lambda core: elementwise_kernels.softmax(*SIZES[:2], "fp32", core),
    "rms_norm": lambda core: elementwise_kernels.rms_norm(*SIZES[:2], "fp32", core),
    "rotary": lambda core: elementwise_kernels.rotary(8192.0, 128.0, "fp32", core),
} | {
    f"mamba_{version}": functools.partial(
        lambda version, core: elementwise_kernels.mamba_scan(
            256.0, 1024.0, 16.0, "fp32", core, version=version
        ),
        version,
    )
    for version in elementwise_kernels.MAMBA_VERSIONS
}
ALL = pytest.mark.parametrize("name", sorted(KERNELS))


def times(kernel, core=V2):
    with jax.enable_x64(True):
        return jax.tree.map(float, kernel_times(kernel, core))


@pytest.fixture(scope="module")
def measured():
    """Times of every kernel on NeuronCore-v2."""
    return {name: times(build(V2)) for name, build in KERNELS.items()}


@ALL
def test_engine_times_are_at_most_the_kernel_time(measured, name):
    got = measured[name]
    for engine in ("tensor_s", "vector_s", "scalar_s", "gpsimd_s", "dma_s", "sbuf_s"):
        assert 0.0 <= getattr(got, engine) <= got.latency_s
    assert got.model_flop <= got.hardware_flop
    assert got.latency_s >= V2.launch_latency_s


@ALL
def test_kernel_times_are_above_the_roofline(measured, name):
    got = measured[name]
    assert got.model_flop / got.latency_s <= float(peak_flop_per_s("bf16", V2.tensor))
    moved = got.read_bytes + got.written_bytes
    assert moved / got.latency_s <= V2.hbm_bandwidth_bytes_per_s


@ALL
@pytest.mark.parametrize("path", ["dma.bandwidth_bytes_per_s", "sbuf.capacity_bytes"])
def test_more_bandwidth_or_capacity_is_never_slower(measured, name, path):
    table, field = path.split(".")
    part = getattr(V2, table)
    richer = dataclasses.replace(part, **{field: 1.5 * getattr(part, field)})
    core = dataclasses.replace(V2, **{table: richer})
    assert times(KERNELS[name](core), core).latency_s <= measured[name].latency_s * (1 + 1e-12)


def test_traffic_of_the_tutorial_matmuls_equals_hand_count():
    """Loads counted by hand from the loops, 4096 x 8192 x 8192 in FP32."""
    m, k, n = 4096, 8192, 8192
    result, left, right = (4 * size for size in (m * n, m * k, k * n))
    loads = {
        matmul_kernels.tiled_matmul: 16 * left + 32 * right,
        matmul_kernels.hoisted_matmul: left + 32 * right,
        matmul_kernels.free_blocked_matmul: left + 16 * right,
        matmul_kernels.blocked_matmul: 8 * left + right,
    }
    for kernel, read in loads.items():
        got = times(kernel(float(m), float(k), float(n), "fp32", V3), V3)
        assert (got.read_bytes, got.written_bytes) == (read, result)
        assert got.model_flop == 2 * m * k * n


def test_block_beyond_sbuf_capacity_is_loaded_for_every_use():
    """20 MiB of B in SBUF: 32 loads, as in the NKIBench profile; one load with smaller k."""
    got = times(matmul_kernels.matmul(4096.0, 5120.0, 12288.0, "fp32", V2))
    identity = 128 * 128 * 4
    assert got.read_bytes + identity == 9059762176
    got = times(matmul_kernels.matmul(4096.0, 4096.0, 12288.0, "fp32", V2))
    assert got.read_bytes == 4 * 4096 * (12 * 4096 + 12288)


def test_hardware_flop_equal_the_profiler():
    """FP32 matmuls count twice, transposes included (NKIBench gqa_full, matmul)."""
    gqa = attention_kernels.grouped_query_attention(1.0, 4096.0, 16.0, 8.0, 128.0, "fp32", V2)
    assert times(gqa).hardware_flop == 418759311360
    kernel = matmul_kernels.matmul(4096.0, 5120.0, 12288.0, "fp32", V2)
    assert times(kernel).hardware_flop == 1159641169920


def test_only_scores_beyond_sbuf_capacity_spill():
    small = attention_kernels.batched_softmax(1.0, 1024.0, 64.0, 1024.0, "fp32", V2)
    assert times(small).written_bytes == 4 * 1024 * 1024
    large = attention_kernels.batched_softmax(1.0, 4096.0, 64.0, 4096.0, "fp32", V2)
    usable = V2.sbuf.capacity_bytes * V2.sbuf.usable_fraction
    assert times(large).written_bytes == pytest.approx(2 * 4 * 4096**2 - usable)


def test_mamba_cycles_equal_the_tutorial_versions():
    """VectorE cycles per element: 2+1+2+1+2 in one bank, 2+2+2+2+2 above, 7 with sums in PSUM."""

    def cycles(length, version):
        kernel = elementwise_kernels.mamba_scan(4096.0, length, 16.0, "fp32", V2, version=version)
        return times(kernel).vector_s * V2.vector.clock_hz / (32 * 16 * length)

    assert cycles(512.0, "v2") == pytest.approx(8.0)
    assert cycles(2048.0, "v2") == pytest.approx(10.0)
    assert cycles(2048.0, "v3") == pytest.approx(7.0 + 64 / 512)
    assert cycles(2048.0, "best") == pytest.approx(5.0 + 2 / 16 + 64 / 512)


def work(engine, elements, **options):
    fields = {"operation": "copy", "format": "fp32", "in_psum": False} | options
    return LaneWork(1.0, elements, engine=engine, **fields)


def test_engines_overlap_except_on_shared_ports():
    def length(core, *lane_work):
        return float(stage_times(KernelStage((), lane_work, ()), core).latency_s)

    vector, gpsimd = work("vector", 1120.0), work("gpsimd", 1400.0)  # 1 µs each on v2
    assert length(V2, vector) == length(V2, gpsimd) == pytest.approx(1e-6)
    assert length(V2, vector, gpsimd) == pytest.approx(2e-6)
    scalar = work("scalar", 1400.0)
    assert length(V2, vector, scalar) == pytest.approx(1e-6)
    in_psum = work("vector", 1120.0, in_psum=True), work("scalar", 1400.0, in_psum=True)
    assert length(V2, *in_psum) == pytest.approx(2e-6)
    assert length(V3, *in_psum) < sum(length(V3, each) for each in in_psum)


def test_stage_times_and_waits_add_up():
    stage = KernelStage((MatmulWork(100.0, 128.0, 128.0, 512.0, "matmul", "bf16", True),), (), ())
    start = V2.launch_latency_s + V2.dma.start_latency_s
    one, two = (times(Kernel((stage,) * count)).latency_s - start for count in (1, 2))
    assert two == pytest.approx(2 * one)
    waiting = dataclasses.replace(stage, num_waits=56.0)
    assert times(Kernel((waiting,))).latency_s - start - one == pytest.approx(5e-6)


def test_transposing_transfer_is_slower():
    plain, transposed = (
        times(Kernel((KernelStage((), (), (Transfer(1e6, 4096.0, False, flag),)),)), V3).dma_s
        for flag in (False, True)
    )
    assert transposed == pytest.approx(plain / 0.9, rel=0.02)


def test_latency_bounds_of_the_nki_samples_are_met():
    """Latency bounds of the AWS unit tests, kernel launch excluded."""
    bounds = {  # seconds
        ("fp32", V2): 675e-6,
        ("bf16", V2): 536e-6,
    }
    for (name, core), bound in bounds.items():
        kernel = attention_kernels.fused_attention(4096.0, 128.0, name, core)
        assert times(kernel, core).latency_s - core.launch_latency_s < bound * 1.02
    double_row = matmul_kernels.grouped_matmul(512.0, 16384.0, 1024.0, "fp8", V3)
    assert 0.2 * 320e-6 < times(double_row, V3).latency_s < 320e-6


def latency(clock, rows, columns, bandwidth, name):
    tensor = dataclasses.replace(V2.tensor, clock_hz=clock * 1e9, rows=rows, cols=columns)
    dma = dataclasses.replace(V2.dma, bandwidth_bytes_per_s=bandwidth * 1e9)
    core = dataclasses.replace(V2, tensor=tensor, dma=dma)
    # All engines at once, as in a search: the smooth relaxation has a gradient for each.
    return 1e3 * kernel_times(KERNELS[name](core), core, smooth(0.5)).latency_s


@ALL
def test_gradients_are_finite(name):
    values = (2.8, 128.0, 128.0, 27.2)
    slopes = jax.grad(latency, argnums=(0, 1, 2, 3))(*values, name)
    assert all(bool(jnp.isfinite(slope)) for slope in slopes)
    assert float(slopes[3]) <= 0.0


@pytest.mark.parametrize("name", ["tiled", "mamba_v2", "softmax_of_matmul"])
def test_gradients_agree_with_finite_differences(name):
    with jax.enable_x64(True):
        check_grads(
            lambda clock, bandwidth: latency(clock, 128.0, 128.0, bandwidth, name),
            (2.8, 27.2),
            order=1,
            modes=["rev"],
        )


def test_time_of_a_tensor_bound_kernel_is_inverse_to_the_tensor_clock():
    with jax.enable_x64(True):
        kernel = matmul_kernels.blocked_matmul(4096.0, 8192.0, 8192.0, "fp32", V3)
        slope = jax.grad(
            lambda clock: (
                kernel_times(
                    kernel,
                    dataclasses.replace(V3, tensor=dataclasses.replace(V3.tensor, clock_hz=clock)),
                ).latency_s
            )
        )(2.4e9)
    assert float(slope) * 2.4e9 == pytest.approx(-times(kernel, V3).tensor_s, rel=1e-9)
