"""Sweeps of many points in chunks: float32 screening on the device, float64 re-evaluation on the
host. Imports only pareto, evaluation, space and uncertainty."""
