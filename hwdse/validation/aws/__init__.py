"""Validations against AWS data on Trainium: collectives, kernels, strategies, training runs."""
