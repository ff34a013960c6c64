"""What sequential quadratic programs see of the relaxed model: stages of soft maxima, slopes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.compiling import quick_jit

SHARPNESS = (16.0, 128.0, 1024.0)
"""Stages of the soft maxima, as powers of 32, 256 and 2048: the last is at most 0.034 % above."""


def with_jacobian(function: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """Compiled values of a vector function and their Jacobian by its first argument."""

    def both(point: Any, *rest: Any) -> tuple[Any, Any]:
        values, pull = jax.vjp(lambda x: function(x, *rest), point)
        return values, jax.vmap(pull)(jnp.eye(values.shape[0], dtype=values.dtype))[0]

    return quick_jit(both)


def finite_parts(outcome: tuple[Any, Any], bad_value: float) -> tuple[np.ndarray, np.ndarray]:
    """Values and Jacobian on the host; what is not finite is `bad_value`, without slope."""
    values, slopes = (np.asarray(part, float) for part in outcome)
    is_bad = ~np.isfinite(values) | ~np.isfinite(slopes).all(axis=1)
    return np.where(is_bad, bad_value, values), np.where(is_bad[:, None], 0.0, slopes)
