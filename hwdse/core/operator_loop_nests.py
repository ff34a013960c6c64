"""Network mapped on a core: loop nest, costs and metrics of each operator, as concrete numbers.

`network_mapper.map_network` builds a `MappedNetwork` from a design and a workload.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import jax
import numpy as np

from hwdse.core.mapper.mapper import HARDWARE, BestMapping, operator_nest
from hwdse.core.mapping_analysis import (
    CapacityViolation,
    MappingMetrics,
    capacity_violations,
    mapping_metrics,
    ranked_resources,
)
from hwdse.core.ordered_loops import EDGE, TierLoops, at_index, operator_at, tier_loops
from hwdse.models.memory.loop_nest_traffic import nest_traffic
from hwdse.models.memory.memory_level_costs import mapping_costs
from hwdse.numerics.jit_compile import quick_jit
from hwdse.specs.hardware.accelerator import Accelerator
from hwdse.specs.mappings.loop_nest import LoopNest, MappingCosts
from hwdse.specs.mappings.loop_nest_text import format_nest, parse_nest
from hwdse.workload.loops.operators import DIMS, Operators


@dataclass(frozen=True)
class MappedOperator:
    """One operator under one loop nest; all numbers are Python floats."""

    operator: Operators
    accelerator: Accelerator
    nest: LoopNest
    costs: MappingCosts
    """Costs of one execution, without static energy."""

    @cached_property
    def metrics(self) -> MappingMetrics:
        """Reuse, lower bounds and roofline of each level."""
        with jax.enable_x64(True):
            found = mapping_metrics(self.costs, self.operator, self.accelerator, HARDWARE)
            return jax.tree.map(float, found)

    @cached_property
    def tree(self) -> tuple[TierLoops, ...]:
        """Loops in execution order."""
        return tier_loops(self.nest, self.accelerator)

    @property
    def text(self) -> str:
        """Loop nest as text (`specs/mappings/loop_nest_text`)."""
        return format_nest(self.nest)

    @property
    def resources(self) -> list[tuple[str, float]]:
        """Resources with their times in s, slowest first."""
        return ranked_resources(self.costs, self.accelerator)

    @property
    def capacity_violations(self) -> list[CapacityViolation]:
        """Exceeded capacities, worst first."""
        return capacity_violations(self.costs, self.accelerator, self.tree)


@dataclass(frozen=True)
class MappedNetwork:
    """Operators on a core with their mappings; NumPy arrays in float64."""

    operators: Operators
    """Operators with their counts on the busiest core."""
    accelerator: Accelerator
    """Core with energies at its supply voltage. Leaves may differ by operator."""
    find: Callable[[], BestMapping]
    """Runs the mapper, which takes seconds."""
    leakage_w: float
    """Static power of the core in W; zero if it is counted elsewhere."""
    num_cores: float = 1.0
    """Number of cores of the chip."""

    @cached_property
    def best(self) -> BestMapping:
        """Mapping of each operator."""
        return self.find()

    def operator(self, index: int) -> MappedOperator:
        """Operator `index` under the mapping that was found for it."""
        operator, core = operator_at(self.operators, index), at_index(self.accelerator, index)
        nest = operator_nest(self.best, self.operators, self.accelerator, index)
        return MappedOperator(operator, core, nest, at_index(self.best.costs, index))

    def given(self, index: int, text: str) -> MappedOperator:
        """Operator `index` under a loop nest given as text.

        Raises a one-line `ValueError` if the text is not a nest of this operator on this core.
        """
        operator, core = operator_at(self.operators, index), at_index(self.accelerator, index)
        nest = parse_nest(text)
        check_cover(nest, operator)
        return MappedOperator(operator, core, nest, costs_of_nest(nest, operator, core))


def costs_of_nest(nest: LoopNest, operator: Operators, accelerator: Accelerator) -> MappingCosts:
    """Time and energy of one execution of an operator under a given loop nest, as floats."""
    with jax.enable_x64(True):
        # Without names, one program serves all operators under nests with equal tiers.
        nameless = dataclasses.replace(operator, names=())
        numbers = jax.tree.map(lambda x: np.asarray(x, float), (nest, nameless, accelerator))
        return at_index(_compiled_costs()(*numbers), 0)


@cache
def _compiled_costs() -> Callable[..., MappingCosts]:
    def costs(nest: LoopNest, operator: Operators, accelerator: Accelerator) -> MappingCosts:
        return mapping_costs(nest_traffic(nest, operator, accelerator, HARDWARE), accelerator)

    return quick_jit(costs)


def check_cover(nest: LoopNest, operator: Operators) -> None:
    """Raise a one-line `ValueError` if the loops of a nest do not cover the operator exactly."""
    bounds = np.asarray(nest.temporal, float) * np.asarray(nest.spatial, float)
    for letter, covered in zip(DIMS, bounds.prod(axis=-2), strict=True):
        size = getattr(operator, letter.lower())
        if abs(covered - size) > EDGE * size:
            hint = (
                "; a partial last pass of the outermost loop needs a fractional bound"
                if covered > size
                else ""
            )
            raise ValueError(
                f"loops over {letter} cover {covered:.6g}: expected {size:.6g}, the operator size"
                f"{hint}"
            )
