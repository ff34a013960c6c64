"""Gradient descent of the relaxations: starts, optimizers, augmented Lagrangian, sequential
quadratic programs. Imports only space, evaluation, neighborhood and surrogate."""
