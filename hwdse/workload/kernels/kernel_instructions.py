"""A kernel as its engines see it: products, lane instructions and transfers, in stages."""

import flax.struct

from hwdse.numerics.array_types import Leaf

FORMAT_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "tf32": 4.0, "fp8": 1.0, "mx": 1.0}
"""Bytes of one element by format; `mx` without its scales."""


@flax.struct.dataclass
class MatmulWork:
    """Equal instructions of TensorE: `stationary` x `moving` columns over `contraction` rows."""

    count: Leaf
    contraction: Leaf
    stationary: Leaf
    moving: Leaf
    kind: str = flax.struct.field(pytree_node=False)
    """"matmul"; "sparse", a product of structured sparsity; "transpose"; "broadcast"."""
    format: str = flax.struct.field(pytree_node=False)
    is_model_flop: bool = flax.struct.field(pytree_node=False)
    """Whether its products are asked for, or only move data."""


@flax.struct.dataclass
class LaneWork:
    """Equal instructions of a lane engine, of `elements` a partition each."""

    count: Leaf
    elements: Leaf
    engine: str = flax.struct.field(pytree_node=False)
    """"vector", "scalar" or "gpsimd"."""
    operation: str = flax.struct.field(pytree_node=False)
    """A key of `models.engine.LANE_CYCLES`."""
    format: str = flax.struct.field(pytree_node=False)
    in_psum: bool = flax.struct.field(pytree_node=False)
    """Whether an operand stands in PSUM."""


@flax.struct.dataclass
class Transfer:
    """Bytes between HBM and SBUF, in rows of `row_bytes` that are contiguous on both sides."""

    total_bytes: Leaf
    row_bytes: Leaf
    is_write: bool = flax.struct.field(pytree_node=False)
    is_transpose: bool = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class KernelStage:
    """Work that the engines do side by side; the next stage needs all of its results.

    `num_waits` counts the instructions that wait for the result of another engine.
    """

    matmul_work: tuple[MatmulWork, ...]
    lane_work: tuple[LaneWork, ...]
    transfers: tuple[Transfer, ...]
    num_waits: Leaf = 0.0


@flax.struct.dataclass
class Kernel:
    """Stages one after another."""

    stages: tuple[KernelStage, ...]
