"""Validations against measurements: collectives, training runs, RTL cycles of Gemmini."""
