"""Fits of model constants to measurements: reproducible, from files that anyone can read."""
