"""Serving of language models against measurements: steps of fixed batch, closed loops, power."""
