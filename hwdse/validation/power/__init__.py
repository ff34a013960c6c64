"""Power of chips against measurements: caps, single products, serving and training jobs."""
