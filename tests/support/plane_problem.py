"""Search problem in the plane with a known optimum, with one objective and with two."""

import math

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.search.space.search_space import Choice, Dimension, SearchSpace, Variant


@struct.dataclass
class Plane:
    x: object
    y: object
    kind: object
    shape: str = struct.field(pytree_node=False)


PLANE = Plane(5.0, 5.0, 0.0, "round")
PLANE_DIMS = (
    Dimension("x", 0.1, 10.0, "linear", None),
    Dimension("y", 0.1, 10.0, "linear", None),
)
PLANE_SPACE = SearchSpace(PLANE_DIMS)
PLANE_EFFORT = {"num_screened": 64, "num_starts": 4, "num_steps": 200, "local_search_rounds": 30}


def bowl(plane, relaxation):
    """(x - 3)^2 + (y - 3)^2 with x + y <= 4: optimum at (2, 2), value 2, multiplier 2 of x + y,
    thus 2 * 4 for the logarithm of the sum."""
    value = (plane.x - 3.0) ** 2 + (plane.y - 3.0) ** 2
    return value + plane.kind, jnp.log(plane.x + plane.y)[None] - math.log(4.0)


def two_objectives(plane, relaxation):
    """Squares of the distances to (3, 3) and to the origin, under x + y <= 4."""
    value, constraint_values = bowl(plane, relaxation)
    there = plane.x**2 + plane.y**2 + (0.0 if plane.shape == "square" else 1.0)
    return jnp.stack([value, there]), constraint_values


FRONT_PLANE_SPACE = SearchSpace(
    PLANE_DIMS,
    (Choice("kind", ("kind",), ((3.0,), (0.5,), (2.0,)), ("a", "b", "c")),),
    (Variant("shape", ("round", "square")),),
)
