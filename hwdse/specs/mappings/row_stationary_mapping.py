"""How a convolution is laid on an array by rows: the parameters of Eyeriss."""

import flax.struct

from hwdse.numerics.array_types import Leaf


@flax.struct.dataclass
class RowStationaryMapping:
    """Row-stationary mapping of a convolution. Letters are those of the paper.

    A set of `filter_rows` x `strip` elements makes one 2-D convolution: each element keeps a row
    of a filter and slides a row of the input past it, sums go up the column. The array holds
    `channel_sets` x `filter_sets` of them at once, for different channels and filters; each
    element interleaves `filters` x `channels`. One such pass uses `channels * channel_sets`
    channels of `filters * filter_sets` filters, and sums collect in the global buffer for
    `buffered_filters` filters of `buffered_images` images.
    """

    filter_rows: Leaf
    """R, or as many as the array has rows."""
    strip: Leaf
    """Output rows at once, e."""
    channel_sets: Leaf
    """r."""
    filter_sets: Leaf
    """t."""
    filters: Leaf
    """p, of an element."""
    channels: Leaf
    """q, of an element."""
    buffered_filters: Leaf
    """m."""
    buffered_images: Leaf
    """n."""

    @property
    def num_active(self) -> Leaf:
        """Elements of the array with work."""
        return self.filter_rows * self.strip * self.channel_sets * self.filter_sets
