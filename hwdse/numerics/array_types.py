"""Shape-checked array aliases for signatures.

Every formula of `hwdse` is elementwise over its leading axes. One function therefore serves a
single value, an array of operators, or a batch of designs. The aliases name the expected shape;
`jaxtyping` checks them when the tests run.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

Leaf = Any
"""A field of a spec: a float, or an array under `vmap` (jax rebuilds pytrees with other kinds)."""

Scalar = float | Float[jax.Array, ""] | Float[np.ndarray, ""] | np.floating
PerOp = float | Float[jax.Array, "*#ops"] | Float[np.ndarray, "*#ops"] | np.floating
PerDim = Float[jax.Array, " dims"] | Float[np.ndarray, " dims"]
PerPoint = Float[jax.Array, " points"] | Float[np.ndarray, " points"]
PerConstraint = Float[jax.Array, " constraints"] | Float[np.ndarray, " constraints"]
PointsByDims = Float[jax.Array, "points dims"] | Float[np.ndarray, "points dims"]
PointsByObjectives = Float[jax.Array, "points objectives"] | Float[np.ndarray, "points objectives"]
Mask = Bool[jax.Array, " points"] | Bool[np.ndarray, " points"]
