"""Pareto fronts by gradient: scalarizations, descent, local search, and fronts under uncertain
constants. Imports all other folders of `search` but sweep, answers and compare."""
