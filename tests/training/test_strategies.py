"""Parallelism strategies: enumeration, metrics, ranking, and choices of a search."""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.strategy_metrics import PRESET, evaluated_strategies, known_metrics

from hwdse.config import load_search, load_workload
from hwdse.evaluation import evaluate_exact
from hwdse.numerics.factored_program import Columns, FactoredProgram
from hwdse.specs.design import Parallelism
from hwdse.training.strategy_enumeration import (
    FIELDS,
    RECOMPUTE,
    ZERO,
    StrategyOptions,
    data_degrees,
    enumerate_strategies,
    recompute_names,
    strategy_at,
    strategy_label,
    zero_stages,
)
from hwdse.training.strategy_ranking import METRICS, ranked, representatives, strategy_metrics_of
from hwdse.training.strategy_rules import strategy_problem
from hwdse.workload.transformer.model_config import LayerOverrides

RARE = ("zero_bubble_fraction", "dual_pipe_fraction", "expert_tensor")
"""Fields that a choice sets if its strategies differ in them."""
BASE = Parallelism(1.0, 1.0, 1.0, 0.0, 0.0)
GPT3 = load_workload("gpt3_175b").replace(global_batch=1536.0)


def keys(table):
    """Rows as tuples of the values of `FIELDS`."""
    return list(zip(*(table[name].tolist() for name in FIELDS), strict=True))


def small_job(name="mixtral_8x7b"):
    job = load_workload(name)
    model = job.model.replace(num_layers=6.0, num_heads=12.0, num_kv_heads=4.0)
    if name == "mixtral_8x7b":
        model = model.replace(num_experts=4.0)
    return job.replace(model=model, seq_len=16384.0, global_batch=24.0)


def job_of_two_kinds():
    """Tokens, head groups and sizes that some degrees do not divide, in one kind or the other."""
    job = small_job("gpt3_125m")
    dense = LayerOverrides(count=1.0, feedforward=3006.0)
    mixture = LayerOverrides(
        count=2.0,
        num_kv_heads=6.0,
        num_experts=6.0,
        experts_per_token=2.0,
        expert_feedforward=2400.0,
    )
    model = job.model.replace(num_kv_heads=2.0, layers=(dense, mixture))
    return job.replace(model=model, seq_len=16392.0, global_batch=36.0)


def brute_force(job, num_chips):
    """All strategies by brute force; the canonical one of equivalent strategies."""
    found = set()
    degrees = [float(x) for x in range(1, int(num_chips) + 1)]
    sizes = [2.0**x for x in range(6)]
    ranges = (degrees, degrees, sizes[:4], degrees, sizes, degrees[:6])
    has_experts = any(model.num_experts > 0.0 for model in job.model.layer_models)
    shards_of = (0.0, 1.0) if has_experts else (0.0,)
    for *degrees_of, shards in itertools.product(*ranges, shards_of):
        tensor, pipeline, context = degrees_of[:3]
        if tensor * pipeline * context > num_chips or context > 4.0 or shards >= tensor:
            continue
        parallelism = BASE.replace(**dict(zip(FIELDS, degrees_of, strict=False)))
        parallelism = parallelism.replace(expert_tensor=shards)
        without = parallelism.replace(sequence_parallel_fraction=0.0)
        if shards == 0.0 and strategy_problem(without, num_chips, job) is not None:
            continue
        for sequence in (0.0, 1.0):
            one = parallelism.replace(sequence_parallel_fraction=sequence)
            if strategy_problem(one, num_chips, job) is not None:
                continue
            for recompute, zero in itertools.product(RECOMPUTE.values(), (1, 2, 3)):
                is_one_rank = tensor == 1.0 and sequence == 0.0
                if not (is_one_rank or (zero > 1 and tensor * pipeline == num_chips)):
                    found.add((*degrees_of, sequence, *recompute, *ZERO[zero], 0.0, 0.0, shards))
    return found


@pytest.mark.parametrize(
    ("job", "num_chips"),
    [(small_job(), 8.0), (small_job("gpt3_125m"), 8.0), (job_of_two_kinds(), 12.0)],
    ids=["mixtral_8x7b", "gpt3_125m", "two kinds"],
)
def test_enumeration_equals_brute_force(job, num_chips):
    table = keys(enumerate_strategies(job, num_chips))
    assert len(table) > 500
    assert set(table) == brute_force(job, num_chips)


@pytest.mark.parametrize("num_chips", [12.0, 64.0, 4096.0])
def test_strategies_are_valid_and_distinct(num_chips):
    table = enumerate_strategies(GPT3, num_chips)
    rows = keys(table)
    assert len(set(rows)) == len(rows) == len(table)
    data = data_degrees(table, num_chips)
    assert np.all(table["tensor"] * table["pipeline"] * table["context"] * data == num_chips)
    assert np.all(data == np.round(data))
    for row in np.linspace(0, len(rows) - 1, 300).astype(int):
        assert strategy_problem(strategy_at(table, int(row), BASE), num_chips, GPT3) is None


def test_options_restrict_the_enumeration():
    everything = set(keys(enumerate_strategies(GPT3, 512.0)))
    options = StrategyOptions(
        tensor=(8.0, 16.0), micro_batch=(1.0,), recompute=("full",), zero=(1, 3), sequence=(1,)
    )
    table = enumerate_strategies(GPT3, 512.0, options)
    assert set(table["tensor"]) == {8.0, 16.0}
    assert set(recompute_names(table)) == {"full"}
    assert set(zero_stages(table)) == {1.0, 3.0}
    kept = {
        row
        for row in everything
        if row[0] in (8.0, 16.0) and row[4] == 1.0 and row[6:9] == (1.0, 1.0, 0.0)
        and row[9:12] in (ZERO[1], ZERO[3])
    }  # fmt: skip
    assert set(keys(table)) == kept
    even = enumerate_strategies(
        GPT3.replace(global_batch=1280.0), 640.0, StrategyOptions(even_stages=True)
    )
    every = enumerate_strategies(GPT3.replace(global_batch=1280.0), 640.0)
    assert np.all(96 % even["pipeline"] == 0)
    assert set(keys(even)) == {row for row in keys(every) if 96 % row[1] == 0}
    assert len(even) < len(every)


def test_no_valid_strategy_is_an_empty_table():
    assert len(enumerate_strategies(GPT3, 512.0, StrategyOptions(tensor=(7.0,)))) == 0
    assert len(enumerate_strategies(GPT3, 512.0, StrategyOptions(context=(3.0,)))) == 0


def test_only_long_sequences_have_context_parallelism():
    assert set(enumerate_strategies(GPT3, 64.0)["context"]) == {1.0}
    long = enumerate_strategies(GPT3.replace(seq_len=32768.0), 64.0)
    assert set(long["context"]) == {1.0, 2.0, 4.0, 8.0}


def toy(values):
    """Function with parts that depend on few inputs, and on none."""
    few = jnp.sum(jnp.sin(values["a"] * jnp.arange(50.0)))
    other = jnp.where(values["b"] > 2.0, jnp.log(values["b"]), few)
    none = jnp.sum(jnp.cos(jnp.arange(9.0)))
    return {"late": few * other + values["c"] * values["d"], "few": few, "same": none}


@pytest.mark.parametrize(("x64", "tolerance"), [(False, 1e-6), (True, 1e-13)])
@pytest.mark.parametrize("size", [1, 9000])
def test_factored_program_equals_the_function(x64, tolerance, size):
    rng = np.random.default_rng(0)
    values = {name: rng.integers(1, 6, size).astype(float) for name in "abc"}
    values["d"] = rng.normal(size=size)
    values["fixed"] = np.full(size, 3.0)
    with jax.enable_x64(x64):
        got = FactoredProgram(toy, Columns.of(values)).run()
        want = jax.vmap(toy)({name: jnp.asarray(column, float) for name, column in values.items()})
    assert got["late"].dtype == (np.float64 if x64 else np.float32)
    for name, column in want.items():
        np.testing.assert_allclose(got[name], column, rtol=tolerance, atol=tolerance)


def test_stages_depend_on_few_columns():
    values = np.arange(10_000.0)
    program = FactoredProgram(toy, Columns.of({"a": values % 4, "b": values % 3, "c": values,
                                             "d": values}))  # fmt: skip
    names = [stage.names for stage in program._plan[0]]
    assert names[-1] == ("a", "b", "c", "d")
    assert ("a",) in names


def test_strategy_metrics_equal_those_of_evaluate():
    base, job, table, metrics = evaluated_strategies()
    for row in np.random.default_rng(1).integers(0, len(table), 32).tolist():
        parallelism = strategy_at(table, row, base.parallelism)
        want = strategy_metrics_of(evaluate_exact(base.replace(parallelism=parallelism), job))
        # Parts that are differences of times have the accuracy of these times.
        part_of = 1e-13 * want.step_time_s
        for path, value in jax.tree.leaves_with_path(want):
            got = metrics
            for key in path:
                got = getattr(got, key.name)
            assert got[row] == pytest.approx(value, rel=1e-12, abs=part_of), path


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_ranking_is_sorted_and_fits_the_hbm(metric):
    _, _, table, metrics = evaluated_strategies()
    order, values = ranked(metrics, metric), getattr(metrics, METRICS[metric])
    assert 0 < len(order) < len(table)
    assert np.all(np.diff(values[order]) >= 0.0)
    assert np.all(metrics.hbm_used_ratio[order] <= 1.0)
    assert values[order[0]] == np.min(values[metrics.hbm_used_ratio <= 1.0])
    assert len(ranked(metrics, metric, 0.5)) == np.sum(metrics.hbm_used_ratio <= 0.5)


def test_representatives_include_the_fastest_of_every_group():
    _, _, table, metrics = evaluated_strategies()
    kept = representatives(table, metrics, 64)
    assert len(set(kept.tolist())) == 64
    assert kept[0] == ranked(metrics, "step_time")[0]
    groups = set(zip(table["tensor"][kept], table["pipeline"][kept], table["context"][kept],
                     strict=True))  # fmt: skip
    assert len(groups) == 64
    assert len(representatives(table, metrics, 10**9)) == len(table)


def test_strategy_label():
    zeros = (
        "sequence_parallel_fraction",
        "gradient_shard_fraction",
        "weight_shard_fraction",
        "attention_recompute_fraction",
        "zero_bubble_fraction",
        "dual_pipe_fraction",
        "expert_tensor",
    )
    values = dict.fromkeys(FIELDS, 1.0) | dict.fromkeys(zeros, 0.0)
    values |= {"tensor": 8.0, "pipeline": 4.0, "virtual_pipeline": 2.0}
    table = Columns.of({name: np.array([value]) for name, value in values.items()})
    name = "TP8 PP4 DP2, micro-batch 1, VPP 2, full recompute, ZeRO-1, no sequence parallelism"
    assert strategy_label(table, 0, 64.0) == name


def search_text(choice):
    text = Path(__file__).parents[2].joinpath(f"configs/searches/{PRESET}.toml").read_text()
    start, end = text.index('values = "best"'), text.index("[[variants]]")
    return text[:start] + choice + "\n\n" + text[end:]


def loaded_choice(tmp_path, choice):
    tmp_path.joinpath("x.toml").write_text(search_text(choice))
    return load_search(tmp_path / "x.toml").space.choices[0]


def test_best_strategies_as_choices(tmp_path, monkeypatch):
    monkeypatch.setattr("hwdse.training.strategy_ranking.evaluate_strategies", known_metrics)
    choice = loaded_choice(tmp_path, 'values = "best"\nzero = [1, 3]\ntensor = [4, 8]')
    fields = FIELDS[: -len(RARE)]
    assert FIELDS[len(fields) :] == RARE
    assert choice.paths == tuple(f"parallelism.{name}" for name in fields)
    assert len(choice.table) == len(set(choice.labels)) == 64
    _, _, table, metrics = evaluated_strategies()
    mask = np.isin(zero_stages(table), (1.0, 3.0)) & np.isin(table["tensor"], (4.0, 8.0))
    order = ranked(metrics, "step_time")
    best = order[mask[order]][0]
    assert choice.table[0] == keys(table)[best][: len(fields)]
    fewer = loaded_choice(tmp_path, 'values = "best"\nkeep = 5')
    assert len(fewer.table) == 5


def test_all_strategies_accept_lists_of_other_fields(tmp_path, monkeypatch):
    monkeypatch.setattr("hwdse.training.strategy_ranking.evaluate_strategies", known_metrics)
    plain = loaded_choice(tmp_path, 'values = "all"')
    assert all("ZeRO" not in label for label in plain.labels)
    both = loaded_choice(tmp_path, 'values = "all"\nzero = [1, 3]')
    assert len(both.table) == 2 * len(plain.table)
    assert len(set(both.labels)) == len(both.labels)
    many = 'values = "all"\nzero = [1, 3]\ncontext = [1, 2]\nmicro_batch = [1, 2]'
    assert len(loaded_choice(tmp_path, many).table) == 64
    assert len(loaded_choice(tmp_path, many + "\nkeep = 10_000").table) > 64


@pytest.mark.parametrize(
    ("choice", "line"),
    [
        ('values = "best"\nzero = [4]', "zero = [4]: expected a list of some of"),
        ('values = "best"\nrecompute = ["half"]', "recompute = ['half']: expected a list of some"),
        ('values = "best"\nrecompute_fraction = [1]', "recompute_fraction = [1]: expected recompu"),
        ('values = "best"\nkeep = 0', "keep = 0: expected a whole number of at least 1"),
        ('values = "best"\ntensor = [7]', 'values = "best": expected chips, heads, layers'),
        (
            'values = "all"\ntensor = [8]',
            'tensor = [8]: expected values = "best" in the same table',
        ),
        ("values = [{ tensor = 8 }]\nzero = [1]", "zero = [1]: expected values"),
    ],
)
def test_errors_in_choices(tmp_path, choice, line):
    with pytest.raises(ValueError, match=r"x\.toml") as caught:
        loaded_choice(tmp_path, choice)
    assert line.partition(":")[0] in str(caught.value)
    assert line.partition(": ")[2] in str(caught.value)
