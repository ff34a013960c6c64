"""Transfer streams at memory ports and stalls of a mapping.

Imports `numerics`, `specs`, `workload` and `models`.
"""
