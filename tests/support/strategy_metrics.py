"""Strategies of the reference search with their metrics, compiled once for all tests."""

import dataclasses
import functools

import numpy as np

from hwdse.config import load_search
from hwdse.config.search.job_source import JobSource
from hwdse.numerics.relaxation import total
from hwdse.training.strategy_enumeration import FIELDS, enumerate_strategies
from hwdse.training.strategy_ranking import evaluate_strategies

PRESET = "trn2_llama3_70b"


@functools.cache
def evaluated_strategies():
    """Base design, workload, all strategies of the default options, and their metrics."""
    # Without the choice of strategies, whose ranking `known_metrics` stands for.
    loaded = load_search(JobSource(PRESET, {"choices": []}))
    strategies = enumerate_strategies(loaded.workload, loaded.base.cluster.num_chips)
    return (
        loaded.base,
        loaded.workload,
        strategies,
        evaluate_strategies(loaded.base, loaded.workload, strategies),
    )


@functools.cache
def row_of():
    """Row of each strategy by the values of its fields."""
    strategies = evaluated_strategies()[2]
    values = zip(*(strategies[name].tolist() for name in FIELDS), strict=True)
    return {key: row for row, key in enumerate(values)}


def known_metrics(design, job, strategies):
    """Result of `evaluate_strategies` for a subset of these strategies.

    Only the HBM capacity may differ.
    """
    base, work, _, metrics = evaluated_strategies()
    hbm = base.chip.hbm.replace(capacity_bytes=design.chip.hbm.capacity_bytes)
    same = base.replace(chip=base.chip.replace(hbm=hbm))
    assert design.replace(parallelism=same.parallelism) == same
    assert job == work
    keys = zip(*(strategies[name].tolist() for name in FIELDS), strict=True)
    # ZeRO stages of one replica are listed once.
    rows = np.array(
        [row_of().get(key) or row_of()[(*key[:9], 1.0, 0.0, 0.0, *key[12:])] for key in keys]
    )
    picked = {}
    for field in dataclasses.fields(metrics):
        value = getattr(metrics, field.name)
        if dataclasses.is_dataclass(value):
            parts = {f.name: getattr(value, f.name)[rows] for f in dataclasses.fields(value)}
            picked[field.name] = type(value)(**parts)
        else:
            picked[field.name] = value[rows]
    picked["hbm_used_ratio"] = total(picked["hbm"]) / design.chip.hbm.capacity_bytes
    return type(metrics)(**picked)
