"""Time of a kernel on a NeuronCore: concurrent engines, sequential stages."""

import jax.numpy as jnp

from hwdse.models.compute.neuron_engines import (
    lane_cycles,
    matmul_cycles,
    passes,
    queued_transfer_time_s,
    sbuf_time_s,
    transpose_cycles,
)
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.numerics.relaxation import EXACT, Relaxation, maximum
from hwdse.specs.hardware.neuron_core import LaneEngine, NeuronCore
from hwdse.workload.kernels.kernel_instructions import (
    FORMAT_BYTES,
    Kernel,
    KernelStage,
    LaneWork,
    MatmulWork,
    Transfer,
)


@struct.dataclass
class KernelTimes:
    """Busy seconds of each engine, elapsed seconds, bytes and FLOP of a kernel.

    `..._active_s` is the active time of the Neuron profiler: every instruction counts until its
    results are written, although the next one starts earlier.
    """

    tensor_s: Leaf
    vector_s: Leaf
    scalar_s: Leaf
    gpsimd_s: Leaf
    dma_s: Leaf
    sbuf_s: Leaf
    vector_active_s: Leaf
    scalar_active_s: Leaf
    latency_s: Leaf
    read_bytes: Leaf
    written_bytes: Leaf
    model_flop: Leaf
    """Two FLOP per MAC of the matrix operation that the kernel computes."""
    hardware_flop: Leaf
    """FLOP counted by the Neuron profiler: all matmuls on TensorE, FP32 ones twice."""


def matmul_time_s(work: MatmulWork, core: NeuronCore) -> PerOp:
    """Time of matmul instructions on TensorE at the sustained rate of long sequences."""
    tensor = core.tensor
    if work.kind == "transpose":
        cycles = transpose_cycles(work.contraction, work.stationary, work.format, tensor)
    else:
        num_passes = passes(work.format, tensor, work.kind)
        cycles = matmul_cycles(work.stationary, work.moving, num_passes, tensor)
    return work.count * cycles / (tensor.clock_hz * tensor.sustained_fraction)


def lane_time_s(work: LaneWork, engine: LaneEngine) -> PerOp:
    """Time of lane instructions on their engine."""
    cycles = lane_cycles(
        work.operation,
        work.elements,
        engine,
        format_name=work.format,
        in_psum=work.in_psum,
    )
    return work.count * cycles / engine.clock_hz


def transfer_time_s(transfer: Transfer, core: NeuronCore) -> PerOp:
    """Time of a queued DMA transfer: packet time, or time at the HBM share of the core."""
    packets = queued_transfer_time_s(transfer.total_bytes, transfer.row_bytes, core.dma)
    if transfer.is_transpose:
        packets = packets / core.dma.transpose_fraction
    return jnp.maximum(packets, transfer.total_bytes / core.hbm_bandwidth_bytes_per_s)


def _lane_times(stage: KernelStage, core: NeuronCore) -> dict[str, PerOp]:
    """Busy time by engine, its part with an operand in PSUM, and access latency."""
    engines, parts = ("vector", "scalar", "gpsimd"), ("", "_psum", "_access")
    times: dict[str, PerOp] = {name + part: 0.0 for name in engines for part in parts}
    for work in stage.lane_work:
        engine = getattr(core, work.engine)
        busy_s, access = lane_time_s(work, engine), f"{work.engine}_access"
        times[work.engine] = times[work.engine] + busy_s
        times[access] = times[access] + work.count * engine.access_cycles / engine.clock_hz
        if work.in_psum:
            times[f"{work.engine}_psum"] = times[f"{work.engine}_psum"] + busy_s
    return times


def _shared(a: PerOp, b: PerOp, fraction: PerOp) -> PerOp:
    """Time of two engines if a fraction of the shorter busy time waits for the shared port."""
    return jnp.maximum(a, b) + fraction * jnp.minimum(a, b)


def _busiest(times: list[PerOp], relaxation: Relaxation) -> PerOp:
    """Maximum of several times, with the shape of their sum."""
    zeros = 0.0 * sum(times)
    longest = zeros + times[0]
    for time in times[1:]:
        longest = maximum(longest, zeros + time, relaxation)
    return longest


def _sbuf_bytes(stage: KernelStage, core: NeuronCore) -> PerOp:
    """Bytes that the engines read and write in SBUF; operands in PSUM are included."""
    total: PerOp = sum((t.total_bytes for t in stage.transfers), 0.0)
    for work in stage.lane_work:
        lanes = getattr(core, work.engine).lanes
        total = total + 2.0 * work.count * work.elements * lanes * FORMAT_BYTES[work.format]
    for work in stage.matmul_work:
        columns = work.stationary + work.moving
        moved = work.count * work.contraction * columns
        total = total + moved * FORMAT_BYTES[work.format]
    return total


def hardware_flop(work: MatmulWork, core: NeuronCore) -> PerOp:
    """FLOP as counted by the Neuron profiler: FP32 matmuls twice, unless an operand is 0 or 1."""
    weight = 2.0 if work.format == "fp32" and work.kind != "broadcast" else 1.0
    macs = work.count * work.contraction * work.stationary * work.moving
    return 2.0 * weight * macs


def stage_times(
    stage: KernelStage, core: NeuronCore, relaxation: Relaxation = EXACT
) -> KernelTimes:
    """Times of one stage: busy time of the busiest engine plus waits between engines.

    Assumes that the tiles of a stage keep all engines busy (double buffering). Engines with a
    common port to SBUF or PSUM (NeuronCore-v2) alternate on it. A wait is the overhead of a
    dependent instruction.
    """
    tensor_s: PerOp = sum((matmul_time_s(p, core) for p in stage.matmul_work), 0.0)
    dma_s: PerOp = sum((transfer_time_s(t, core) for t in stage.transfers), 0.0)
    lanes = _lane_times(stage, core)
    sbuf_s = sbuf_time_s(_sbuf_bytes(stage, core), core.sbuf)
    sbuf_port = _shared(lanes["vector"], lanes["gpsimd"], core.vector_gpsimd_fraction)
    psum_port = _shared(lanes["vector_psum"], lanes["scalar_psum"], core.vector_scalar_fraction)
    busiest = _busiest([tensor_s, dma_s, lanes["scalar"], sbuf_port, psum_port, sbuf_s], relaxation)
    waits = stage.num_waits * core.vector.dependent_cycles / core.vector.clock_hz
    written: PerOp = sum((t.total_bytes for t in stage.transfers if t.is_write), 0.0)
    moved: PerOp = sum((t.total_bytes for t in stage.transfers), 0.0)
    model_products = [p for p in stage.matmul_work if p.is_model_flop]
    return KernelTimes(
        tensor_s=tensor_s,
        vector_s=lanes["vector"],
        scalar_s=lanes["scalar"],
        gpsimd_s=lanes["gpsimd"],
        dma_s=dma_s,
        sbuf_s=sbuf_s,
        vector_active_s=jnp.minimum(lanes["vector"] + lanes["vector_access"], busiest + waits),
        scalar_active_s=jnp.minimum(lanes["scalar"] + lanes["scalar_access"], busiest + waits),
        latency_s=busiest + waits,
        read_bytes=moved - written,
        written_bytes=written,
        model_flop=sum((2.0 * p.count * _macs(p) for p in model_products), 0.0),
        hardware_flop=sum((hardware_flop(p, core) for p in stage.matmul_work), 0.0),
    )


def _macs(work: MatmulWork) -> PerOp:
    return work.contraction * work.stationary * work.moving


def kernel_times(kernel: Kernel, core: NeuronCore, relaxation: Relaxation = EXACT) -> KernelTimes:
    """Times of a kernel: launch, first load, then its stages one after another."""
    totals = [stage_times(stage, core, relaxation) for stage in kernel.stages]
    names = list(KernelTimes.__dataclass_fields__)
    sums = {name: sum(getattr(times, name) for times in totals) for name in names}
    sums["latency_s"] = sums["latency_s"] + core.launch_latency_s + core.dma.start_latency_s
    return KernelTimes(**sums)
