"""Pytrees of one structure as one pytree of arrays."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np


def stacked(items: Iterable[Any]) -> Any:
    """Pytree whose leaves are float arrays of the leaves of all items, which come first.

    >>> stacked([(1, 2.0), (3, 4.0)])
    (array([1., 3.]), array([2., 4.]))
    """
    return jax.tree.map(lambda *leaves: np.array(leaves, float), *items)
