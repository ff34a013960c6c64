"""What a workload asks of each level of memory, and what the machine gives."""

import flax.struct
import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Leaf

LEVELS = ("array", "sram", "hbm", "link", "network", "storage")
"""Fields of `MemoryBalance` that are levels, from the multipliers outward."""


@flax.struct.dataclass
class TrafficBound:
    """Bytes that must cross the edge of a fast memory, whatever the schedule."""

    compulsory_bytes: Leaf
    """Every operand once: what remains where the fast memory holds everything."""
    copies_bytes: Leaf
    """Every operand as often as engines with memories of their own, and as much work each, need
    it; 0 for one memory."""
    pebble_bytes: Leaf
    """Red-blue pebble game; 0 where the fast memory is too large for it to say anything."""

    @property
    def bytes(self) -> Leaf:
        """The highest: all hold."""
        return jnp.maximum(jnp.maximum(self.compulsory_bytes, self.copies_bytes), self.pebble_bytes)


@flax.struct.dataclass
class LevelBalance:
    """One level of one chip: bytes of a step, and bytes per flop needed and provided."""

    step_bytes: Leaf
    """Of a step and chip; the storage's are its share of a checkpoint, spread over the steps."""
    bandwidth_bytes_per_s: Leaf
    """Sustained, of one chip."""
    required_bytes_per_flop: Leaf
    """Of the workload: bytes over matrix flop of a step."""
    available_bytes_per_flop: Leaf
    """Of the machine: bandwidth over the rate of large matrix products."""
    demand_ratio: Leaf
    """Needed over provided: time of the level over time of the matrix engines. Over 1 the engines
    wait, as far as nothing hides it."""
    intensity_flop_per_byte: Leaf
    """Flops for which a byte is used; 0 where no byte moves."""
    balanced_bandwidth_bytes_per_s: Leaf
    """Printed bandwidth at which the ratio is 1, all else equal."""
    step_time_elasticity: Leaf
    """Change of the step time in percent for 1 % more bandwidth."""
    token_time_elasticity: Leaf
    """The same of wall time for a useful token, checkpoints and failures included."""


@flax.struct.dataclass
class MemoryBalance:
    """All levels of a design under a workload, and its HBM traffic beside the bound."""

    array: LevelBalance
    """Operands handed to the multipliers; an array provides them by construction."""
    sram: LevelBalance
    hbm: LevelBalance
    link: LevelBalance
    network: LevelBalance
    storage: LevelBalance
    flop: Leaf
    """Matrix flop of a step and chip, recompute included."""
    flop_per_s: Leaf
    """Rate that large products of the mix of formats reach."""
    gemm_bytes: Leaf
    """HBM bytes of matrix products alone, which the bound is for."""
    bound: TrafficBound
    """Of the same products with the chip's SRAM as one memory; each row's own, summed."""
    bound_bytes: Leaf
    """The highest bound of each row, summed."""
    traffic_over_bound_ratio: Leaf
    """At least 1."""
    private_bound_bytes: Leaf
    """The same with the SRAM divided into the chip's scratchpads, each private to as much work."""
    traffic_over_private_bound_ratio: Leaf
    """At least 1: what a better mapping could save, without a change of the chip."""
    balanced_sram_bytes: Leaf
    """Least SRAM of the chip at which HBM keeps up with the matrix engines; infinite where no
    SRAM can do it, since what crosses at least once is too much."""
    sram_bytes_step_time_elasticity: Leaf
    """Change of the step time in percent for 1 % more SRAM capacity."""

    @property
    def demand_ratios(self) -> jax.Array:
        """The ratio of each of `LEVELS`, on a last axis."""
        ratios = [jnp.asarray(getattr(self, name).demand_ratio) for name in LEVELS]
        return jnp.stack(jnp.broadcast_arrays(*ratios), axis=-1)

    @property
    def bottleneck_level(self) -> jax.Array:
        """Place in `LEVELS` of the memory with the highest ratio; the array cannot be it."""
        return 1 + jnp.argmax(self.demand_ratios[..., 1:], axis=-1)


@flax.struct.dataclass
class OperandDelivery:
    """How the operands of a matrix product reach the multipliers: bytes and energy for one flop."""

    memory_bytes_per_flop: Leaf
    """Read or written in the SRAM next to the multipliers: scratchpad, L1."""
    register_bytes_per_flop: Leaf
    """Read or written in registers: of an element, or of a vector unit's register file."""
    hop_bytes_per_flop: Leaf
    """Handed from element to element."""
    memory_energy_j_per_flop: Leaf
    register_energy_j_per_flop: Leaf
    hop_energy_j_per_flop: Leaf

    @property
    def energy_j_per_flop(self) -> Leaf:
        """Of all three together; that of the multiplier is not in it."""
        return (
            self.memory_energy_j_per_flop
            + self.register_energy_j_per_flop
            + self.hop_energy_j_per_flop
        )


@flax.struct.dataclass
class DeliveryComparison:
    """The same multipliers fed in three ways."""

    systolic: OperandDelivery
    """The array: a word read once serves a row or a column of elements."""
    simd: OperandDelivery
    """Vector units: a block of sums in registers, no hand-over."""
    unshared: OperandDelivery
    """Every multiply-accumulate reads both operands from the SRAM, sums stay in a register."""
