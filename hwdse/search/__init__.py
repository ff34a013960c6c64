"""Optimizers and sweeps of any loss; they know no hardware."""
