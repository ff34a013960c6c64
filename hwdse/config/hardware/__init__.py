"""Chips, systems, cores, CPUs, failure rates and workloads from TOML files and presets.

Imports `files` and `schema`.
"""
