"""Workloads: operators with execution counts, and their sharding under a parallelism strategy.

Contains operation counts, bytes and message sizes; no times or energies. May import `specs` and
`numerics`.
"""
