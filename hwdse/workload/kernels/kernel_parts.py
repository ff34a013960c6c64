"""Components of Trainium kernels: matmul instructions, lane instructions, DMA transfers."""

import jax.numpy as jnp

from hwdse.numerics.array_types import PerOp
from hwdse.numerics.relaxation import num_tiles, positive_part
from hwdse.specs.hardware.neuron_core import ROW_RATIOS, NeuronCore
from hwdse.workload.kernels.kernel_instructions import FORMAT_BYTES, LaneWork, MatmulWork, Transfer

PARTITIONS = 128.0
"""Partitions of SBUF and PSUM in every generation."""
BANK = 512.0
"""Tile width of the published kernels in columns: FP32 elements of a PSUM bank."""
BLOCK = 1024.0
"""Block width of compiled kernels in columns: two PSUM banks."""


def matmul_work(
    m: PerOp, k: PerOp, n: PerOp, format_name: str, core: NeuronCore, *, count: PerOp = 1.0
) -> MatmulWork:
    """`count` GEMMs C[m,n] = A[m,k] B[k,n] in full tiles, A stationary."""
    tensor, bank = core.tensor, core.tensor.psum_bank_elements
    ratio = getattr(tensor, ROW_RATIOS[format_name]) if format_name in ROW_RATIOS else 1.0
    rows = tensor.rows * ratio
    tiles = num_tiles(m, tensor.cols) * num_tiles(k, rows) * num_tiles(n, bank)
    return MatmulWork(
        count=count * tiles,
        contraction=jnp.minimum(k, rows),
        stationary=jnp.minimum(m, tensor.cols),
        moving=jnp.minimum(n, bank),
        kind="matmul",
        format=format_name,
        is_model_flop=True,
    )


def transposes(
    rows: PerOp, columns: PerOp, format_name: str, core: NeuronCore, *, count: PerOp = 1.0
) -> MatmulWork:
    """`count` transposes of a matrix on TensorE: its tiles stationary, the identity moving."""
    tensor = core.tensor
    return MatmulWork(
        count=count * num_tiles(rows, tensor.rows) * num_tiles(columns, tensor.cols),
        contraction=jnp.minimum(rows, tensor.rows),
        stationary=jnp.minimum(columns, tensor.cols),
        moving=tensor.rows + 0.0 * columns,
        kind="transpose",
        format=format_name,
        is_model_flop=False,
    )


def broadcasts(columns: PerOp, format_name: str, *, count: PerOp = 1.0) -> MatmulWork:
    """`count` rows of `columns` broadcast over all partitions by a matmul with ones."""
    return MatmulWork(
        count=count * num_tiles(columns, BANK),
        contraction=1.0 + 0.0 * columns,
        stationary=PARTITIONS + 0.0 * columns,
        moving=jnp.minimum(columns, BANK),
        kind="broadcast",
        format=format_name,
        is_model_flop=False,
    )


def lane_work(
    engine: str,
    operation: str,
    total: PerOp,
    tile: PerOp = BANK,
    *,
    format_name: str = "fp32",
    in_psum: bool = False,
) -> LaneWork:
    """Instructions of `tile` elements per partition that cover `total` elements per partition."""
    return LaneWork(
        count=total / tile,
        elements=tile,
        engine=engine,
        operation=operation,
        format=format_name,
        in_psum=in_psum,
    )


def load(elements: PerOp, row_elements: PerOp, format_name: str, times: PerOp = 1.0) -> Transfer:
    """Load of a tensor from HBM `times` times, in rows of contiguous elements."""
    size = FORMAT_BYTES[format_name]
    return Transfer(times * elements * size, row_elements * size, False, False)


def store(elements: PerOp, row_elements: PerOp, format_name: str, times: PerOp = 1.0) -> Transfer:
    """Store of a tensor to HBM."""
    size = FORMAT_BYTES[format_name]
    return Transfer(times * elements * size, row_elements * size, True, False)


def block_row(columns: PerOp) -> PerOp:
    """Contiguous elements per row loaded in equal blocks of at most `BLOCK`."""
    return columns / num_tiles(columns, BLOCK)


def usable_bytes(core: NeuronCore) -> PerOp:
    """SBUF capacity for tensors kept for reuse."""
    return core.sbuf.capacity_bytes * core.sbuf.usable_fraction


def loads_of(kept_bytes: PerOp, num_uses: PerOp, core: NeuronCore) -> PerOp:
    """Loads of a block: 1 if it fits in SBUF, otherwise one per use."""
    return jnp.where(kept_bytes <= usable_bytes(core), 1.0, num_uses)


def spilled_elements(elements: PerOp, format_name: str, core: NeuronCore) -> PerOp:
    """Elements of an intermediate tensor beyond the SBUF capacity: spilled and read back."""
    size = FORMAT_BYTES[format_name]
    return positive_part(elements * size - usable_bytes(core)) / size
