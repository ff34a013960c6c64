"""Cost of a gradient in evaluations, the one number by which all searches count them."""

GRADIENT_COST_EVALUATIONS = 2
"""Evaluations charged for one value with its gradient, and for one Jacobian of all limits.

Measured by `experiments/benchmarks/gradient_cost.py`: value and gradient of the smooth relaxation
against the exact model, 64 designs at once; 3.6, 6.2 and 2.3 on its three search problems. One
Jacobian of the reference job, of one design at a time, costs 1.8 exact evaluations of one design.
"""
