"""Surrogate model of the evaluated designs (Gaussian process), acquisition functions, and local
search with them. Imports only pareto, neighborhood, evaluation and space."""
