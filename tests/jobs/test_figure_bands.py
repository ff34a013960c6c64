"""Bands for figures from kinds of constants: laws, and sides of unlike kinds."""

import math

import pytest

from hwdse.config import load_search
from hwdse.config.provenance import KINDS
from hwdse.evaluation import evaluate_exact
from hwdse.jobs.footing.figure_bands import (
    EFFICIENCIES,
    FIGURES,
    footing,
    objective_bands,
    unfitted_efficiencies,
    unlike_constants,
)

JOB = ["design.system=dgx_h100", "design.num_systems=8", "parallelism.tensor=8"]


@pytest.fixture(scope="module")
def trainium():
    loaded = load_search("trn2_llama3_70b")
    return footing(loaded, loaded.base)


@pytest.fixture(scope="module")
def hopper():
    loaded = load_search("trn2_llama3_70b", [*JOB, "design.num_systems=128"])
    return footing(loaded, loaded.base)


def test_bands_contain_the_value(trainium):
    loaded = load_search("trn2_llama3_70b")
    found = evaluate_exact(loaded.base, loaded.workload)
    assert set(trainium.figures) == set(FIGURES)
    for name, band in trainium.figures.items():
        assert band.value == pytest.approx(getattr(found, name), rel=1e-9)
        assert band.low < band.value < band.high


def test_a_band_is_at_least_that_of_one_constant_and_at_most_the_sum(trainium):
    width = max(
        math.log(end / band.value) * sign
        for band in trainium.figures.values()
        for end, sign in ((band.high, 1.0), (band.low, -1.0))
    )
    effects = [one.effect for one in trainium.constants.values()]
    assert width >= max(effects) - 1e-12
    assert width <= sum(effects)


def test_a_given_value_narrows_the_band(trainium):
    value = load_search("trn2_llama3_70b").base.chip.matrix_efficiency_fraction
    given = load_search("trn2_llama3_70b", [f"chip.matrix_efficiency_fraction={value}"])
    narrow = footing(given, given.base).figures["time_per_token_s"]
    wide = trainium.figures["time_per_token_s"]
    assert narrow.value == pytest.approx(wide.value, rel=1e-9)
    assert narrow.high - narrow.low < wide.high - wide.low


def test_class_and_fit_are_unlike(trainium, hopper):
    found = unlike_constants(["Trn2", "H100"], [trainium, hopper])
    by_path = {one.path: one for one in found}
    matrix = by_path["chip.matrix_efficiency_fraction"]
    kinds = [one.origin.kind for _, one in matrix.sides]
    assert kinds == ["class", "fitted"]
    assert set(kinds) <= set(KINDS)
    assert "Trn2" in matrix.text()
    assert "(class, " in matrix.text()
    assert "(fitted, " in matrix.text()
    assert [side["label"] for side in matrix.as_json()["sides"]] == ["Trn2", "H100"]


def test_equal_sides_are_alike(trainium):
    assert unlike_constants(["a", "b"], [trainium, trainium]) == []


def test_efficiencies_without_a_fit_are_named_with_the_ends_of_their_class():
    texts = unfitted_efficiencies(load_search("trn2_llama3_70b"))
    assert [text.split()[0] for text in texts] == list(EFFICIENCIES)
    assert all("(class, " in text and " to " in text for text in texts)
    assert not unfitted_efficiencies(
        load_search("trn2_llama3_70b", [*JOB, "design.num_systems=128"])
    )


def test_bands_for_objectives_are_those_for_figures_and_follow_the_step(trainium):
    loaded = load_search("trn2_llama3_70b")
    found = objective_bands(loaded, loaded.base, ["time_per_token", "step_time", "die_area"])
    assert found["time_per_token"] == trainium.figures["time_per_token_s"]
    step, token = found["step_time"], found["time_per_token"]
    assert step.value / step.low == pytest.approx(token.value / token.low, rel=0.05)
    assert found["die_area"].low < found["die_area"].value < found["die_area"].high
