"""Comparison of the gradient search with random, Sobol, NSGA-II, TPE and CMA-ES. Imports
descent, front, evaluation, pareto and space."""
