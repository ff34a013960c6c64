"""`hwdse serve` and `hwdse serve-front`: services of language models."""
