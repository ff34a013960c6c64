"""Values that are fine each by itself and impossible together."""

import math

from hwdse.config.errors import Where
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.hardware import Chip, Cluster
from hwdse.workload.layers import LayerList
from hwdse.workload.transformer import TransformerTraining


def check_chip(chip: Chip, where: Where) -> None:
    """A threshold voltage below the nominal one, arrays that dies can share."""
    process, array = chip.process, chip.array
    if process.threshold_voltage_v >= process.nominal_voltage_v:
        raise where.inside("process").error(
            "threshold_voltage",
            process.threshold_voltage_v,
            f"a voltage below the nominal one, {process.nominal_voltage_v:g} V",
        )
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
