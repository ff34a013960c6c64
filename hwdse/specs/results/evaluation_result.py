"""What comes out of `system.evaluate`: times, bytes, joules, areas and money, with breakdowns."""

import flax.struct

from hwdse.numerics.array_types import Leaf


@flax.struct.dataclass
class TimeParts:
    """Seconds of one step by what they wait for; the parts add up to `step_time_s`.

    Each operator's time goes to the resource that bounds it.
    """

    matrix: Leaf
    vector: Leaf
    sram: Leaf
    hbm: Leaf
    launch: Leaf
    host: Leaf
    """Waiting for the host to issue kernels, and its work once a step."""
    fp64: Leaf
    tensor_comm: Leaf
    context_comm: Leaf
    expert_comm: Leaf
    pipeline_comm: Leaf
    data_comm: Leaf
    bubble: Leaf
    optimizer: Leaf


@flax.struct.dataclass
class EnergyParts:
    """Joules of one step over all chips; the parts add up to `step_energy_j`."""

    matrix: Leaf
    fp64: Leaf
    vector: Leaf
    sram: Leaf
    hbm: Leaf
    link: Leaf
    network: Leaf
    static: Leaf


@flax.struct.dataclass
class AreaParts:
    """Square millimetres of silicon of one chip, all its compute dies; add to `die_area_mm2`."""

    matrix: Leaf
    fp64: Leaf
    vector: Leaf
    sram: Leaf
    hbm_phy: Leaf
    link_phy: Leaf
    other: Leaf


@flax.struct.dataclass
class MemoryParts:
    """Bytes held in the HBM of the fullest chip; over the capacity they give `hbm_used_ratio`."""

    weights: Leaf
    gradients: Leaf
    optimizer: Leaf
    activations: Leaf
    buffers: Leaf
    """Gradients on their way, logits, weights gathered for use."""


@flax.struct.dataclass
class Evaluation:
    """One design running one workload. All fields are scalars (arrays under `vmap`)."""

    time: TimeParts
    energy: EnergyParts
    area: AreaParts
    hbm: MemoryParts
    step_time_s: Leaf
    """One optimizer step (training) or one pass (layer list), without failures."""
    step_energy_j: Leaf
    tokens_per_step: Leaf
    """Tokens of a step; for a layer list the passes, one a chip, so that
    per-token figures are per pass."""
    mfu_fraction: Leaf
    """Model FLOP (no recompute) over step time and peak of the matrix engines: MFU."""
    goodput_fraction: Leaf
    """Useful work over wall time, after failures, restarts and checkpoints."""
    checkpoint_write_time_s: Leaf
    optimal_checkpoint_interval_s: Leaf
    effective_tokens_per_s: Leaf
    time_per_token_s: Leaf
    """Wall seconds of the whole cluster for one useful token."""
    energy_per_token_j: Leaf
    """Facility-independent chip energy for one useful token."""
    chip_power_w: Leaf
    """Mean power of one chip during a step."""
    die_area_mm2: Leaf
    chip_cost_usd: Leaf
    cost_per_token_usd: Leaf
    hbm_used_ratio: Leaf
    """Over 1 the design does not fit, by that factor. Of a core the largest share that any
    operator needs of any of its memories."""
    hbm_traffic_bytes: Leaf
    """HBM traffic of one step and chip."""
    hardware_flop: Leaf
    """Matrix FLOP of one step and chip, recompute included."""
    peak_flop_per_s: Leaf
    """16-bit peak of one chip's matrix engines, at the clock that the design states."""
    throttled_clock_ratio: Leaf = 1.0
    """Clock that the chip's power limit leaves, over the stated one."""
    reticle_used_ratio: Leaf = 0.0
    """One die over the field of a scanner, 858 mm2; over 1 it cannot be made."""
    chip_operating_cost_usd_per_s: Leaf = 0.0
    """Capital with its server, and electricity, of one chip in use."""
    chip_carbon_g: Leaf = 0.0
    """CO2 equivalent of making one accelerator package."""
    carbon_per_token_g: Leaf = 0.0
    """CO2 equivalent of one useful token: what was made, written off, and electricity."""
