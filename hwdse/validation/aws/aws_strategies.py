"""Rank of AWS's parallelism strategies on Trainium1 in the strategy enumeration.

The file is that of `aws_training.py`. Each job counts once, with the TP and PP degrees of its row.
Micro-batch, ZeRO stage and recomputation are fixed to those of the training stack, because the
benchmark scripts contain no others. Jobs whose strategy does not fit in the modeled HBM are
skipped.
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
from hwdse.validation.shared.reference_table import Comparison, ValidationReport, build_report
from hwdse.validation.training.training_jobs import Job

CHIP = "trainium1"
NUM_BEST = 5
"""A strategy agrees if it is among this many fastest."""
TENSOR_DEGREES = (1.0, 2.0, 8.0, 32.0)
"""TP group sizes in NeuronCores supported by the Neuron runtime on Trn1. Source: AWS Neuron SDK,
Transformers NeuronX developer guide, tensor-parallelism support (releases before 2.20; later
releases add 16)."""


@dataclass(frozen=True)
class Recommendation:
    """Step times of the strategies of one job, one per pair of TP and PP degrees."""

    model: str
    parallelism: str
    rank: int
    """Rank of the degrees in the row, 1 for the fastest."""
    own_time_s: float
    times_s: tuple[float, ...]
    """Step times of all fitting pairs of degrees, fastest first."""

    @property
    def last_best_s(self) -> float:
        """Time of the slowest strategy among the `NUM_BEST` fastest."""
        return self.times_s[min(NUM_BEST, len(self.times_s)) - 1]


def _options(parallelism: Parallelism) -> StrategyOptions:
    """Strategy options of the training stack of a row, with all degrees."""
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
    """Step time (s) of each fitting pair of TP and PP degrees, fastest first."""
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
    """Rank and step times of the degrees of a row; None if they do not fit in HBM."""
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
    """First row of each job and strategy of decoders on Trainium1 with tensor parallelism."""
    found: dict[tuple[str, str, str], Mapping[str, str]] = {}
    for row, _ in measured_runs(path):
        if row["chip"].lower() == CHIP and degree(row, "TP") > 1.0:
            found.setdefault((plain_name(row["model"]), row["cores"], row["parallelism"]), row)
    return list(found.values())


def validate(path: Path) -> ValidationReport:
    """Error table of the step time of AWS's strategies over the fastest, overall and by rank.

    `mismatches` counts strategies outside the `NUM_BEST` fastest. Computed in float64.
    """
    jobs = _jobs(path)
    if not jobs:
        raise ValueError(f"{path}: no training row with TP above 1 on Trainium1; expected one")
    ranked = [recommendation(row) for row in jobs]
    found = [each for each in ranked if each is not None]
    best = np.array([each.times_s[0] for each in found])
    last = np.array([each.last_best_s for each in found])
    own = np.array([each.own_time_s for each in found])
    skipped = Counter("the strategy does not fit in HBM" for each in ranked if each is None)
    return build_report(
        "aws strategies",
        path,
        {"time_over_best": Comparison(best, own, resolution=2.0 * (last - best))},
        rows_skipped=dict(skipped),
        group_by={
            "job": [f"{each.model} {each.parallelism}" for each in found],
            "rank": [str(each.rank) for each in found],
        },
    )
