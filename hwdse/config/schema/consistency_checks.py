"""Values that are fine each by itself and impossible together."""

import math

from hwdse.config.files.errors import Where, listed
from hwdse.specs.design import Design, Parallelism
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator
from hwdse.specs.hardware.chip import Chip, Process
from hwdse.specs.hardware.cluster import Cluster
from hwdse.workload.loops.layer_list import LayerList
from hwdse.workload.transformer.model_config import Transformer, TransformerTraining


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
    """A threshold voltage below the nominal one, links that carry bytes, arrays for all dies."""
    check_process(chip.process, where.inside("process"))
    for name in ("link", "network"):
        for field in ("efficiency_fraction", "eager_fraction"):
            if getattr(getattr(chip, name), field) <= 0.0:
                raise where.inside(name).error(field, 0.0, "a number above 0, at most 1")
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
    ratios = cluster.torus_latency_ratios
    if len(sizes) != len(ratios):
        raise where.error(
            "torus_latency_ratios", list(ratios), f"{len(sizes)} numbers, one a dimension"
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
    """Query heads in whole groups; latent attention and experts whole or not at all."""
    model = training.model
    if model.num_heads % model.num_kv_heads != 0:
        raise where.inside("model").error(
            "num_kv_heads", model.num_kv_heads, f"a divisor of num_heads, {model.num_heads:g}"
        )
    _check_latent(model, where.inside("model"))
    _check_mixture(model, where.inside("model"))


def _check_latent(model: Transformer, where: Where) -> None:
    """All extents of latent attention, or none; a query latent only with that of keys."""
    for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        value = getattr(model, name)
        if (value > 0.0) != (model.kv_lora_rank > 0.0):
            expected = "above 0 with kv_lora_rank, 0 or left out without it"
            raise where.error(name, value, expected)
    if model.q_lora_rank > 0.0 and model.kv_lora_rank == 0.0:
        expected = "0 or left out without kv_lora_rank (latent attention)"
        raise where.error("q_lora_rank", model.q_lora_rank, expected)


def _check_mixture(model: Transformer, where: Where) -> None:
    """Experts that a token can be sent to, or nothing of them at all."""
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
"""A key, and what is allowed for it."""


def layout_problem(
    layout: Parallelism, num_chips: float, training: TransformerTraining
) -> Problem | None:
    """Why a layout cannot run on `num_chips`: the key at fault and what is allowed, or nothing."""
    return _degree_problem(layout, num_chips, training) or _schedule_problem(
        layout, num_chips / (layout.tensor * layout.pipeline * layout.context), training
    )


def _degree_problem(
    layout: Parallelism, num_chips: float, training: TransformerTraining
) -> Problem | None:
    """Degrees that the model or the chips do not divide by."""
    model = training.model
    if layout.pipeline > model.num_layers:
        return "pipeline", f"at most {model.num_layers:g}, the layers of the model"
    if model.num_heads % layout.tensor != 0:
        return "tensor", f"a divisor of {model.num_heads:g}, the heads of the model"
    if training.seq_len % layout.context != 0:
        return "context", f"a divisor of {training.seq_len:g}, the tokens of a sequence"
    ranks = layout.tensor * layout.pipeline * layout.context
    if num_chips % ranks != 0:
        product = "tensor * pipeline" + (" * context" if layout.context > 1.0 else "")
        return "tensor", f"{product} = {ranks:g} to divide {num_chips:g} chips"
    if layout.expert > 1.0 and model.num_experts == 0.0:
        return "expert", "1 for a model without experts"
    if layout.expert > 1.0 and model.num_experts % layout.expert != 0:
        return "expert", f"a divisor of {model.num_experts:g}, the experts of a layer"
    if num_chips / ranks % layout.expert != 0:
        return "expert", f"a divisor of {num_chips / ranks:g}, the data-parallel ranks"
    return None


def _schedule_problem(
    layout: Parallelism, data: float, training: TransformerTraining
) -> Problem | None:
    """Batches that do not go into micro-batches, stages that do not go into chunks.

    Interleaved chunks take turns, so there must be a multiple of `pipeline` micro-batches
    (Narayanan et al., SC 2021, section 2.2.2).
    """
    batch = data * layout.micro_batch
    if training.global_batch % batch != 0:
        return (
            "micro_batch",
            f"data parallel x micro_batch = {batch:g} to divide the global batch of "
            f"{training.global_batch:g} sequences",
        )
    if layout.recompute_fraction + layout.attention_recompute_fraction > 1.0:
        most = 1.0 - layout.recompute_fraction
        return "attention_recompute_fraction", f"at most {most:g}, the layers not recomputed whole"
    if layout.interleave == 1.0:
        return None
    layers, chunks = training.model.num_layers, layout.pipeline * layout.interleave
    if layout.pipeline == 1.0:
        return "interleave", "1 without a pipeline"
    if layers % chunks != 0:
        return "interleave", f"pipeline * interleave = {chunks:g} to divide {layers:g} layers"
    if training.global_batch / batch % layout.pipeline != 0:
        return (
            "interleave",
            f"1 unless {training.global_batch / batch:g} micro-batches are a multiple of "
            f"{layout.pipeline:g} stages",
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
