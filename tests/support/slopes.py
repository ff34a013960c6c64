"""Check of gradients against central differences with two quickly compiled programs."""

import jax
import jax.numpy as jnp
import numpy as np

from hwdse.numerics.jit_compile import quick_jit


def check_slopes(of, point, rtol=1e-5):
    """Compare reverse-mode slopes of every output by every entry of `point` with differences.

    `of` takes the entries as separate arguments; in float64, away from kinks.
    """
    point = np.array(point, float)

    def flat(entries):
        return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(of(*entries))])

    steps = 1e-6 * np.diag(np.abs(point))
    values = np.asarray(quick_jit(jax.vmap(flat))(np.concatenate([point + steps, point - steps])))
    ups, downs = np.split(values, 2)
    expected = (ups - downs).T / (2.0 * np.diag(steps))
    found = np.asarray(quick_jit(jax.jacrev(flat))(point))
    scale = np.max(np.abs(values), axis=0)[:, None] / np.abs(point)
    assert np.all(np.abs(found - expected) <= rtol * np.abs(expected) + 1e-8 * scale)
