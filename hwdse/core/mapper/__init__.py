"""Mapspaces and mappers: weight-stationary tiles, GEMMs on a chip, row-stationary mappings.

Imports `numerics`, `specs`, `workload` and `models`.
"""
