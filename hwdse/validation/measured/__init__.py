"""Validations against measurements: collectives, power, RTL cycles of Gemmini."""
