"""Content keys: equal for equal contents in any process, different for anything else."""

import functools
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdse.models.compute import systolic
from hwdse.numerics.content_key import NoContentKeyError, content_key
from hwdse.numerics.relaxation import EXACT, num_tiles, smooth
from hwdse.search.space.dimension import Dimension
from hwdse.search.space.search_space import SearchSpace
from hwdse.units import parse_units

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    | st.binary(max_size=3)
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(VALUES, VALUES)
def test_keys_are_equal_exactly_for_equal_contents(first, second):
    assert (content_key(first) == content_key(second)) == (repr(first) == repr(second))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 1.0), (1, True), (0.0, -0.0), (("a", "b"), ("ab",)), ([1], (1,)), ("1", b"1"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (np.float64(1.0), 1.0),
        (np.zeros(2), np.zeros(2, np.float32)), (np.zeros((1, 2)), np.zeros((2, 1))),
        (np.zeros(2), jnp.zeros(2)), (np.array([0.0]), np.array([-0.0])),
        (jnp.asarray(1.0), jnp.asarray(np.float32(1.0))), (jnp.sin, jnp.cos), (float, int),
        (EXACT, smooth(0.0)), (smooth(0.1), smooth(0.2)),
        (functools.partial(num_tiles, 3.0), functools.partial(num_tiles, 4.0)),
        (functools.partial(num_tiles, source="rows"), functools.partial(num_tiles, source="cols")),
        (jax.grad(num_tiles), jax.grad(num_tiles, argnums=1)),
        (jax.vmap(num_tiles), jax.vmap(num_tiles, in_axes=(0, None))),
        (jax.vmap(num_tiles), jax.grad(num_tiles)), (num_tiles, jax.vmap(num_tiles)),
    ],
)  # fmt: skip
def test_what_differs_has_another_key(first, second):
    assert content_key(first) != content_key(second)


def closures(value):
    """Functions that package code makes around a value: a closure, a method and a transformed
    function."""
    space = SearchSpace((Dimension("rows", 1.0, 1.0 + value, "log", 0.25),))
    return (
        systolic_cycles_with(value),
        space.decode,
        jax.vmap(systolic_cycles_with(value)),
        functools.lru_cache(systolic_cycles_with(value)),
    )


def systolic_cycles_with(value):
    return functools.partial(systolic.cycles_of, relaxation=smooth(value))


def test_closures_with_equal_contents_have_equal_keys():
    for first, second, other in zip(closures(0.25), closures(0.25), closures(0.5), strict=True):
        assert first is not second
        assert content_key(first) == content_key(second) != content_key(other)


def test_cycles_of_references_end():
    loop = []
    loop.append(loop)
    assert content_key(loop) == content_key(loop) != content_key([[]])


def test_another_process_finds_the_same_keys():
    code = (
        "import jax, functools\n"
        "from hwdse.numerics.content_key import content_key\n"
        "from hwdse.numerics.relaxation import num_tiles, smooth\n"
        "names = frozenset(('rows', 'cols', 'arrays'))\n"
        "print(content_key(jax.grad(functools.partial(num_tiles, relaxation=smooth(0.5))), names,"
        " jax.vmap(num_tiles), {'a': 1.5}).hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


class Text(str):
    """A built-in type with more than its own contents."""


@pytest.mark.parametrize(
    "value",
    [
        lambda: 1, test_cycles_of_references_end, functools.partial(lambda: 1), math.sin,
        Text("a"), np.array([object()]), np.random.default_rng(0), object(), sys, iter([1]),
        parse_units.__dict__, subprocess.Popen,
    ],
)  # fmt: skip
def test_what_cannot_be_described_has_no_key(value):
    with pytest.raises(NoContentKeyError):
        content_key(value)


def test_traced_values_have_no_key():
    def traced(x):
        with pytest.raises(NoContentKeyError):
            content_key(x)
        return x

    jax.make_jaxpr(traced)(1.0)
