"""Plots of Pareto fronts: of two objectives, of three or more, under uncertain constants."""
