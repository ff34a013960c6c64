"""Baseline searches without gradients: random, Sobol, NSGA-II, TPE and CMA-ES.

All evaluate rounded points with the same exact model under the same constraints, within one budget
of evaluations. A point consists of unit cube coordinates (logarithmic ranges are logarithmic for
all methods), one alternative per choice, and one value per variant. Stepped values are rounded.

pymoo, optuna and cmaes are imported on use: `pip install 'hwdse[compare]'`.
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
"""Takes evaluator, base design, evaluations and seed; the evaluator reports the results."""

BATCH = 512
"""Points per batch of random and Sobol search."""
LARGEST_POPULATION = 100
"""Default of pymoo. Smaller budgets have 20 generations of a smaller population, which improves
their results."""
TPE_TRIALS = 1_000
"""Maximum trials of TPE for any budget. The time of its sampler grows with each trial (70 s for
2,000 in 8 dimensions), and Optuna recommends up to 1,000."""
CMA_PENALTY = 5.0
"""Weight of a constraint violation in the objective of CMA-ES, which has no constraints: the
minimum penalty of the gradient search."""


CMA_DEVIATION = 1.0 / 6.0
"""Initial standard deviation of CMA-ES in the unit cube, that of the sampler of Optuna."""


class MissingPackageError(ValueError):
    """Error for a method of the comparison whose package is not installed; one line for the
    user."""


def random_search(evaluator: Evaluator, base: Any, num_evaluations: int, seed: int) -> None:
    """Evaluate independent uniform points of the cube, with the variants in turn."""
    _sampled("random", evaluator, base, num_evaluations, seed)


def sobol_search(evaluator: Evaluator, base: Any, num_evaluations: int, seed: int) -> None:
    """Evaluate a scrambled Sobol sequence, with the variants in turn."""
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
    """Run NSGA-II of pymoo with its default operators; for one objective, the GA of pymoo.

    Dimensions are reals; choices and variants are categories (mixed mating of pymoo if there are
    any). Infeasible points are ranked by total violation.
    """
    if _has_one_point(evaluator):
        random_search(evaluator, base, 1, seed)
        return
    termination = _require("pymoo.termination").get_termination("n_eval", num_evaluations)
    static_problem = _require("pymoo.problems.static").StaticProblem
    pymoo_evaluator = _require("pymoo.core.evaluator").Evaluator()
    population = int(np.clip(num_evaluations // 20, 10, LARGEST_POPULATION))
    problem, algorithm = _pymoo_parts(evaluator, population)
    algorithm.setup(problem, termination=termination, seed=seed, verbose=False)
    while evaluator.num_evaluations < num_evaluations:
        requested = algorithm.ask()
        if requested is None or not len(requested):
            return
        requested = requested[: num_evaluations - evaluator.num_evaluations]
        rows = evaluator(*_pymoo_points(evaluator.space, requested.get("X")))
        log_objectives = np.where(np.isfinite(rows.log_objectives), rows.log_objectives, 1e6)
        broken = np.where(np.isfinite(rows.constraint_values), rows.constraint_values, 1e6)
        pymoo_evaluator.eval(static_problem(problem, F=log_objectives, G=broken), requested)
        algorithm.tell(infills=requested)


def _pymoo_parts(evaluator: Evaluator, population: int) -> tuple[Any, Any]:
    """Problem and algorithm of pymoo: reals alone, or reals with categories."""
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


def _pymoo_points(space: SearchSpace, requested: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if requested.dtype != object:
        return space.snap_points(requested), np.zeros(len(requested), int)
    rows = [[row[name] for name in sorted(row)] for row in requested]
    num_categories = sum(name.startswith("category") for name in requested[0])
    table = np.asarray(rows, np.float64)
    return _snapped(space, table[:, num_categories:], table[:, :num_categories].astype(int))


def tpe_search(evaluator: Evaluator, base: Any, num_evaluations: int, seed: int) -> None:
    """Run TPE of Optuna with its constraints; choices and variants are categories.

    Stops after `TPE_TRIALS` trials.
    """
    if _has_one_point(evaluator):
        random_search(evaluator, base, 1, seed)
        return
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
    """Run CMA-ES of `cmaes` for one objective; a violated constraint costs five times its
    logarithm.

    Starts as the CMA-ES sampler of Optuna, which uses the same package: at the center of the cube,
    with a deviation of one sixth. Choices and variants are integers treated as reals: its
    covariance has no categories.
    """
    cmaes = _require("cmaes")
    if evaluator.shape[0] > 1:
        raise ValueError("CMA-ES has one objective")
    if _has_one_point(evaluator):
        random_search(evaluator, base, 1, seed)
        return
    sizes, num_reals = _category_sizes(evaluator), len(evaluator.space.dimensions)
    num_dims = num_reals + len(sizes)
    bounds = np.repeat([[0.0, 1.0]], num_dims, axis=0)
    optimizer = cmaes.CMA(np.full(num_dims, 0.5), CMA_DEVIATION, bounds=bounds, seed=seed)
    while evaluator.num_evaluations < num_evaluations:
        requested = np.stack([optimizer.ask() for _ in range(optimizer.population_size)])
        requested = requested[: num_evaluations - evaluator.num_evaluations]
        picks = (
            np.floor(requested[:, num_reals:] * sizes).clip(0, np.asarray(sizes) - 1).astype(int)
        )
        rows = evaluator(*_snapped(evaluator.space, requested[:, :num_reals], picks))
        if len(requested) == optimizer.population_size:
            optimizer.tell(list(zip(requested, _penalized(rows), strict=True)))


def _penalized(rows: DesignSet) -> np.ndarray:
    merit = EvaluatedPoints(rows.units, rows.log_objectives[:, 0], rows.constraint_values).merit(
        np.full(rows.constraint_values.shape[1], CMA_PENALTY)
    )
    return np.where(np.isfinite(merit), merit, 1e6)


def _category_sizes(evaluator: Evaluator) -> list[int]:
    """Numbers of alternatives per choice, then of the variants if there are several."""
    sizes = [len(choice.table) for choice in evaluator.space.choices]
    return [*sizes, len(evaluator.bases)] if len(evaluator.bases) > 1 else sizes


def _has_one_point(evaluator: Evaluator) -> bool:
    """Whether nothing is searched: samplers of pymoo and cmaes fail without a dimension."""
    return not evaluator.space.dimensions and not _category_sizes(evaluator)


def _snapped(
    space: SearchSpace, reals: np.ndarray, picks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rounded points and variants of reals with categories."""
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
