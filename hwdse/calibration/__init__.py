"""Fits of model constants to measurements, reproducible from the files in `tests/data`.

Imports readers and jobs from `validation`, which never imports this package.
"""
