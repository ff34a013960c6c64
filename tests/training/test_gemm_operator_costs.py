"""Rows of products on one chip: what their gradient is made of."""

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


def _row_seconds(clock_hz, capacity_bytes, design, step):
    chip = design.chip
    array = dataclasses.replace(chip.array, clock_hz=clock_hz)
    sram = dataclasses.replace(chip.sram, capacity_bytes=capacity_bytes)
    design = dataclasses.replace(design, chip=dataclasses.replace(chip, array=array, sram=sram))
    return jnp.sum(operator_costs(step.gemms, step.executions, design, EXACT).time_s)


def test_gradient_pads_no_rows():
    """Sums of padded slices are fused with all that makes the slices: the whole backward pass,
    computed once for every leaf of the design. It made gradients of 2 evaluations cost 17."""
    loaded = load_search(str(SEARCH))
    design: Any = loaded.base
    workload: Any = loaded.workload
    step = shard(workload, design.parallelism, design.cluster.num_chips, design.software)
    gradient = jax.grad(_row_seconds, argnums=(0, 1))
    chip = design.chip
    where = (chip.array.clock_hz, chip.sram.capacity_bytes)
    program = str(jax.make_jaxpr(lambda *at: gradient(*at, design, step))(*where))
    assert "dot_general" in program
    assert " pad[" not in program
