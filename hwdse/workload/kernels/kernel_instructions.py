"""Trainium kernel as stages of TensorE work, lane instructions and DMA transfers."""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf

FORMAT_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "tf32": 4.0, "fp8": 1.0, "mx": 1.0}
"""Bytes of one element by format; `mx` without its scales."""


@struct.dataclass
class MatmulWork:
    """Equal matmul instructions of TensorE."""

    count: Leaf
    """Instructions."""
    contraction: Leaf
    """Rows contracted per instruction."""
    stationary: Leaf
    """Columns of the stationary tile."""
    moving: Leaf
    """Columns of the moving tile."""
    kind: str = struct.field(pytree_node=False)
    """"matmul"; "sparse", with structured sparsity; "transpose"; "broadcast"."""
    format: str = struct.field(pytree_node=False)
    """Number format: a key of `FORMAT_BYTES`."""
    is_model_flop: bool = struct.field(pytree_node=False)
    """True if it counts as model FLOP, false if it only moves data."""


@struct.dataclass
class LaneWork:
    """Equal instructions of a lane engine."""

    count: Leaf
    """Instructions."""
    elements: Leaf
    """Elements per partition and instruction."""
    engine: str = struct.field(pytree_node=False)
    """"vector", "scalar" or "gpsimd"."""
    operation: str = struct.field(pytree_node=False)
    """Key of `models.compute.neuron_engines.LANE_CYCLES`."""
    format: str = struct.field(pytree_node=False)
    """Number format: a key of `FORMAT_BYTES`."""
    in_psum: bool = struct.field(pytree_node=False)
    """True if an operand is in PSUM."""


@struct.dataclass
class Transfer:
    """DMA transfer between HBM and SBUF."""

    total_bytes: Leaf
    """Bytes transferred."""
    row_bytes: Leaf
    """Bytes per row that is contiguous on both sides."""
    is_write: bool = struct.field(pytree_node=False)
    """True for SBUF to HBM."""
    is_transpose: bool = struct.field(pytree_node=False)
    """True for a transposing copy."""


@struct.dataclass
class KernelStage:
    """Work that the engines overlap; the next stage depends on all of its results."""

    matmul_work: tuple[MatmulWork, ...]
    """Instructions of TensorE."""
    lane_work: tuple[LaneWork, ...]
    """Instructions of the lane engines."""
    transfers: tuple[Transfer, ...]
    """DMA transfers."""
    num_waits: Leaf = 0.0
    """Instructions that wait for the result of another engine."""


@struct.dataclass
class Kernel:
    """Kernel as a sequence of stages."""

    stages: tuple[KernelStage, ...]
    """Stages in order of execution."""
