"""Required and available bandwidth of every memory level, HBM traffic bounds, operand delivery."""

import jax
import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf

LEVELS = ("array", "sram", "hbm", "link", "network", "storage")
"""Fields of `MemoryBalance` that are levels, from the MAC array outward."""


@struct.dataclass
class TrafficBound:
    """Lower bounds on the traffic of a fast memory, for any schedule."""

    compulsory_bytes: Leaf
    """Each operand once: the bound for an unlimited fast memory."""
    copies_bytes: Leaf
    """Each operand once per engine that needs it, for engines with private memories and equal work;
    0 for one memory."""
    pebble_bytes: Leaf
    """Red-blue pebble game bound; 0 if the fast memory is too large for a positive bound."""

    @property
    def bytes(self) -> Leaf:
        """Largest of the bounds, which all apply."""
        return jnp.maximum(jnp.maximum(self.compulsory_bytes, self.copies_bytes), self.pebble_bytes)


@struct.dataclass
class LevelBalance:
    """Traffic of one memory level per step and chip, with required and available bytes per FLOP."""

    step_bytes: Leaf
    """Traffic per step and chip. Of storage: the chip's share of a checkpoint, per step."""
    bandwidth_bytes_per_s: Leaf
    """Sustained bandwidth per chip."""
    required_bytes_per_flop: Leaf
    """Traffic over matrix FLOP of a step: a property of the workload and its mapping."""
    available_bytes_per_flop: Leaf
    """Bandwidth over the rate of large GEMMs: machine balance."""
    demand_ratio: Leaf
    """Required over available: time of the level over time of the matrix engines. Above 1 the level
    limits the matrix engines unless it is overlapped."""
    intensity_flop_per_byte: Leaf
    """Arithmetic intensity: FLOP per byte; 0 without traffic."""
    balanced_bandwidth_bytes_per_s: Leaf
    """Peak bandwidth at which the demand ratio is 1, other parameters fixed."""
    step_time_elasticity: Leaf
    """Relative change of the step time per relative change of the bandwidth."""
    token_time_elasticity: Leaf
    """Elasticity of the wall time per effective token, checkpoints and failures included."""


@struct.dataclass
class MemoryBalance:
    """Balance of all memory levels of a design under a workload, and HBM traffic over its bound."""

    array: LevelBalance
    """Operands delivered to the MAC units; the array supplies them by construction."""
    sram: LevelBalance
    """On-chip scratchpads."""
    hbm: LevelBalance
    """HBM."""
    link: LevelBalance
    """Scale-up fabric."""
    network: LevelBalance
    """Scale-out network."""
    storage: LevelBalance
    """Remote checkpoint storage."""
    flop: Leaf
    """Matrix FLOP per step and chip, recomputation included."""
    flop_per_s: Leaf
    """Sustained rate of large GEMMs in the mix of formats."""
    gemm_bytes: Leaf
    """HBM traffic of GEMMs only, to which the bound applies."""
    bound: TrafficBound
    """Bounds of these GEMMs with the SRAM of the chip as one memory, summed over operators."""
    bound_bytes: Leaf
    """Largest bound of each operator, summed over operators."""
    traffic_over_bound_ratio: Leaf
    """HBM traffic of GEMMs over `bound_bytes`, at least 1."""
    private_bound_bytes: Leaf
    """Bound with the SRAM divided into private scratchpads of equal work."""
    traffic_over_private_bound_ratio: Leaf
    """HBM traffic of GEMMs over `private_bound_bytes`, at least 1. The excess is the traffic that a
    better mapping can save on the same chip."""
    balanced_sram_bytes: Leaf
    """Smallest SRAM at which HBM does not limit the matrix engines; infinite if the compulsory
    traffic exceeds the bandwidth."""
    sram_bytes_step_time_elasticity: Leaf
    """Elasticity of the step time with respect to the SRAM capacity."""

    @property
    def demand_ratios(self) -> jax.Array:
        """Demand ratio of each of `LEVELS`, on the last axis."""
        ratios = [jnp.asarray(getattr(self, name).demand_ratio) for name in LEVELS]
        return jnp.stack(jnp.broadcast_arrays(*ratios), axis=-1)

    @property
    def bottleneck_level(self) -> jax.Array:
        """Index into `LEVELS` of the level with the highest demand ratio, the array excluded."""
        return 1 + jnp.argmax(self.demand_ratios[..., 1:], axis=-1)


@struct.dataclass
class OperandDelivery:
    """Operand delivery to the MAC units: bytes and energy per FLOP of a GEMM."""

    memory_bytes_per_flop: Leaf
    """Accesses of the SRAM next to the MAC units: scratchpad, L1."""
    register_bytes_per_flop: Leaf
    """Register accesses: of a PE, or of the register file of a vector unit."""
    hop_bytes_per_flop: Leaf
    """Transfers between PEs."""
    memory_energy_j_per_flop: Leaf
    """Energy of the SRAM accesses."""
    register_energy_j_per_flop: Leaf
    """Energy of the register accesses."""
    hop_energy_j_per_flop: Leaf
    """Energy of the transfers between PEs."""

    @property
    def energy_j_per_flop(self) -> Leaf:
        """Total delivery energy, without the energy of the MAC units."""
        return (
            self.memory_energy_j_per_flop
            + self.register_energy_j_per_flop
            + self.hop_energy_j_per_flop
        )


@struct.dataclass
class DeliveryComparison:
    """Operand delivery to equal MAC units in three organizations."""

    systolic: OperandDelivery
    """Systolic array: a word read once is used by a row or column of PEs."""
    simd: OperandDelivery
    """Vector units: a block of sums in registers, no transfers between lanes."""
    unshared: OperandDelivery
    """No sharing: each multiply-accumulate reads both operands from SRAM, sums stay in a
    register."""
