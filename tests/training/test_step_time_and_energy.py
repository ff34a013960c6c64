"""Properties of a training step: sums of parts, signs of sensitivities, gradients."""

import jax
import numpy as np
import pytest
from support.trained_models import DEEPSEEK_V3, GPT3_175B, training

from hwdse.config import load_chip, load_search, load_system
from hwdse.evaluation import evaluate
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT, total
from hwdse.search.space.pytree_path import get_path, set_path
from hwdse.specs.design import Parallelism
from hwdse.specs.number_formats import PrecisionMix
from hwdse.specs.software import Software
from hwdse.training.gemm_operator_costs import OperatorCosts, operator_costs, sum_operators
from hwdse.training.step_time_and_energy import step_time_s, step_times, step_work
from hwdse.training.strategy_enumeration import SCHEDULE_FIELDS, STAGE_FIELDS
from hwdse.training.strategy_rules import MODULES
from hwdse.workload.gemms import Gemms, single_executions

JOBS = {
    "dense": training(GPT3_175B).replace(global_batch=512.0),
    "experts": training(DEEPSEEK_V3, 4096.0, 0.5).replace(global_batch=512.0),
}
SYSTEM = load_system("dgx_a100")
STACK = Software(
    dispatch_time_s=3e-3,
    dispatch_spread_ratio=0.1,
    fused_attention_fraction=0.5,
    elementwise_traffic_ratio=1.5,
    elementwise_overlap_fraction=0.5,
    num_elementwise_kernels=8.0,
    optimizer_traffic_ratio=1.2,
    num_layer_messages=2.0,
    gather_network_fraction=0.5,
    num_tensor_slices=2.0,
    send_overlap_fraction=0.4,
    data_overlap_fraction=0.4,
    expert_overlap_fraction=0.4,
    collective_engine_fraction=0.1,
    step_overhead_s=5e-3,
    cast_traffic_ratio=0.5,
    expert_sync_s=1e-3,
    node_dispatch_fraction=0.5,
    low_precision_kept_fraction=0.5,
    activation_input_bytes=1.5,
    num_loss_tiles=2.0,
    expert_output_kept_fraction=0.5,
)
STRATEGY = Parallelism(
    tensor=4.0,
    pipeline=4.0,
    micro_batch=1.0,
    recompute_fraction=0.25,
    context=2.0,
    expert=4.0,
    virtual_pipeline=2.0,
    attention_recompute_fraction=0.25,
    norm_recompute_fraction=0.25,
    activation_recompute_fraction=0.25,
    mlp_recompute_fraction=0.25,
    projection_recompute_fraction=0.25,
    output_recompute_fraction=0.25,
    offload_fraction=0.25,
    sequence_parallel_fraction=0.5,
    optimizer_shard_fraction=0.5,
    gradient_shard_fraction=0.5,
    weight_shard_fraction=0.5,
)
OVERLAPS = ("tensor_overlap_fraction", "data_overlap_fraction", "expert_overlap_fraction")
"""Every parameter inside its range, so that it can vary in both directions."""
BASE = load_search("trn2_llama3_70b").base.replace(
    chip=load_chip("a100"),
    mix=PrecisionMix(fp64_flop_fraction=1e-4, fp8_flop_fraction=0.25),
    cluster=SYSTEM.cluster.replace(num_chips=512.0),
    parallelism=STRATEGY,
    software=STACK,
)
BATCH = 128
"""Designs per call of a compiled program; the last design pads smaller batches."""


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@quick_jit
def _run(designs, job):
    return jax.vmap(lambda design: evaluate(design, job, EXACT))(designs)


def run(name, designs):
    """Evaluations of several designs, with one axis per field."""
    many = [*designs, *[designs[-1]] * (BATCH - len(designs))]
    batch = jax.tree.map(lambda *leaves: np.array(leaves, float), *many)
    found = _run(batch, jax.tree.map(float, JOBS[name]))
    return jax.tree.map(lambda x: np.asarray(x)[: len(designs)], found)


def scaled(path, factor):
    return set_path(BASE, path, factor * get_path(BASE, path))


# Sums ----------------------------------------------------------------------------------------


def random_designs(count):
    rng = np.random.default_rng(7)
    designs = []
    for _ in range(count):
        degrees = {
            name: float(rng.choice([1.0, 2.0, 4.0, 8.0]))
            for name in (
                "tensor",
                "pipeline",
                "context",
                "expert",
                "virtual_pipeline",
                "micro_batch",
            )
        }
        if degrees["pipeline"] == 1.0:
            degrees["virtual_pipeline"] = 1.0
        fractions = {
            name: float(rng.choice([0.0, 1.0, rng.uniform()]))
            for name in STRATEGY.__dataclass_fields__
            if name.endswith("_fraction") and name not in OVERLAPS
        }
        for module in MODULES:
            fractions[module] *= 1.0 - fractions["recompute_fraction"]
        fractions["dual_pipe_fraction"] *= 1.0 - fractions["zero_bubble_fraction"]
        software = Software(
            **{
                name: getattr(STACK, name) * float(rng.choice([0.5, 1.0, 2.0]))
                for name in STACK.__dataclass_fields__
            }
        ).replace(fused_attention_fraction=float(rng.choice([0.0, 1.0])))
        chips = float(rng.choice([512.0, 1024.0, 4096.0]))
        designs.append(
            BASE.replace(
                parallelism=Parallelism(**degrees, **fractions),
                software=software,
                cluster=BASE.cluster.replace(num_chips=chips),
            )
        )
    return designs


@pytest.mark.parametrize("name", sorted(JOBS))
def test_parts_of_random_steps_sum_to_totals(name):
    designs = random_designs(BATCH)
    found = run(name, designs)
    np.testing.assert_allclose(total(found.time), found.step_time_s, rtol=1e-11)
    np.testing.assert_allclose(total(found.energy), found.step_energy_j, rtol=1e-11)
    for leaf in jax.tree.leaves(found):
        assert np.all(np.isfinite(leaf))
    for part in (found.time, found.energy, found.hbm):
        for leaf in jax.tree.leaves(part):
            assert np.all(leaf >= -1e-12 * found.step_time_s)
    assert np.all(found.mfu_fraction < 1.0)
    parallelisms = [design.parallelism for design in designs]
    for part, degree in (("context_comm", "context"), ("pipeline_comm", "pipeline")):
        alone = np.array([getattr(x, degree) == 1.0 for x in parallelisms])
        assert np.all(getattr(found.time, part)[alone] == 0.0)
    is_alone = np.array([x.tensor == 1.0 for x in parallelisms])
    assert np.array_equal(found.time.tensor_comm == 0.0, is_alone)


# Slopes --------------------------------------------------------------------------------------

FASTER = (
    "chip.matrix_efficiency_fraction",
    "chip.attention_efficiency_fraction",
    "chip.hbm_efficiency_fraction",
    "chip.hbm.bandwidth_bytes_per_s",
    "chip.link.bandwidth_bytes_per_s",
    "chip.link.bandwidth_efficiency_fraction",
    "chip.network.bandwidth_bytes_per_s",
    "chip.network.bandwidth_efficiency_fraction",
    "chip.vector_flop_per_s",
    "chip.array.clock_hz",
    "software.fused_attention_fraction",
    "software.elementwise_overlap_fraction",
    "software.gather_network_fraction",
    "software.num_tensor_slices",
    "software.matrix_efficiency_fraction",
    "software.attention_efficiency_fraction",
    "software.send_overlap_fraction",
    "software.data_overlap_fraction",
    "software.expert_overlap_fraction",
    "software.node_dispatch_fraction",
    "parallelism.virtual_pipeline",
    "parallelism.optimizer_shard_fraction",
)
SLOWER = (
    "software.collective_engine_fraction",
    "chip.launch_latency_s",
    "chip.link.latency_s",
    "chip.link.collective_launch_s",
    "software.dispatch_time_s",
    "software.dispatch_spread_ratio",
    "software.elementwise_traffic_ratio",
    "software.cast_traffic_ratio",
    "software.expert_sync_s",
    "software.num_elementwise_kernels",
    "software.optimizer_traffic_ratio",
    "software.num_layer_messages",
    "software.step_overhead_s",
    "parallelism.recompute_fraction",
    *(f"parallelism.{module}" for module in MODULES),
)
LEFT_OUT = {
    "experts": (),
    "dense": (
        "software.expert_overlap_fraction",
        "software.node_dispatch_fraction",
        "software.expert_sync_s",
        "parallelism.projection_recompute_fraction",
    ),
}
"""Parameters without effect: no experts, no latent attention."""
OF_MEMORY = {
    "runtime_memory_bytes",
    "low_precision_kept_fraction",
    "activation_input_bytes",
    "num_loss_tiles",
    "expert_output_kept_fraction",
}
"""Fields of a stack that change the memory alone."""


@pytest.mark.parametrize("name", sorted(JOBS))
def test_every_parameter_changes_time_with_the_right_sign(name):
    paths = (*FASTER, *SLOWER)
    factors = (0.5, 1.0, 1.25)
    designs = [scaled(path, factor) for path in paths for factor in factors]
    times = run(name, designs).step_time_s.reshape(len(paths), len(factors))
    for path, row in zip(paths, times, strict=True):
        step = np.diff(row) * (1.0 if path in SLOWER else -1.0)
        if path not in LEFT_OUT[name]:
            assert np.all(step >= -1e-12 * row[0]), (path, row)
            assert np.any(step > 0.0), (path, row)
    of_stack = {x.partition(".")[2] for x in paths if x.startswith("software")}
    assert of_stack | OF_MEMORY == set(Software.__dataclass_fields__)


@pytest.mark.parametrize("name", sorted(JOBS))
def test_every_strategy_field_changes_memory_with_the_right_sign(name):
    """Memory falls with sharding and recomputation."""
    less = {
        "context": "activations",
        "sequence_parallel_fraction": "activations",
        "recompute_fraction": "activations",
        **dict.fromkeys(MODULES, "activations"),
        "offload_fraction": "activations",
        "optimizer_shard_fraction": "optimizer",
        "gradient_shard_fraction": "gradients",
        "weight_shard_fraction": "weights",
        "tensor": "weights",
        "pipeline": "weights",
        "virtual_pipeline": "activations",  # VPP 2 to 4; VPP 1 is another schedule
    }
    more = {"micro_batch": "activations"}
    base = set_path(BASE, "parallelism.weight_shard_fraction", 0.25)  # below that of gradients
    fields = [*less, *more]
    designs = [base] + [
        set_path(base, f"parallelism.{x}", 2.0 * get_path(base, f"parallelism.{x}")) for x in fields
    ]
    memory = run(name, designs).hbm
    for index, field in enumerate(fields, start=1):
        if f"parallelism.{field}" in LEFT_OUT[name]:
            continue
        part = getattr(memory, {**less, **more}.get(field, "activations"))
        sign = np.sign(part[index] - part[0])
        assert sign == (-1.0 if field in less else 1.0), field
    others = {"expert", "expert_tensor", *SCHEDULE_FIELDS, *STAGE_FIELDS}
    assert set(STRATEGY.__dataclass_fields__) == {*fields, *OVERLAPS, *others}


@pytest.mark.parametrize("name", sorted(JOBS))
def test_fractions_of_the_strategy_replace_the_overlap_of_the_stack(name):
    free = 0.9  # share of the engines that collectives leave
    own = {"tensor": 0.5 * free, "data": 0.4 * free, "expert": 0.4 * free}
    given = BASE.replace(
        parallelism=STRATEGY.replace(**{f"{kind}_overlap_fraction": own[kind] for kind in own})
    )
    hidden = BASE.replace(parallelism=STRATEGY.replace(**dict.fromkeys(OVERLAPS, 1.0)))
    exposed = BASE.replace(parallelism=STRATEGY.replace(**dict.fromkeys(OVERLAPS, 0.0)))
    alone = run(name, [BASE])
    found = run(name, [given, hidden, exposed])
    assert found.step_time_s[0] == pytest.approx(alone.step_time_s[0], rel=1e-12)
    assert found.step_time_s[1] < found.step_time_s[0] < found.step_time_s[2]


def test_step_overhead_adds_up_and_dispatch_counts_for_short_kernels_only():
    on_top = scaled("software.step_overhead_s", 3.0)
    nothing = set_path(BASE, "software.dispatch_time_s", 0.0)
    tiny = set_path(BASE, "software.dispatch_time_s", 1e-9)
    huge = set_path(BASE, "software.dispatch_time_s", 10.0)
    found = run("dense", [BASE, on_top, nothing, tiny, huge]).step_time_s
    assert found[1] - found[0] == pytest.approx(2.0 * STACK.step_overhead_s, rel=1e-9)
    assert found[3] == pytest.approx(found[2], rel=1e-9)
    # 24 layers per stage, 32 micro-batches, forward, backward, a quarter recomputed, bubble.
    spread = 1.0 + 0.1 * 2.0
    passes = (32.0 + 3.0 / 2.0) * 24.0 * 2.25 * spread
    assert found[4] == pytest.approx((passes + 32.0) * 10.0, rel=0.02)  # plus the head


def test_bubble_falls_with_virtual_pipeline_stages():
    in_chunks = scaled("parallelism.virtual_pipeline", 3.0)
    exposed = [set_path(x, "software.send_overlap_fraction", 0.0) for x in (BASE, in_chunks)]
    found = run("dense", exposed)
    assert found.time.bubble[1] == pytest.approx(found.time.bubble[0] / 3.0, rel=1e-12)
    assert found.time.pipeline_comm[1] > found.time.pipeline_comm[0]
    # With copy engines only the sends that fill and drain the pipeline are left.
    sent = [set_path(x, "software.send_overlap_fraction", 1.0) for x in (BASE, in_chunks)]
    found = run("dense", sent)
    assert found.time.pipeline_comm[1] == pytest.approx(found.time.pipeline_comm[0], rel=1e-12)


def test_elementwise_traffic_adds_to_gemm_traffic():
    sizes = np.full(2, 100.0)
    one, none = np.ones(2), np.zeros(2)
    extra = np.array([0.0, 500.0])
    gemms = Gemms(sizes, sizes, sizes, 7.0 * one, one, one, one, none, extra)
    costs = quick_jit(lambda design: operator_costs(gemms, single_executions(2), design, EXACT))(
        BASE
    )
    assert costs.hbm_bytes[1] - costs.hbm_bytes[0] == pytest.approx(1.5 * 3500.0)


# Gradients -----------------------------------------------------------------------------------

SMOOTH = (
    "chip.hbm_efficiency_fraction",
    "chip.link.bandwidth_bytes_per_s",
    "chip.network.bandwidth_bytes_per_s",
    "software.dispatch_time_s",
    "software.dispatch_spread_ratio",
    "software.elementwise_overlap_fraction",
    "software.num_elementwise_kernels",
    "software.optimizer_traffic_ratio",
    "software.num_layer_messages",
    "software.gather_network_fraction",
    "software.step_overhead_s",
    "parallelism.recompute_fraction",
    "software.num_tensor_slices",
    "software.matrix_efficiency_fraction",
    "software.attention_efficiency_fraction",
    "software.send_overlap_fraction",
    "software.data_overlap_fraction",
    "software.expert_overlap_fraction",
    "software.collective_engine_fraction",
    "parallelism.virtual_pipeline",
    *(f"parallelism.{module}" for module in MODULES),
    "parallelism.sequence_parallel_fraction",
    "parallelism.optimizer_shard_fraction",
    "parallelism.gradient_shard_fraction",
    "parallelism.weight_shard_fraction",
)


def edges():
    """Degrees of 1, few, many; fractions of 0 and 1; smallest and largest sizes."""
    job = JOBS["experts"]
    ones = Parallelism(1.0, 1.0, 1.0, 0.0)
    shares = (x for x in STRATEGY.__dataclass_fields__ if x.endswith("_fraction"))
    all_of_it = {x: 1.0 for x in shares if x not in (*OVERLAPS, "dual_pipe_fraction")}
    wide = STRATEGY.replace(
        tensor=64.0, context=64.0, expert=256.0, pipeline=61.0, virtual_pipeline=1.0
    )
    parallelisms = [ones, ones.replace(**all_of_it), STRATEGY.replace(**all_of_it), STRATEGY, wide]
    for number in (1.0, 2.0, 2.0**30):
        for parallelism in parallelisms:
            needed = float(parallelism.tensor * parallelism.context * parallelism.pipeline)
            cluster = BASE.cluster.replace(num_chips=number * needed)
            design = BASE.replace(cluster=cluster, parallelism=parallelism)
            yield design, job
            yield design.replace(software=Software(fused_attention_fraction=0.0)), job
    yield BASE, job.replace(seq_len=1.0, global_batch=1.0)
    yield BASE, job.replace(seq_len=1e7, global_batch=1e6)
    yield BASE, job.replace(model=job.model.replace(num_layers=4.0, hidden=1.0, feedforward=1.0))
    yield BASE, job.replace(model=job.model.replace(hidden=1e6, num_experts=4096.0))


def schedule(design, job):
    """Time, memory and sent bytes of a step whose operator times are proportional to their MACs.

    This excludes the model of single GEMMs, whose gradients have separate tests.
    """
    work = step_work(design, job, EXACT)
    step = work.step
    seconds = 1e-14 * (step.gemms.num_macs + step.gemms.vector_flop * step.gemms.count)
    costs = OperatorCosts(
        *[step.executions.total * seconds] * len(OperatorCosts.__dataclass_fields__)
    )
    costs = costs.replace(forward_s=step.executions.forward * seconds)
    layer, head = sum_operators(costs, step.executions.is_lm_head)
    times = step_times(work, layer, head, design)
    num_bytes = total(step.memory) + work.link_bytes + work.network_bytes
    return step_time_s(step, times) + 1e-12 * num_bytes


@pytest.mark.slow
def test_gradients_are_finite_at_the_edges_and_match_differences_inside():
    job = JOBS["experts"]
    ends = [scaled(path, factor) for path in SMOOTH for factor in (1.0 - 1e-5, 1.0 + 1e-5)]
    points = [(BASE, job), *((end, job) for end in ends), *edges()]
    batch = jax.tree.map(lambda *leaves: np.array(leaves, float), *points)
    values, slopes = quick_jit(jax.vmap(jax.value_and_grad(schedule, (0, 1))))(*batch)
    broken = {
        jax.tree_util.keystr(path)
        for path, slope in jax.tree_util.tree_leaves_with_path(slopes)
        if not np.all(np.isfinite(slope))
    }
    assert not broken
    shifted = np.asarray(values)[1 : 1 + len(ends)].reshape(-1, 2)
    for path, (low, high) in zip(SMOOTH, shifted, strict=True):
        expected = (high - low) / (2e-5 * get_path(BASE, path))
        slope = get_path(slopes[0], path)[0]
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-6), path
