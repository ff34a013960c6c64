"""Where a checkpoint goes, how long that takes, and what keeping it costs.

From HBM over the chip's host link to host memory (snapshot), from there to disks of the server
(local copy), or over the server's storage path to a file system or object store (persist).
"""

import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar

ADAM_STATE_BYTES = 14.0
"""Saved bytes of a parameter: 2 of bf16, 4 of the fp32 copy, 4 and 4 of Adam's moments."""


def spread_write_time_s(
    state_bytes: Scalar, num_writers: Scalar, writer_bytes_per_s: Scalar
) -> Scalar:
    r"""$S / (N b)$: equal shards, each over a path of its own. Snapshots of chips to their hosts,
    copies to the disks of servers. Llama 3 405B: 5.67 TB on 16,384 GPUs are 0.35 GB each."""
    return state_bytes / (num_writers * writer_bytes_per_s)


def shared_write_time_s(
    state_bytes: Scalar,
    num_writers: Scalar,
    writer_bytes_per_s: Scalar,
    file_system_bytes_per_s: Scalar,
) -> Scalar:
    r"""$S / \min(N b, B)$: all writers at once, until the file system is full.

    Writers are servers, with the rate of their path (EBS of a Trn2 server 10 GB/s, FSx for Lustre
    12.5 GB/s a client over ENA, S3 what the network gives), or chips with their share of it.
    """
    rate = jnp.minimum(num_writers * writer_bytes_per_s, file_system_bytes_per_s)
    return state_bytes / rate


def file_system_duty_fraction(
    state_bytes: Scalar, interval_s: Scalar, file_system_bytes_per_s: Scalar
) -> Scalar:
    r"""Share of the time in which checkpoints fill a file system, $S/(\tau B)$, at most 1."""
    return jnp.minimum(state_bytes / file_system_bytes_per_s / interval_s, 1.0)


def storage_cost_usd(
    state_bytes: Scalar, num_kept: Scalar, price_usd_per_byte_per_s: Scalar, time_s: Scalar
) -> Scalar:
    """Price of keeping that many checkpoints for a time. Writes in flight are not counted."""
    return num_kept * (state_bytes * price_usd_per_byte_per_s) * time_s
