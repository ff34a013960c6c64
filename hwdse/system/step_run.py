"""One step of a design at the clock that it states: rows, the rest, time, energy, power."""

import dataclasses

import flax.struct

from hwdse.models import area
from hwdse.numerics import Reading, total
from hwdse.shapes import Leaf, Scalar
from hwdse.specs.design import Design
from hwdse.specs.evaluation import EnergyParts
from hwdse.system.rows import RowCosts, row_costs, sum_rows
from hwdse.system.step import StepTimes, energy_parts, step_time_s, step_times
from hwdse.workload.layers import LayerList
from hwdse.workload.model_shape import TransformerTraining
from hwdse.workload.sharding import ShardedStep, shard


@flax.struct.dataclass
class StepRun:
    """What a step takes, on one chip but for the energy, which is that of all chips."""

    step: ShardedStep
    layer: RowCosts
    head: RowCosts
    rest: StepTimes
    step_time_s: Leaf
    energy: EnergyParts

    def chip_power_w(self, design: Design) -> Scalar:
        """Mean power of one chip during the step."""
        return total(self.energy) / (self.step_time_s * design.cluster.num_chips)


def run_step(
    design: Design, workload: TransformerTraining | LayerList, reading: Reading
) -> StepRun:
    """A step without failures, whatever power it draws."""
    step = shard(workload, design.parallelism, design.cluster.num_chips, design.software)
    rows = row_costs(step.gemms, step.runs, design, reading)
    layer, head = sum_rows(rows, step.runs.is_head)
    rest = step_times(step, layer, head, design)
    elapsed_s = step_time_s(step, rest)
    die_area_mm2 = total(area.area_parts_mm2(design.chip))
    energy = energy_parts(step, layer, head, rest, elapsed_s, die_area_mm2, design)
    return StepRun(step, layer, head, rest, elapsed_s, energy)


def with_clock_ratio(design: Design, ratio: Scalar) -> Design:
    """The design with the clock of its arrays and vector engines, and its voltage, scaled."""
    array = design.chip.array
    slower = dataclasses.replace(array, clock_hz=array.clock_hz * ratio)
    return dataclasses.replace(design, chip=dataclasses.replace(design.chip, array=slower))
