"""Gradients of every field of an evaluation by every leaf of a design: finite and correct."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.designs import (
    BASE,
    JOB,
    as_arrays,
    names_of,
    random_designs,
    run,
    vector,
    with_static_defaults,
)

from hwdse.evaluation import evaluate
from hwdse.models.silicon.area import WHITE_SPACE_FRACTION
from hwdse.search.space.search_space import get_path, set_path

SMOOTH_PATHS = (
    "chip.hbm.bandwidth_bytes_per_s",
    "chip.sram.bandwidth_bytes_per_s",
    "chip.link.bandwidth_bytes_per_s",
    "chip.link.latency_s",
    "chip.link.energy_j_per_byte",
    "chip.network.bandwidth_bytes_per_s",
    "chip.array.clock_hz",
    "chip.vector_flop_per_s",
    "chip.launch_latency_s",
    "chip.fp64_per_fp16_ratio",
    "chip.process.threshold_voltage_v",
    "chip.process.defects_per_mm2",
    "mix.fp64_flop_fraction",
    "cluster.chip_mtbf_s",
    "cluster.restart_time_s",
    "cluster.downtime_s",
    "cluster.storage_bandwidth_bytes_per_s",
    "cluster.electricity_usd_per_j",
    "cluster.host_power_w",
    "cluster.pue_ratio",
    "cluster.lifetime_s",
    "checkpoint_interval_s",
)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def slopes_by_field():
    """Gradients of each field over random designs; the last design is BASE."""
    with jax.enable_x64(True):
        batch = jax.tree.map(lambda x, y: jnp.append(x, y), random_designs(), as_arrays(BASE))
        slope = jax.grad(
            lambda design, weights: weights @ vector(evaluate(with_static_defaults(design), JOB))
        )
        fields = names_of(run(BASE))
        # Uncompiled, all fields at once: faster than compiling a program for one field.
        pulled = jax.vmap(jax.vmap(slope, (0, None)), (None, 0))(batch, jnp.eye(len(fields)))
        return {
            name: jax.tree.map(lambda leaf, index=index: leaf[index], pulled)
            for index, name in enumerate(fields)
        }


def test_gradients_of_every_field_are_finite_over_random_designs(slopes_by_field):
    broken = set()
    for field, slopes in slopes_by_field.items():
        for leaf, slope in zip(names_of(slopes), jax.tree.leaves(slopes), strict=True):
            if not np.all(np.isfinite(slope)):
                broken.add((field, leaf))
    assert not broken


def test_gradients_agree_with_finite_differences_at_unrounded_fields(slopes_by_field):
    fields = list(slopes_by_field)
    values = np.array(vector(run(BASE)))
    for path in SMOOTH_PATHS:
        middle = get_path(BASE, path)
        step = 1e-5 * middle if middle else 1e-9
        # Without native FP64: the one-sided difference.
        ends = (middle - step, middle + step) if middle else (0.0, step)
        low, high = (np.array(vector(run(set_path(BASE, path, end)))) for end in ends)
        expected = (high - low) / (ends[1] - ends[0])
        found = np.array([get_path(slope, path)[-1] for slope in slopes_by_field.values()])
        scale = np.abs(values) / (middle or 1.0)
        wrong = np.abs(found - expected) > 1e-5 * np.abs(expected) + 1e-7 * scale
        assert not np.any(wrong), (path, [fields[i] for i in np.nonzero(wrong)[0]])


def test_area_gradient_is_zero_for_prices_and_exact_for_sram(slopes_by_field):
    slopes = jax.tree.map(lambda x: x[-1], slopes_by_field[".die_area_mm2"])
    assert slopes.cluster.electricity_usd_per_j == 0.0
    with_white_space = BASE.chip.process.sram_area_mm2_per_byte / (1.0 - WHITE_SPACE_FRACTION)
    assert slopes.chip.sram.capacity_bytes == pytest.approx(with_white_space, rel=1e-12)
    assert slopes.chip.array.rows > 0.0
