"""Exact evaluation of points in batches of one shape, and search results. Imports only space and
pareto."""
