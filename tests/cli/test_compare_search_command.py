import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from support.plane_problem import FRONT_PLANE_SPACE, PLANE, bowl, two_objectives
from support.small_search import SEARCH

from hwdse.cli.compare import compare_search_command
from hwdse.cli.compare.comparison_tables import (
    TITLES,
    as_rows,
    curves_of,
    ranking,
    zero_volume_line,
)
from hwdse.cli.main import run
from hwdse.plots.comparison_curves import Curve, plot_median_and_range
from hwdse.plots.figure_files import new_figure, save_figure
from hwdse.runs.atomic_files import read_csv_columns
from hwdse.runs.run_folder import create_run, open_run
from hwdse.search.compare.method_comparison import METHODS, ComparisonProblem, Trace


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("compare")
    (path / "search.toml").write_text(SEARCH)
    return path


def printed(capsys, *arguments):
    code = run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_comparison_is_written_and_extended_by_more_seeds(folder, capsys, monkeypatch):
    # A problem that compiles at once replaces that of the file.
    monkeypatch.setattr(
        "hwdse.cli.compare.compare_search_command.comparison_problem_of",
        lambda loaded: ComparisonProblem(bowl, two_objectives, FRONT_PLANE_SPACE, PLANE),
    )
    command = [
        "compare-search", folder / "search.toml", "--budget", 40, "--out", folder / "run",
        "--methods", "random,sobol", "--json",
    ]  # fmt: skip
    code, out, _ = printed(capsys, *command, "--seeds", 1)
    assert code == 0
    first = json.loads(out)
    assert {row["method"] for row in first["methods"]} == {"random", "sobol"}
    assert all(row["evaluations"] == 40 for row in first["methods"])
    assert len(first["ranking"]) == 2
    parts = sorted((folder / "run" / "points").iterdir())
    before = [part.read_bytes() for part in parts]
    code, out, err = printed(capsys, *command, "--seeds", 2)
    assert code == 0
    assert "4 of 8 searches found on disk" in err
    assert [part.read_bytes() for part in parts] == before
    table = read_csv_columns((folder / "run" / "comparison.csv").read_text())
    assert set(table["seeds"]) == {2.0}
    assert np.all(table["min"] <= table["median"])
    assert np.all(table["median"] <= table["max"])
    for name in ("best_objective.png", "hypervolume.png"):
        assert (folder / "run" / "plots" / name).stat().st_size > 1000
    code, _, err = printed(capsys, "query", folder / "run")
    assert (code, err.count("\n")) == (2, 1)
    assert "run of compare-search" in err


def test_mistakes_are_one_line(folder, capsys, monkeypatch):
    code, _, err = printed(capsys, "compare-search", folder / "search.toml", "--methods", "magic")
    assert (code, err.count("\n")) == (2, 1)
    assert "expected some of gradient, random, sobol, nsga2, tpe, cma_es" in err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = printed(capsys, "compare-search", folder / "search.toml", "--methods", "nsga2")
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install 'hwdse[compare]'" in err


@pytest.mark.parametrize("missing", [(), ("pymoo",), ("optuna", "cmaes")])
def test_methods_that_are_not_installed_are_left_out_and_told(missing, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in missing else name)
    left_out = {"pymoo": "nsga2", "optuna": "tpe", "cmaes": "cma_es"}
    expected = [name for name in METHODS if name not in {left_out[name] for name in missing}]
    assert compare_search_command._methods(None) == expected
    err = capsys.readouterr().err
    assert err.count("\n") == bool(missing)
    for name in missing:
        assert TITLES[left_out[name]] in err


def cheap_costs(objectives, limits, workload, **options):
    def costs(design, relaxation):
        rows, clock = jnp.log(design.chip.array.rows), jnp.log(design.chip.array.clock_hz / 1e9)
        slack = jnp.full(len(limits), -1.0) + 0.0 * rows
        return jnp.stack([-rows - clock, 0.5 * rows + 2.0 * clock]), slack

    return costs


def test_fronts_by_gradient_merge_like_those_of_sweeps(folder, capsys, monkeypatch):
    # A model that compiles at once replaces the real one.
    target = "hwdse.config.search.search_file_objectives.make_objectives_fn"
    monkeypatch.setattr(target, cheap_costs)
    monkeypatch.setattr("hwdse.cli.sweep.front_tables.preset_markers", lambda *arguments: [])
    runs = [folder / "front", folder / "other"]
    for seed, run_folder in enumerate(runs):
        command = ["optimize", folder / "search.toml", "--front", "--evaluations", 80]
        assert printed(capsys, *command, "--out", run_folder, "--seed", seed)[0] == 0
    parts = open_run(runs[0]).read_points()
    table = read_csv_columns((runs[0] / "front.csv").read_text())
    assert int(parts["is_front"].sum()) == len(table["time_per_token_s"])
    code, out, _ = printed(capsys, "pareto", *runs, "--out", folder / "both", "--json")
    assert code == 0
    merged = json.loads(out)
    assert all(row["designs"] > 0 for row in merged["runs"])
    assert all(0.0 < row["share"] <= 1.0 for row in merged["runs"])
    assert (runs[0] / "best_energy_per_token.toml").exists()
    # The folder supports the queries of a sweep: metrics of each design, and the front.
    assert (parts["step_time_s"] > 0.0).all()
    assert (runs[0] / "front.parquet").exists()
    code, _, err = printed(capsys, "optimize", folder / "search.toml", "--front", "--time", "1s")
    assert (code, err.count("\n")) == (2, 1)
    assert "--time 1s: not with --front" in err


def test_a_run_without_designs_has_no_front(folder, capsys):
    create_run(folder / "empty", {"objective": "step_time"}, "", seed=0)
    code, _, err = printed(capsys, "pareto", folder / "empty", "--out", folder / "both")
    assert (code, err.count("\n")) == (2, 1)


def traces_of(values):
    return {
        ("single", method, seed): Trace(
            np.asarray([10.0, 50.0]), np.asarray([0.1, 0.5]), np.log([[2.0 * v], [v]]), 50, 0.5
        )
        for method, each in values.items()
        for seed, v in enumerate(each)
    }


class Problem:
    base = None
    objective = "energy_delay"
    front_objectives = ("time_per_token",)


def test_methods_are_ranked_by_their_medians():
    traces = traces_of({"gradient": (2.0, 2.0, 9.0), "sobol": (3.0, 3.0, 1.0)})
    rows = as_rows(Problem(), traces, None)
    assert [row["method"] for row in rows] == ["gradient", "sobol"]
    assert (rows[0]["median"], rows[0]["min"], rows[0]["max"]) == pytest.approx((2.0, 2.0, 9.0))
    assert ranking(Problem(), rows) == [
        "best median (energy-delay product per token): gradient (hwdse), 1.5x better than Sobol"
    ]
    lost = as_rows(Problem(), traces_of({"gradient": (4.0,), "sobol": (3.0,)}), None)
    assert ": Sobol, " in ranking(Problem(), lost)[0]


def test_equal_medians_are_reported():
    even = as_rows(Problem(), traces_of({"gradient": (3.0,), "sobol": (3.0,)}), None)
    assert ": equal medians of gradient (hwdse) and Sobol" in ranking(Problem(), even)[0]
    rows = [{"task": "pareto", "method": name, "median": v} for name, v in
            (("sobol", 0.2), ("random", 0.0))]  # fmt: skip
    assert ranking(Problem(), rows) == ["best median (hypervolume): Sobol, ahead of random"]
    rows[0]["median"] = 0.0
    assert ranking(Problem(), rows) == ["hypervolume: equal medians of Sobol and random"]


def test_curves_have_a_point_at_each_improvement_and_extend_to_the_longest_search():
    traces = traces_of({"sobol": (3.0, 1.0)})
    curve = curves_of(traces, "single", None, in_seconds=False)["Sobol"]
    np.testing.assert_allclose(curve.marks, [10.0, 50.0])
    np.testing.assert_allclose(curve.bounds, [[4.0, 2.0], [2.0, 1.0], [6.0, 3.0]])
    first = traces["single", "sobol", 0]
    traces["single", "sobol", 0] = dataclasses.replace(
        first, seconds=np.asarray([4.0, 5.0]), total_seconds=6.0
    )
    curve = curves_of(traces, "single", None, in_seconds=True)["Sobol"]
    # The other search ends after half a second and keeps its last value.
    np.testing.assert_allclose(curve.marks, [0.1, 0.5, 4.0, 5.0, 6.0])
    np.testing.assert_allclose(curve.bounds[0], [np.nan, np.nan, 3.5, 2.0, 2.0])


def test_methods_without_a_result_have_no_curve_and_a_line_with_the_reason():
    nothing = Trace(np.empty(0), np.empty(0), np.empty((0, 2)), 50, 0.5)
    worse = Trace(np.asarray([1.0]), np.asarray([0.1]), np.log([[2.0, 2.0]]), 50, 0.5)
    good = Trace(np.asarray([1.0]), np.asarray([0.1]), np.log([[0.5, 0.5]]), 50, 0.5)
    traces = {("pareto", name, 0): t for name, t in
              (("sobol", nothing), ("random", worse), ("tpe", good))}  # fmt: skip
    curves = curves_of(traces, "pareto", np.zeros(2), in_seconds=True)
    assert np.isnan(curves["Sobol"].bounds).all()
    assert np.isnan(curves["random"].bounds).all()
    assert curves["TPE (Optuna)"].bounds[0, -1] == pytest.approx(np.log(2.0) ** 2)
    rows = as_rows(Problem(), traces, np.zeros(2))
    line = zero_volume_line(rows)
    assert "Sobol" in line
    assert "random" in line
    assert "TPE" not in line
    assert zero_volume_line([row for row in rows if row["method"] == "tpe"]) == ""


@pytest.mark.parametrize(
    "values", [[np.nan, 0.0, 5.0], [np.nan] * 3, [1.0, 10.0, 100.0], [0.2] * 3]
)
def test_every_method_has_a_line_or_a_reason_and_lies_inside_the_axes(values, tmp_path):
    figure, (axes,) = new_figure()
    rows = np.asarray([values, values, values]) * np.asarray([[1.0], [0.5], [2.0]])
    curves = {
        "a": Curve(np.asarray([0.01, 0.1, 0.3]), rows),
        "late": Curve(np.asarray([0.01, 0.1, 0.3]), np.full((3, 3), np.nan)),
    }
    plot_median_and_range(axes, curves, ("Seconds", "Value"), "none")
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    is_finite = bool(np.isfinite(values).any())
    assert texts == ["a" if is_finite else "a: none", "late: none"]
    for line in axes.lines:
        x, y = (np.asarray(part, float) for part in line.get_data())
        assert np.isfinite(y).all()
        for part, (low, high) in ((x, axes.get_xlim()), (y, axes.get_ylim())):
            assert (part >= low).all()
            assert (part <= high).all()
    assert bool(axes.lines) == is_finite
    if is_finite and min(v for v in values if np.isfinite(v)) > 0.0:
        assert axes.get_ylim()[0] > 0.0
    assert all(path.stat().st_size > 1000 for path in save_figure(figure, tmp_path, "x"))
