"""Operators as loops over seven dimensions: extents, tile footprints, halos, SCALE-Sim topologies.

May import `specs`, `numerics` and `workload.gemms`.
"""
