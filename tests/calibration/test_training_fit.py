"""The fit of efficiencies and stacks recovers the constants of synthetic runs."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from hwdse.calibration.training_fit import (
    GROUPS,
    Batch,
    Constant,
    errors,
    fit,
    fit_with,
    read_runs,
)
from hwdse.config import load_chip, load_software
from hwdse.search.space.pytree_path import get_path

DATA = Path(__file__).parents[1] / "data"
SINGLE = DATA / "measured_vtrain_single_node_public.csv"
CONSTANTS = [
    Constant("a100|a100_40", "chip.matrix_efficiency_fraction", 0.75, 0.3, 1.0),
    Constant("megatron_deepspeed", "software.dispatch_time_s", 5e-4, 1e-6, 3e-3),
    Constant("megatron_deepspeed", "software.elementwise_traffic_ratio", 2.0, 0.5, 8.0),
    Constant("megatron_deepspeed", "software.step_overhead_s", 5e-3, 1e-5, 0.05),
]
TRUTH = np.array([0.62, 9e-4, 3.1, 0.012])


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs from the smallest to the largest of a public file, with modeled times."""
    lines = SINGLE.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    rows = lines[start + 1 :]
    path = tmp_path_factory.mktemp("runs") / "some.csv"
    path.write_text("\n".join([lines[start], *rows[:: len(rows) // 23]]) + "\n")
    found = read_runs([path])[:24]
    with jax.enable_x64(True):
        # Batches of twelve, as in all tests here.
        parts = [Batch(found[i::2]).step_times_s(CONSTANTS, TRUTH) for i in (0, 1)]
    for i in (0, 1):
        found[i::2] = [
            replace(run, step_time_s=float(time_s))
            for run, time_s in zip(found[i::2], parts[i], strict=True)
        ]
    return found


def test_runs_contain_chip_stack_and_source(runs):
    assert len(runs) == 24
    assert {(run.chip, run.software, run.source) for run in runs} == {
        ("a100", "megatron_deepspeed", "vtrain_single")
    }


def test_fit_recovers_the_constants_and_predicts_held_out_runs(runs):
    found = fit(runs[::2], CONSTANTS)
    np.testing.assert_allclose(found, TRUTH, rtol=2e-3)
    left_out = errors(runs[1::2], CONSTANTS, found)
    assert set(left_out) == {"vtrain_single a100"}
    count, error = left_out["vtrain_single a100"]
    assert count == 12
    assert error < 1e-3
    _, before = errors(runs[1::2], CONSTANTS, np.array([c.start for c in CONSTANTS]))[
        "vtrain_single a100"
    ]
    assert before > 0.05


def test_constants_of_earlier_groups_are_fixed(runs):
    found = fit_with(runs[::2], CONSTANTS[1:], CONSTANTS[:1], TRUTH[:1].tolist())
    np.testing.assert_allclose(found, TRUTH[1:], rtol=0.02)


def test_constants_affect_only_the_runs_of_their_preset(runs):
    batch = Batch(runs[::2])
    other = [replace(CONSTANTS[0], preset="h100"), replace(CONSTANTS[1], preset="torchtitan")]
    plain = batch.step_times_s([], np.array([]))
    assert np.array_equal(batch.step_times_s(other, np.array([0.3, 3e-3])), plain)
    assert np.all(batch.step_times_s(CONSTANTS[:1], np.array([0.3])) > plain)


@pytest.mark.parametrize("name", sorted(GROUPS))
def test_presets_contain_constants_within_their_bounds(name):
    for constant in GROUPS[name]:
        part, _, path = constant.path.partition(".")
        assert constant.low <= constant.start <= constant.high
        values = set()
        for preset in constant.preset.split("|"):
            spec = load_chip(preset) if part == "chip" else load_software(preset)
            values.add(get_path(spec, path))
        assert len(values) == 1
        assert constant.low <= values.pop() <= constant.high
