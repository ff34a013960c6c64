"""Validations against runs of other simulators, with the counting rules of each."""
