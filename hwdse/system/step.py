"""One step of one chip beside its rows: collectives, pipeline, optimizer; times and energies."""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Bool

from hwdse.models import energy, network, parallel, precision
from hwdse.shapes import Leaf, Scalar
from hwdse.specs.design import Design
from hwdse.specs.evaluation import EnergyParts, TimeParts
from hwdse.specs.hardware import Chip
from hwdse.system.rows import RowCosts, peak_flop_per_s, vector_rate_flop_per_s
from hwdse.workload.sharding import ShardedStep

SMALLEST_REST_FRACTION = 1e-6
"""Least share of the flops that is not fp64, so that a job of fp64 alone stays finite."""


@flax.struct.dataclass
class StepTimes:
    """Seconds of the parts of a step that are not rows, on one chip."""

    tensor_s: Leaf
    """Exposed tensor-parallel collectives of one layer and micro-batch."""
    pipeline_s: Leaf
    data_s: Leaf
    bubble_s: Leaf
    fp64_s: Leaf
    optimizer_s: Leaf
    link_bytes: Leaf
    """What one chip sends in a step over the scale-up fabric, and below over the network."""
    network_bytes: Leaf


def _domain_chips(design: Design) -> Scalar:
    product = 1.0
    for size in design.cluster.torus_sizes:
        product = product * size
    return product


def _all_gather_s(
    message_bytes: Scalar, num_chips: Scalar, inner_chips: Scalar, design: Design
) -> Scalar:
    cluster, chip = design.cluster, design.chip
    time_s = network.hierarchical_all_gather_time_s(
        message_bytes,
        num_chips,
        inner_chips,
        cluster.torus_sizes,
        cluster.torus_bandwidth_fractions,
        chip.link,
        chip.network,
        network.TOPOLOGIES[cluster.topology],
    )
    # Without a message there is no collective, and nobody waits for its latency.
    return jnp.where(message_bytes > 0.0, time_s, 0.0)


def _pipeline_fits(step: ShardedStep, design: Design) -> Bool[jax.Array, ""]:
    return jnp.asarray(step.tensor * step.data * step.pipeline <= _domain_chips(design))


def _pipeline_send_s(step: ShardedStep, design: Design) -> Scalar:
    """One transfer to the next stage: inside the domain where the whole pipeline fits there."""
    cluster, chip = design.cluster, design.chip
    message_bytes = step.messages.pipeline_bytes
    whole = network.place_group(
        _domain_chips(design), 1.0, cluster.torus_sizes, cluster.torus_bandwidth_fractions
    )
    topology = network.TOPOLOGIES[cluster.topology]
    inside_s = topology.point_to_point(message_bytes, whole, chip.link)
    outside_s = network.switch_point_to_point_time_s(message_bytes, whole, chip.network)
    return jnp.where(_pipeline_fits(step, design), inside_s, outside_s)


def _gathered_bytes(
    message_bytes: Scalar, num_chips: Scalar, inner_chips: Scalar, design: Design
) -> tuple[Scalar, Scalar]:
    """What one chip sends in an all-gather (or reduce-scatter), inside its domain and beyond."""
    cluster = design.cluster
    inside = network.place_group(
        num_chips, inner_chips, cluster.torus_sizes, cluster.torus_bandwidth_fractions
    ).num_chips
    outside = jnp.maximum(num_chips / inside, 1.0)
    share_bytes = message_bytes / inside
    return share_bytes * (inside - 1.0), share_bytes * (outside - 1.0) / outside


def _sent_bytes(step: ShardedStep, design: Design) -> tuple[Scalar, Scalar]:
    """Bytes that a chip sends in a step over the scale-up fabric and over the network, on average.

    The last stage hands nothing on, and the first nothing back.
    """
    messages = step.messages
    num_collectives = messages.num_tensor_gathers + messages.num_tensor_scatters
    num_gathers = step.num_micro_batches * step.mean_layers_per_stage * num_collectives
    tensor = _gathered_bytes(messages.tensor_bytes, step.tensor, 1.0, design)
    summed_bytes = messages.gradient_bytes + messages.weight_bytes
    data = _gathered_bytes(summed_bytes, step.data, step.tensor, design)
    num_sends = 2.0 * step.num_micro_batches * (step.pipeline - 1.0) / step.pipeline
    pipeline_bytes = num_sends * messages.pipeline_bytes
    inside = jnp.where(_pipeline_fits(step, design), 1.0, 0.0)
    return (
        num_gathers * tensor[0] + data[0] + inside * pipeline_bytes,
        num_gathers * tensor[1] + data[1] + (1.0 - inside) * pipeline_bytes,
    )


def _optimizer_s(step: ShardedStep, chip: Chip) -> Scalar:
    """Time to update a chip's share of the parameters, bound by vector engines or HBM."""
    return jnp.maximum(
        step.optimizer_flop / vector_rate_flop_per_s(chip),
        step.optimizer_traffic_bytes / chip.hbm.bandwidth_bytes_per_s,
    )


def _fp64_flop(step: ShardedStep, layer: RowCosts, head: RowCosts, design: Design) -> Scalar:
    """fp64 work of one chip and step. Its share is one of all useful flops; rows are the rest."""
    fraction = design.mix.fp64_flop_fraction
    useful_flop = 2.0 * per_step(step, layer.useful_macs, head.useful_macs)
    return useful_flop * fraction / jnp.maximum(1.0 - fraction, SMALLEST_REST_FRACTION)


def _fp64_rates(chip: Chip) -> tuple[Scalar, Scalar]:
    """fp64 rate of the native units, and of those and the vector engines together."""
    peak = peak_flop_per_s(chip)
    native = precision.native_fp64_flop_per_s(peak, chip.fp64_per_fp16_ratio)
    return native, precision.fp64_flop_per_s(
        peak,
        chip.fp64_per_fp16_ratio,
        vector_rate_flop_per_s(chip),
        chip.software_fp64_flop_ratio,
    )


def step_times(step: ShardedStep, layer: RowCosts, head: RowCosts, design: Design) -> StepTimes:
    """Everything of a step beside its rows: what is exposed, what is sent."""
    chip, messages = design.chip, step.messages
    gather_s = _all_gather_s(messages.tensor_bytes, step.tensor, 1.0, design)
    num_collectives = messages.num_tensor_gathers + messages.num_tensor_scatters
    exposed = 1.0 - design.parallelism.tensor_overlap_fraction
    tensor_s = exposed * num_collectives * gather_s
    stage_s = step.layers_per_stage * (layer.time_s + tensor_s)
    reduce_s = _all_gather_s(messages.gradient_bytes, step.data, step.tensor, design)
    weights_s = _all_gather_s(messages.weight_bytes, step.data, step.tensor, design)
    link_bytes, network_bytes = _sent_bytes(step, design)
    return StepTimes(
        tensor_s=tensor_s,
        pipeline_s=parallel.pipeline_send_time_s(
            _pipeline_send_s(step, design), step.num_micro_batches, step.pipeline
        ),
        data_s=parallel.exposed_data_parallel_time_s(reduce_s, weights_s, stage_s),
        bubble_s=parallel.bubble_time_s(stage_s, step.pipeline),
        fp64_s=_fp64_flop(step, layer, head, design) / _fp64_rates(chip)[1],
        optimizer_s=_optimizer_s(step, chip),
        link_bytes=link_bytes,
        network_bytes=network_bytes,
    )


def per_step(step: ShardedStep, layer: Leaf, head: Leaf) -> Leaf:
    """Mean over stages of a sum over one layer and one head: for work and energy, not for time."""
    per_pass = step.mean_layers_per_stage * layer + head / step.pipeline
    return step.num_micro_batches * per_pass


def step_time_s(step: ShardedStep, layer: RowCosts, head: RowCosts, rest: StepTimes) -> Scalar:
    """Seconds of one step of the fullest stage; the head sits on the last stage.

    The sum of `time_parts`, without the detour over what bounds each row.
    """
    pass_s = step.layers_per_stage * (layer.time_s + rest.tensor_s) + head.time_s
    exposed_s = rest.fp64_s + rest.pipeline_s + rest.data_s + rest.bubble_s + rest.optimizer_s
    return step.num_micro_batches * pass_s + exposed_s


def time_parts(step: ShardedStep, layer: RowCosts, head: RowCosts, rest: StepTimes) -> TimeParts:
    """Seconds of one step of the fullest stage, by what they wait for."""

    def whole(name: str) -> Leaf:
        per_pass = step.layers_per_stage * getattr(layer, name) + getattr(head, name)
        return step.num_micro_batches * per_pass

    return TimeParts(
        matrix=whole("matrix_s"),
        vector=whole("vector_s"),
        sram=whole("sram_s"),
        hbm=whole("hbm_s"),
        launch=whole("launch_s"),
        fp64=rest.fp64_s,
        tensor_network=step.num_micro_batches * step.layers_per_stage * rest.tensor_s,
        pipeline_network=rest.pipeline_s,
        data_network=rest.data_s,
        bubble=rest.bubble_s,
        optimizer=rest.optimizer_s,
    )


def _fp64_energy_j_per_flop(chip: Chip) -> Scalar:
    """Mean over native units and vector engines, which share the work by their rates."""
    native, both = _fp64_rates(chip)
    native_j = chip.process.mac_energy_j / 2.0 * chip.process.fp64_energy_ratio
    vector_j = chip.process.mac_energy_j * energy.VECTOR_ENERGY_RATIO
    software_j = chip.software_fp64_flop_ratio * vector_j
    return software_j + (native_j - software_j) * native / both


def energy_parts(
    step: ShardedStep,
    layer: RowCosts,
    head: RowCosts,
    rest: StepTimes,
    elapsed_s: Scalar,
    die_area_mm2: Scalar,
    design: Design,
) -> EnergyParts:
    """Joules of one step over all chips."""
    chip, process = design.chip, design.chip.process
    dynamic = energy.dynamic_energy_ratio(chip.array.clock_hz / chip.nominal_clock_hz, process)
    mac_j = dynamic * process.mac_energy_j

    def work(name: str) -> Leaf:
        return per_step(step, getattr(layer, name), getattr(head, name))

    fp64_j = _fp64_energy_j_per_flop(chip) * _fp64_flop(step, layer, head, design)
    macro = chip.sram.capacity_bytes / chip.num_scratchpads
    sram_j = energy.sram_energy_j_per_byte(macro, chip.sram.energy_j_per_byte)
    accumulator_j = energy.sram_energy_j_per_byte(
        energy.ACCUMULATOR_MACRO_BYTES, chip.sram.energy_j_per_byte
    )
    per_chip = EnergyParts(
        matrix=mac_j * work("num_macs"),
        fp64=dynamic * fp64_j,
        vector=mac_j * energy.VECTOR_ENERGY_RATIO * (work("vector_flop") + step.optimizer_flop),
        sram=dynamic * (sram_j * work("sram_bytes") + accumulator_j * work("accumulator_bytes")),
        hbm=chip.hbm.energy_j_per_byte * (work("hbm_bytes") + step.optimizer_traffic_bytes),
        link=chip.link.energy_j_per_byte * rest.link_bytes,
        network=chip.network.energy_j_per_byte * rest.network_bytes,
        leakage=energy.leakage_power_w(die_area_mm2, jnp.sqrt(dynamic), process) * elapsed_s,
    )
    return jax.tree.map(lambda joules: joules * design.cluster.num_chips, per_chip)
