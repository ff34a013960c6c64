"""Parameters at an end of their range: derivatives into it, the same in all commands."""

import jax
import jax.numpy as jnp
import pytest

from hwdse.config import load_search
from hwdse.config.schema.range_ends import INWARD, inside_ranges, range_ends, side_text
from hwdse.search.answers.elasticity import elasticities
from hwdse.search.space.pytree_path import get_path, set_path
from hwdse.search.uncertainty.uncertain_constants import perturbed, relative_uncertainty
from hwdse.search.uncertainty.uncertainty_propagation import variance_budget

EFFICIENCY = "chip.matrix_efficiency_fraction"
OVERHEAD = "cluster.pue_ratio"


@pytest.fixture(scope="module")
def base():
    design = load_search("trn2_llama3_70b").base
    for path in (EFFICIENCY, OVERHEAD):
        design = set_path(design, path, 1.0)
    return design


def metric(design):
    """Kinks at both ends: automatic differentiation at 1 gives means of two slopes."""
    efficiency, overhead = get_path(design, EFFICIENCY), get_path(design, OVERHEAD)
    return jnp.maximum(1.0 / efficiency, 1.0) ** 2 * jnp.maximum(overhead, 1.0) ** 3


def test_ends_of_ranges(base):
    ends = range_ends(base)
    assert (ends[EFFICIENCY], ends[OVERHEAD]) == ("upper", "lower")
    assert "chip.array.rows" not in ends  # a count
    assert "parallelism.recompute_fraction" not in ends  # zero
    assert "chip.hbm.bandwidth_bytes_per_s" not in ends
    assert side_text("upper") == "one-sided: at its upper end"
    assert side_text(None) == ""


def test_only_parameters_at_an_end_move_and_only_into_their_range(base):
    inside = inside_ranges(base)
    assert get_path(inside, EFFICIENCY) == pytest.approx(1.0 - INWARD, rel=1e-15)
    assert get_path(inside, OVERHEAD) == pytest.approx(1.0 + INWARD, rel=1e-15)
    assert inside.chip.array == base.chip.array
    middle = set_path(base, EFFICIENCY, 0.9)
    assert get_path(inside_ranges(middle), EFFICIENCY) == 0.9


def test_sensitivity_and_uncertainty_return_the_derivative_into_the_range(base):
    """-2 and 3 by hand, and by a one-sided difference."""
    with jax.enable_x64(True):
        inside = inside_ranges(base)
        slopes = elasticities(lambda design: jnp.log(metric(design)), inside)
        constants = (
            relative_uncertainty(EFFICIENCY, 0.2, highest=1.0),
            relative_uncertainty(OVERHEAD, 0.2, lowest=1.0),
        )
        budget = variance_budget(lambda design: jnp.stack([metric(design)]), inside, constants)
        lower = float(metric(set_path(base, EFFICIENCY, 1.0 - 1e-6)))
        higher = float(metric(set_path(base, OVERHEAD, 1.0 + 1e-6)))
    for path, found, expected, moved in (
        (EFFICIENCY, budget.elasticities[0, 0], -2.0, (1.0 - lower) / 1e-6),
        (OVERHEAD, budget.elasticities[0, 1], 3.0, (higher - 1.0) / 1e-6),
    ):
        assert slopes[path] == pytest.approx(expected, rel=1e-6)
        assert found == pytest.approx(expected, rel=1e-6)
        assert moved == pytest.approx(expected, rel=1e-5)


def test_samples_stay_inside_the_range_and_are_counted(base):
    """Half of the samples around a median at an end lie beyond it."""
    high = relative_uncertainty(EFFICIENCY, 0.2, highest=1.0)
    low = relative_uncertainty(OVERHEAD, 0.2, lowest=1.0)
    assert high.clipped_fraction(1.0) == pytest.approx(0.5, abs=1e-3)
    assert low.clipped_fraction(1.0) == pytest.approx(0.5, abs=1e-3)
    assert high.clipped_fraction(0.5) == pytest.approx(0.0, abs=1e-3)
    moved = perturbed(base, (high, low), (1.3, 0.7))
    assert (get_path(moved, EFFICIENCY), get_path(moved, OVERHEAD)) == (1.0, 1.0)
