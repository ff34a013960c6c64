"""Serving of language models: steps of an engine, queues, steady state, strategies."""
