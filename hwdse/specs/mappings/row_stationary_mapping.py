"""Row-stationary mapping of a convolution onto a PE array: the parameters of Eyeriss."""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class RowStationaryMapping:
    """Row-stationary mapping of a convolution. Letters are those of the Eyeriss paper.

    A set of `filter_rows` x `strip` PEs computes one 2-D convolution: each PE keeps a row of a
    filter and slides a row of the input past it; partial sums move up the column. The array holds
    `channel_sets` x `filter_sets` sets at once, for different channels and filters. Each PE
    interleaves `filters` x `channels`. One pass uses `channels * channel_sets` channels of
    `filters * filter_sets` filters. The global buffer accumulates sums of `buffered_filters`
    filters and `buffered_images` images.
    """

    filter_rows: Leaf
    """Filter rows per set: R, at most the rows of the array."""
    strip: Leaf
    """Output rows per set (e)."""
    channel_sets: Leaf
    """Sets on different channels (r)."""
    filter_sets: Leaf
    """Sets on different filters (t)."""
    filters: Leaf
    """Filters interleaved per PE (p)."""
    channels: Leaf
    """Channels interleaved per PE (q)."""
    buffered_filters: Leaf
    """Filters with sums in the global buffer (m)."""
    buffered_images: Leaf
    """Images with sums in the global buffer (n)."""

    @property
    def num_active(self) -> Leaf:
        """Active PEs of the array."""
        return self.filter_rows * self.strip * self.channel_sets * self.filter_sets
