"""Gradients of every field of an evaluation by every leaf of a design: finite, and right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from designs import BASE, JOB, as_arrays, names_of, random_designs, run, vector

from hwdse.compiling import quick_jit
from hwdse.search.space import get_path, set_path
from hwdse.system import evaluate

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
    "parallelism.tensor_overlap_fraction",
    "cluster.chip_mtbf_s",
    "cluster.restart_time_s",
    "cluster.downtime_s",
    "cluster.storage_bandwidth_bytes_per_s",
    "cluster.electricity_usd_per_j",
    "cluster.power_overhead_ratio",
    "cluster.lifetime_s",
    "checkpoint_interval_s",
)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def pulled():
    """Function (designs, cotangent of `vector`) to gradients; compiled once."""
    with jax.enable_x64(True):
        slope = jax.grad(lambda design, weights: weights @ vector(evaluate(design, JOB)))
        yield quick_jit(jax.vmap(slope, (0, None)))


def test_gradients_of_every_field_are_finite_over_random_designs(pulled):
    batch = jax.tree.map(lambda x, y: jnp.append(x, y), random_designs(), as_arrays(BASE))
    fields = names_of(run(BASE))
    broken = set()
    for i, field in enumerate(fields):
        slopes = pulled(batch, jnp.eye(len(fields))[i])
        for leaf, slope in zip(names_of(slopes), jax.tree.leaves(slopes), strict=True):
            if not np.all(np.isfinite(slope)):
                broken.add((field, leaf))
    assert not broken


def test_gradients_agree_with_differences_where_nothing_is_rounded(pulled):
    base = as_arrays(BASE)
    fields = names_of(run(BASE))
    one = jax.tree.map(lambda x: x[None], base)
    slopes = [pulled(one, weights) for weights in jnp.eye(len(fields))]
    values = np.array(vector(run(BASE)))
    for path in SMOOTH_PATHS:
        middle = get_path(BASE, path)
        step = 1e-5 * middle if middle else 1e-9
        # No native fp64: the slope to the right.
        ends = (middle - step, middle + step) if middle else (0.0, step)
        low, high = (np.array(vector(run(set_path(BASE, path, end)))) for end in ends)
        expected = (high - low) / (ends[1] - ends[0])
        found = np.array([get_path(slope, path)[0] for slope in slopes])
        scale = np.abs(values) / (middle or 1.0)
        wrong = np.abs(found - expected) > 1e-5 * np.abs(expected) + 1e-7 * scale
        assert not np.any(wrong), (path, [fields[i] for i in np.nonzero(wrong)[0]])


def test_gradient_finds_what_each_field_is_made_of(pulled):
    fields = names_of(run(BASE))
    one = jax.tree.map(lambda x: x[None], as_arrays(BASE))
    slopes = pulled(one, jnp.eye(len(fields))[fields.index(".die_area_mm2")])
    assert slopes.cluster.electricity_usd_per_j == 0.0
    assert slopes.chip.sram.capacity_bytes[0] == BASE.chip.process.sram_area_mm2_per_byte
    assert slopes.chip.array.rows[0] > 0.0
