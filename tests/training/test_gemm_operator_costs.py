"""GEMM operators on one chip: structure of the gradient program."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.config import load_search
from hwdse.numerics.relaxation import EXACT
from hwdse.training.gemm_operator_costs import operator_costs
from hwdse.workload.transformer.sharding import shard

SEARCH = Path(__file__).parents[2] / "configs" / "searches" / "trn2_llama3_70b.toml"


def _operator_seconds(clock_hz, capacity_bytes, design, step):
    chip = design.chip
    array = dataclasses.replace(chip.array, clock_hz=clock_hz)
    sram = dataclasses.replace(chip.sram, capacity_bytes=capacity_bytes)
    design = dataclasses.replace(design, chip=dataclasses.replace(chip, array=array, sram=sram))
    return jnp.sum(operator_costs(step.gemms, step.executions, design, EXACT).time_s)


def test_gradient_has_no_padded_slices():
    """XLA fuses sums of padded slices with the backward pass, once per leaf of the design.

    A gradient then costs 17 instead of 2 evaluations.
    """
    loaded = load_search(str(SEARCH))
    design: Any = loaded.base
    workload: Any = loaded.workload
    step = shard(workload, design.parallelism, design.cluster.num_chips, design.software)
    gradient = jax.grad(_operator_seconds, argnums=(0, 1))
    chip = design.chip
    where = (chip.array.clock_hz, chip.sram.capacity_bytes)
    program = str(jax.make_jaxpr(lambda *at: gradient(*at, design, step))(*where))
    assert "dot_general" in program
    assert " pad[" not in program


def _seconds(design, workload):
    step = shard(workload, design.parallelism, design.cluster.num_chips, design.software)
    return operator_costs(step.gemms, step.executions, design, EXACT), step


def _base():
    loaded = load_search(str(SEARCH))
    design: Any = loaded.base
    workload: Any = loaded.workload
    return design, workload


def test_low_precision_is_for_products_with_weights():
    """The attention core and the LM head run in 16 bits in every mix."""
    design, workload = _base()
    wide, step = _seconds(design, workload)
    mix = design.mix.replace(fp8_flop_fraction=1.0)
    fast, _ = _seconds(design.replace(mix=mix), workload)
    is_low = np.asarray(step.executions.is_low_precision) == 1.0
    is_head = np.asarray(step.executions.is_lm_head) == 1.0
    is_core = np.asarray(step.executions.is_linear) == 0.0
    ratio = np.asarray(fast.matrix_s / jnp.maximum(wide.matrix_s, 1e-30))
    assert np.array_equal(is_low, ~is_head & ~is_core)
    assert np.allclose(ratio[is_low], 1.0 / design.chip.fp8_speedup_ratio)
    assert np.allclose(np.asarray(fast.time_s)[~is_low], np.asarray(wide.time_s)[~is_low])


def test_casts_read_and_write_each_activation_once():
    design, workload = _base()
    mix = design.mix.replace(fp8_flop_fraction=1.0)
    plain, step = _seconds(design.replace(mix=mix), workload)
    software = design.software.replace(cast_traffic_ratio=1.0)
    cast, _ = _seconds(design.replace(mix=mix, software=software), workload)
    added = np.asarray(cast.hbm_bytes - plain.hbm_bytes)
    runs, gemms = step.executions, step.gemms
    elements = runs.casts_input * runs.is_low_precision * gemms.m * gemms.k * gemms.count
    np.testing.assert_allclose(added, 4.0 * np.asarray(elements * runs.total), rtol=1e-4, atol=1e6)
    assert np.all(np.asarray(elements)[2::3][:2] == 0.0)  # weight gradients


def test_prologues_of_tiles_take_the_same_time_in_every_format():
    """Their share grows as formats become faster: gains below the ratio of the peak rates."""
    design, workload = _base()
    array = design.chip.array.replace(fold_overhead_cycles=400.0)
    slow = design.replace(chip=design.chip.replace(array=array))
    mix = design.mix.replace(fp8_flop_fraction=1.0)
    extra = []
    for own in (design.mix, mix):
        before, _ = _seconds(design.replace(mix=own), workload)
        after, _ = _seconds(slow.replace(mix=own), workload)
        is_bound = np.asarray((before.matrix_s > 0.0) & (after.matrix_s > 0.0))
        extra.append(np.where(is_bound, np.asarray(after.matrix_s - before.matrix_s), np.nan))
    both = ~np.isnan(extra[0]) & ~np.isnan(extra[1])
    assert both.sum() > 3
    np.testing.assert_allclose(extra[0][both], extra[1][both], rtol=1e-3)
    assert np.all(extra[0][both] > 0.0)
