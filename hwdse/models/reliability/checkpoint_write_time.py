"""Checkpoint write time and storage cost.

Paths: HBM over the chip's host link to host memory (snapshot); host memory to server disks (local
copy), or over the server's storage path to a file system or object store (persist).
"""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar

ADAM_STATE_BYTES = 14.0
"""Checkpoint bytes per parameter: 2 of BF16, 4 of the FP32 copy, 4 and 4 of Adam's moments."""


def spread_write_time_s(
    state_bytes: Scalar, num_writers: Scalar, writer_bytes_per_s: Scalar
) -> Scalar:
    """Checkpoint write time over separate paths, $S / (N b)$ (s).

    State S (B), N writers at b (B/s). Snapshots of chips to their hosts, or copies to the disks of
    servers. Assumes equal shards. Llama 3 405B: 5.67 TB on 16,384 GPUs are 0.35 GB each.
    """
    return state_bytes / (num_writers * writer_bytes_per_s)


def shared_write_time_s(
    state_bytes: Scalar,
    num_writers: Scalar,
    writer_bytes_per_s: Scalar,
    file_system_bytes_per_s: Scalar,
) -> Scalar:
    r"""Checkpoint write time to a shared file system, $S / \min(N b, B)$ (s).

    State S (B), N writers at b (B/s), file system at B (B/s). Assumes equal shards, no other load.
    Writers are servers with the rate of their path (EBS of a Trn2 server 10 GB/s, FSx for Lustre
    12.5 GB/s per client over ENA, S3 at network rate), or chips with their part of it.
    """
    rate = jnp.minimum(num_writers * writer_bytes_per_s, file_system_bytes_per_s)
    return state_bytes / rate


def file_system_duty_fraction(
    state_bytes: Scalar, interval_s: Scalar, file_system_bytes_per_s: Scalar
) -> Scalar:
    r"""Fraction of time in which checkpoints saturate a file system, $S/(\tau B)$, at most 1."""
    return jnp.minimum(state_bytes / file_system_bytes_per_s / interval_s, 1.0)


def storage_cost_usd(
    state_bytes: Scalar, num_kept: Scalar, price_usd_per_byte_per_s: Scalar, time_s: Scalar
) -> Scalar:
    """Cost of storing a number of checkpoints for a time (USD). Excludes writes in progress."""
    return num_kept * (state_bytes * price_usd_per_byte_per_s) * time_s
