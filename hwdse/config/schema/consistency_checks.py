"""Consistency checks of specs: values that are allowed alone and impossible together."""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType

from hwdse.config.files.errors import ConfigLocation, listed
from hwdse.config.schema.field_rules import BIASES, STATE, SWITCHES
from hwdse.specs.design import Design
from hwdse.specs.hardware.accelerator import OPERANDS, Accelerator
from hwdse.specs.hardware.chip import Chip, Process
from hwdse.specs.hardware.cluster import MULTI_DIMENSIONAL, Cluster
from hwdse.training.strategy_rules import strategy_problem
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
    ratios = cluster.torus_latency_ratios
    lists = {"torus_bandwidth_fractions": fractions, "torus_latency_ratios": ratios}
    wrong = [name for name, values in lists.items() if len(values) != len(sizes)]
    if wrong:
        also = f", as for {wrong[1]} = {list(ratios)}" if len(wrong) > 1 else ""
        shown = [int(size) if float(size).is_integer() else size for size in sizes]
        dimensions = f"{len(sizes)} numbers, one per dimension of torus_sizes = {shown}{also}"
        raise where.error(wrong[0], list(lists[wrong[0]]), dimensions)
    if not math.isclose(sum(fractions), 1.0, rel_tol=1e-9):
        raise where.error("torus_bandwidth_fractions", list(fractions), "numbers with the sum 1")
    if cluster.topology not in MULTI_DIMENSIONAL and len(sizes) != 1:
        expected = f"one number, as for topology = {cluster.topology!r}; several dimensions need"
        raise where.error("torus_sizes", list(sizes), f"{expected} {listed(MULTI_DIMENSIONAL)}")
    domain = math.prod(sizes)
    if cluster.num_chips % domain != 0:
        raise where.error(
            "num_chips",
            cluster.num_chips,
            f"a multiple of {domain:g}, the product of torus_sizes (a scale-up domain)",
        )


def check_training(training: TransformerTraining, where: ConfigLocation) -> None:
    """Check the model of a job: each kind of layers, and their numbers."""
    model, place = training.model, where.table("model")
    own = frozenset(field.name for field in dataclasses.fields(model))
    _check_layer(model, own, place)
    if model.num_experts > 0.0 and model.num_dense_layers >= model.num_layers:
        expected = f"fewer than num_layers, {model.num_layers:g}, with num_experts"
        raise place.error("num_dense_layers", model.num_dense_layers, expected)
    if model.layers:
        _check_kinds(model, where)


def _check_kinds(model: Transformer, where: ConfigLocation) -> None:
    """Check the tables `[[layers]]` of a model: the values of each, and the sum of the counts."""
    pairs = zip(model.layers, model.layer_models, strict=True)
    for number, (entry, layer) in enumerate(pairs, 1):
        _check_layer(layer, frozenset(entry.given()), where.table(f"layers {number}"))
    if model.num_dense_layers > 0.0:
        expected = "0 or left out beside [[layers]]: dense layers have num_experts = 0 there"
        raise where.table("model").error("num_dense_layers", model.num_dense_layers, expected)
    total, last = sum(entry.count for entry in model.layers), len(model.layers)
    if total != model.num_layers and 2.0 * total > model.num_layers:
        expected = (
            f"counts that add up to num_layers, {model.num_layers:g}, or to at most half of it "
            f"for a list that is repeated; all tables have {total:g}"
        )
        raise where.table(f"layers {last}").error("count", model.layers[-1].count, expected)


COUNTS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "num_mlp_matrices": (2.0, 3.0),
        "num_embeddings": (1.0, 2.0),
        "num_norm_vectors": (0.0, 1.0, 2.0),
        "num_router_bias": (0.0, 1.0),
        **dict.fromkeys((*BIASES, *SWITCHES), (0.0, 1.0)),
    }
)
"""Fields of a model with few possible numbers."""
EXPERT_SIZES = ("experts_per_token", "num_shared_experts", "expert_feedforward", "expert_hidden")
"""Fields of routed experts."""


def _check_layer(model: Transformer, own: frozenset[str], where: ConfigLocation) -> None:
    """Check the values of the layers of one kind, of which the table has the fields `own`."""
    for name, allowed in COUNTS.items():
        value = getattr(model, name)
        if name in own and value is not None and value not in allowed:
            raise where.error(name, value, " or ".join(f"{number:g}" for number in allowed))
    if model.num_heads % model.num_kv_heads != 0:
        expected = f"a divisor of num_heads, {model.num_heads:g}"
        raise where.error("num_kv_heads", model.num_kv_heads, expected)
    _check_latent(model, own, where)
    _check_state(model, own, where)
    _check_mixture(model, own, where)


def _check_latent(model: Transformer, own: frozenset[str], where: ConfigLocation) -> None:
    """Check that latent attention is complete or absent; a query latent requires a key latent."""
    is_latent = model.kv_lora_rank > 0.0
    for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        value = getattr(model, name)
        if value == 0.0 if is_latent else value > 0.0 and name in own:
            expected = "above 0 with kv_lora_rank, 0 or left out without it"
            raise where.error(name, value, expected)
    if model.q_lora_rank > 0.0 and not is_latent and "q_lora_rank" in own:
        expected = "0 or left out without kv_lora_rank (latent attention)"
        raise where.error("q_lora_rank", model.q_lora_rank, expected)


def _check_state(model: Transformer, own: frozenset[str], where: ConfigLocation) -> None:
    """Check that a state-space mixer is complete or absent, and that a layer has some part."""
    if model.num_heads + model.num_state_heads + model.num_experts + model.feedforward == 0.0:
        expected = "heads, state heads, experts or a feedforward size above 0 in every layer"
        raise where.error("num_heads", 0.0, expected)
    if model.num_state_heads == 0.0:
        return
    for name in STATE:
        if getattr(model, name) == 0.0:
            raise where.error(name, 0.0, "above 0 with num_state_heads")
    if model.num_state_heads % model.num_state_groups != 0.0:
        expected = f"a divisor of num_state_heads, {model.num_state_heads:g}"
        raise where.error("num_state_groups", model.num_state_groups, expected)


def _check_mixture(model: Transformer, own: frozenset[str], where: ConfigLocation) -> None:
    """Check that a mixture of experts is complete or absent."""
    if model.num_experts == 0.0:
        for name in EXPERT_SIZES:
            if getattr(model, name) > 0.0 and name in own:
                expected = "0 or left out without num_experts"
                raise where.error(name, getattr(model, name), expected)
        return
    if not 1.0 <= model.experts_per_token <= model.num_experts:
        expected = f"a whole number from 1 to num_experts, {model.num_experts:g}"
        raise where.error("experts_per_token", model.experts_per_token, expected)
    if model.expert_feedforward == 0.0:
        raise where.error("expert_feedforward", 0.0, "above 0 with num_experts")


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
