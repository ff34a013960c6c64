"""DRAM words of SCALE-Sim 3.0.0 for one layer without stalls (CALC).

Used for comparisons only: integers per layer, without a gradient. The read buffer of SCALE-Sim
loads half of its SRAM in distinct words and then discards all of them. Traffic is therefore a step
function of the operand size. One word is one element.
Source: the code of SCALE-Sim 3.0.0 (MIT), file names in the docstrings.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from hwdse.models.compute.systolic import FOLDS
from hwdse.numerics.relaxation import EXACT
from hwdse.specs.hardware.chip import SystolicArray
from hwdse.workload.gemms import Gemms
from hwdse.workload.loops.conv_shapes import ConvShape


@dataclass(frozen=True)
class Layer:
    """One run of SCALE-Sim in integers: a layer, an array, three SRAM sizes (KiB)."""

    shape: ConvShape
    dataflow: str
    rows: int
    cols: int
    ifmap_kib: int
    filter_kib: int
    ofmap_kib: int

    @property
    def gemm_size(self) -> tuple[int, int, int]:
        """Extents (m, k, n), the output size rounded up."""
        return self.shape.gemm_size("ceil")


def half_buffer_words(sram_kib: int) -> int:
    """Words in the active half of an SRAM: 50 blocks of 1 % of the capacity, rounded down."""
    return 50 * (1024 * sram_kib // 100)


def swept_words(num_distinct: int, num_sweeps: int, buffer_words: int) -> int:
    """DRAM words of an operand read `num_sweeps` times in the same order.

    The buffer loads `buffer_words` distinct words and then discards all of them, so an operand
    of at least that size misses completely in every sweep.
    Source: `memory/read_buffer_estimate_bw.py`.
    """
    return num_distinct if num_distinct < buffer_words else num_sweeps * num_distinct


def striped_words(stripes: Iterator[int], num_sweeps: int, buffer_words: int) -> int:
    """DRAM words of stripes that share a buffer, each swept `num_sweeps` times before the next.

    `held` counts the words loaded since the buffer was last emptied. A stripe smaller than the
    buffer that is interrupted by the emptying is read again up to that word. A stripe of at least
    the buffer size misses in every sweep.
    """
    words = held = 0
    for stripe in stripes:
        if stripe >= buffer_words:
            words += num_sweeps * stripe
            held = (held + num_sweeps * stripe) % buffer_words
        elif held + stripe < buffer_words:
            words += stripe
            held += stripe
        else:
            tail = held + stripe - buffer_words
            is_repeated = num_sweeps > 1
            words += stripe + (stripe - tail if is_repeated else 0)
            held = stripe if is_repeated else tail
    return words


def _covered(extent: int, window: int, stride: int, num_windows: int) -> int:
    """Number of distinct rows (or columns) of an image covered by the windows."""
    if stride <= window:
        return min(extent, (num_windows - 1) * stride + window)
    in_range = (min(window, extent - i * stride) for i in range(num_windows))
    return sum(max(words, 0) for words in in_range)


def distinct_ifmap_words(shape: ConvShape) -> int:
    """Number of image elements covered by the windows, with the output size rounded up."""
    rows, cols = shape.output_size("ceil")
    covered_rows = _covered(shape.ifmap_height, shape.filter_height, shape.stride_height, rows)
    covered_cols = _covered(shape.ifmap_width, shape.filter_width, shape.stride_width, cols)
    return covered_rows * covered_cols * shape.channels


def _windows_overlap(shape: ConvShape) -> bool:
    rows, cols = shape.output_size("ceil")
    over_rows = rows > 1 and shape.stride_height < shape.filter_height
    return over_rows or (cols > 1 and shape.stride_width < shape.filter_width)


def ifmap_addresses(shape: ConvShape) -> np.ndarray:
    """Address of each element of the unrolled image, m x k; -1 outside the image.

    Source: `compute/operand_matrix.py`, `calc_ifmap_elem_addr`.
    """
    rows, cols = shape.output_size("ceil")
    row = np.arange(rows)[:, None] * shape.stride_height + np.arange(shape.filter_height)
    col = np.arange(cols)[:, None] * shape.stride_width + np.arange(shape.filter_width)
    row, col = row[:, None, :, None, None], col[None, :, None, :, None]
    is_inside = (row < shape.ifmap_height) & (col < shape.ifmap_width)
    channel = np.arange(shape.channels)
    address = (row * shape.ifmap_width + col) * shape.channels + channel
    return np.where(is_inside, address, -1).reshape(rows * cols, -1)


def _skewed(block: np.ndarray) -> np.ndarray:
    """Elements of a time x rows block in the order of the skewed array requests."""
    num_cycles, num_rows = block.shape
    demand = np.full((num_cycles + num_rows - 1, num_rows), -1)
    for row in range(num_rows):
        demand[row : row + num_cycles, row] = block[:, row]
    return demand.ravel()


def _ordered_by_output(addresses: np.ndarray, rows: int, cols: int) -> Iterator[np.ndarray]:
    for start in range(0, addresses.shape[0], rows):
        yield _skewed(addresses[start : start + rows].T)


def _ordered_by_weight(addresses: np.ndarray, rows: int, cols: int) -> Iterator[np.ndarray]:
    for start in range(0, addresses.shape[1], rows):
        yield _skewed(addresses[:, start : start + rows])


def _ordered_by_input(addresses: np.ndarray, rows: int, cols: int) -> Iterator[np.ndarray]:
    for col in range(0, addresses.shape[0], cols):
        for row in range(0, addresses.shape[1], rows):
            yield addresses[col : col + cols, row : row + rows].T[::-1].ravel()


DEMAND_ORDERS: Mapping[str, Callable[[np.ndarray, int, int], Iterator[np.ndarray]]] = (
    MappingProxyType(
        {
            "output_stationary": _ordered_by_output,
            "weight_stationary": _ordered_by_weight,
            "input_stationary": _ordered_by_input,
        }
    )
)
"""Order of one sweep over the unrolled image, per fold, as in SCALE-Sim's demand matrices."""


def replayed_words(demand: np.ndarray, num_sweeps: int, buffer_words: int) -> int:
    """DRAM words of a demand order read `num_sweeps` times through a buffer that empties when full.

    Processes the order in chunks. The first request of a word outside the buffer is a new word.
    If the new words fill the buffer, it is emptied, and the next chunk begins after that request.
    """
    is_held = np.zeros(int(demand.max()) + 1, dtype=bool)
    first_index = np.zeros(len(is_held), dtype=np.int64)
    words = held = 0
    for _ in range(num_sweeps):
        start = 0
        while start < len(demand):
            chunk = demand[start : start + buffer_words]
            index = np.arange(len(chunk))
            first_index[chunk[::-1]] = index[::-1]  # of repeated addresses the last write stays
            is_new = ~is_held[chunk] & (first_index[chunk] == index)
            num_new = np.cumsum(is_new)
            room = buffer_words - held
            if num_new[-1] < room:
                is_held[chunk] = True
                held += int(num_new[-1])
                words += int(num_new[-1])
                start += len(chunk)
            else:
                is_held[:] = False
                held = 0
                words += room
                start += int(np.searchsorted(num_new, room)) + 1
    return words


def _num_passes(layer: Layer) -> tuple[int, int, int]:
    """Integer numbers of passes over ifmap, filter and ofmap, from `models/compute/systolic.py`."""
    m, k, n = (float(extent) for extent in layer.gemm_size)
    gemms = Gemms(m, k, n, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0)
    array = SystolicArray(float(layer.rows), float(layer.cols), 1.0, 1.0, dataflow=layer.dataflow)
    folds = FOLDS[layer.dataflow](gemms, array, EXACT)
    return int(folds.a_passes), int(folds.b_passes), int(folds.c_passes)


def dram_ifmap_words(layer: Layer) -> int:
    """`DRAM IFMAP Reads` without stalls: swept, or replayed if overlapping windows spill."""
    num_sweeps = _num_passes(layer)[0]
    buffer_words = half_buffer_words(layer.ifmap_kib)
    num_distinct = distinct_ifmap_words(layer.shape)
    if num_distinct < buffer_words or not _windows_overlap(layer.shape):
        return swept_words(num_distinct, num_sweeps, buffer_words)
    order = DEMAND_ORDERS[layer.dataflow]
    demand = np.concatenate(list(order(ifmap_addresses(layer.shape), layer.rows, layer.cols)))
    return replayed_words(demand[demand >= 0], num_sweeps, buffer_words)


def dram_filter_words(layer: Layer) -> int:
    """`DRAM Filter Reads` without stalls.

    Output stationary reads the filters in stripes of `cols`, each swept once per row fold. The
    other dataflows sweep all filters.
    """
    _, k, n = layer.gemm_size
    return FILTER_ORDERS[layer.dataflow](k, n, layer)


def _filter_in_stripes(k: int, n: int, layer: Layer) -> int:
    stripes = (k * min(layer.cols, n - start) for start in range(0, n, layer.cols))
    return striped_words(stripes, _num_passes(layer)[1], half_buffer_words(layer.filter_kib))


def _filter_in_sweeps(k: int, n: int, layer: Layer) -> int:
    return swept_words(k * n, _num_passes(layer)[1], half_buffer_words(layer.filter_kib))


FILTER_ORDERS: Mapping[str, Callable[[int, int, Layer], int]] = MappingProxyType(
    {
        "output_stationary": _filter_in_stripes,
        "weight_stationary": _filter_in_sweeps,
        "input_stationary": _filter_in_sweeps,
    }
)
"""DRAM words of a k x n filter, by the request order of the dataflow."""


def dram_ofmap_words(layer: Layer) -> int:
    """`DRAM OFMAP Writes` without stalls: every partial sum, and C - 1 words of padding.

    The padding is counted once if C divides half the SRAM and that half was filled.
    Source: `memory/write_buffer.py`.
    """
    m, _, n = layer.gemm_size
    written = m * n * _num_passes(layer)[2]
    half_words = 512 * layer.ofmap_kib
    is_padded = half_words % layer.cols == 0 and written >= half_words + 2
    return written + (layer.cols - 1 if is_padded else 0)
