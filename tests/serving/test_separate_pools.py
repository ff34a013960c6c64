"""Prompts and decoding on separate replicas: equal together where they must be, Little's law."""

import jax
import jax.numpy as jnp
import pytest

from hwdse.config import load_search
from hwdse.config.search.job_source import JobSource
from hwdse.evaluation import evaluate_exact
from hwdse.numerics.jit_compile import quick_jit
from hwdse.serving.queues.steady_state import steady_state
from hwdse.serving.separate_pools import cache_transfer_s
from hwdse.serving.serving_evaluation import evaluate_serving
from hwdse.specs.serving.requests import Requests
from hwdse.specs.serving.serving_metrics import ReplicaLimits

JOB = {
    "system": "dgx_h100",
    "model": "llama3_8b",
    "engine": "vllm",
    "strategy": "TP2 prefill 1x",
    "concurrency": 64,
}


@pytest.fixture(scope="module")
def service():
    loaded = load_search(JobSource(None, {"design": JOB}))
    return loaded.base, loaded.workload


def at(service, **requests):
    design, task = service
    return design, task.replace(requests=task.requests.replace(**requests))


def test_apart_equals_together_where_steps_have_no_fixed_cost():
    # Engine time of a request adds up: 1 / rate = 1 / rate of prompts + 1 / rate of decoding.
    def step_time(load):
        return 1e-5 * load.prefill_tokens + 3e-5 * load.decode_sequences + 1e-9

    limits = ReplicaLimits(256.0, 1e7, 8192.0)
    whole = Requests(1000.0, 200.0, arrival_rate_per_s=1.0)
    first = whole.replace(output_tokens=1.0)
    rest = whole.replace(cached_input_tokens=999.999, output_tokens=200.0)
    with jax.enable_x64(True):
        rates = [
            float(steady_state(one, step_time, limits).capacity_rate_per_s)
            for one in (whole, first, rest)
        ]
    assert 1.0 / rates[0] == pytest.approx(1.0 / rates[1] + 1.0 / rates[2], rel=0.02)


@pytest.mark.parametrize("users", [1.0, 30.0, 200.0])
def test_littles_law_holds_for_both_pools_together(service, users):
    found = evaluate_exact(*at(service, concurrency=users))
    assert found.requests_per_s * found.request_latency_s == pytest.approx(users, rel=0.01)


def test_a_free_transfer_costs_nothing_and_a_slow_one_its_time(service):
    design, task = service
    free, slow = (
        design.replace(
            chip=design.chip.replace(
                link=design.chip.link.replace(
                    bandwidth_bytes_per_s=bandwidth, latency_s=0.0, rendezvous_s=0.0
                )
            )
        )
        for bandwidth in (1e30, 1e9)
    )
    efficiency = float(design.chip.link.bandwidth_efficiency_fraction)
    with jax.enable_x64(True):
        assert float(cache_transfer_s(free, task)) < 1e-4
        transfer_s = float(cache_transfer_s(slow, task))
    # 32 layers, keys and values of 4 of 8 heads of 128 in 16 bits: 64 KiB a token and rank.
    assert transfer_s == pytest.approx(1024 * 65536 / (1e9 * efficiency), rel=0.01)


def test_prompts_apart_keep_the_gaps_between_tokens_short(service):
    design, task = at(service, input_tokens=8000.0)
    apart = evaluate_exact(design, task).service.state
    together = evaluate_exact(design.replace(strategy=design.strategy.decoding), task).service.state
    assert apart.itl.p99_s < 0.5 * together.itl.p99_s


def test_capacity_is_that_of_the_slower_pool_and_power_at_least_idle(service):
    design, task = at(service, concurrency=0.0, arrival_rate_per_s=0.01)

    def of(ratio):
        strategy = design.strategy.replace(prefill_pool_ratio=ratio)
        return evaluate_exact(design.replace(strategy=strategy), task)

    few, some, many = of(0.02), of(0.04), of(4.0)
    # Prompts limit: capacity per pool of prompts is one number. Decoding limits with many of them.
    per_pool = [
        found.capacity_requests_per_s * (1.0 + ratio) / ratio
        for found, ratio in ((few, 0.02), (some, 0.04), (many, 4.0))
    ]
    assert per_pool[0] == pytest.approx(per_pool[1], rel=1e-3)
    assert per_pool[2] < 0.5 * per_pool[0]
    for found, ratio in ((few, 0.02), (some, 0.04), (many, 4.0)):
        idle_w = found.energy.static / found.step_time_s / (2.0 * (1.0 + ratio))
        assert found.chip_power_w >= 0.999 * idle_w


def test_gradients_agree_with_finite_differences(service):
    design, task = service

    def tpot(bandwidth, users):
        hbm = design.chip.hbm.replace(bandwidth_bytes_per_s=bandwidth)
        requests = task.requests.replace(concurrency=users)
        found = evaluate_serving(
            design.replace(chip=design.chip.replace(hbm=hbm)), task.replace(requests=requests)
        )
        return jnp.log(found.tpot_s)

    with jax.enable_x64(True):
        point = (float(design.chip.hbm.bandwidth_bytes_per_s), 64.0)
        both = quick_jit(jax.value_and_grad(tpot, argnums=(0, 1)))
        _, slopes = both(*point)
        for i, slope in enumerate(slopes):
            step = 1e-3 * point[i]
            up, down = (
                both(*(x + sign * step * (k == i) for k, x in enumerate(point)))[0]
                for sign in (1.0, -1.0)
            )
            assert float(slope) == pytest.approx(float(up - down) / (2.0 * step), rel=0.03)


def test_a_strategy_text_names_the_pools_and_refuses_broken_ones(capsys):
    from hwdse.cli.main import run
    from hwdse.cli.shared.exit_codes import Exit

    flags = ["--system", "dgx_h100", "--model", "llama3_8b", "--engine", "vllm"]
    assert run(["serve", *flags, "--strategy", "TP4 prefill 0.3xTP2"]) == Exit.USER_ERROR
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "whole numbers of both kinds of replicas on 8 chips" in line
