"""Answers about services: prices of tokens, elasticities."""
