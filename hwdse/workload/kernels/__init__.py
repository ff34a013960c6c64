"""Kernels as instructions and traffic: Trainium kernels by engine, unfused transformer layers.

May import `specs`, `numerics` and `workload.transformer`.
"""
