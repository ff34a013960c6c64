"""What runs: operators with counts, and how a parallel layout cuts them."""
