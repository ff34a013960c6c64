"""Command `parallelism`: ranking of the parallelism strategies of a training job.

Imports `cli.shared` and the rooms above `cli`.
"""
