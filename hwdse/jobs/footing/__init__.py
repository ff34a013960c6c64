"""Ground that results stand on: kinds and bands for constants, regret, unlike sides."""
