"""`hwdse uncertainty`: percentile intervals and variance contributions of uncertain constants."""
