"""Mapping of the operators of a design, a core or a chip, as a `MappedNetwork`.

Builds the concrete network; `operator_loop_nests` defines it and derives the loop nests.
"""

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import cache, singledispatch
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.core.core_evaluation import at_clock_voltage, leakage_w
from hwdse.core.mapper.chip_gemm_mapper import partition_gemms
from hwdse.core.mapper.mapper import BestMapping, best_mapping
from hwdse.core.mapping_policies import MAPPINGS
from hwdse.core.operator_loop_nests import MappedNetwork
from hwdse.models.memory import hbm_traffic
from hwdse.models.precision import precision_mix
from hwdse.numerics.array_types import PerOp, Scalar
from hwdse.numerics.jit_compile import quick_jit
from hwdse.numerics.relaxation import EXACT
from hwdse.specs.design import CoreDesign, Design
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.workload.gemms import LayerList
from hwdse.workload.loops.operators import Operators
from hwdse.workload.transformer.micro_batch_gemms import gemm_names
from hwdse.workload.transformer.model_config import TransformerTraining
from hwdse.workload.transformer.sharding import ShardedStep, shard


@singledispatch
def map_network(design: Any, workload: Any) -> MappedNetwork:
    """Mapping of each operator of a workload on the core of a design, in float64.

    For a chip, the core is the part of one scratchpad and runs its share of each GEMM.
    """
    raise TypeError(f"expected a CoreDesign or a Design, found a {type(design).__name__}")


@map_network.register
def _map_core(design: CoreDesign, workload: Operators) -> MappedNetwork:
    with jax.enable_x64(True):
        numbers = jax.tree.map(lambda x: np.asarray(x, float), (design, workload))
        core = _numpy(at_clock_voltage(numbers[0].accelerator))
        static_w = float(leakage_w(numbers[0].accelerator))

    def find() -> BestMapping:
        with jax.enable_x64(True):
            return _numpy(
                _mapped_core()(numbers[0].replace(accelerator=core), numbers[1], static_w)
            )

    return MappedNetwork(numbers[1], core, find, static_w)


@cache
def _mapped_core() -> Callable[..., BestMapping]:
    def mapped(design: CoreDesign, operators: Operators, static_w: Scalar) -> BestMapping:
        return MAPPINGS[design.mapping](design, operators, static_w, EXACT)

    return quick_jit(mapped)


@map_network.register
def _map_chip(design: Design, workload: TransformerTraining | LayerList) -> MappedNetwork:
    with jax.enable_x64(True):
        numbers = jax.tree.map(lambda x: np.asarray(x, float), (design, workload))
        operators, core, best = _numpy(_mapped_chip()(*numbers))
        names = workload.names if isinstance(workload, LayerList) else gemm_names(workload)
    operators = operators.replace(names=names)
    operators, best = _executed(operators, best)
    num_cores = float(design.chip.num_scratchpads)
    return MappedNetwork(operators, core, lambda: best, 0.0, num_cores)


def _executed(operators: Operators, best: BestMapping) -> tuple[Operators, BestMapping]:
    """The operators that are executed, with their mappings: without those of absent experts."""
    is_executed = np.asarray(operators.count) > 0.0
    names = itertools.compress(operators.names, is_executed)
    operators, best = jax.tree.map(lambda x: x[is_executed] if np.ndim(x) else x, (operators, best))
    return replace(operators, names=tuple(names)), best


@cache
def _mapped_chip() -> Callable[..., tuple[Operators, Accelerator, BestMapping]]:
    def mapped(design: Design, workload: Any) -> tuple[Operators, Accelerator, BestMapping]:
        step = shard(
            workload, design.parallelism, design.cluster.num_chips, design.software, design.mix
        )
        parts, copies, core = step_partitions(step, design)
        best = best_mapping(parts, core)
        # Time of a GEMM on the busiest core times its energy on all cores.
        score = parts.count * best.costs.time_s * copies * best.costs.energy_j
        split = jnp.argmin(score.reshape(len(hbm_traffic.SPLITS), -1), axis=0)
        indices = split * split.shape[0] + jnp.arange(split.shape[0])
        return jax.tree.map(lambda x: x[indices] if jnp.ndim(x) else x, (parts, core, best))

    return quick_jit(mapped)


def step_partitions(step: ShardedStep, design: Design) -> tuple[Operators, PerOp, Accelerator]:
    r"""GEMMs of a step partitioned over the cores in all ways of `SPLITS`, and copies and core.

    With S cores, a GEMM split by rows or columns has one part per core. If c whole GEMMs are
    distributed, the busiest core executes a fraction $\max(1 / S, 1 / c)$ of them. `count` of the
    parts is the number of executions on the busiest core per step. Second result: parts per GEMM.
    """
    chip, mix = design.chip, design.mix
    speedup = precision_mix.mix_matrix_speedup_ratio(mix, chip)
    partitions = partition_gemms(
        step.gemms, chip, speedup, precision_mix.mix_bytes_per_element(mix)
    )
    layers = jnp.where(step.executions.is_lm_head > 0.5, 1.0, step.layers_per_stage)
    each = jnp.broadcast_to(
        step.executions.total * layers * step.num_micro_batches, jnp.shape(step.gemms.m)
    )
    runs = jnp.tile(each, len(hbm_traffic.SPLITS))
    count = partitions.parts.count
    busiest = jnp.maximum(1.0 / chip.num_scratchpads, 1.0 / jnp.where(count > 0.0, count, 1.0))
    count = jnp.where(partitions.is_distributed, busiest, 1.0) * runs * count
    return replace(partitions.parts, count=count), partitions.copies, partitions.core


def _numpy(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)
