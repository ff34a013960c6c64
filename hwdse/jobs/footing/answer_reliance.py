"""Constants that an optimum rests on: those whose bands change the best design or its value."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwdse.config.provenance import NOT_MEASURED, Origin, origins
from hwdse.config.search.loaded_search import LoadedSearch
from hwdse.search.evaluation.search_result import ObjectiveFn
from hwdse.search.space.pytree_path import get_path
from hwdse.search.space.search_space import SearchSpace
from hwdse.search.uncertainty.regret import Band, RegretStudy, Scenario, study_regret

LARGE_REGRET = 0.05
"""Loss of keeping the design above which the answer rests on a constant."""
CHANGE_REGRET = 0.005
"""Least loss for which another strategy or variant is a change: below it, both are as good."""


@dataclass(frozen=True)
class AnswerReliance:
    """Regret of an optimum over the bands around its constants."""

    study: RegretStudy
    origins: dict[str, Origin]
    """Origins of the constants with scenarios."""

    def decides(self, loaded: LoadedSearch, path: str, chosen: Any) -> bool:
        """True if the answer rests on a constant: at an end of its band the design breaks a limit,
        loses more than `LARGE_REGRET`, or another strategy or variant is better."""
        return any(
            scenario.regret > LARGE_REGRET
            or (scenario.regret > CHANGE_REGRET and _has_other_choice(loaded, scenario, chosen))
            for scenario in self.study.scenarios
            if scenario.path == path
        )


def answer_reliance(
    loaded: LoadedSearch,
    objective: ObjectiveFn,
    design: Any,
    prices: np.ndarray,
    seed: int,
    *,
    finds_robust: bool = False,
) -> AnswerReliance:
    """Regret of a rounded design over the bands around all constants that are not measured,
    published or given, and that are not searched. `prices` are the multipliers of the limits."""
    known = banded_constants(loaded)
    bands = [
        Band(path, value, *origin.interval(path, value))
        for path, origin in known.items()
        for value in (float(get_path(loaded.base, path)),)
    ]
    study = study_regret(
        objective, loaded.space, design, bands, prices, seed=seed, finds_robust=finds_robust
    )
    return AnswerReliance(study, {path: known[path] for path in study.effects})


def banded_constants(loaded: LoadedSearch) -> dict[str, Origin]:
    """Origins of the constants of `NOT_MEASURED` with a band, by path; zero has none."""
    searched = searched_leaves(loaded.space)
    found = {}
    for path, origin in origins(loaded).items():
        if origin.kind not in NOT_MEASURED or path.startswith("workload.") or path in searched:
            continue
        value = get_path(loaded.base, path)
        if isinstance(value, str | bool | tuple) or value is None or origin.band <= 0.0:
            continue
        if float(value) != 0.0 and math.isfinite(float(value)):
            found[path] = origin
    return found


def searched_leaves(space: SearchSpace) -> set[str]:
    """Paths that a search sets."""
    paths = {dimension.path for dimension in space.dimensions}
    paths |= {path for choice in space.choices for path in choice.paths}
    return paths | {variant.path for variant in space.variants}


def changed_leaves(space: SearchSpace, design: Any, other: Any) -> list[str]:
    """Searched paths in which two designs differ."""
    paths = [dimension.path for dimension in space.dimensions]
    paths += [path for choice in space.choices for path in choice.paths]
    paths += [variant.path for variant in space.variants]
    return [p for p in dict.fromkeys(paths) if get_path(design, p) != get_path(other, p)]


def _has_other_choice(loaded: LoadedSearch, scenario: Scenario, chosen: Any) -> bool:
    if scenario.best_design is None:
        return False
    space = SearchSpace((), loaded.space.choices, loaded.space.variants)
    return bool(changed_leaves(space, chosen, scenario.best_design))
