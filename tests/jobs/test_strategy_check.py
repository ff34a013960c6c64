"""All strategies on a design: scores against single evaluations, and searches with the best."""

import numpy as np
import pytest

from hwdse.config import load_search
from hwdse.evaluation import evaluate_exact
from hwdse.jobs.footing.strategy_check import (
    check_strategies,
    has_strategies,
    with_checked_strategies,
)
from hwdse.objectives import CONSTRAINTS, OBJECTIVES
from hwdse.search.space.pytree_path import get_path

SMALL = ["design.num_systems=1", "design.parallelism.pipeline=1"]


@pytest.fixture(scope="module")
def loaded():
    return load_search("trn2_llama3_70b", SMALL)


@pytest.fixture(scope="module")
def found(loaded):
    return check_strategies(loaded, loaded.base)


def test_the_best_strategy_is_the_best_of_its_evaluations(loaded, found):
    best = evaluate_exact(found.best_design, loaded.workload)
    log = np.log(OBJECTIVES[loaded.objective](best))
    assert log == pytest.approx(found.best_log_objective, abs=1e-9)
    for name, limit in loaded.limits.items():
        assert CONSTRAINTS[name](best) <= limit * (1.0 + 1e-9)
    assert found.num_feasible < len(found.strategies)
    assert found.num_better == np.sum(
        found.is_feasible & (found.log_objectives < found.log_objective)
    )
    again = check_strategies(loaded, found.best_design)
    assert again.num_better == 0


def test_the_search_goes_on_with_the_best_and_the_own_strategy(loaded, found):
    space = with_checked_strategies(loaded, found).space
    (choice,) = space.choices
    assert len(set(choice.table)) == len(choice.table)
    for design in (found.best_design, loaded.base):
        decoded = space.decode_rounded(space.encode(design), design)
        for path in choice.paths:
            assert get_path(decoded, path) == get_path(design, path)


def test_only_training_with_a_choice_has_strategies(loaded):
    assert has_strategies(loaded)
    assert not has_strategies(load_search("gemmini_bert_explicit"))
