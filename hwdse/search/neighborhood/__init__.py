"""Moves between rounded designs: local search and enumeration of neighbors. Imports only space and
evaluation."""
