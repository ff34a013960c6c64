"""Ground that results stand on: kinds and bands of constants, regret, unlike sides."""
