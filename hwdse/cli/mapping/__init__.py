"""Command `mapping`: loop nests, traffic and bounds of the operators of one core.

Imports `cli.shared` and the rooms above `cli`.
"""
