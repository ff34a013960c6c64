"""GEMM operators on one chip: structure of the gradient program."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

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
