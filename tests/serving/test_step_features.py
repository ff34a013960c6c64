"""Counts of a step for fits: with the constants of an engine they give the time of its step."""

import dataclasses

import jax
import pytest

from hwdse.config import load_search
from hwdse.config.design.serving_files import load_engine_file
from hwdse.config.search.job_source import JobSource
from hwdse.serving.steps.message_costs import messages_time_s
from hwdse.serving.steps.step_power import fabric_of
from hwdse.serving.steps.step_time import operator_times
from hwdse.specs.serving.requests import StepLoad
from hwdse.validation.serving.step_features import step_features
from hwdse.workload.serving.step_operators import step_operators

LOADS = {
    "decode": StepLoad(64.0, 1500.0, 0.0, 512.0, 0.0),
    "with prompts": StepLoad(64.0, 1500.0, 2048.0, 512.0, 2.0),
}


SHARDED = {"tensor": 8.0}
SPREAD = {"tensor": 4.0, "attention_data": 2.0, "expert": 8.0}


@pytest.mark.parametrize(("strategy", "most"), [(SHARDED, 1e-2), (SPREAD, 5e-2)])
@pytest.mark.parametrize("name", list(LOADS))
@pytest.mark.parametrize("engine", ["vllm", "vllm_0_11", "tensorrt_llm"])
def test_features_give_the_time_of_the_step(engine, name, strategy, most):
    flags = {"system": "dgx_h100", "model": "mixtral_8x7b", "engine": engine, "precision": "fp8"}
    loaded = load_search(JobSource(None, {"design": {**flags, "parallelism": strategy}}))
    constants = dataclasses.replace(
        load_engine_file(engine).engine, collective_overlap_fraction=0.0
    )
    design = dataclasses.replace(loaded.base, engine=constants)
    model, load = loaded.workload.model, LOADS[name]
    with jax.enable_x64(True):
        operators = step_operators(model, load, design.formats, design.strategy)
        messages_s = messages_time_s(operators.messages, fabric_of(model, design))
        step_s = float(operator_times(operators, load, design, messages_s).step_s)
        found = float(step_features(model, load, design).step_s(constants))
    # The protocol of a collective changes with its start; a fit takes its time as linear in it.
    assert found == pytest.approx(step_s, rel=most)
