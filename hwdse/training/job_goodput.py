"""Goodput of a training job: failures, checkpoints, stragglers, and checkpoint storage cost."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax.numpy as jnp

from hwdse.models.reliability import (
    async_checkpoint,
    checkpoint_write_time,
    failure_overheads,
    single_level_checkpoint,
    two_level_checkpoint,
)
from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, Scalar
from hwdse.numerics.relaxation import is_known
from hwdse.specs.design import Design
from hwdse.specs.hardware.cluster import Cluster
from hwdse.workload.transformer.sharding import ShardedStep


@struct.dataclass
class CheckpointTimes:
    """Seconds common to all checkpoint schemes: write times of a state and failures of the job."""

    snapshot_s: Leaf
    """Copy of the state into host memory."""
    local_s: Leaf
    """Write to the local disks of the servers."""
    remote_s: Leaf
    """Write to the shared remote file system."""
    restart_s: Leaf
    downtime_s: Leaf
    """Mean downtime per failure, including detection, wait for a spare node and loss to silent data
    corruption."""
    mtbf_s: Leaf
    """Mean time between failures of the job."""


@struct.dataclass
class Goodput:
    """Productive fraction of wall time and its factors."""

    fraction: Leaf
    """Goodput: `ettr_fraction` / `straggler_ratio` * `schedule_fraction`."""
    ettr_fraction: Leaf
    """Effective training time ratio (ETTR): after failures, restarts and checkpoints."""
    straggler_ratio: Leaf
    """Step time with stragglers over step time of the mean chip."""
    schedule_fraction: Leaf
    """Fraction of time in which the job is scheduled."""
    write_time_s: Leaf
    """Write time of one checkpoint to remote storage."""
    optimal_interval_s: Leaf
    """Optimal checkpoint interval for the scheme of the design and its `remote_every_count`."""


def checkpoint_times(state_bytes: Scalar, design: Design) -> CheckpointTimes:
    """Write times of `state_bytes`, sharded equally over the chips, and failures of the job."""
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
    """Mean downtime per failure over all causes, without further failures in it."""
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
    """Times of the two checkpoint levels of a job: server disks and file system."""
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
    ettr = single_level_checkpoint.ettr_fraction(
        design.checkpoint_interval_s,
        times.remote_s,
        times.restart_s,
        times.downtime_s,
        times.mtbf_s,
    )
    return ettr, single_level_checkpoint.optimal_checkpoint_interval_s(times.remote_s, times.mtbf_s)


def _two_level(times: CheckpointTimes, design: Design) -> tuple[Scalar, Scalar]:
    count = design.checkpointing.remote_every_count
    both = two_level_times(times, design.cluster)
    ettr = two_level_checkpoint.ettr_fraction(design.checkpoint_interval_s, count, both)
    return ettr, two_level_checkpoint.best_interval_s(count, both)


def _async(times: CheckpointTimes, design: Design) -> tuple[Scalar, Scalar]:
    slowdown = design.checkpointing.persist_slowdown_fraction
    ettr = async_checkpoint.ettr_fraction(
        design.checkpoint_interval_s,
        times.snapshot_s,
        times.remote_s,
        slowdown,
        times.restart_s,
        times.downtime_s,
        times.mtbf_s,
    )
    return ettr, async_checkpoint.best_interval_s(
        times.snapshot_s, times.remote_s, slowdown, times.mtbf_s
    )


Scheme = Callable[[CheckpointTimes, Design], tuple[Scalar, Scalar]]
SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {"blocking": _blocking, "two_level": _two_level, "async": _async}
)
"""ETTR fraction and optimal interval of each checkpoint scheme, by name."""


def goodput(step: ShardedStep, design: Design) -> Goodput:
    """Goodput of a job: ETTR / straggler ratio x schedule availability.

    Assumes that all chips write their shard of a checkpoint at once. A workload without checkpoints
    has goodput 1.
    """
    cluster = design.cluster
    times = checkpoint_times(step.checkpoint_bytes, design)
    ettr, interval_s = SCHEMES[design.checkpointing.scheme](times, design)
    straggler = 1.0
    if not is_known(cluster.straggler_cv_ratio, 0.0):
        straggler = failure_overheads.straggler_ratio(cluster.num_chips, cluster.straggler_cv_ratio)
    fraction = ettr / straggler * cluster.schedule_availability_fraction
    return Goodput(
        fraction=jnp.where(step.checkpoint_bytes > 0.0, fraction, 1.0),
        ettr_fraction=ettr,
        straggler_ratio=straggler,
        schedule_fraction=cluster.schedule_availability_fraction,
        write_time_s=times.remote_s,
        optimal_interval_s=interval_s,
    )


def checkpoint_storage_cost_usd(step: ShardedStep, design: Design, time_s: Scalar) -> Scalar:
    """Cost of the checkpoints kept in remote storage for a time; zero without a storage price."""
    return checkpoint_write_time.storage_cost_usd(
        step.checkpoint_bytes,
        design.checkpointing.num_kept,
        design.cluster.storage_usd_per_byte_per_s,
        time_s,
    )
