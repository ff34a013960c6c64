"""Mappings of operators onto a core: loop nests, tiles, row-stationary sets, and their traffic.

May import `numerics` and `specs.hardware`.
"""
