"""Laws of schedules: bubbles, exposed transfers, host pacing, overlap."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hwdse.models.network.pipeline_and_overlap import (
    bubble_time_s,
    dual_pipe_bubble_time_s,
    exposed_data_parallel_time_s,
    exposed_time_s,
    free_overlap_fraction,
    paced_time_s,
    pipeline_send_time_s,
    sliced_overlap_fraction,
    zero_bubble_time_s,
)
from hwdse.numerics.jit_compile import quick_jit

SECONDS = st.floats(1e-9, 1e3)
PACED = quick_jit(paced_time_s)
EXPOSED = quick_jit(exposed_time_s)
MANY = 1e20
"""Layers of a stage whose first and last layer take no time."""


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def exposed(reduce_s, gather_s, forward_s, backward_s, overlap=1.0, layers=MANY):
    passes_s = (forward_s, backward_s)
    return float(exposed_data_parallel_time_s(reduce_s, gather_s, passes_s, layers, overlap))


def sends(time_s, micro_batches, stages, pass_s=(1.0, 2.0), overlap=0.0):
    return pipeline_send_time_s(time_s, micro_batches, stages, pass_s, overlap)


# The host ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(kernels_s=SECONDS, dispatch_s=SECONDS)
def test_paced_time_is_between_the_longer_and_the_sum(kernels_s, dispatch_s):
    with jax.enable_x64(True):
        both = float(PACED(kernels_s, dispatch_s))
        assert max(kernels_s, dispatch_s) <= both * (1.0 + 1e-12)
        assert both <= (kernels_s + dispatch_s) * (1.0 + 1e-12)
        assert both == float(PACED(dispatch_s, kernels_s))
        assert float(PACED(1.1 * kernels_s, dispatch_s)) >= both
        # Homogeneous in time.
        scaled = float(PACED(1e3 * kernels_s, 1e3 * dispatch_s))
        assert scaled == pytest.approx(1e3 * both, rel=1e-12)


def test_zero_dispatch_time_gives_the_kernel_time():
    for kernels_s in (0.0, 1e-12, 3.0, 1e6):
        assert paced_time_s(kernels_s, 0.0) == kernels_s
        assert paced_time_s(kernels_s, 1e-9 * kernels_s) == pytest.approx(kernels_s, rel=1e-12)
    assert paced_time_s(0.0, 2.0) == pytest.approx(2.0, rel=1e-12)


def test_pacing_has_finite_slopes_at_its_edges():
    slope = quick_jit(jax.grad(paced_time_s, (0, 1)))
    for point in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1e-30, 1e5), (1e5, 1e-30)):
        assert all(0.0 <= x <= 1.0 for x in slope(*point))
    assert slope(1.0, 0.0)[0] == 1.0
    check_grads(paced_time_s, (1.0, 0.6), order=1)
    check_grads(paced_time_s, (0.2, 1.5), order=1)


# Overlap -------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(collective_s=SECONDS, compute_s=SECONDS, overlap=st.floats(0.0, 1.0))
def test_with_compute_a_collective_takes_from_the_longer_to_the_sum(
    collective_s, compute_s, overlap
):
    with jax.enable_x64(True):
        time_s = compute_s + float(EXPOSED(collective_s, compute_s, overlap))
        assert max(collective_s, compute_s) <= time_s * (1.0 + 1e-12)
        assert time_s <= (collective_s + compute_s) * (1.0 + 1e-12)
        assert float(EXPOSED(collective_s, compute_s, 0.0)) == collective_s
        hidden = compute_s + float(EXPOSED(collective_s, compute_s, 1.0))
        assert hidden == pytest.approx(max(collective_s, compute_s))


def test_slices_hide_all_but_one():
    assert sliced_overlap_fraction(1.0) == 0.0
    assert sliced_overlap_fraction(4.0) == pytest.approx(0.75)
    # A product of 4 s in 4 slices, a collective of 2 s: 3 of 4 slices of the collective are hidden.
    assert exposed_time_s(2.0, 4.0, sliced_overlap_fraction(4.0)) == pytest.approx(0.5)


def test_a_collective_takes_its_share_of_the_engines():
    # One second behind products that run at 85 % meanwhile: 0.15 s of their work is left over.
    assert exposed_time_s(1.0, 5.0, free_overlap_fraction(1.0, 0.15)) == pytest.approx(0.15)
    assert free_overlap_fraction(0.6, 0.0) == pytest.approx(0.6)
    assert free_overlap_fraction(0.6, 1.0) == 0.0


def test_data_parallel_time_is_hidden_behind_its_passes():
    assert exposed(2.0, 1.0, 1.0, 2.0) == 0.0
    assert exposed(2.5, 1.25, 1.0, 2.0) == pytest.approx(0.75)
    assert exposed(2.0, 1.0, 0.0, 0.0) == 3.0
    # A short gather does not offset a long reduction.
    assert exposed(3.0, 0.0, 1.0, 2.0) == pytest.approx(1.0)
    assert exposed(0.0, 3.0, 1.0, 2.0) == pytest.approx(2.0)


def test_the_layer_at_the_end_of_a_pass_hides_nothing():
    # Ten layers: a tenth of each collective has no pass beside it.
    assert exposed(2.0, 1.0, 5.0, 9.0, layers=10.0) == pytest.approx(0.3)
    assert exposed(2.0, 1.0, 5.0, 9.0, layers=1.0) == 3.0
    shares = [exposed(2.0, 1.0, 1.0, 2.0, layers=n) for n in (1.0, 2.0, 4.0, 64.0)]
    assert np.all(np.diff(shares) <= 0.0)


def test_without_overlap_all_data_parallel_time_is_exposed():
    assert exposed(2.0, 1.0, 5.0, 9.0, overlap=0.0) == 3.0
    assert exposed(2.0, 1.0, 1.0, 2.0, overlap=0.5) == pytest.approx(1.5)
    shares = [exposed(2.0, 1.0, 1.0, 2.0, overlap) for overlap in np.linspace(0.0, 1.0, 9)]
    assert np.all(np.diff(shares) < 0.0)


# The pipeline --------------------------------------------------------------------------------


def test_no_pipeline_has_no_bubble_and_sends_nothing():
    assert bubble_time_s(1.0, 1.0, 1.0) == 0.0
    assert zero_bubble_time_s((1.0, 2.0, 1.0), 1.0) == 0.0
    assert dual_pipe_bubble_time_s((1.0, 2.0, 1.0), 1.0) == 0.0
    assert sends(1e-3, 64.0, (1.0, 1.0)) == 0.0


@pytest.mark.parametrize("virtual_pipeline", [1.0, 2.0, 6.0])
def test_bubble_fraction_equals_that_of_narayanan(virtual_pipeline):
    # (p - 1) / (v m) of the ideal time: SC 2021, sections 2.2.1 and 2.2.2
    stage_s, pipeline, micro_batches = 0.3, 8.0, 32.0
    share = bubble_time_s(stage_s, pipeline, virtual_pipeline) / (micro_batches * stage_s)
    assert share == pytest.approx((8.0 - 1.0) / 32.0 / virtual_pipeline)


def simulated_zb_h1(p, m, forward_s, input_s, gradient_s):
    """Time of ZB-H1 in its order of passes, and most micro-batches held at once on each stage."""
    orders = []
    for stage in range(p):
        order = [("F", i) for i in range(min(p - stage, m))]
        for i in range(m):
            order.append(("B", i))
            order += [("W", i - stage)] if i >= stage else []
            order += [("F", p - stage + i)] if p - stage + i < m else []
        orders.append(order + [("W", i) for i in range(m - stage, m)])
    took = {"F": forward_s, "B": input_s, "W": gradient_s}
    ends, free, held, most = {}, [0.0] * p, [0] * p, [0] * p
    while any(orders):
        for stage, order in enumerate(orders):
            while order:
                kind, i = order[0]
                after = {"F": (stage - 1, "F", i), "B": (stage + 1, "B", i)}.get(kind)
                if after is not None and 0 <= after[0] < p:
                    if after not in ends:
                        break
                    free[stage] = max(free[stage], ends[after])
                free[stage] += took[kind]
                ends[stage, kind, i] = free[stage]
                order.pop(0)
                held[stage] += (kind == "F") - (kind == "W")
                most[stage] = max(most[stage], held[stage])
    return max(free), most


@pytest.mark.parametrize(
    ("p", "m", "times"),
    [(2, 8, (1.0, 1.0, 1.0)), (8, 24, (1.0, 1.0, 1.0)), (4, 16, (1.0, 1.2, 0.8)),
     (8, 32, (1.0, 1.3, 0.9))],
)  # fmt: skip
def test_zero_bubble_equals_a_simulation_of_its_order(p, m, times):
    forward_s, input_s, gradient_s = times
    total_s, held = simulated_zb_h1(p, m, *times)
    bubble_s = zero_bubble_time_s((forward_s, input_s + gradient_s, gradient_s), float(p))
    assert m * sum(times) + bubble_s == pytest.approx(total_s, rel=1e-12)
    assert held == [p] * p  # as many micro-batches on every stage as on the first one of 1F1B


def test_zero_bubble_is_a_third_of_1f1b_for_equal_passes():
    """Qi et al., section 2: T_F = T_B = T_W, and DeepSeek-V3, table 2, by hand."""
    assert bubble_time_s(3.0, 8.0, 1.0) == 21.0
    assert zero_bubble_time_s((1.0, 2.0, 1.0), 8.0) == 7.0
    assert dual_pipe_bubble_time_s((1.0, 2.0, 1.0), 8.0) == 6.0
    assert dual_pipe_bubble_time_s((1.0, 2.0, 1.0), 2.0) == 0.0


@given(
    pipeline=st.integers(1, 128),
    forward_s=st.floats(1e-6, 1e3),
    backward_s=st.floats(1e-6, 1e3),
    part=st.floats(0.0, 1.0),
)
@settings(deadline=None)
def test_no_schedule_has_a_larger_bubble_than_1f1b(pipeline, forward_s, backward_s, part):
    stages, times_s = float(pipeline), (forward_s, backward_s, part * backward_s)
    most = bubble_time_s(forward_s + backward_s, stages, 1.0) * (1.0 + 1e-6)
    for schedule in (zero_bubble_time_s, dual_pipe_bubble_time_s):
        assert 0.0 <= schedule(times_s, stages) <= most


def test_sends_by_hand():
    # 16 micro-batches on 4 stages: 19 slots, one send forward and one backward in each
    assert sends(1e-3, 16.0, (4.0, 1.0)) == pytest.approx(2.0 * 19.0 * 1e-3)
    # Every virtual stage sends each micro-batch; the ramp has as many slots as before.
    assert sends(1e-3, 16.0, (4.0, 3.0)) == pytest.approx(2.0 * 51.0 * 1e-3)


def test_sends_hide_unless_the_stage_is_too_short():
    # Only the three sends that fill and the three that drain the pipeline are left.
    assert sends(1e-3, 16.0, (4.0, 1.0), overlap=1.0) == pytest.approx(2.0 * 3.0 * 1e-3)
    # A virtual stage of 0.4 ms forward and 0.8 ms backward hides that much of each send of 1 ms.
    short = sends(1e-3, 16.0, (4.0, 2.0), (0.8e-3, 1.6e-3), overlap=1.0)
    assert short == pytest.approx(2.0 * 3.0 * 1e-3 + 32.0 * (0.6e-3 + 0.2e-3))
    times = [float(sends(1e-3, 16.0, (4.0, 2.0), overlap=f)) for f in (0.0, 0.5, 1.0)]
    assert times[1] == pytest.approx((times[0] + times[2]) / 2.0)


def test_virtual_stages_trade_bubble_for_sends():
    chunks = np.array([1.0, 2.0, 4.0, 8.0])
    bubbles = jax.vmap(lambda v: bubble_time_s(1.0, 8.0, v))(chunks)
    send_s = jax.vmap(lambda v: sends(1e-3, 16.0, (8.0, v)))(chunks)
    assert np.all(np.diff(bubbles) < 0.0)
    assert np.all(np.diff(send_s) > 0.0)


def test_gradients():
    check_grads(bubble_time_s, (0.3, 4.0, 2.0), order=1)
    check_grads(zero_bubble_time_s, ((0.3, 0.6, 0.2), 4.0), order=1)
    check_grads(dual_pipe_bubble_time_s, ((0.3, 0.6, 0.2), 4.0), order=1)
    check_grads(sends, (0.1, 16.0, (4.0, 2.0), (0.1, 0.3), 0.6), order=1)
    check_grads(exposed_time_s, (1.0, 2.0, 0.4), order=1)
    check_grads(sliced_overlap_fraction, (2.5,), order=1)
    check_grads(exposed_data_parallel_time_s, (3.0, 2.0, (1.0, 1.5), 8.0, 0.7), order=1)
    assert jax.grad(sends, 2)(0.1, 16.0, (1.0, 1.0))[0] == 0.0
