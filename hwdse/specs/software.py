"""How a training stack runs kernels: host work, fusion, what its collectives wait for."""

import flax.struct

from hwdse.numerics.array_types import Leaf


@flax.struct.dataclass
class Software:
    """A training stack. The values here are those of a program compiled ahead of time, with fused
    kernels and engines that run side by side: nothing but the hardware costs time."""

    dispatch_time_s: Leaf = 0.0
    """Host time to issue one forward pass of one layer; a backward pass takes as long again and
    kernels wait for it where they are shorter. 0 where a graph is replayed."""
    dispatch_spread_ratio: Leaf = 0.0
    """By how much the slowest host of a tensor-parallel group is later, for each doubling of it."""
    fused_attention_fraction: Leaf = 1.0
    """Share of the attention that keeps its scores on chip; the rest writes them to memory."""
    elementwise_traffic_ratio: Leaf = 1.0
    """Memory traffic of norms, activations and residuals over that of fully fused kernels."""
    elementwise_overlap_fraction: Leaf = 1.0
    """Share of the elementwise work that runs beside the products (engines of their own)."""
    num_elementwise_kernels: Leaf = 0.0
    """Kernels of a layer's forward pass beside the products, where they run alone."""
    optimizer_traffic_ratio: Leaf = 1.0
    """Memory traffic of an update over reading gradients and state and writing state and weights
    once."""
    num_layer_messages: Leaf = 1.0
    """Messages in which the weights of a layer are gathered where they are cut over replicas."""
    gather_network_fraction: Leaf = 1.0
    """Share of a server's network ports that gathers and sums of such weights use: 1 where each
    rank sends through its own, 1 / 8 where one ring of eight ranks leaves a server once."""
    step_overhead_s: Leaf = 0.0
    """Host work once a step: batch, scaling check, clipping, metrics."""


COMPILED = Software()
