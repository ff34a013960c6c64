"""Numerical functions with useful gradients; imports nothing of hwdse but `lazy_names`.

- `EXACT`: relaxation of the exact model, true rounding and true maxima.
- `Relaxation`: rounding and maxima of the exact model or of a relaxation of it.
- `smooth`: smooth relaxation at a temperature from 0 (nearly exact) to 1 (no rounding).
"""

from typing import TYPE_CHECKING

from hwdse.lazy_names import lazy_names

if TYPE_CHECKING:
    from hwdse.numerics.relaxation import EXACT, Relaxation, smooth

__all__ = ["EXACT", "Relaxation", "smooth"]

# The program store opens before JAX is imported.
__getattr__, __dir__ = lazy_names(__name__, {"relaxation": ("EXACT", "Relaxation", "smooth")})
