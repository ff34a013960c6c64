"""Specifications as frozen pytrees: hardware, software, strategy, mappings and results.

Contains no model equations. May import `units` and `numerics` only.
"""
