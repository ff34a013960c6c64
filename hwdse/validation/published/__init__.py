"""Validations against published numbers: areas, energies, die costs, FP64:FP16 ratios."""
