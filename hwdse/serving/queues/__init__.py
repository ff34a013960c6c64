"""Queues of a service: waits, batch, rates and latencies of a stream of requests."""
