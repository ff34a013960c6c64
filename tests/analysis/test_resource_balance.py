"""The four balances: parameters at iso-area, their optima, the page and its plot."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from support.designs import BASE, JOB

from hwdse.analysis import resource_balance
from hwdse.analysis.resource_balance import (
    BALANCED_PARAMETERS,
    at_iso_area,
    parameter_balances,
    with_value,
)
from hwdse.cli.balance import balance_command
from hwdse.cli.balance.balance_tables import print_page
from hwdse.cli.main import main
from hwdse.evaluation import evaluate_exact
from hwdse.models.silicon.area import area_parts_mm2
from hwdse.numerics.relaxation import total
from hwdse.search.space.pytree_path import get_path, set_path

INTERVAL = BALANCED_PARAMETERS["checkpoint_interval_s"]
LINK = BALANCED_PARAMETERS["chip.link.bandwidth_bytes_per_s"]


@pytest.fixture(scope="module")
def found():
    return {item.parameter.path: item for item in parameter_balances(BASE, JOB)}


def area_of(design):
    with jax.enable_x64(True):
        return float(total(area_parts_mm2(jax.tree.map(float, design.chip))))


@pytest.mark.parametrize(
    "path", [path for path, parameter in BALANCED_PARAMETERS.items() if parameter.uses_area]
)
def test_iso_area_keeps_the_die_area(path):
    parameter = BALANCED_PARAMETERS[path]
    now = float(get_path(BASE, path)) or 0.01
    with jax.enable_x64(True):
        for factor in (0.5, 1.0, 1.3):
            moved = with_value(BASE, parameter, factor * now)
            assert float(get_path(moved, path)) == factor * now
            assert area_of(moved) == pytest.approx(area_of(BASE), rel=1e-12)


def test_matrix_engines_keep_a_minimum_when_a_block_exceeds_the_die_area():
    with jax.enable_x64(True):
        moved = with_value(BASE, LINK, 1e3 * float(get_path(BASE, LINK.path)))
        assert moved.chip.array.num_arrays == pytest.approx(
            resource_balance.MIN_ARRAYS_FRACTION * BASE.chip.array.num_arrays
        )
        same = at_iso_area(BASE, area_of(BASE))
        assert same.chip.array.num_arrays == pytest.approx(BASE.chip.array.num_arrays, rel=1e-12)


def test_optimal_interval_is_the_analytical_one(found):
    exact_s = evaluate_exact(BASE, JOB).optimal_checkpoint_interval_s
    item = found[INTERVAL.path]
    assert item.optimum == pytest.approx(exact_s, rel=2e-3)
    at_best = evaluate_exact(replace(BASE, checkpoint_interval_s=item.optimum), JOB)
    now = evaluate_exact(BASE, JOB)
    expected = now.time_per_token_s / at_best.time_per_token_s - 1.0
    assert item.penalty_fraction == pytest.approx(expected, rel=1e-9)


def test_penalties_and_elasticities_agree_with_evaluations(found):
    now = evaluate_exact(BASE, JOB).time_per_token_s
    for item in found.values():
        assert item.penalty_fraction >= 0.0
        assert item.near_optimal[0] <= item.optimum <= item.near_optimal[1]
        assert np.all(np.isfinite(item.metric_ratios))
        assert item.metric_ratios.min() >= 1.0 / (1.0 + item.penalty_fraction) - 1e-12
    item = found[LINK.path]
    more = evaluate_exact(set_path(BASE, LINK.path, 1.0001 * item.current), JOB).time_per_token_s
    assert item.elasticity == pytest.approx(np.log(more / now) / np.log(1.0001), rel=1e-3)
    best = evaluate_exact(with_value(BASE, LINK, item.optimum), JOB).time_per_token_s
    assert now / best - 1.0 == pytest.approx(item.penalty_fraction, rel=1e-9)


def test_fp64_work_makes_the_optimal_fp64_ratio_positive(found):
    item = found["chip.fp64_per_fp16_ratio"]
    assert item.current == 0.0
    assert item.elasticity == 0.0
    assert 1e-4 < item.optimum < 1e-2  # for 0.01 % of the FLOP
    assert not item.is_at_end
    # The scale-out network uses no die area here, so its optimum is the end of the range.
    assert found["chip.network.bandwidth_bytes_per_s"].is_at_end


def test_page_and_plot(capsys, tmp_path, monkeypatch):
    made = []
    whole = balance_command._as_json
    monkeypatch.setattr(balance_command, "_as_json", lambda page: made.append(page) or whole(page))
    with pytest.raises(SystemExit) as left:
        main(["balance", "trn2_llama3_70b", "--plots", str(tmp_path), "--json"])
    assert left.value.code == 0
    page = json.loads(capsys.readouterr().out)
    assert [parameter["balance"] for parameter in page["parameters"]] == [
        "precision", "network", "network", "memory", "memory", "checkpoint",
    ]  # fmt: skip
    assert page["memory"]["traffic_over_bound_ratio"] >= 1.0
    assert (tmp_path / "balance.png").stat().st_size > 10_000
    print_page(made[0])
    text = capsys.readouterr().out
    for word in ("1 Precision", "2 Exposed", "3 Memory", "4 Checkpoints", "asynchronous"):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["balance", "gemmini_bert"], "expected a config with a cluster"),
        (["balance", "trn2_llama3_70b", "--metric", "speed"], "expected one of"),
    ],
)
def test_user_errors_are_one_line(capsys, arguments, word):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert word in said
    assert said.count("\n") == 1
