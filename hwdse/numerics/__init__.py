"""Numerical functions with useful gradients; imports nothing of hwdse.

- `EXACT`: relaxation of the exact model, true rounding and true maxima.
- `Relaxation`: rounding and maxima of the exact model or of a relaxation of it.
- `smooth`: smooth relaxation at a temperature from 0 (nearly exact) to 1 (no rounding).
"""

from hwdse.numerics.relaxation import EXACT, Relaxation, smooth

__all__ = ["EXACT", "Relaxation", "smooth"]
