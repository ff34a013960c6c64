"""Layouts that AWS trains with on Trainium1 among those that the layout search finds.

The file is that of `aws_training`. A job counts once, with the tensor and pipeline degrees of its
row; what else a layout sets (micro-batch, ZeRO stage, recomputation) the search leaves as the
row's stack has it, since the scripts of the benchmarks offer no other. Jobs of one layout that
the model has no room for are skipped.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwdse.specs.design import Parallelism
from hwdse.training.strategy_enumeration import RECOMPUTE, StrategyOptions, enumerate_strategies
from hwdse.training.strategy_ranking import evaluate_strategies
from hwdse.validation.aws.aws_training import measured_runs
from hwdse.validation.aws.neuron_jobs import degree, job_of
from hwdse.validation.aws.neuron_models import plain_name
from hwdse.validation.measured.training_jobs import Job
from hwdse.validation.shared.reference_table import Comparison, ValidationReport, build_report

CHIP = "trainium1"
NUM_BEST = 5
"""A layout agrees when it is among so many of the best."""
TENSOR_DEGREES = (1.0, 2.0, 8.0, 32.0)
"""Tensor-parallel groups of NeuronCores that the Neuron runtime has on Trn1. Source: AWS Neuron
SDK, Transformers NeuronX developer guide, tensor-parallelism support (releases before 2.20; later
ones add 16)."""


@dataclass(frozen=True)
class Recommendation:
    """Times of the layouts of one job, one for each pair of tensor and pipeline degrees."""

    model: str
    parallelism: str
    rank: int
    """Of the row's own degrees, 1 for the fastest."""
    own_time_s: float
    times_s: tuple[float, ...]
    """Of all pairs of degrees that fit, fastest first."""

    @property
    def last_best_s(self) -> float:
        """Time of the slowest layout that is still among the best."""
        return self.times_s[min(NUM_BEST, len(self.times_s)) - 1]


def _options(parallelism: Parallelism) -> StrategyOptions:
    """What the row's training stack offers, and all its degrees."""
    shares = (parallelism.recompute_fraction, parallelism.attention_recompute_fraction)
    recompute = next(name for name, pair in RECOMPUTE.items() if pair == shares)
    return StrategyOptions(
        tensor=TENSOR_DEGREES,
        context=(1.0,),
        micro_batch=(float(parallelism.micro_batch),),
        virtual_pipeline=(1.0,),
        recompute=(recompute,),
        zero=(int(parallelism.optimizer_shard_fraction),),
        sequence=(int(parallelism.sequence_parallel_fraction),),
    )


def degrees_by_time(job: Job) -> dict[tuple[float, float], float]:
    """Step time in s of each pair of tensor and pipeline degrees that fits, fastest first."""
    design = job.design
    chips = float(design.cluster.num_chips)
    strategies = enumerate_strategies(job.workload, chips, _options(design.parallelism))
    scores = evaluate_strategies(design, job.workload, strategies)
    fits = np.asarray(scores.hbm_used_ratio) <= 1.0
    times_s = np.asarray(scores.step_time_s)
    found: dict[tuple[float, float], float] = {}
    for row in np.argsort(times_s, kind="stable"):
        if fits[row]:
            pair = float(strategies["tensor"][row]), float(strategies["pipeline"][row])
            found.setdefault(pair, float(times_s[row]))
    return found


def recommendation(row: Mapping[str, str]) -> Recommendation | None:
    """How the row's own degrees do among all; nothing where they do not fit in the model."""
    job = job_of(row)
    parallelism, found = job.design.parallelism, degrees_by_time(job)
    own = float(parallelism.tensor), float(parallelism.pipeline)
    if own not in found:
        return None
    return Recommendation(
        model=plain_name(row["model"]),
        parallelism=f"TP{own[0]:g} PP{own[1]:g} on {float(job.design.cluster.num_chips):g} cores",
        rank=list(found).index(own) + 1,
        own_time_s=found[own],
        times_s=tuple(found.values()),
    )


def _jobs(path: Path) -> list[Mapping[str, str]]:
    """The first row of each job and layout of decoders on Trainium1 with tensor parallelism."""
    found: dict[tuple[str, str, str], Mapping[str, str]] = {}
    for row, _ in measured_runs(path):
        if row["chip"].lower() == CHIP and degree(row, "TP") > 1.0:
            found.setdefault((plain_name(row["model"]), row["cores"], row["parallelism"]), row)
    return list(found.values())


def validate(path: Path) -> ValidationReport:
    """Time of AWS's layouts over the fastest of the search, overall and by rank.

    `mismatches` counts those that are not among the `NUM_BEST` best. Computed in float64.
    """
    jobs = _jobs(path)
    if not jobs:
        raise ValueError(f"{path}: no training row with TP above 1 on Trainium1; expected one")
    answers = [recommendation(row) for row in jobs]
    found = [answer for answer in answers if answer is not None]
    best = np.array([answer.times_s[0] for answer in found])
    last = np.array([answer.last_best_s for answer in found])
    own = np.array([answer.own_time_s for answer in found])
    skipped = Counter("the layout does not fit in the model" for each in answers if each is None)
    return build_report(
        "aws layouts",
        path,
        {"time_over_best": Comparison(best, own, resolution=2.0 * (last - best))},
        rows_skipped=dict(skipped),
        group_by={
            "job": [f"{answer.model} {answer.parallelism}" for answer in found],
            "rank": [str(answer.rank) for answer in found],
        },
    )
