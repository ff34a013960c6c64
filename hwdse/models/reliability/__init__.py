"""Checkpoints, failures and stragglers of a training job.

- `exponential_failures`: shared functions of memoryless failures.
- `single_level_checkpoint`, `two_level_checkpoint`, `async_checkpoint`: ETTR and best interval.
- `checkpoint_write_time`: write time and storage cost of a checkpoint.
- `failure_overheads`: spares, stragglers, silent corruption.
"""
