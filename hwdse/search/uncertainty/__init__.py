"""Uncertain constants: distributions, propagation to metrics, and robust objectives. Imports only
space and evaluation."""
