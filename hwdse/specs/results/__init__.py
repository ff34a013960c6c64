"""Result types of evaluations and studies: times, energies, areas, traffic, costs.

May import `numerics` only.
"""
