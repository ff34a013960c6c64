"""Full model: parts add up, bounds and monotonicity hold, execution modes agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.designs import (
    BASE,
    JOB,
    LAYERS,
    SIZES,
    as_arrays,
    random_designs,
    run,
    run_once,
    vector,
)

from hwdse.evaluation import evaluate
from hwdse.models.compute.systolic import DATAFLOWS
from hwdse.models.energy.voltage_and_leakage import VECTOR_ENERGY_RATIO
from hwdse.models.network.topology_collectives import TOPOLOGIES
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, smooth, total
from hwdse.search.space.search_space import get_path, set_path
from hwdse.specs.results.evaluation_result import PARTS, Evaluation


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


# Sums -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_layer_list", [False, True])
@pytest.mark.parametrize("relaxation", [EXACT, smooth(0.5)], ids=["exact", "smooth"])
def test_parts_add_up(is_layer_list, relaxation):
    result = run_once(BASE, relaxation, is_layer_list)
    assert total(result.time) == pytest.approx(float(result.step_time_s), rel=1e-12)
    assert total(result.energy) == pytest.approx(float(result.step_energy_j), rel=1e-12)
    assert total(result.area) == pytest.approx(float(result.die_area_mm2), rel=1e-12)
    used_bytes = float(result.hbm_used_ratio) * BASE.chip.hbm.capacity_bytes
    assert total(result.hbm) == pytest.approx(used_bytes, rel=1e-12)
    assert all(np.all(x >= 0.0) for x in jax.tree.leaves(result))


def test_metrics_are_consistent():
    result = run(BASE)
    chips = BASE.cluster.num_chips
    effective_tokens = float(result.goodput_fraction) * float(result.tokens_per_step)
    step_s, step_j = float(result.step_time_s), float(result.step_energy_j)
    assert result.time_per_token_s == pytest.approx(step_s / effective_tokens)
    assert result.effective_tokens_per_s == pytest.approx(effective_tokens / step_s)
    assert result.energy_per_token_j == pytest.approx(step_j / effective_tokens)
    assert result.chip_power_w == pytest.approx(step_j / step_s / chips)
    array = BASE.chip.array
    peak = 2.0 * array.rows * array.cols * array.num_arrays * array.clock_hz
    assert result.peak_flop_per_s == pytest.approx(peak)


def test_utilization_is_model_flop_over_peak():
    result, model = run(BASE), JOB.model
    attention = 12.0 * JOB.attention_fraction * model.num_layers * JOB.seq_len
    width = model.num_heads * model.head_dim
    kv_width = 2.0 * model.num_kv_heads * model.head_dim
    layer = model.hidden * (2.0 * width + kv_width + 3.0 * model.feedforward)
    weights = model.num_layers * layer + model.hidden * model.vocabulary
    flop = (6.0 * weights + attention * width) * float(result.tokens_per_step)
    peak = float(result.peak_flop_per_s) * BASE.cluster.num_chips
    found = float(result.mfu_fraction)
    assert found == pytest.approx(flop / peak / float(result.step_time_s), rel=1e-9)
    assert 0.2 < found < 0.7  # the range of published training runs


def test_padding_and_recomputation_are_not_model_flop():
    plain = run(BASE)
    recomputed = run(set_path(BASE, "parallelism.recompute_fraction", 1.0))
    padded = run(
        set_path(BASE, "parallelism.micro_batch", 96.0)
    )  # 1024 / (16 x 96): one, partly filled
    for result in (plain, recomputed, padded):
        work = result.mfu_fraction * result.step_time_s
        same = float(plain.mfu_fraction * plain.step_time_s)
        assert work == pytest.approx(same, rel=1e-9)
    assert recomputed.hardware_flop > plain.hardware_flop
    assert recomputed.step_time_s > plain.step_time_s


# Bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataflow", sorted(DATAFLOWS))
def test_step_time_is_above_the_roofline(dataflow):
    design = BASE.replace(chip=BASE.chip.replace(array=BASE.chip.array.replace(dataflow=dataflow)))
    result = run_once(design)
    assert result.step_time_s >= result.hardware_flop / result.peak_flop_per_s
    bandwidth = BASE.chip.hbm.bandwidth_bytes_per_s
    assert result.step_time_s >= result.hbm_traffic_bytes / bandwidth
    assert 0.0 < result.mfu_fraction <= 1.0
    assert 0.0 < result.goodput_fraction < 1.0


@pytest.fixture(scope="module")
def random_results():
    """Batched evaluation of the random designs, with every leaf of a design traced."""
    with jax.enable_x64(True):
        return quick_jit(jax.vmap(lambda design: evaluate(design, JOB)))(random_designs())


def test_random_designs_satisfy_the_bounds(random_results):
    batch, result = random_designs(), random_results
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(result))
    assert np.all(result.mfu_fraction <= 1.0)
    assert np.all(result.mfu_fraction > 0.0)
    assert np.all(result.goodput_fraction < 1.0)
    speedup = 1.0 / (1.0 - batch.mix.fp8_flop_fraction * (1.0 - 1.0 / batch.chip.fp8_speedup_ratio))
    least_s = result.hardware_flop / (result.peak_flop_per_s * speedup)
    assert np.all(result.step_time_s >= least_s * (1.0 - 1e-9))
    parts = total(result.time), total(result.energy), total(result.area)
    sums = result.step_time_s, result.step_energy_j, result.die_area_mm2
    for part_sum, expected in zip(parts, sums, strict=True):
        assert np.allclose(part_sum, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "path",
    [
        "chip.hbm.bandwidth_bytes_per_s",
        "chip.sram.bandwidth_bytes_per_s",
        "chip.sram.capacity_bytes",
        "chip.link.bandwidth_bytes_per_s",
        "chip.network.bandwidth_bytes_per_s",
        "chip.array.clock_hz",
        "chip.array.num_arrays",
        "chip.vector_flop_per_s",
        "cluster.chip_mtbf_s",
        "cluster.storage_bandwidth_bytes_per_s",
    ],
)
def test_more_of_a_resource_is_never_slower(path):
    times = [
        float(run(set_path(BASE, path, get_path(BASE, path) * x)).time_per_token_s)
        for x in (0.25, 0.5, 1.0, 2.0)
    ]
    assert np.all(np.diff(times) <= 1e-12 * times[0])


def test_more_overlap_is_faster():
    path, fractions = "parallelism.tensor_overlap_fraction", (0.0, 0.25, 0.5, 1.0)
    times = [float(run(set_path(BASE, path, x)).time_per_token_s) for x in fractions]
    assert np.all(np.diff(times) < 0.0)


@pytest.mark.parametrize(
    "path", ["chip.launch_latency_s", "chip.link.latency_s", "mix.fp64_flop_fraction"]
)
def test_higher_overhead_is_slower(path):
    assert run(set_path(BASE, path, get_path(BASE, path) * 4)).step_time_s > run(BASE).step_time_s


def test_half_the_chips_take_about_twice_as_long():
    fewer = set_path(BASE, "cluster.num_chips", BASE.cluster.num_chips / 2.0)
    ratio = run(fewer).step_time_s / run(BASE).step_time_s
    assert 1.7 < ratio <= 2.0 + 1e-9  # the bubble is independent of the number of replicas
    assert run(fewer).goodput_fraction > run(BASE).goodput_fraction


def test_job_on_one_chip_has_no_communication():
    alone = set_path(BASE, "cluster.num_chips", 1.0)
    alone = set_path(set_path(alone, "parallelism.tensor", 1.0), "parallelism.pipeline", 1.0)
    result = run(alone)
    for name in ("tensor_comm", "pipeline_comm", "data_comm", "bubble"):
        assert getattr(result.time, name) == 0.0
    assert result.energy.link == result.energy.network == 0.0


def test_job_within_one_domain_does_not_use_the_scale_out_network():
    domain = set_path(BASE, "cluster.num_chips", 64.0)
    result = run(domain)
    assert result.energy.network == 0.0
    assert result.energy.link > 0.0
    free = run(set_path(domain, "chip.network.bandwidth_bytes_per_s", 1e6))
    assert free.step_time_s == result.step_time_s


def test_fp64_time_and_energy_count_the_same_flop():
    fraction = 0.2
    design = set_path(BASE, "mix.fp64_flop_fraction", fraction)
    design = set_path(design, "chip.fp64_per_fp16_ratio", 0.5)
    design = set_path(design, "chip.power_limit_w", None)  # at the clock of the peak
    result = run(design)
    native = 0.5 * float(result.peak_flop_per_s)
    vectors = BASE.chip.vector_flop_per_s / BASE.chip.software_fp64_flop_ratio
    model_flop = result.mfu_fraction * result.peak_flop_per_s * result.step_time_s
    flop = float(model_flop) * fraction / (1.0 - fraction)
    assert result.time.fp64 == pytest.approx(flop / (native + vectors), rel=1e-9)
    # The work is divided between native units and vector engines in proportion to their rates.
    native_flop = flop * native / (native + vectors)
    native_j = BASE.chip.process.mac_energy_j / 2.0 * BASE.chip.process.fp64_energy_ratio
    vector_j = BASE.chip.process.mac_energy_j * VECTOR_ENERGY_RATIO
    software_j = BASE.chip.software_fp64_flop_ratio * vector_j
    per_chip_j = native_flop * native_j + (flop - native_flop) * software_j
    joules = per_chip_j * BASE.cluster.num_chips
    assert result.energy.fp64 == pytest.approx(joules, rel=1e-9)


@pytest.mark.parametrize("topology", sorted(TOPOLOGIES))
def test_every_topology_gives_finite_results(topology):
    cluster = BASE.cluster
    if topology != "torus":
        cluster = cluster.replace(
            torus_sizes=(64.0,), torus_bandwidth_fractions=(1.0,), torus_latency_ratios=(1.0,)
        )
    result = run_once(BASE.replace(cluster=cluster.replace(topology=topology)))
    assert all(np.isfinite(x) for x in jax.tree.leaves(result))
    assert result.time.tensor_comm > 0.0


def test_layer_lists_have_no_communication_and_finite_gradients():
    result = run_once(BASE, is_layer_list=True)
    assert result.tokens_per_step == BASE.cluster.num_chips
    assert result.goodput_fraction == 1.0
    for name in ("tensor_comm", "pipeline_comm", "data_comm", "bubble", "optimizer"):
        assert getattr(result.time, name) == 0.0
    flop = 2.0 * np.sum(np.prod(SIZES, axis=1))
    assert result.hardware_flop == flop
    slopes = jax.grad(lambda design: evaluate(design, LAYERS).time_per_token_s)(as_arrays(BASE))
    assert all(np.isfinite(x) for x in jax.tree.leaves(slopes))


# Execution modes --------------------------------------------------------------------------------


def test_vmap_equals_a_loop_over_designs(random_results):
    batch, together = jax.tree.map(np.asarray, (random_designs(), vector(random_results)))
    for i in range(6):
        alone = run(jax.tree.map(lambda x, i=i: x[i], batch))
        assert np.allclose(vector(alone), together[:, i], rtol=1e-12)


def test_float32_agrees_with_float64():
    double = np.array(vector(run(BASE)))
    with jax.enable_x64(False):
        single = np.array(vector(evaluate(as_arrays(BASE), JOB)))
    assert single.dtype == np.float32
    assert np.allclose(single, double, rtol=1e-4)


def test_float32_setting_of_the_caller_is_unchanged():
    with jax.enable_x64(False):
        result = evaluate(BASE, JOB)
        assert not jax.config.jax_enable_x64
        assert jnp.asarray(result.step_time_s).dtype == jnp.float32
        assert jnp.asarray(1.0).dtype == jnp.float32


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_smooth_relaxation_is_close_to_the_exact_model(temperature):
    smoothed = run_once(BASE, smooth(temperature))
    exact, relaxed = vector(run(BASE)), vector(smoothed)
    step = run(BASE).step_time_s, smoothed.step_time_s
    assert step[1] == pytest.approx(float(step[0]), rel=0.05 if temperature == 0.0 else 0.5)
    assert np.all(np.isfinite(relaxed))
    assert exact.shape == relaxed.shape


def test_every_field_name_ends_with_its_unit():
    units = ("_s", "_j", "_w", "_v", "_mm2", "_usd", "_g", "_bytes", "_flop", "_step")
    for name in Evaluation.__dataclass_fields__:
        if name not in (*PARTS, "decode_sequences"):
            assert name.endswith((*units, "_fraction", "_ratio")), name
