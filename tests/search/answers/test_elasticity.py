"""Elasticities of power laws are their exponents."""

import jax
import jax.numpy as jnp
import pytest

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf
from hwdse.search.answers.elasticity import elasticities


@struct.dataclass
class Inner:
    sizes: tuple[Leaf, ...]
    kind: str = struct.field(pytree_node=False)


@struct.dataclass
class Outer:
    inner: Inner
    rate: Leaf
    unused: Leaf
    nothing: Leaf


SPEC = Outer(Inner((2.0, 3), "ring"), rate=5e12, unused=7.0, nothing=0.0)


def test_elasticities_of_a_power_law_are_its_exponents():
    def log_value(spec):
        value = spec.inner.sizes[0] ** 2 * spec.inner.sizes[1] ** -0.5 / spec.rate
        return jnp.log(value * (1.0 + spec.nothing))

    with jax.enable_x64(True):
        found = elasticities(log_value, SPEC)
    assert found == pytest.approx(
        {
            "inner.sizes.0": 2.0,
            "inner.sizes.1": -0.5,
            "rate": -1.0,
            "unused": 0.0,
            "nothing": 0.0,
        }
    )


def test_elasticities_of_a_homogeneous_function_sum_to_its_degree():
    def log_value(spec):
        return jnp.log(spec.inner.sizes[0] * spec.unused + spec.inner.sizes[1] ** 2)

    with jax.enable_x64(True):
        found = elasticities(log_value, SPEC)
    assert sum(found.values()) == pytest.approx(2.0)
