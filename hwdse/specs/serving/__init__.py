"""Serving of language models: requests, engine, strategy, formats, loads of a step, metrics."""
