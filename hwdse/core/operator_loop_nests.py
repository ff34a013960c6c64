"""A network mapped onto a core, and the nest of each of its operators, in concrete numbers."""

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
    """One operator under one nest; all numbers are Python floats."""

    operator: Operators
    accelerator: Accelerator
    nest: LoopNest
    costs: MappingCosts
    """Of one run, without leakage."""

    @cached_property
    def figures(self) -> MappingMetrics:
        """Reuse, bounds and roofs of each level."""
        with jax.enable_x64(True):
            found = mapping_metrics(self.costs, self.operator, self.accelerator, HARDWARE)
            return jax.tree.map(float, found)

    @cached_property
    def tree(self) -> tuple[TierLoops, ...]:
        """The loops in the order in which they run."""
        return tier_loops(self.nest, self.accelerator)

    @property
    def text(self) -> str:
        """The nest as `specs.nest_text` writes it."""
        return format_nest(self.nest)

    @property
    def resources(self) -> list[tuple[str, float]]:
        """What can limit the operator and its time in s, the slowest first."""
        return ranked_resources(self.costs, self.accelerator)

    @property
    def capacity_violations(self) -> list[CapacityViolation]:
        """What the mapping breaks, the worst first."""
        return capacity_violations(self.costs, self.accelerator, self.tree)


@dataclass(frozen=True)
class MappedNetwork:
    """All operators on a core, and the mappings found for them; arrays are NumPy's, in float64."""

    operators: Operators
    """With counts on the busiest core where there are several."""
    accelerator: Accelerator
    """At its voltage. Leaves may differ by operator."""
    find: Callable[[], BestMapping]
    """Searches, which takes seconds."""
    leakage_w: float
    """Static power of the core; zero where it is counted elsewhere."""
    num_cores: float = 1.0

    @cached_property
    def best(self) -> BestMapping:
        """The mapping of each operator."""
        return self.find()

    def operator(self, index: int) -> MappedOperator:
        """Operator number `index` under the mapping found for it."""
        operator, core = operator_at(self.operators, index), at_index(self.accelerator, index)
        nest = operator_nest(self.best, self.operators, self.accelerator, index)
        return MappedOperator(operator, core, nest, at_index(self.best.costs, index))

    def given(self, index: int, text: str) -> MappedOperator:
        """Operator number `index` under the nest of a user.

        A `ValueError` of one line where the text is no nest of this operator on this core.
        """
        operator, core = operator_at(self.operators, index), at_index(self.accelerator, index)
        nest = parse_nest(text)
        check_cover(nest, operator)
        return MappedOperator(operator, core, nest, costs_of_nest(nest, operator, core))


def costs_of_nest(nest: LoopNest, operator: Operators, accelerator: Accelerator) -> MappingCosts:
    """Time and energy of one run of one operator under a given nest, as Python floats."""
    with jax.enable_x64(True):
        # Without names there is one program for all operators under nests of a kind.
        nameless = dataclasses.replace(operator, names=())
        numbers = jax.tree.map(lambda x: np.asarray(x, float), (nest, nameless, accelerator))
        return at_index(_compiled_costs()(*numbers), 0)


@cache
def _compiled_costs() -> Callable[..., MappingCosts]:
    def costs(nest: LoopNest, operator: Operators, accelerator: Accelerator) -> MappingCosts:
        return mapping_costs(nest_traffic(nest, operator, accelerator, HARDWARE), accelerator)

    return quick_jit(costs)


def check_cover(nest: LoopNest, operator: Operators) -> None:
    """A `ValueError` of one line where the loops of a nest are not those of the operator."""
    bounds = np.asarray(nest.temporal, float) * np.asarray(nest.spatial, float)
    for letter, covered in zip(DIMS, bounds.prod(axis=-2), strict=True):
        size = getattr(operator, letter.lower())
        if abs(covered - size) > EDGE * size:
            hint = (
                "; a ragged outermost loop has a fraction for its bound" if covered > size else ""
            )
            raise ValueError(
                f"loops over {letter} cover {covered:.6g}: expected {size:.6g} as the operator has"
                f"{hint}"
            )
