"""Constants that a result rests on, and explanations of single values."""

import jax
import jax.numpy as jnp
import pytest

from hwdse.analysis.metric_slopes import METRICS, metric_elasticities
from hwdse.config import load_search
from hwdse.config.provenance import KINDS, UNSURE, job_roots, origins
from hwdse.config.schema.range_ends import inside_ranges
from hwdse.evaluation import evaluate, evaluate_exact
from hwdse.jobs.explanation import explain
from hwdse.jobs.reliance import (
    MIN_EFFECT,
    NUM_NAMED,
    reliance_line,
    reliance_rows,
    reliances,
)
from hwdse.jobs.set_texts import set_text
from hwdse.search.answers.elasticity import elasticities
from hwdse.search.space.pytree_path import get_path

METRIC = "energy_per_token"
KINKS = {
    "accelerator.nominal_clock_hz",
    "software.fused_attention_fraction",
    "chip.issue_lane_ratio",
}
"""Constants at a kink or inside a rounded count, where automatic differentiation returns a mean of
both sides, or the slope of the quotient that is rounded."""


@pytest.fixture(scope="module", params=["trn2_llama3_70b", "gemmini_bert_explicit"])
def loaded(request):
    return load_search(request.param)


@pytest.fixture(scope="module")
def slopes(loaded):
    return metric_elasticities(inside_ranges(loaded.base), loaded.workload, (METRIC,))[METRIC]


def test_differences_agree_with_automatic_differentiation(loaded, slopes):
    found = reliances(loaded, loaded.base, METRIC)
    assert len(found) > 1
    for one in found:
        if one.path in KINKS:
            continue
        assert one.elasticity == pytest.approx(slopes[one.path], rel=1e-3, abs=1e-6)


def test_all_constants_without_a_source_that_matter_are_found(loaded, slopes):
    known = origins(loaded)
    expected = {
        path
        for path, slope in slopes.items()
        if path in known
        and known[path].kind in UNSURE
        and path not in KINKS
        and abs(slope) * known[path].band > 1.01 * MIN_EFFECT
    }
    found = reliances(loaded, loaded.base, METRIC)
    assert {one.path for one in found if one.effect > 1.01 * MIN_EFFECT} - KINKS == expected
    effects = [one.effect for one in found]
    assert effects == sorted(effects, reverse=True)


def test_line_and_rows_have_the_same_constants(loaded):
    found = reliances(loaded, loaded.base, METRIC)
    line, rows = reliance_line(found, METRIC), reliance_rows(found)
    assert "energy per token rests on: " in line or "energy per pass rests on: " in line
    assert line.count("%)") == min(len(rows), NUM_NAMED)
    for row in rows:
        assert row["kind"] in UNSURE
        assert row["value"] == get_path(loaded.base, row["path"])
        assert row["effect_ratio"] == abs(row["elasticity"]) * row["band_ratio"]
    assert reliance_line([], METRIC) == ""


def test_a_given_constant_is_not_relied_on(loaded):
    largest = reliances(loaded, loaded.base, METRIC)[0]
    text = set_text(job_roots(loaded), largest.path, get_path(loaded.base, largest.path))
    changed = load_search(_name(loaded), [text])
    assert largest.path not in [one.path for one in reliances(changed, changed.base, METRIC)]


def _name(loaded):
    return "trn2_llama3_70b" if hasattr(loaded.base, "cluster") else "gemmini_bert_explicit"


def test_one_program_gives_the_elasticities_of_every_metric():
    """The shared program equals the gradient of each metric alone."""
    loaded = load_search("gemmini_bert_explicit")
    shared = metric_elasticities(loaded.base, loaded.workload, ("die_area", "step_time"))
    with jax.enable_x64(True):
        for name, found in shared.items():
            alone = elasticities(
                lambda design, name=name: jnp.log(METRICS[name](evaluate(design, loaded.workload))),
                loaded.base,
            )
            assert found == pytest.approx(alone, rel=1e-9, abs=1e-12)


def test_an_explanation_has_value_band_and_elasticities(loaded, slopes):
    path = next(path for path, slope in slopes.items() if abs(slope) > 0.1)
    found = explain(loaded, path)
    assert found.value == get_path(loaded.base, path)
    assert found.kind in KINDS
    assert found.elasticities is not None
    assert found.elasticities[METRIC] == pytest.approx(slopes[path], rel=1e-9)
    assert set(found.as_json()) == set(type(found).__dataclass_fields__)


def test_explanations_of_names_workloads_and_tables():
    loaded = load_search("gemmini_bert_explicit")
    assert explain(loaded, "accelerator.rows_dims").elasticities is None
    with pytest.raises(ValueError, match="found a table"):
        explain(loaded, "accelerator")
    with pytest.raises(ValueError, match=r"did you mean 'accelerator\.rows'"):
        explain(loaded, "accelerator.row")


def test_a_known_count_has_no_band():
    loaded = load_search("trn2_llama3_70b")
    found = origins(loaded)["workload.model.num_layers"]
    assert (found.kind, found.band) == ("published", 0.0)


@pytest.mark.parametrize("name", ["trn2_llama3_70b", "gemmini_bert_explicit"])
def test_constants_of_a_process_have_the_origin_and_the_band_of_its_file(name):
    """Of a chip and of a core alike."""
    loaded = load_search(name)
    (path,) = (path for path in origins(loaded) if path.endswith(".process.nominal_voltage_v"))
    found = origins(loaded)[path]
    assert (found.kind, found.band) == ("assumed", 0.05)
    assert found.place.startswith("n")
    assert path in [one.path for one in loaded.uncertain_constants]


def test_exact_evaluation_has_python_floats():
    loaded = load_search("gemmini_bert_explicit")
    result = evaluate_exact(loaded.base, loaded.workload)
    assert all(type(leaf) is float for leaf in jax.tree.leaves(result))
