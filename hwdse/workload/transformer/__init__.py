"""Transformer training: GEMM operators, sharding, collectives and memory footprint of one chip.

May import `specs`, `numerics` and the other folders of `workload`.
"""
