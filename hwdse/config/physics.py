"""Values that are fine each by itself and impossible together."""

import math

from hwdse.config.errors import Where, listed
from hwdse.specs.accelerator import OPERANDS, Accelerator
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.hardware import Chip, Cluster, Process
from hwdse.workload.layers import LayerList
from hwdse.workload.transformer import TransformerTraining


def check_process(process: Process, where: Where) -> None:
    """A threshold voltage below the nominal one."""
    if process.threshold_voltage_v >= process.nominal_voltage_v:
        raise where.error(
            "threshold_voltage",
            process.threshold_voltage_v,
            f"a voltage below the nominal one, {process.nominal_voltage_v:g} V",
        )


def check_accelerator(accelerator: Accelerator, where: Where) -> None:
    """Levels with names of their own below a memory of everything; no dimension unrolled twice."""
    check_process(accelerator.process, where.inside("process"))
    names = [level.name for level in accelerator.levels]
    for number, level in enumerate(accelerator.levels, 1):
        place = where.inside(f"levels {number}")
        if names.index(level.name) < number - 1:
            raise place.error("name", level.name, "a name that no other level has")
        if len(set(level.keeps)) != len(level.keeps):
            raise place.error("keeps", list(level.keeps), "each operand once")
    if set(accelerator.levels[0].keeps) != set(OPERANDS):
        kept = list(accelerator.levels[0].keeps)
        expected = f"{listed(OPERANDS)}: the outermost level keeps all"
        raise where.inside("levels 1").error("keeps", kept, expected)
    twice = set(accelerator.rows_dims) & set(accelerator.cols_dims)
    if twice:
        expected = f"other dimensions than rows_dims = {accelerator.rows_dims}"
        raise where.error("cols_dims", accelerator.cols_dims, expected)


def check_chip(chip: Chip, where: Where) -> None:
    """A threshold voltage below the nominal one, arrays that dies can share."""
    check_process(chip.process, where.inside("process"))
    array = chip.array
    if array.num_arrays % chip.num_dies != 0:
        raise where.error(
            "num_dies",
            chip.num_dies,
            f"a divisor of num_arrays, {array.num_arrays:g} (all dies are equal)",
        )


def check_cluster(cluster: Cluster, where: Where) -> None:
    """As many bandwidth fractions as sizes, summing to one; whole scale-up domains."""
    sizes, fractions = cluster.torus_sizes, cluster.torus_bandwidth_fractions
    if len(sizes) != len(fractions):
        raise where.error(
            "torus_bandwidth_fractions", list(fractions), f"{len(sizes)} numbers, one a dimension"
        )
    if not math.isclose(sum(fractions), 1.0, rel_tol=1e-9):
        raise where.error("torus_bandwidth_fractions", list(fractions), "numbers that sum to one")
    if cluster.topology != "torus" and len(sizes) != 1:
        raise where.error("torus_sizes", list(sizes), f"one number, as for a {cluster.topology}")
    domain = math.prod(sizes)
    if cluster.num_chips % domain != 0:
        raise where.error(
            "num_chips",
            cluster.num_chips,
            f"a multiple of {domain:g}, the product of torus_sizes (a scale-up domain)",
        )


def check_training(training: TransformerTraining, where: Where) -> None:
    """Query heads in whole groups."""
    model = training.model
    if model.num_heads % model.num_kv_heads != 0:
        raise where.inside("model").error(
            "num_kv_heads", model.num_kv_heads, f"a divisor of num_heads, {model.num_heads:g}"
        )


def layout_problem(
    layout: Parallelism, num_chips: float, training: TransformerTraining
) -> tuple[str, str] | None:
    """Why a layout cannot run on `num_chips`: the key at fault and what is allowed, or nothing."""
    model, ranks = training.model, layout.tensor * layout.pipeline
    if layout.pipeline > model.num_layers:
        return "pipeline", f"at most {model.num_layers:g}, the layers of the model"
    if model.num_heads % layout.tensor != 0:
        return "tensor", f"a divisor of {model.num_heads:g}, the heads of the model"
    if num_chips % ranks != 0:
        return "tensor", f"tensor * pipeline = {ranks:g} to divide {num_chips:g} chips"
    batch = num_chips / ranks * layout.micro_batch
    if training.global_batch % batch != 0:
        return (
            "micro_batch",
            f"data parallel x micro_batch = {batch:g} to divide the global batch of "
            f"{training.global_batch:g} sequences",
        )
    return None


def check_design(design: Design, workload: TransformerTraining | LayerList, where: Where) -> None:
    """Everything above, and a parallel layout that the chips and the workload allow."""
    check_chip(design.chip, where.inside("chip"))
    check_cluster(design.cluster, where.inside("cluster"))
    if isinstance(workload, LayerList):
        return
    check_training(workload, where.inside("workload"))
    problem = layout_problem(design.parallelism, design.cluster.num_chips, workload)
    if problem is not None:
        key, expected = problem
        value = getattr(design.parallelism, key)
        raise where.inside("design.parallelism").error(key, value, expected)
