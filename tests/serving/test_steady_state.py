"""Steady state of a stream of requests: laws, and agreement with a discrete-event simulator."""

import dataclasses
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.serving_simulator import (
    Server,
    draw_requests,
    simulate,
    with_arrivals,
    with_staggered_starts,
)

from hwdse.serving.queues.steady_state import steady_state
from hwdse.specs.serving.engine import ServingStrategy
from hwdse.specs.serving.requests import Requests
from hwdse.specs.serving.serving_metrics import ReplicaLimits

LIMITS = ReplicaLimits(256.0, 1e6, 8192.0, 0.005)
CHAT = Requests(512.0, 200.0, concurrency=32.0)


def step_time(load):
    """Step of a server whose memory and matrix engines share the work, in seconds."""
    tokens = load.decode_sequences + load.prefill_tokens
    keys = load.decode_sequences * load.decode_context
    return 8e-3 + 3e-5 * tokens + 2e-9 * keys + 1e-9 * load.prefill_tokens * load.prefill_context


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


COMPILED = jax.jit(lambda requests, limits: steady_state(requests, step_time, limits))


def state_of(requests, limits=LIMITS):
    """State with loops that are known to be closed or open left to the model."""
    floats = {k: float(v) for k, v in dataclasses.asdict(requests).items()}
    return COMPILED(Requests(**floats), limits)


def simulated(requests, number=1500, seed=1, **limits):
    rng = random.Random(seed)
    server = Server(host_s=LIMITS.request_host_s, **limits)
    drawn = draw_requests(
        rng, number, requests.input_tokens, requests.output_tokens,
        requests.input_spread_ratio, requests.output_spread_ratio,
    )  # fmt: skip
    users = int(requests.concurrency)
    if users:
        drawn = with_staggered_starts(rng, drawn, users, 5.0)
        run = simulate(server, step_time, drawn, users)
    else:
        run = simulate(server, step_time, with_arrivals(rng, drawn, requests.arrival_rate_per_s))
    return run.settled(0.25, 0.15)


@pytest.mark.parametrize(
    "requests",
    [
        dataclasses.replace(CHAT, output_spread_ratio=0.2),
        dataclasses.replace(CHAT, output_spread_ratio=0.4, input_spread_ratio=0.4),
        dataclasses.replace(CHAT, concurrency=0.0, arrival_rate_per_s=4.0),
        dataclasses.replace(CHAT, concurrency=0.0, arrival_rate_per_s=10.0,
                            output_spread_ratio=0.4),
    ],
    ids=["closed", "closed, lengths differ", "open, light", "open, heavy"],
)  # fmt: skip
def test_latencies_agree_with_the_simulator(requests):
    found = state_of(requests)
    runs = simulated(requests)
    ttft = np.array([one.ttft_s for one in runs])
    tpot = np.array([one.tpot_s for one in runs])
    total = np.array([one.latency_s for one in runs])
    assert float(found.tpot.mean_s) == pytest.approx(tpot.mean(), rel=0.05)
    assert float(found.latency.mean_s) == pytest.approx(total.mean(), rel=0.06)
    assert float(found.ttft.mean_s) == pytest.approx(ttft.mean(), rel=0.15)
    assert float(found.ttft.p90_s) == pytest.approx(np.quantile(ttft, 0.9), rel=0.25)


def test_requests_wait_for_a_sequence_as_in_the_simulator():
    requests = dataclasses.replace(CHAT, concurrency=64.0, output_spread_ratio=0.4)
    found = state_of(requests, dataclasses.replace(LIMITS, max_sequences=32.0))
    runs = simulated(requests, max_sequences=32)
    waited = np.mean([one.ttft_s for one in runs])
    assert float(found.ttft.mean_s) == pytest.approx(waited, rel=0.1)
    assert float(found.ttft_parts.slot_wait_s) > 0.8 * waited


@pytest.mark.parametrize("users", [1.0, 7.0, 64.0, 500.0])
def test_littles_law_holds_in_a_closed_loop(users):
    found = state_of(dataclasses.replace(CHAT, concurrency=users))
    assert float(found.request_rate_per_s * found.latency.mean_s) == pytest.approx(users, rel=1e-3)


@pytest.mark.parametrize("rate", [0.01, 1.0, 8.0])
def test_littles_law_holds_for_decoding_sequences_of_an_open_loop(rate):
    found = state_of(dataclasses.replace(CHAT, concurrency=0.0, arrival_rate_per_s=rate))
    decoding = rate * (CHAT.output_tokens - 1.0) * float(found.tpot.mean_s)
    assert float(found.request_rate_per_s) == pytest.approx(rate)
    assert float(found.decode_sequences) == pytest.approx(decoding, rel=0.05)


def test_more_users_never_lower_the_throughput_nor_raise_the_rate_of_one():
    users = [1.0, 2.0, 5.0, 17.0, 40.0, 100.0, 240.0, 300.0, 1000.0]
    found = [state_of(dataclasses.replace(CHAT, concurrency=n)) for n in users]
    tokens = np.array([float(one.output_tokens_per_s) for one in found])
    tpot = np.array([float(one.tpot.mean_s) for one in found])
    # A full batch: users beyond it change the order of steps with prompts a little.
    assert np.all(np.diff(tokens) >= -3e-3 * tokens[:-1])
    assert np.all(np.diff(tpot) >= -3e-3 * tpot[:-1])


def test_less_load_never_raises_the_time_to_first_token():
    open_loop = dataclasses.replace(CHAT, concurrency=0.0)
    most = float(
        state_of(dataclasses.replace(open_loop, arrival_rate_per_s=1.0)).capacity_rate_per_s
    )
    shares = [1e-3, 0.1, 0.3, 0.6, 0.8, 0.9, 0.97, 0.999]
    ttft = [
        float(state_of(dataclasses.replace(open_loop, arrival_rate_per_s=s * most)).ttft.mean_s)
        for s in shares
    ]
    assert np.all(np.diff(ttft) >= -1e-9)


def test_above_capacity_the_state_says_so_and_names_the_rate_that_can_be_served():
    open_loop = dataclasses.replace(CHAT, concurrency=0.0, arrival_rate_per_s=1e4)
    found = state_of(open_loop)
    assert float(found.is_served) == 0.0
    assert float(found.utilization_ratio) > 1.0
    near = dataclasses.replace(
        open_loop, arrival_rate_per_s=float(found.capacity_rate_per_s) * (1.0 - 2e-6)
    )
    state = state_of(near)
    assert float(state.is_served) == 1.0
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))


def test_one_user_waits_for_nothing_but_host_prompt_and_step():
    found = state_of(dataclasses.replace(CHAT, concurrency=1.0))
    assert float(found.ttft_parts.slot_wait_s) == pytest.approx(0.0, abs=1e-6)
    alone = float(step_time(_prompt_load()))
    assert float(found.ttft.mean_s) == pytest.approx(LIMITS.request_host_s + alone, rel=0.2)


def _prompt_load():
    from hwdse.specs.serving.requests import StepLoad

    return StepLoad(0.0, 0.0, CHAT.input_tokens, 0.5 * CHAT.input_tokens, 1.0)


@pytest.mark.parametrize(
    "requests",
    [
        Requests(1.0, 1.0, concurrency=1.0),
        Requests(1.0, 2.0, arrival_rate_per_s=1e-6),
        dataclasses.replace(CHAT, concurrency=400.0),
    ],
    ids=["one token", "empty queue", "full"],
)
def test_values_and_gradients_are_finite(requests):
    def metrics(requests):
        state = COMPILED(requests, LIMITS)
        return jnp.stack([state.ttft.p99_s, state.tpot.mean_s, state.request_rate_per_s])

    floats = Requests(**{k: float(v) for k, v in dataclasses.asdict(requests).items()})
    slopes = jax.jacrev(metrics)(floats)
    assert np.all(np.isfinite(metrics(floats)))
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slopes))


def test_gradients_agree_with_finite_differences():
    def latency(tokens):
        requests = dataclasses.replace(CHAT, output_tokens=tokens, concurrency=40.0)
        return COMPILED(requests, LIMITS).latency.mean_s

    slope = float(jax.grad(latency)(200.0))
    assert slope == pytest.approx(float(latency(201.0) - latency(199.0)) / 2.0, rel=1e-3)


def test_accepted_drafts_come_in_the_same_steps():
    # The same steps with two tokens each: answers of twice the tokens at half the time per token.
    one = state_of(dataclasses.replace(CHAT, output_tokens=101.0))
    limits = dataclasses.replace(LIMITS, tokens_per_step=2.0)
    two = state_of(dataclasses.replace(CHAT, output_tokens=201.0), limits)
    assert float(two.tpot.mean_s) == pytest.approx(0.5 * float(one.tpot.mean_s), rel=0.02)
    tokens = float(two.output_tokens_per_s) / float(one.output_tokens_per_s)
    assert tokens == pytest.approx(201.0 / 101.0, rel=0.02)
    users = float(two.request_rate_per_s * two.latency.mean_s)
    assert users == pytest.approx(CHAT.concurrency, rel=1e-3)


@pytest.mark.parametrize(
    ("drafts", "accepted", "tokens"),
    [(0.0, 0.9, 1.0), (3.0, 0.0, 1.0), (3.0, 1.0, 4.0), (1.0, 0.5, 1.5)],
)
def test_tokens_of_a_step_follow_from_the_drafts(drafts, accepted, tokens):
    strategy = ServingStrategy(draft_tokens=drafts, acceptance_fraction=accepted)
    assert float(strategy.tokens_per_step) == pytest.approx(tokens, rel=1e-4)
    slope = jax.grad(lambda p: strategy.replace(acceptance_fraction=p).tokens_per_step)(accepted)
    assert np.isfinite(slope)
