"""Elasticities of a value to every leaf of a spec, by one backward pass."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hwdse.numerics.array_types import Scalar
from hwdse.numerics.jit_compile import quick_jit
from hwdse.search.space.pytree_path import readable


def elasticities(log_value: Callable[[Any], Scalar], spec: Any) -> dict[str, float]:
    r"""$d \ln v / d \ln x$ of every leaf $x$ of `spec`, by dotted path; zero where $x$ is zero.

    `log_value` returns $\ln v$. An elasticity of -0.6 means that 1 % more of the leaf reduces the
    value by 0.6 %, as long as no other constraint becomes binding. Counts vary continuously. Runs
    in the float type of the caller's scope.

    >>> import hwdse
    >>> from jax.numpy import log
    >>> array = hwdse.load_chip("h100").array
    >>> found = hwdse.elasticities(lambda a: log(a.rows * a.cols * a.clock_hz), array)
    >>> round(found["rows"], 3)
    1.0
    """
    leaves = jax.tree.map(jnp.asarray, jax.tree.map(float, spec))
    slopes = quick_jit(jax.grad(log_value))(leaves)
    paths = jax.tree_util.tree_flatten_with_path(slopes)[0]
    values = jax.tree.leaves(leaves)
    return {
        readable(spec, path): float(value) * float(slope)
        for (path, slope), value in zip(paths, values, strict=True)
    }
