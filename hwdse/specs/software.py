"""Training software stack: host overhead, kernel fusion and granularity of collectives."""

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf


@struct.dataclass
class Software:
    """Training software stack.

    The defaults describe a program compiled ahead of time with fused kernels and concurrent
    engines: only the hardware limits the step time. All fields are optional in TOML.
    """

    dispatch_time_s: Leaf = 0.0
    """Host time to issue the forward pass of one layer; the backward pass takes as long again.
    Kernels shorter than this time wait. Typical: 0 s (compiled graph), 1.58 ms (Megatron Core,
    fitted)."""
    expert_sync_s: Leaf = 0.0
    """Time per MoE layer and forward pass in which a chip waits for its host to read the tokens of
    each expert. Typical: 0 s (fixed shapes, counts stay on the chip), 3 ms (dropless, all-to-all of
    NCCL, fitted)."""
    dispatch_spread_ratio: Leaf = 0.0
    """Relative delay of the slowest host of a tensor-parallel group, per doubling of the group.
    Typical: 0.055 (Megatron-DeepSpeed, fitted)."""
    fused_attention_fraction: Leaf = 1.0
    """Fraction of the attention with scores kept on chip; the others are written to HBM."""
    matrix_efficiency_fraction: Leaf = 1.0
    """Rate of the stack's products over that of the best ones of the chip
    (`chip.matrix_efficiency_fraction`): kernels, accumulation of weight gradients. Typical: 1."""
    attention_efficiency_fraction: Leaf = 1.0
    """Rate of the stack's fused attention kernel over that of the best one of the chip
    (`chip.attention_efficiency_fraction`). Typical: 1, 0.5 (FlashAttention-2 on H100, fitted)."""
    elementwise_traffic_ratio: Leaf = 1.0
    """HBM traffic of norms, activations and residuals over that of fully fused kernels. Typical:
    1.33 (Megatron-LM), up to 8 (Megatron Core, fitted)."""
    cast_traffic_ratio: Leaf = 0.0
    """HBM traffic to bring activations into FP8 or FP4, over that of separate casts of the inputs
    of all low-precision products. Typical: 0 (all fused into other kernels), 1 (none fused)."""
    elementwise_overlap_fraction: Leaf = 1.0
    """Fraction of the elementwise work that overlaps with GEMMs on separate engines. Typical: 1
    (Neuron), 0 (GPUs, one kernel at a time)."""
    num_elementwise_kernels: Leaf = 0.0
    """Elementwise kernels per layer and forward pass that do not overlap with GEMMs. Typical: 8
    (Megatron-LM)."""
    optimizer_traffic_ratio: Leaf = 1.0
    """HBM traffic of an optimizer update over its minimum: gradients and state read once, state and
    weights written once."""
    num_layer_messages: Leaf = 1.0
    """Messages per all-gather of the weights of one layer (ZeRO stage 3). Typical: 12 (DeepSpeed,
    one per tensor)."""
    gather_network_fraction: Leaf = 1.0
    """Fraction of a server's scale-out ports used by collectives of ZeRO stage 3: 1 if each rank
    uses its own port, 1 / 8 for one ring of eight ranks. Typical: 0.108 (DeepSpeed, fitted)."""
    num_tensor_slices: Leaf = 1.0
    """Slices of a GEMM whose tensor-parallel collectives overlap with the other slices. Typical: 1
    (collectives and GEMMs in turn), 4 (userbuffers of Transformer Engine)."""
    send_overlap_fraction: Leaf = 1.0
    """Fraction of the sends between pipeline stages that other work of a stage can hide. Typical: 1
    (sent by copy engines), 0 (stages wait for each send)."""
    data_overlap_fraction: Leaf = 1.0
    """Fraction of the data-parallel collectives that passes over other layers can hide. Typical: 1,
    or 0 (one reduction after the backward pass)."""
    expert_overlap_fraction: Leaf = 0.0
    """Fraction of the expert all-to-alls that the layers of another micro-batch can hide. Typical:
    0, or 1 (DualPipe, combined 1F1B)."""
    node_dispatch_fraction: Leaf = 0.0
    """Part of the expert all-to-alls that sends a token once to each scale-up domain, and there
    once to each rank. Typical: 0 (a message per expert: all-to-all of NCCL), 1 (DeepEP)."""
    collective_engine_fraction: Leaf = 0.0
    """Share of the matrix engines that a collective takes while it overlaps with products. Typical:
    0 (own DMA and collective engines), 0.15 (20 of 132 SMs; DeepSeek-V3, arXiv 2412.19437, 3.2.1).
    """
    low_precision_kept_fraction: Leaf = 0.0
    """Fraction of the GEMM inputs saved for the backward pass in the format of the GEMM, FP8 or
    FP4, rather than 16 bits. Typical: 0 (torchao), 1 (Transformer Engine)."""
    activation_input_bytes: Leaf = 2.0
    """Bytes per element of the saved inputs of activation functions. Typical: 2, or 1
    (`activation_func_fp8_input_store` of Megatron Core)."""
    num_loss_tiles: Leaf = 1.0
    """Parts of the tokens of a micro-batch for which LM head and loss run one after another, with
    the logits of one part in memory. Typical: 1, or 16 (`num_vocab_tiling` of MaxText)."""
    expert_output_kept_fraction: Leaf = 1.0
    """1: the outputs of the routed experts are saved for the gradient of their router weights. 0:
    the weights are applied before the last matrix, whose input is saved. Typical: 0 (Megatron Core
    since 0.12)."""
    step_overhead_s: Leaf = 0.0
    """Host work per step: batch, loss scaling, gradient clipping, metrics. Typical: 4.06 ms
    (Megatron-DeepSpeed, fitted)."""
    runtime_memory_bytes: Leaf = 2.0 * 2**30
    """HBM of the runtime on each chip, outside of the tensors: driver context and buffers of the
    communicators. Typical: 2 GiB, from 0.3 GB of a CUDA context (pytorch issue 107667) and 0.54 to
    0.69 GB for each NCCL communicator (nccl issue 964) of TP, PP and DP. Assumed for other
    stacks."""


COMPILED = Software()
"""Software stack compiled ahead of time, without host overhead."""
