import json

import jax.numpy as jnp
import numpy as np
import pytest
from support.plane_problem import FRONT_PLANE_SPACE, PLANE, bowl, two_objectives
from support.small_search import SEARCH

from hwdse.cli.compare.comparison_tables import as_rows, curves_of, ranking
from hwdse.cli.main import run
from hwdse.plots.comparison_curves import plot_median_and_range
from hwdse.plots.figure_files import new_figure, save_figure
from hwdse.runs.atomic_files import read_csv_columns
from hwdse.runs.run_folder import create_run, open_run
from hwdse.search.compare.method_comparison import ComparisonProblem, Trace


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


def cheap_costs(objectives, limits, workload, **options):
    def costs(design, relaxation):
        rows, clock = jnp.log(design.chip.array.rows), jnp.log(design.chip.array.clock_hz / 1e9)
        return jnp.stack([-rows - clock, 0.5 * rows + 2.0 * clock]), jnp.full(1, -1.0) + 0.0 * rows

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


def test_curves_begin_with_the_first_feasible_design_and_end_with_the_search():
    traces = traces_of({"sobol": (3.0, 1.0)})
    marks = np.asarray([5.0, 10.0, 49.0, 50.0, 80.0])
    curve = curves_of(traces, "single", marks, None, in_seconds=False)["Sobol"]
    np.testing.assert_allclose(curve[0], [np.nan, 4.0, 4.0, 2.0, np.nan])
    np.testing.assert_allclose(curve[1][1:4], [2.0, 2.0, 1.0])


@pytest.mark.parametrize(
    "values", [[np.nan, 0.0, 5.0], [np.nan] * 3, [1.0, 10.0, 100.0], [0.0] * 3]
)
def test_plots_of_searches_without_a_feasible_design_at_first(values, tmp_path):
    figure, (axes,) = new_figure()
    rows = np.asarray([values, values, values]) * np.asarray([[1.0], [0.5], [2.0]])
    plot_median_and_range(axes, np.asarray([0.01, 0.1, 0.3]), {"a": rows}, "Seconds", "Value")
    assert axes.get_xlim() == (0.01, 0.3)
    assert all(
        path.stat().st_size > 1000 for path in save_figure(figure, tmp_path, "x")
    )
