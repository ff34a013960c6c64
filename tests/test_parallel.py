"""Laws of schedules: bubbles, exposed transfers and what hides behind compute."""

import jax
import pytest
from jax.test_util import check_grads

from hwdse.models.parallel import (
    FORWARD_SHARE,
    bubble_time_s,
    exposed_data_parallel_time_s,
    pipeline_send_time_s,
)


def test_no_pipeline_has_no_bubble_and_sends_nothing():
    assert bubble_time_s(1.0, 1.0) == 0.0
    assert pipeline_send_time_s(1e-3, 64.0, 1.0) == 0.0


def test_share_of_the_bubble_is_narayanans():
    # (p - 1) / m of the ideal time: SC 2021, section 2.2.1
    stage_s, pipeline, micro_batches = 0.3, 8.0, 32.0
    ideal_s = micro_batches * stage_s
    assert bubble_time_s(stage_s, pipeline) / ideal_s == pytest.approx((8.0 - 1.0) / 32.0)


def test_sends_by_hand():
    # 16 micro-batches on 4 stages: 19 slots, one send forward and one backward in each
    assert pipeline_send_time_s(1e-3, 16.0, 4.0) == pytest.approx(2.0 * 19.0 * 1e-3)


def test_data_parallel_hides_behind_a_pass():
    assert exposed_data_parallel_time_s(2.0, 1.0, 3.0) == 0.0
    assert exposed_data_parallel_time_s(2.5, 1.25, 3.0) == pytest.approx(0.75)
    assert exposed_data_parallel_time_s(2.0, 1.0, 0.0) == 3.0
    # A gather that is short does not pay for a sum that is long.
    assert exposed_data_parallel_time_s(3.0, 0.0, 3.0) == pytest.approx(1.0)
    assert pytest.approx(1.0 / 3.0) == FORWARD_SHARE


def test_gradients():
    with jax.enable_x64(True):
        check_grads(bubble_time_s, (0.3, 4.0), order=1)
        check_grads(pipeline_send_time_s, (0.1, 16.0, 4.0), order=1)
        check_grads(exposed_data_parallel_time_s, (3.0, 2.0, 1.0), order=1)
        assert jax.grad(pipeline_send_time_s, 2)(0.1, 16.0, 1.0) == 0.0
