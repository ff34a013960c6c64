"""`solve`, `uncertainty` and the budgets of `optimize` from the command line, and their files."""

import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hwdse.cli.main import run
from hwdse.cli.optimize.budgeted_search import SearchBudgetOptions, join_rounds
from hwdse.cli.optimize.optimality_tables import (
    optimality_json,
    print_optimality,
    with_optimality_report,
)
from hwdse.cli.shared.exit_codes import Exit
from hwdse.cli.solve.solve_command import conflicting_targets
from hwdse.config import ConfigError, load_search, to_toml
from hwdse.config.files.uncertainty_suffix import split_uncertainties, split_uncertainty
from hwdse.config.search.metric_names import metric_names, parse_metric, parse_target
from hwdse.config.search.search_file_objectives import objective_fn
from hwdse.evaluation import evaluate
from hwdse.numerics.relaxation import EXACT
from hwdse.search.answers.minimum_change import FreeParameter, RelaxedSolution
from hwdse.search.answers.solve_targets import SolveResult
from hwdse.search.descent.minimize import allocate_evaluations, minimize
from hwdse.search.evaluation.search_result import SearchResult
from hwdse.search.uncertainty.uncertain_constants import sample_factors

SEARCH = """
title = "small"
[design]
system = "trn2_ultraserver"
num_systems = 1
workload = "two.csv"
checkpoint_interval = "60 min"
[design.mix]
fp64_flop_fraction = 0
fp8_flop_fraction = 0
[design.parallelism]
tensor = 1
pipeline = 1
micro_batch = 1
recompute_fraction = 0
tensor_overlap_fraction = 0.5
[objective]
minimize = "energy_delay"
[limits]
die_area = "900 mm^2"
[[variables]]
path = "chip.array.clock"
low = "1.2 GHz"
high = "3.2 GHz"
step = "50 MHz"
"""
LAYERS = "Layer, M, N, K,\na, 4096, 1000, 4096,\nb, 512, 2048, 700,\n"
UNCERTAIN = """
[uncertain]
"chip.hbm.energy" = "30 %"
chip.process.mac_energy = { relative = "20 %", distribution = "triangular" }
"""
PLANT = "chip.hbm.bandwidth,chip.array.clock"


@pytest.fixture
def search(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.toml"
    path.write_text(SEARCH)
    (tmp_path / "two.csv").write_text(LAYERS)
    return path


def printed(capsys, *arguments):
    code = run([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def loaded_with(search, extra, *sets):
    search.write_text(SEARCH + extra)
    return load_search(search, sets)


def test_solve_meets_its_target_in_steps_and_reports_the_marginal_change(search, capsys):
    base = load_search(search)
    rate = evaluate(base.base, base.workload).effective_tokens_per_s
    goal = f"effective_tokens_per_s >= {1.02 * float(rate):.6g}"
    code, found = printed(capsys, "solve", search, "--target", goal, "--free", PLANT)
    assert code == Exit.OK
    target = found["targets"][0]
    assert target["is_met"]
    assert target["value"] >= target["limit"]
    assert abs(target["relaxed_log_violation"]) < 1e-6
    assert target["multiplier"] > 0.0
    clock = found["parameters"]["chip.array.clock_hz"]
    assert clock["after"] % 50e6 == 0.0
    assert abs(clock["after"] - clock["relaxed"]) <= 4 * 50e6
    changes = [part["log_change"] for part in found["parameters"].values()]
    assert found["change"] == pytest.approx(math.hypot(*changes))
    again = load_search(found["files"][0])
    value = float(evaluate(again.base, again.workload).effective_tokens_per_s)
    assert value == pytest.approx(target["value"], rel=1e-4)  # float32 here


def test_solve_keeps_the_limits_of_the_file_unless_told_not_to(search, capsys):
    """Only more area buys matrix rate here, and the file limits the area."""
    base = load_search(search)
    before = evaluate(base.base, base.workload)
    text = SEARCH.replace('"900 mm^2"', f'"{float(before.die_area_mm2):.6g} mm^2"')
    search.write_text(text)
    target = f"effective_tokens_per_s >= {1.1 * float(before.effective_tokens_per_s):.6g}"
    asked = ["--target", target, "--free", "chip.array.num_arrays"]
    code = run(["solve", str(search), *asked, "--out", "a", "--json"])
    printed_text = capsys.readouterr()
    found = json.loads(printed_text.out)
    assert code == Exit.INFEASIBLE
    assert not found["is_feasible"]
    assert found["files"] == []
    assert not (search.parent / "a" / "best.toml").exists()
    assert "% above" in printed_text.err or "% below" in printed_text.err
    code, found = printed(capsys, "solve", search, *asked, "--ignore-limits", "--out", "b")
    assert code == Exit.OK
    again = load_search(found["files"][0])
    assert float(evaluate(again.base, again.workload).die_area_mm2) > float(before.die_area_mm2)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("cluster.num_chips", "effective_tokens_per_s >= 3e9"),
        ("chip.num_dies", "chip_cost <= 1e9 USD"),
        ("cluster.torus_sizes.0", "chip_power <= 1 MW"),
    ],
)
def test_solve_returns_whole_numbers_that_are_possible(search, capsys, path, target):
    arguments = ["solve", str(search), "--target", target, "--free", path, "--ignore-limits"]
    code = run([*arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (Exit.OK if found["files"] else Exit.INFEASIBLE)
    for file in found["files"]:
        load_search(file)  # as `evaluate` does


def test_solve_refuses_what_cannot_vary_alone(search, capsys):
    target = ["--target", "chip_power <= 3 W", "--free"]
    fraction = "cluster.torus_bandwidth_fractions.0"
    assert run(["solve", str(search), *target, fraction]) == Exit.USER_ERROR
    assert "cannot vary alone; [cluster] torus_bandwidth_frac" in capsys.readouterr().err
    voltages = "chip.process.nominal_voltage,chip.process.threshold_voltage"
    assert run(["solve", str(search), *target, voltages]) == Exit.USER_ERROR
    assert "cannot vary together; [chip.process] threshold_voltage" in capsys.readouterr().err


def test_conflicting_targets_are_reported_worst_first():
    targets = (parse_target("chip_power <= 100 W"), parse_target("effective_tokens_per_s >= 1e6"))
    relaxed = RelaxedSolution(np.zeros(1), 0.0, np.zeros(2), np.zeros(2), False)
    missed = np.log([1.5, 2.0])
    parts = (FreeParameter("chip.array.clock_hz", 2e9, 1e9, 3e9),
             FreeParameter("chip.hbm.bandwidth_bytes_per_s", 2e12, 1e12, 4e12))  # fmt: skip
    values = np.array([2.2e9, 4e12])
    line = conflicting_targets(
        targets, parts, SolveResult(None, values, np.zeros(2), 0.0, missed, False, relaxed, 1)
    )
    first, second, third = line.split("nearest design: ")[1].split("; ")
    assert first == "effective_tokens_per_s >= 1e6: reaches 500,000 /s, 50.0 % below"
    assert second == "chip_power <= 100 W: reaches 150 W, 50.0 % above"
    assert third == "at the end of the range: chip.hbm.bandwidth 4 TB/s"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--target", "speed >= 3", "--free", PLANT], "metric speed"),
        (["--target", "chip_power <= 3 GB", "--free", PLANT], "another dimension"),
        (["--target", "chip_power = 3", "--free", PLANT], "METRIC <= VALUE"),
        (["--target", "chip_power <= 0 W", "--free", PLANT], "above 0"),
        (["--target", "chip_power <= 3 W", "--free", "chip.hbm.bandwith"], "did you mean"),
        (["--target", "chip_power <= 3 W", "--free", "chip.array.dataflow"], "ends in a number"),
        (["--target", "chip_power <= 3 W", "--free", ","], "one or more"),
        (["--target", "chip_power <= 3 W", "--free", PLANT, "--norm", "l3"], "l2, l1"),
        (["--target", "chip_power <= 3 W", "--free", PLANT, "--weight", "chip.hbm.energy=2"],
         "a free path"),
        (["--target", "chip_power <= 3 W", "--free", "mix.fp64_flop_fraction"], "value is 0"),
    ],
)  # fmt: skip
def test_errors_of_solve_are_one_line(search, capsys, arguments, named):
    assert run(["solve", str(search), *arguments]) == Exit.USER_ERROR
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def test_every_metric_has_both_names_and_a_unit():
    for name in metric_names():
        metric = parse_metric(name)
        assert metric.name == name
        assert metric.format(1.5)
        assert parse_metric(metric.label.replace(" ", "_")).name == name
    assert parse_target("chip_power_w<=1 MW").limit == 1e6
    assert parse_target("effective_tokens_per_s >= 1e6").limit == 1e6
    assert parse_target("mfu_fraction >= 40 %").limit == pytest.approx(0.4)


def test_sampled_uncertainty_agrees_with_the_linear_variance_budget(search, capsys):
    search.write_text(SEARCH + UNCERTAIN)
    metrics = ["--metric", "energy_per_token", "--metric", "step_time"]
    code, found = printed(capsys, "uncertainty", search, *metrics, "--samples", "300")
    assert code == Exit.OK
    energy, time = (found["metrics"][name] for name in ("energy_per_token_j", "step_time_s"))
    assert energy["p5"] < energy["nominal"] < energy["p95"]
    assert energy["sampled_log_sigma"] == pytest.approx(energy["linear_log_sigma"], rel=0.15)
    assert sum(energy["variance_contributions"].values()) == pytest.approx(1.0)
    assert [time["p5"], time["p95"]] == pytest.approx([time["nominal"]] * 2, rel=1e-12)
    sigma = found["constants"]["chip.hbm.energy_j_per_byte"]["log_sigma"]
    assert sigma == pytest.approx(math.log(1.3))


def test_uncertainties_in_values_tables_and_options_are_equal(search):
    of_process = load_search(search).uncertain_constants
    assert all(one.path.startswith("chip.process.") for one in of_process)
    text = '[overrides]\nchip.hbm.energy = "3.9 pJ/bit +- 30 %"\n'
    in_value = loaded_with(search, text)
    by_set = loaded_with(search, "", "chip.hbm.energy=3.9 pJ/bit ± 30%")
    by_option = loaded_with(search, "", "uncertain.chip.hbm.energy=30%")
    listed = loaded_with(search, '[[uncertain]]\npath = "chip.hbm.energy"\nrelative = "30 %"\n')
    for other in (by_set, by_option, listed):
        assert other.uncertain_constants == in_value.uncertain_constants
    assert in_value.uncertain_constants[:-1] == of_process
    assert in_value.base.chip.hbm.energy_j_per_byte == pytest.approx(8 * 3.9e-12)
    assert "uncertain" in in_value.resolved


def test_the_search_file_overrides_uncertainties_of_a_chip_file(search, tmp_path):
    from hwdse.config.files.toml_files import preset_root

    system = (preset_root() / "systems/trn2_ultraserver.toml").read_text()
    chip = (preset_root() / "chips/trainium2.toml").read_text()
    line = next(x for x in chip.splitlines() if x.startswith("nominal_clock"))
    value = line.split('"')[1]
    (tmp_path / "c.toml").write_text(chip.replace(f'"{value}"', f'"{value} +- 5 %"', 1))
    (tmp_path / "s.toml").write_text(system.replace('"trainium2"', '"c.toml"'))
    text = SEARCH.replace('"trn2_ultraserver"', '"s.toml"')
    search.write_text(text)
    found = load_search(search)
    plain = load_search("trn2_llama3_70b")
    assert found.base.chip == plain.base.chip
    path = "chip.nominal_clock_hz"
    assert _log_sigmas(found)[path] == pytest.approx(math.log(1.05))
    assert _log_sigmas(found).keys() == {path, *_log_sigmas(plain)}
    search.write_text(text + f'[[uncertain]]\npath = "{path}"\nrelative = "50 %"\n')
    assert _log_sigmas(load_search(search))[path] == pytest.approx(math.log(1.5))


def _log_sigmas(loaded):
    return {one.path: one.log_sigma for one in loaded.uncertain_constants}


def test_a_written_design_keeps_its_uncertainties(search, tmp_path):
    loaded = loaded_with(search, UNCERTAIN, "chip.link.bandwidth=640 GB/s +- 10 %")
    (tmp_path / "again.toml").write_text(to_toml(loaded, loaded.base))
    again = load_search(tmp_path / "again.toml")
    assert again.base == loaded.base
    assert again.uncertain_constants == loaded.uncertain_constants


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ('[uncertain]\n"chip.hbm.energ" = "30 %"\n', "did you mean"),
        ('[uncertain]\n"chip.hbm.energy" = "-30 %"\n', "relative uncertainty in percent"),
        ('[uncertain]\n"chip.hbm.energy" = { low = "1 pJ/bit" }\n', "both low and high"),
        ('[uncertain]\n"mix.fp64_flop_fraction" = "3 %"\n', "above 0"),
        ('[uncertain]\n"workload.seq_len" = "3 %"\n', "path of the design"),
        ('[[uncertain]]\npath = "chip.hbm.energy"\nrelative = "10 %"\ndistribution = "gauss"\n',
         "lognormal"),
        ('[[uncertain]]\npath = "chip.hbm.energy"\nlow = "90 pJ/bit"\nhigh = "99 pJ/bit"\n',
         "nominal"),
    ],
)  # fmt: skip
def test_errors_in_uncertain_tables_are_one_line(search, extra, named):
    with pytest.raises(ConfigError, match=named) as caught:
        loaded_with(search, extra)
    assert "\n" not in str(caught.value)


def test_a_process_file_without_bands_has_no_uncertain_constants(search, tmp_path):
    _write_without_bands(search, tmp_path)
    loaded = load_search(search)
    assert loaded.uncertain_constants == ()
    assert "uncertain" not in loaded.resolved
    assert loaded.base.chip == load_search("trn2_llama3_70b").base.chip


def _write_without_bands(search, folder):
    """The search on a copy of its system whose process has plain values."""
    from hwdse.config.files.toml_files import preset_root

    system, chip, process = (
        (preset_root() / f"{name}.toml").read_text()
        for name in ("systems/trn2_ultraserver", "chips/trainium2", "processes/n5")
    )
    (folder / "p.toml").write_text(re.sub(r" \+- \d+ %", "", process))
    (folder / "c.toml").write_text(chip.replace('preset = "n5"', 'preset = "p.toml"'))
    (folder / "s.toml").write_text(system.replace('"trainium2"', '"c.toml"'))
    search.write_text(SEARCH.replace('"trn2_ultraserver"', '"s.toml"'))


def test_robust_objectives_need_uncertain_constants(search, tmp_path):
    _write_without_bands(search, tmp_path)
    with pytest.raises(ConfigError, match="uncertain constant"):
        load_search(search, ["objective.robust=worst"])
    with pytest.raises(ConfigError, match="quantile Q"):
        loaded_with(search, UNCERTAIN, "objective.robust=median")
    loaded = loaded_with(search, UNCERTAIN, "objective.robust=quantile 0.9")
    assert loaded.robust is not None
    assert loaded.robust.text == "quantile 0.9"


def test_texts_without_an_uncertainty_are_unchanged():
    assert split_uncertainty("0.9 pJ/bit +- 30 %") == ("0.9 pJ/bit", "30 %")
    for text in ("3 nm", "Trn2 +- 3 %", 4.0, ["5 +- 3 %"], "5 W +- 3 W"):
        assert split_uncertainty(text) == (text, None)
    tables = {"name": "3 +- 1 %", "a": {"b": "3 W +/- 1 %", "c": 2}}
    plain, found = split_uncertainties(tables)
    assert plain == {"name": "3 +- 1 %", "a": {"b": "3 W", "c": 2}}
    assert found == {"a.b": "1 %"}


def test_a_result_has_an_optimality_report(search, capsys):
    """f = 1/clock, clock at most 2.4 GHz at a limit of 900 mm2: shadow price -f/900 per mm2."""
    loaded = load_search(search)

    def objective(design, relaxation):
        clock = design.chip.array.clock_hz
        area = jnp.log(clock / 2.4e9)
        slack = -1.0 + 0.0 * clock
        return -jnp.log(clock), jnp.stack(
            [area if name == "die_area" else slack for name in loaded.limits]
        )

    with jax.enable_x64(True):
        optimum = minimize(objective, loaded.space, loaded.base, seed=0, **allocate_evaluations(50))
    result, found = with_optimality_report(loaded, objective, optimum, 0, 50)
    assert found is not None
    assert result.design.chip.array.clock_hz == 2.4e9
    report = optimality_json(loaded, result, found)
    assert report["passed_bound_checks"]
    assert report["lower_bound"] <= 1.0 / 2.4e9
    assert report["optimality_gap"] == pytest.approx(1.0 - report["lower_bound"] * 2.4e9)
    assert report["optimality_gap"] < 0.01
    assert report["is_exhaustive"]
    assert report["bound_by"] == {"chip.array.clock_hz": "die_area"}
    assert report["elasticities"]["chip.array.clock_hz"] == pytest.approx(-1.0)
    assert report["shadow_prices_per_unit"]["die_area"] == pytest.approx(-1.0 / 2.4e9 / 900.0)
    assert report["quantization_loss"]["all"] == pytest.approx(0.0, abs=1e-9)
    print_optimality(loaded, result, found)
    text = capsys.readouterr().out
    for words in ("lower bound", "all 2 neighbors", "% per mm²", "-1.000 %", "die area"):
        assert words in text
    assert with_optimality_report(loaded, objective, optimum, 0, 0) == (optimum, None)


def test_the_objective_of_a_robust_file_is_robust(search, monkeypatch):
    def energy_only(objectives, limits, workload):
        return lambda design, relaxation: (
            jnp.log(design.chip.hbm.energy_j_per_byte)[None],
            jnp.ones(1),
        )

    monkeypatch.setattr(
        "hwdse.config.search.search_file_objectives.make_objectives_fn", energy_only
    )
    loaded = loaded_with(search, UNCERTAIN, "objective.robust=worst", "objective.robust_samples=8")
    value, _ = objective_fn(loaded)(loaded.base, EXACT)
    paths = [one.path for one in loaded.uncertain_constants]
    factors = sample_factors(loaded.uncertain_constants, 8, loaded.seed)
    largest = factors[:, paths.index("chip.hbm.energy_j_per_byte")].max()
    nominal = loaded.base.chip.hbm.energy_j_per_byte
    assert float(value) == pytest.approx(math.log(nominal * largest), rel=1e-6)


def test_joined_rounds_keep_the_better_design_and_all_evaluations():
    def result(log, violation, history):
        return SearchResult(
            design=None, unit=np.zeros(1), labels={}, log_objective=log,
            constraint_values=np.array([violation]), is_feasible=violation <= 0.0,
            multipliers=np.zeros(1),
            relaxed_log_objective=log, snapped_log_objective=log, num_evaluations=10,
            history_evaluations=np.array([5, 10]), history_log_objective=np.array(history),
            top_units=np.zeros((1, 1)), top_log_objectives=np.zeros(1),
            top_variants=np.zeros(1),
        )  # fmt: skip

    first, second = result(1.0, -0.1, [3.0, 1.0]), result(0.5, 0.2, [9.0, 0.9])
    joined = join_rounds(first, second)
    assert joined.log_objective == 1.0
    assert joined.num_evaluations == 20
    assert joined.history_evaluations.tolist() == [5, 10, 15, 20]
    assert joined.history_log_objective.tolist() == [3.0, 1.0, 1.0, 0.9]


def test_time_and_evaluations_bound_a_search_together(search, capsys):
    """A second is over before the first design: one round, no report, and the time it took."""
    arguments = ["optimize", str(search), "--time", "1s", "--evaluations", "80"]
    assert run(arguments) in (Exit.OK, Exit.INFEASIBLE)
    out = capsys.readouterr().out
    assert "of 80: " in out
    assert "no optimality report: the time is up" in out
    seconds = float(re.search(r"time: ([\d.]+) s of 1 s", out)[1])
    assert seconds > 1.0


@pytest.mark.parametrize("num_evaluations", [1, 10, 50])
def test_small_budgets_bound_all_evaluations(search, capsys, num_evaluations):
    code, found = printed(capsys, "optimize", search, "--evaluations", num_evaluations)
    assert code in (Exit.OK, Exit.INFEASIBLE)
    stages = ("search_evaluations", "local_search_evaluations", "optimality_evaluations")
    assert sum(found[name] for name in stages) == found["evaluations"]
    assert 1 <= found["evaluations"] <= num_evaluations


def test_the_default_budget_depends_on_the_report():
    budget = SearchBudgetOptions()
    assert budget.total(has_report=True) == 20_000
    assert budget.total(has_report=False) == 10_000
    assert SearchBudgetOptions(time_s=1.0).total(has_report=True) == math.inf
    assert SearchBudgetOptions(500, time_s=1.0).total(has_report=True) == 500


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--optimizer", "adma"], "did you mean 'adam'"),
        (["--schedule", "step"], "cosine"),
        (["--time", "soon"], "a finite number with a unit such as"),
        (["--time", "0s"], "above 0"),
        (["--learning-rate", "-1"], "above 0"),
    ],
)
def test_wrong_budgets_are_one_line(search, capsys, arguments, named):
    assert run(["optimize", str(search), *arguments]) == Exit.USER_ERROR
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def test_compare_search_refuses_a_robust_objective(capsys, tmp_path):
    command, options = "compare-search", ["--methods", "sobol"]
    sets = ["--set", "uncertain.chip.hbm.energy=30 %", "--set", "objective.robust=mean"]
    code = run([command, "trn2_llama3_70b", *options, *sets, "--out", str(tmp_path / "run")])
    assert code == Exit.USER_ERROR
    err = capsys.readouterr().err
    assert "robust = 'mean': expected none" in err
    assert err.count("\n") == 1


ONLY_VARIANTS = """title = "variants"
[design]
system = "dgx_h100"
model = "llama3_8b"
strategy = "TP8"
global_batch = 64
[objective]
minimize = "time_per_token"
[[variants]]
path = "chip.array.dataflow"
values = ["weight_stationary_overlapped", "output_stationary_overlapped"]
"""


def test_a_search_without_ranges_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "variants.toml").write_text(ONLY_VARIANTS)
    assert run(["optimize", "variants.toml", "--evaluations", "500"]) == Exit.OK
    printed = capsys.readouterr().out
    assert "unchanged   feasible" in printed
    assert "no neighbors: no parameter has a range" in printed
    assert "bound by" not in printed.partition("optimality report")[2]


def test_variants_of_other_structure_are_swept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    schemes = (
        ONLY_VARIANTS.partition("[[variants]]")[0]
        + """
[[variables]]
path = "chip.hbm.bandwidth"
low = "2 TB/s"
high = "4 TB/s"
[[variants]]
path = "checkpointing.scheme"
values = ["blocking", "async"]
"""
    )
    (tmp_path / "schemes.toml").write_text(schemes)
    assert run(["sweep", "schemes.toml", "--points", "64", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["num_points"] == 64
