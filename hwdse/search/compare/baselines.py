"""Searches without gradients, to be compared with: random, Sobol, NSGA-II, TPE and CMA-ES.

All judge buildable points in the same exact reading under the same constraints, and spend one
budget of evaluations. A point is asked for as coordinates of the unit cube (so ranges that are
logarithmic for our search are so for all), one alternative for each choice, and one value for
each variant; stepped values are snapped.

pymoo, optuna and cmaes are imported where they are used: `pip install 'hwdse[compare]'`.
"""

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from hwdse.search.evaluation.evaluator import Evaluator
from hwdse.search.evaluation.search_result import EvaluatedPoints
from hwdse.search.pareto.pareto_archive import DesignSet
from hwdse.search.space.point_sequences import host_points, make_sequence
from hwdse.search.space.search_space import SearchSpace

Baseline = Callable[[Evaluator, Any, int, int], None]
"""Evaluator, base design, evaluations, seed: what was found is what the evaluator reported."""

BATCH = 512
"""Points that methods without memory ask for at once."""
LARGEST_POPULATION = 100
"""pymoo's default; smaller budgets have 20 generations of fewer, which is better for them."""
TPE_TRIALS = 1_000
"""Trials after which TPE stops, whatever the budget: its sampler takes longer with each trial
(70 s for 2,000 in 8 dimensions), and Optuna advises it for up to 1,000."""
CMA_PENALTY = 5.0
"""Weight of a broken constraint in the value that CMA-ES minimizes, which knows none: that of
our own search."""


CMA_DEVIATION = 1.0 / 6.0


class MissingPackageError(ValueError):
    """A method of the comparison needs a package that is not there; one line for its user."""


def random_search(evaluator: Evaluator, base: Any, num_evaluations: int, seed: int) -> None:
    """Independent uniform points of the cube, variants drawn alike."""
    _sampled("random", evaluator, base, num_evaluations, seed)


def sobol_search(evaluator: Evaluator, base: Any, num_evaluations: int, seed: int) -> None:
    """A scrambled Sobol sequence, dealt to the variants in turn."""
    _sampled("sobol", evaluator, base, num_evaluations, seed)


def _sampled(method: str, evaluator: Evaluator, base: Any, num_evaluations: int, seed: int) -> None:
    sequence = make_sequence(method, evaluator.space, seed=seed)
    for start in range(0, num_evaluations, BATCH):
        sequence_indices = np.arange(start, min(start + BATCH, num_evaluations))
        evaluator(
            evaluator.space.snap_points(host_points(sequence, sequence_indices)),
            sequence_indices % len(evaluator.bases),
        )


def nsga2_search(evaluator: Evaluator, base: Any, num_evaluations: int, seed: int) -> None:
    """NSGA-II of pymoo with its default operators; with one objective pymoo's GA.

    Dimensions are reals, choices and variants categories (pymoo's mixed mating where there are
    any). Infeasible points rank by the sum of their violations.
    """
    termination = _require("pymoo.termination").get_termination("n_eval", num_evaluations)
    static_problem = _require("pymoo.problems.static").StaticProblem
    pymoo_evaluator = _require("pymoo.core.evaluator").Evaluator()
    population = int(np.clip(num_evaluations // 20, 10, LARGEST_POPULATION))
    problem, algorithm = _pymoo_parts(evaluator, population)
    algorithm.setup(problem, termination=termination, seed=seed, verbose=False)
    while evaluator.num_evaluations < num_evaluations:
        asked = algorithm.ask()
        if asked is None or not len(asked):
            return
        asked = asked[: num_evaluations - evaluator.num_evaluations]
        rows = evaluator(*_pymoo_points(evaluator.space, asked.get("X")))
        log_objectives = np.where(np.isfinite(rows.log_objectives), rows.log_objectives, 1e6)
        broken = np.where(np.isfinite(rows.constraint_values), rows.constraint_values, 1e6)
        pymoo_evaluator.eval(static_problem(problem, F=log_objectives, G=broken), asked)
        algorithm.tell(infills=asked)


def _pymoo_parts(evaluator: Evaluator, population: int) -> tuple[Any, Any]:
    """pymoo's problem and algorithm: reals alone, or reals with categories."""
    mixed, problem = _require("pymoo.core.mixed"), _require("pymoo.core.problem").Problem
    variable = _require("pymoo.core.variable")
    algorithms = (
        _require("pymoo.algorithms.moo.nsga2"),
        _require("pymoo.algorithms.soo.nonconvex.ga"),
    )
    num_objectives, num_constraints = evaluator.shape
    sizes = _category_sizes(evaluator)
    num_reals = len(evaluator.space.dimensions)
    method = algorithms[0].NSGA2 if num_objectives > 1 else algorithms[1].GA
    shape = {"n_obj": num_objectives, "n_ieq_constr": num_constraints}
    if not sizes:
        return problem(n_var=num_reals, xl=0.0, xu=1.0, **shape), method(pop_size=population)
    variables: dict[str, Any] = {
        f"real{i:03d}": variable.Real(bounds=(0, 1)) for i in range(num_reals)
    }
    for i, size in enumerate(sizes):
        variables[f"category{i:03d}"] = variable.Choice(options=list(range(size)))
    doubles = mixed.MixedVariableDuplicateElimination()
    algorithm = method(
        pop_size=population,
        sampling=mixed.MixedVariableSampling(),
        mating=mixed.MixedVariableMating(eliminate_duplicates=doubles),
        eliminate_duplicates=doubles,
    )
    return problem(vars=variables, **shape), algorithm


def _pymoo_points(space: SearchSpace, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if asked.dtype != object:
        return space.snap_points(asked), np.zeros(len(asked), int)
    rows = [[row[name] for name in sorted(row)] for row in asked]
    num_categories = sum(name.startswith("category") for name in asked[0])
    table = np.asarray(rows, np.float64)
    return _snapped(space, table[:, num_categories:], table[:, :num_categories].astype(int))


def tpe_search(evaluator: Evaluator, base: Any, num_evaluations: int, seed: int) -> None:
    """TPE of Optuna with its constraints; choices and variants are categories.

    Stops after `TPE_TRIALS` trials.
    """
    optuna = _require("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed), directions=["minimize"] * evaluator.shape[0]
    )
    sizes, num_reals = _category_sizes(evaluator), len(evaluator.space.dimensions)
    for _ in range(min(num_evaluations, TPE_TRIALS)):
        trial = study.ask()
        reals = [trial.suggest_float(f"x{i}", 0.0, 1.0) for i in range(num_reals)]
        picks = [trial.suggest_categorical(f"c{i}", range(size)) for i, size in enumerate(sizes)]
        rows = evaluator(*_snapped(evaluator.space, np.asarray([reals]), np.asarray([picks], int)))
        for i, violation in enumerate(rows.constraint_values[0]):
            trial.set_constraint(f"g{i}", min(float(violation), 1e6))
        study.tell(
            trial,
            np.where(np.isfinite(rows.log_objectives[0]), rows.log_objectives[0], 1e6).tolist(),
        )


def cma_es_search(evaluator: Evaluator, base: Any, num_evaluations: int, seed: int) -> None:
    """CMA-ES of `cmaes`, for one objective; a broken constraint costs five times its logarithm.

    Begins as Optuna's sampler, which is made of it, does: in the middle of the cube, with a
    deviation of a sixth. Choices and variants are whole numbers, which it moves as reals: its
    covariance has no categories.
    """
    cmaes = _require("cmaes")
    if evaluator.shape[0] > 1:
        raise ValueError("CMA-ES has one objective")
    sizes, num_reals = _category_sizes(evaluator), len(evaluator.space.dimensions)
    num_dims = num_reals + len(sizes)
    bounds = np.repeat([[0.0, 1.0]], num_dims, axis=0)
    optimizer = cmaes.CMA(np.full(num_dims, 0.5), CMA_DEVIATION, bounds=bounds, seed=seed)
    while evaluator.num_evaluations < num_evaluations:
        asked = np.stack([optimizer.ask() for _ in range(optimizer.population_size)])
        asked = asked[: num_evaluations - evaluator.num_evaluations]
        picks = np.floor(asked[:, num_reals:] * sizes).clip(0, np.asarray(sizes) - 1).astype(int)
        rows = evaluator(*_snapped(evaluator.space, asked[:, :num_reals], picks))
        if len(asked) == optimizer.population_size:
            optimizer.tell(list(zip(asked, _penalized(rows), strict=True)))


def _penalized(rows: DesignSet) -> np.ndarray:
    merit = EvaluatedPoints(rows.units, rows.log_objectives[:, 0], rows.constraint_values).merit(
        np.full(rows.constraint_values.shape[1], CMA_PENALTY)
    )
    return np.where(np.isfinite(merit), merit, 1e6)


def _category_sizes(evaluator: Evaluator) -> list[int]:
    """Numbers of alternatives: of each choice, then of the variants where there are several."""
    sizes = [len(choice.table) for choice in evaluator.space.choices]
    return [*sizes, len(evaluator.bases)] if len(evaluator.bases) > 1 else sizes


def _snapped(
    space: SearchSpace, reals: np.ndarray, picks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Snapped points and variants of reals with categories."""
    num_choices = len(space.choices)
    sizes = np.asarray([len(choice.table) for choice in space.choices], float)
    indices = (picks[:, :num_choices] + 0.5) / sizes if num_choices else picks[:, :0] * 1.0
    has_variants = picks.shape[1] > num_choices
    variants = picks[:, -1] if has_variants else np.zeros(len(picks), int)
    return space.snap_points(np.concatenate((reals, indices), axis=1)), variants


def _require(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"{package.split('.')[0]} is not installed: pip install 'hwdse[compare]'"
        ) from error


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "random": random_search,
        "sobol": sobol_search,
        "nsga2": nsga2_search,
        "tpe": tpe_search,
        "cma_es": cma_es_search,
    }
)
"""Methods by name."""
