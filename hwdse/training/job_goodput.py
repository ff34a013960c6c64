"""Useful share of wall time of a job: failures, checkpoints, slow ranks, and what they cost."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import flax.struct
import jax.numpy as jnp

from hwdse.models.reliability import (
    async_checkpoint,
    checkpoint_write_time,
    failure_overheads,
    single_level_checkpoint,
    two_level_checkpoint,
)
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import is_known
from hwdse.specs.design import Design
from hwdse.specs.hardware.cluster import Cluster
from hwdse.workload.transformer.sharding import ShardedStep


@flax.struct.dataclass
class CheckpointTimes:
    """Seconds that every scheme draws on: write times of a state, and the job's failures."""

    snapshot_s: Leaf
    """Into the memory of the hosts."""
    local_s: Leaf
    """Onto the disks of the servers."""
    remote_s: Leaf
    """Into the file system that all share."""
    restart_s: Leaf
    downtime_s: Leaf
    """With the time to notice a failure and to wait for a node, and work lost to corruption."""
    mtbf_s: Leaf


@flax.struct.dataclass
class Goodput:
    """What is left of the wall time, and why."""

    fraction: Leaf
    """Product of the next three, the straggler ratio below the line."""
    ettr_fraction: Leaf
    """Effective training time ratio (ETTR): after failures, restarts and checkpoints."""
    straggler_ratio: Leaf
    schedule_fraction: Leaf
    write_time_s: Leaf
    """A checkpoint into remote storage."""
    best_interval_s: Leaf
    """For the scheme, and the n, that the design has."""


def checkpoint_times(state_bytes: Scalar, design: Design) -> CheckpointTimes:
    """Write times of `state_bytes`, shared equally by the chips, and the job's failures."""
    cluster, num_chips = design.cluster, design.cluster.num_chips
    return CheckpointTimes(
        snapshot_s=checkpoint_write_time.spread_write_time_s(
            state_bytes, num_chips, cluster.host_copy_bandwidth_bytes_per_s
        ),
        local_s=checkpoint_write_time.spread_write_time_s(
            state_bytes, num_chips, cluster.local_checkpoint_bandwidth_bytes_per_s
        ),
        remote_s=checkpoint_write_time.shared_write_time_s(
            state_bytes,
            num_chips,
            design.chip.checkpoint_bandwidth_bytes_per_s,
            cluster.storage_bandwidth_bytes_per_s,
        ),
        restart_s=cluster.restart_time_s,
        downtime_s=_downtime_s(cluster),
        mtbf_s=single_level_checkpoint.job_mtbf_s(cluster.chip_mtbf_s, num_chips),
    )


def _downtime_s(cluster: Cluster) -> Scalar:
    """Mean failure-free downtime of a failure, all causes together; it enters linearly."""
    downtime_s = cluster.downtime_s + cluster.detection_time_s
    if not is_known(cluster.silent_failure_fraction, 0.0):
        downtime_s = downtime_s + failure_overheads.silent_loss_s(
            cluster.silent_detection_time_s, cluster.silent_failure_fraction
        )
    if not is_known(cluster.repair_time_s, 0.0):
        load = failure_overheads.nodes_in_repair(
            cluster.num_chips, cluster.chip_mtbf_s, cluster.repair_time_s
        )
        downtime_s = downtime_s + failure_overheads.spare_wait_s(
            load, cluster.num_spare_nodes, cluster.repair_time_s
        )
    return downtime_s


def two_level_times(times: CheckpointTimes, cluster: Cluster) -> two_level_checkpoint.TwoLevelTimes:
    """The two levels of a job: servers' disks, and the file system."""
    local_mtbf_s, remote_mtbf_s = two_level_checkpoint.split_mtbf_s(
        times.mtbf_s, cluster.local_recovery_fraction
    )
    return two_level_checkpoint.TwoLevelTimes(
        local_write_s=times.local_s,
        remote_write_s=times.remote_s,
        local_restart_s=cluster.local_restart_time_s,
        remote_restart_s=times.restart_s,
        local_downtime_s=times.downtime_s,
        remote_downtime_s=times.downtime_s,
        local_mtbf_s=local_mtbf_s,
        remote_mtbf_s=remote_mtbf_s,
    )


def _blocking(times: CheckpointTimes, design: Design) -> tuple[Scalar, Scalar]:
    useful = single_level_checkpoint.ettr_fraction(
        design.checkpoint_interval_s,
        times.remote_s,
        times.restart_s,
        times.downtime_s,
        times.mtbf_s,
    )
    return useful, single_level_checkpoint.optimal_checkpoint_interval_s(
        times.remote_s, times.mtbf_s
    )


def _two_level(times: CheckpointTimes, design: Design) -> tuple[Scalar, Scalar]:
    count = design.checkpointing.remote_every_count
    both = two_level_times(times, design.cluster)
    useful = two_level_checkpoint.ettr_fraction(design.checkpoint_interval_s, count, both)
    return useful, two_level_checkpoint.best_interval_s(count, both)


def _async(times: CheckpointTimes, design: Design) -> tuple[Scalar, Scalar]:
    slowdown = design.checkpointing.persist_slowdown_fraction
    useful = async_checkpoint.ettr_fraction(
        design.checkpoint_interval_s,
        times.snapshot_s,
        times.remote_s,
        slowdown,
        times.restart_s,
        times.downtime_s,
        times.mtbf_s,
    )
    return useful, async_checkpoint.best_interval_s(
        times.snapshot_s, times.remote_s, slowdown, times.mtbf_s
    )


Scheme = Callable[[CheckpointTimes, Design], tuple[Scalar, Scalar]]
SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {"blocking": _blocking, "two_level": _two_level, "async": _async}
)
"""Useful time and best interval of a scheme, by its name."""


def goodput(step: ShardedStep, design: Design) -> Goodput:
    r"""Useful share of wall time: ETTR / straggler ratio x schedule availability.

    All chips write their share of a checkpoint at once. A workload that saves nothing loses
    nothing.
    """
    cluster = design.cluster
    times = checkpoint_times(step.checkpoint_bytes, design)
    useful, best_s = SCHEMES[design.checkpointing.scheme](times, design)
    straggler = 1.0
    if not is_known(cluster.straggler_cv_ratio, 0.0):
        straggler = failure_overheads.straggler_ratio(cluster.num_chips, cluster.straggler_cv_ratio)
    whole = useful / straggler * cluster.schedule_availability_fraction
    return Goodput(
        fraction=jnp.where(step.checkpoint_bytes > 0.0, whole, 1.0),
        ettr_fraction=useful,
        straggler_ratio=straggler,
        schedule_fraction=cluster.schedule_availability_fraction,
        write_time_s=times.remote_s,
        best_interval_s=best_s,
    )


def checkpoint_storage_cost_usd(step: ShardedStep, design: Design, time_s: Scalar) -> Scalar:
    """Price of the remote storage that a job holds for a time; zero without a price."""
    return checkpoint_write_time.storage_cost_usd(
        step.checkpoint_bytes,
        design.checkpointing.num_kept,
        design.cluster.storage_usd_per_byte_per_s,
        time_s,
    )
