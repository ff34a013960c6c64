"""Cost of a gradient in evaluations, the one number by which all searches count them."""

GRADIENT_COST_EVALUATIONS = 2
"""Evaluations charged for one value with its gradient, and for one Jacobian of all limits.

Measured by `experiments/benchmarks/gradient_cost.py` on its three search problems, 64 designs at
once: value and gradient of the smooth relaxation take 1.7, 1.3 and 1.8 evaluations of the exact
model, those of the exact model 1.3, 1.1 and 1.1. One Jacobian of the reference job, of one design
at a time, costs 1.8 exact evaluations of one design.
"""
