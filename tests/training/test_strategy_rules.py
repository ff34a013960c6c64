"""Rules of parallelism strategies: refused as by training stacks, accepted where they ran."""

import csv
from pathlib import Path

import pytest

from hwdse.config import load_workload
from hwdse.specs.design import Parallelism
from hwdse.training.strategy_rules import strategy_problem
from hwdse.validation.aws import neuron_jobs
from hwdse.validation.training import training_jobs
from hwdse.validation.training.vtrain import COMMON
from hwdse.workload.transformer.model_config import LayerOverrides

DATA = Path(__file__).parents[1] / "data"
BASE = Parallelism(1.0, 1.0, 1.0, 0.0)
GPT3 = load_workload("gpt3_175b").replace(global_batch=1536.0)


def rows(name):
    lines = [x for x in DATA.joinpath(name).read_text().splitlines() if not x.startswith("#")]
    return list(csv.DictReader(lines))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"context": 3.0}, "context"),
        ({"expert": 2.0}, "expert"),
        ({"virtual_pipeline": 2.0}, "virtual_pipeline"),
        ({"pipeline": 4.0, "virtual_pipeline": 5.0}, "virtual_pipeline"),
        ({"pipeline": 16.0, "micro_batch": 64.0, "virtual_pipeline": 2.0}, "virtual_pipeline"),
        ({"recompute_fraction": 0.8, "attention_recompute_fraction": 0.4},
         "attention_recompute_fraction"),
    ],
)  # fmt: skip
def test_invalid_strategies_are_reported(change, key):
    assert strategy_problem(BASE, 64.0, GPT3) is None
    problem = strategy_problem(BASE.replace(**change), 64.0, GPT3)
    assert problem is not None
    assert problem[0] == key


def test_expert_degree_divides_experts_and_data_parallel_ranks():
    job = load_workload("mixtral_8x7b")
    assert strategy_problem(BASE.replace(expert=8.0), 64.0, job) is None
    assert strategy_problem(BASE.replace(expert=3.0), 64.0, job) == (
        "expert", "a divisor of 8, the experts of a layer")  # fmt: skip
    assert strategy_problem(BASE.replace(expert=8.0, tensor=16.0), 64.0, job) == (
        "expert", "a divisor of 4, the data-parallel ranks")  # fmt: skip


def test_experts_with_own_shards_span_tensor_ranks():
    job = load_workload("mixtral_8x7b")
    whole = BASE.replace(tensor=16.0, expert=8.0, expert_tensor=1.0)
    assert strategy_problem(whole, 64.0, job) is None
    problems = {
        "expert_tensor": (whole.replace(expert_tensor=3.0), whole.replace(expert_tensor=32.0)),
        "expert": (whole.replace(tensor=2.0, pipeline=8.0, expert=8.0, expert_tensor=2.0),),
    }
    for key, wrong in problems.items():
        for strategy in wrong:
            found = strategy_problem(strategy, 64.0, job)
            assert found is not None
            assert found[0] == key
    # Without sequence parallelism every tensor rank has all tokens.
    alone = whole.replace(sequence_parallel_fraction=0.0)
    assert strategy_problem(alone, 64.0, job) == (
        "expert_tensor", "16, the tensor ranks, without sequence parallelism")  # fmt: skip


LLAMA = load_workload("llama3_8b").replace(seq_len=8190.0, global_batch=48.0)
MODEL = LLAMA.model
"""32 heads, 8 key-value heads, feedforward size 14,336."""


@pytest.mark.parametrize(
    ("model", "degrees", "num_chips", "expected"),
    [
        # 24 heads and 8 key-value heads, as Llama 3.2 3B.
        (MODEL.replace(num_heads=24.0), {"tensor": 3.0}, 24.0,
         "a divisor or a multiple of 8, the key-value heads of the model"),
        (MODEL.replace(num_heads=24.0), {"tensor": 12.0}, 24.0,
         "a divisor or a multiple of 8, the key-value heads of the model"),
        (MODEL.replace(num_heads=48.0, feedforward=24576.0), {"tensor": 16.0}, 48.0, None),
        (MODEL.replace(num_heads=24.0, num_kv_heads=1.0, feedforward=14400.0), {"tensor": 12.0},
         24.0, None),
        (MODEL.replace(feedforward=14340.0), {"tensor": 8.0}, 24.0,
         "a divisor of 14340, the feedforward size of the model"),
    ],
)  # fmt: skip
def test_tensor_ranks_have_whole_heads_and_equal_shares_of_the_mlp(
    model, degrees, num_chips, expected
):
    parallelism = BASE.replace(sequence_parallel_fraction=0.0, **degrees)
    problem = strategy_problem(parallelism, num_chips, LLAMA.replace(model=model))
    assert problem == (None if expected is None else ("tensor", expected))


def test_key_value_heads_of_latent_attention_do_not_matter():
    job = load_workload("deepseek_v3")
    model = job.model.replace(num_heads=96.0, num_kv_heads=32.0, expert_feedforward=2049.0)
    problem = strategy_problem(BASE.replace(tensor=3.0, sequence_parallel_fraction=0.0), 3.0,
                               job.replace(model=model, global_batch=3.0))  # fmt: skip
    assert problem is None


def test_sequence_parallel_ranks_divide_the_tokens_of_a_context_rank():
    strategy = BASE.replace(tensor=4.0)  # 8,190 tokens
    expected = (
        "tensor * context = 4 to divide 8190, the tokens of a sequence, or "
        "sequence_parallel_fraction = 0"
    )
    assert strategy_problem(strategy, 24.0, LLAMA) == ("tensor", expected)
    assert strategy_problem(strategy.replace(sequence_parallel_fraction=0.0), 24.0, LLAMA) is None
    assert strategy_problem(strategy.replace(tensor=2.0, context=3.0), 24.0, LLAMA) is None
    both = strategy.replace(tensor=2.0, context=2.0)  # 4,095 tokens of a context rank
    assert strategy_problem(both, 24.0, LLAMA) == ("tensor", expected)


def test_tensor_ranks_divide_the_experts_and_only_the_widths_in_use():
    job = load_workload("mixtral_8x7b")
    odd = job.replace(model=job.model.replace(feedforward=14337.0))  # no layer is dense
    assert strategy_problem(BASE.replace(tensor=8.0), 64.0, odd) is None
    odd = job.replace(model=job.model.replace(expert_feedforward=14340.0))
    expected = ("tensor", "a divisor of 14340, the feedforward size of an expert")
    assert strategy_problem(BASE.replace(tensor=8.0), 64.0, odd) == expected


def test_every_kind_of_layers_counts():
    kinds = (LayerOverrides(count=31.0), LayerOverrides(count=1.0, feedforward=14340.0))
    job = LLAMA.replace(model=MODEL.replace(layers=kinds), seq_len=8192.0)
    expected = ("tensor", "a divisor of 14340, the feedforward size of the model")
    assert strategy_problem(BASE.replace(tensor=4.0), 24.0, job) is None
    assert strategy_problem(BASE.replace(tensor=8.0), 24.0, job) == expected


def test_embedding_and_head_may_take_the_place_of_layers():
    """Llama 3 405B: 126 layers in 16 stages of 8 virtual stages, one layer less at both ends."""
    job = load_workload("llama3_405b").replace(global_batch=2048.0)
    strategy = BASE.replace(tensor=8.0, pipeline=16.0, virtual_pipeline=8.0)
    assert strategy_problem(strategy, 8192.0, job) is None
    problem = strategy_problem(strategy.replace(virtual_pipeline=7.0), 8192.0, job)
    assert problem is not None
    assert problem[0] == "virtual_pipeline"


def test_sharded_gradients_need_a_sharded_optimizer():
    for name in ("gradient_shard_fraction", "weight_shard_fraction"):
        strategy = BASE.replace(**{name: 1.0}, optimizer_shard_fraction=0.0)
        problem = strategy_problem(strategy, 64.0, GPT3)
        assert problem is not None
        assert problem[0] == "optimizer_shard_fraction"


JOBS = {
    "measured_training_public.csv": (training_jobs, {}),
    "measured_vtrain_single_node_public.csv": (training_jobs, COMMON),
    "aws_training_public.csv": (neuron_jobs, {}),
}


@pytest.mark.parametrize("name", sorted(JOBS))
def test_strategies_of_measured_runs_are_accepted(name):
    module, common = JOBS[name]
    found = [{**common, **row} for row in rows(name)]
    jobs = [module.job_of(row) for row in found if module.problem_of(row) is None]
    assert len(jobs) > 30
    for job in jobs:
        num_chips = job.design.cluster.num_chips
        assert strategy_problem(job.design.parallelism, num_chips, job.workload) is None
