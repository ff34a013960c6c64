"""Consistency checks of specs: values that are allowed alone and impossible together."""

import math

from hwdse.config.files.errors import ConfigLocation, listed
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator
from hwdse.specs.hardware.chip import Chip, Process
from hwdse.specs.hardware.cluster import Cluster
from hwdse.workload.gemms import LayerList
from hwdse.workload.transformer.model_config import Transformer, TransformerTraining


def check_process(process: Process, where: ConfigLocation) -> None:
    """Check that the threshold voltage is below the nominal voltage."""
    if process.threshold_voltage_v >= process.nominal_voltage_v:
        raise where.error(
            "threshold_voltage",
            process.threshold_voltage_v,
            f"a voltage below the nominal one, {process.nominal_voltage_v:g} V",
        )


def check_accelerator(accelerator: Accelerator, where: ConfigLocation) -> None:
    """Check levels and unrolled dimensions of a core.

    Level names and operands of a level are distinct, the outermost level keeps all operands, and
    no dimension is unrolled over rows and columns.
    """
    check_process(accelerator.process, where.table("process"))
    names = [level.name for level in accelerator.levels]
    for number, level in enumerate(accelerator.levels, 1):
        place = where.table(f"levels {number}")
        if names.index(level.name) < number - 1:
            raise place.error("name", level.name, "a name that no other level has")
        if len(set(level.keeps)) != len(level.keeps):
            raise place.error("keeps", list(level.keeps), "each operand once")
    if set(accelerator.levels[0].keeps) != set(OPERANDS):
        kept = list(accelerator.levels[0].keeps)
        expected = f"all of {listed(OPERANDS)} at the outermost level"
        raise where.table("levels 1").error("keeps", kept, expected)
    twice = set(accelerator.rows_dims) & set(accelerator.cols_dims)
    if twice:
        expected = f"other dimensions than rows_dims = {accelerator.rows_dims}"
        raise where.error("cols_dims", accelerator.cols_dims, expected)


def check_chip(chip: Chip, where: ConfigLocation) -> None:
    """Check voltages, link fractions above zero, and equal dies."""
    check_process(chip.process, where.table("process"))
    for name in ("link", "network"):
        for field in ("bandwidth_efficiency_fraction", "eager_fraction"):
            if getattr(getattr(chip, name), field) <= 0.0:
                raise where.table(name).error(field, 0.0, "a number above 0, at most 1")
    array = chip.array
    if array.num_arrays % chip.num_dies != 0:
        raise where.error(
            "num_dies",
            chip.num_dies,
            f"a divisor of num_arrays, {array.num_arrays:g} (all dies are equal)",
        )


def check_cluster(cluster: Cluster, where: ConfigLocation) -> None:
    """Check the torus tables (equal lengths, fractions with sum 1) and whole scale-up domains."""
    sizes, fractions = cluster.torus_sizes, cluster.torus_bandwidth_fractions
    if len(sizes) != len(fractions):
        raise where.error(
            "torus_bandwidth_fractions", list(fractions), f"{len(sizes)} numbers, one per dimension"
        )
    ratios = cluster.torus_latency_ratios
    if len(sizes) != len(ratios):
        raise where.error(
            "torus_latency_ratios", list(ratios), f"{len(sizes)} numbers, one per dimension"
        )
    if not math.isclose(sum(fractions), 1.0, rel_tol=1e-9):
        raise where.error("torus_bandwidth_fractions", list(fractions), "numbers with the sum 1")
    if cluster.topology != "torus" and len(sizes) != 1:
        raise where.error("torus_sizes", list(sizes), f"one number, as for a {cluster.topology}")
    domain = math.prod(sizes)
    if cluster.num_chips % domain != 0:
        raise where.error(
            "num_chips",
            cluster.num_chips,
            f"a multiple of {domain:g}, the product of torus_sizes (a scale-up domain)",
        )


def check_training(training: TransformerTraining, where: ConfigLocation) -> None:
    """Check head groups, and latent attention and experts complete or absent."""
    model = training.model
    if model.num_heads % model.num_kv_heads != 0:
        raise where.table("model").error(
            "num_kv_heads", model.num_kv_heads, f"a divisor of num_heads, {model.num_heads:g}"
        )
    _check_latent(model, where.table("model"))
    _check_mixture(model, where.table("model"))


def _check_latent(model: Transformer, where: ConfigLocation) -> None:
    """Check that latent attention is complete or absent; a query latent requires a key latent."""
    for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        value = getattr(model, name)
        if (value > 0.0) != (model.kv_lora_rank > 0.0):
            expected = "above 0 with kv_lora_rank, 0 or left out without it"
            raise where.error(name, value, expected)
    if model.q_lora_rank > 0.0 and model.kv_lora_rank == 0.0:
        expected = "0 or left out without kv_lora_rank (latent attention)"
        raise where.error("q_lora_rank", model.q_lora_rank, expected)


def _check_mixture(model: Transformer, where: ConfigLocation) -> None:
    """Check that a mixture of experts is complete or absent."""
    if model.num_experts == 0.0:
        for name in ("experts_per_token", "num_shared_experts", "expert_feedforward"):
            if getattr(model, name) > 0.0:
                expected = "0 or left out without num_experts"
                raise where.error(name, getattr(model, name), expected)
        return
    if not 1.0 <= model.experts_per_token <= model.num_experts:
        expected = f"a whole number from 1 to num_experts, {model.num_experts:g}"
        raise where.error("experts_per_token", model.experts_per_token, expected)
    if model.expert_feedforward == 0.0:
        raise where.error("expert_feedforward", 0.0, "above 0 with num_experts")
    if model.num_dense_layers >= model.num_layers:
        expected = f"fewer than num_layers, {model.num_layers:g}, with num_experts"
        raise where.error("num_dense_layers", model.num_dense_layers, expected)


Problem = tuple[str, str]
"""A key and its allowed values."""


def strategy_problem(
    parallelism: Parallelism, num_chips: float, training: TransformerTraining
) -> Problem | None:
    """Key that makes a strategy impossible on `num_chips` with its allowed values, or None."""
    return _degree_problem(parallelism, num_chips, training) or _schedule_problem(
        parallelism,
        num_chips / (parallelism.tensor * parallelism.pipeline * parallelism.context),
        training,
    )


def _degree_problem(
    parallelism: Parallelism, num_chips: float, training: TransformerTraining
) -> Problem | None:
    """Problem of degrees that do not divide the model or the chips, or None."""
    model = training.model
    if parallelism.pipeline > model.num_layers:
        return "pipeline", f"at most {model.num_layers:g}, the layers of the model"
    if model.num_heads % parallelism.tensor != 0:
        return "tensor", f"a divisor of {model.num_heads:g}, the heads of the model"
    if training.seq_len % parallelism.context != 0:
        return "context", f"a divisor of {training.seq_len:g}, the tokens of a sequence"
    ranks = parallelism.tensor * parallelism.pipeline * parallelism.context
    if num_chips % ranks != 0:
        product = "tensor * pipeline" + (" * context" if parallelism.context > 1.0 else "")
        return "tensor", f"{product} = {ranks:g} to divide {num_chips:g} chips"
    if parallelism.expert > 1.0 and model.num_experts == 0.0:
        return "expert", "1 for a model without experts"
    if parallelism.expert > 1.0 and model.num_experts % parallelism.expert != 0:
        return "expert", f"a divisor of {model.num_experts:g}, the experts of a layer"
    if num_chips / ranks % parallelism.expert != 0:
        return "expert", f"a divisor of {num_chips / ranks:g}, the data-parallel ranks"
    return None


def _schedule_problem(
    parallelism: Parallelism, data: float, training: TransformerTraining
) -> Problem | None:
    """Problem of micro-batches, recomputation or virtual pipeline stages, or None.

    Virtual pipeline stages require a multiple of `pipeline` micro-batches (Narayanan et al.,
    SC 2021, section 2.2.2).
    """
    batch = data * parallelism.micro_batch
    if training.global_batch % batch != 0:
        return (
            "micro_batch",
            f"data parallel x micro_batch = {batch:g} to divide the global batch of "
            f"{training.global_batch:g} sequences",
        )
    if parallelism.recompute_fraction + parallelism.attention_recompute_fraction > 1.0:
        most = 1.0 - parallelism.recompute_fraction
        return (
            "attention_recompute_fraction",
            f"at most {most:g}, the layers without full recomputation",
        )
    if parallelism.virtual_pipeline == 1.0:
        return None
    layers, chunks = training.model.num_layers, parallelism.pipeline * parallelism.virtual_pipeline
    if parallelism.pipeline == 1.0:
        return "virtual_pipeline", "1 without a pipeline"
    if layers % chunks != 0:
        return (
            "virtual_pipeline",
            f"pipeline * virtual_pipeline = {chunks:g} to divide {layers:g} layers",
        )
    if training.global_batch / batch % parallelism.pipeline != 0:
        return (
            "virtual_pipeline",
            f"1 unless {training.global_batch / batch:g} micro-batches are a multiple of "
            f"{parallelism.pipeline:g} stages",
        )
    return None


def check_design(
    design: Design, workload: TransformerTraining | LayerList, where: ConfigLocation
) -> None:
    """Check a design with its workload: chip, cluster, training job and parallelism strategy."""
    check_chip(design.chip, where.table("chip"))
    check_cluster(design.cluster, where.table("cluster"))
    if isinstance(workload, LayerList):
        return
    check_training(workload, where.table("workload"))
    problem = strategy_problem(design.parallelism, design.cluster.num_chips, workload)
    if problem is not None:
        key, expected = problem
        value = getattr(design.parallelism, key)
        raise where.table("design.parallelism").error(key, value, expected)
