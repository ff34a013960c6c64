"""RTL cycles of Gemmini: targets, also on held-out layers, and executed loops."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from hwdse.calibration.gemmini_fit import FITTED, fit, held_out_cycles, run_cycles
from hwdse.models.compute.tile_overheads import GEMMINI_COSTS
from hwdse.validation.measured.gemmini import validate
from hwdse.validation.measured.gemmini_runs import read_runs
from hwdse.validation.shared.reference_table import score

FILE = Path(__file__).parents[1] / "data" / "gemmini_rtl_public.csv"
SETS = ("training", "searched")
ENGINES = "rtl_cycles_by_engines_only"
ROOFLINE = "rtl_cycles_by_roofline_as_written"


@pytest.fixture(scope="module")
def report():
    return validate(FILE)


@pytest.fixture(scope="module")
def runs():
    return read_runs(FILE)


@pytest.fixture(scope="module")
def held_out(runs):
    return held_out_cycles(runs)


def metrics_of(runs, cycles, name):
    chosen = np.array([label == name for label in runs.sets])
    return score(runs.cycles[chosen], np.asarray(cycles)[chosen])


@pytest.mark.parametrize(("name", "rows"), [("training", 798), ("searched", 132)])
def test_targets_on_both_sets(report, name, rows):
    metrics = report.groups[f"set={name}"]["rtl_cycles"]
    assert metrics["num_rows"] == rows
    assert metrics["median_ape"] < 0.10
    assert metrics["spearman"] > 0.98


@pytest.mark.parametrize("name", SETS)
def test_held_out_errors_reach_the_targets(runs, held_out, name):
    metrics = metrics_of(runs, held_out.cycles, name)
    assert metrics["median_ape"] < 0.10
    assert metrics["spearman"] > 0.97


def test_fit_to_random_mappings_is_accurate_for_searched_mappings(runs):
    """Seven of 43 layers are in both sets; the mappings are of a different kind."""
    is_training = np.array([label == "training" for label in runs.sets])
    metrics = metrics_of(runs, run_cycles(runs, fit(runs, is_training)).total_cycles, "searched")
    assert metrics["median_ape"] < 0.12
    assert metrics["spearman"] > 0.97


@pytest.mark.parametrize("name", SETS)
def test_overhead_terms_halve_the_error_and_improve_rank_correlation(report, name):
    group = report.groups[f"set={name}"]
    assert group["rtl_cycles"]["median_ape"] < 0.5 * group[ENGINES]["median_ape"]
    assert group["rtl_cycles"]["median_ape"] < 0.5 * group[ROOFLINE]["median_ape"]
    for bare in (ENGINES, ROOFLINE):
        assert group["rtl_cycles"]["spearman"] > group[bare]["spearman"]
    assert group[ENGINES]["bias"] < group["rtl_cycles"]["bias"] < 0.0  # a roofline is a bound


def test_at_most_six_constants_are_fitted():
    names = {field.name for field in fields(GEMMINI_COSTS)}
    assert len(FITTED) == 6
    assert names - set(FITTED) == {"min_pass_cycles"}


def test_constants_of_the_model_equal_the_fit(runs):
    fitted = fit(runs)
    for name in FITTED:
        assert getattr(GEMMINI_COSTS, name) == pytest.approx(getattr(fitted, name), rel=5e-4)


def test_constants_vary_little_between_folds(held_out):
    """Ten fits without a tenth of the layers; start-up matters only in runs of one tile."""
    for name in set(FITTED) - {"start_cycles"}:
        values = np.array([getattr(costs, name) for costs in held_out.folds])
        assert np.median(values) == pytest.approx(getattr(GEMMINI_COSTS, name), rel=0.03)
        assert np.all(np.abs(values / np.median(values) - 1.0) < 0.4)


def test_held_out_cycles_are_independent_of_their_layer(runs, held_out):
    """Ten times the cycles of one layer change the held-out cycles of the others only."""
    layer = runs.layers[0]
    is_layer = np.array([other == layer for other in runs.layers])
    changed = replace(runs, cycles=np.where(is_layer, 10.0, 1.0) * runs.cycles)
    again = held_out_cycles(changed).cycles
    assert np.array_equal(again[is_layer], held_out.cycles[is_layer])
    assert not np.array_equal(again[~is_layer], held_out.cycles[~is_layer])


HEADER = "set,rtl_cycles,mapping,R,S,P,Q,C,K,N,Wstride,Hstride,Wdilation,Hdilation"


def written(tmp_path, *rows):
    path = tmp_path / "runs.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return path


def test_executed_loops_follow_the_rules_of_the_harness(tmp_path):
    """Rows: an even filter, non-square outputs, and a GEMM in blocks of the array."""
    path = written(
        tmp_path,
        "a,1e6,L3[WIO] P2 K2 - L2[WI] N1 K16X - L1[O] R2 S2 Q14 P7 C16X - L0[W] N1,"
        "2,2,14,14,16,32,1,1,1,1,1",
        "a,1e6,L3[WIO] Q3 - L2[WI] N1 K8X - L1[O] R3 S3 Q2 C3X - L0[W] P60,3,3,60,6,3,8,1,1,1,1,1",
        "b,1e6,L3[WIO] P4 C3 - L2[WI] N1 K5X - L1[O] K10 C40 P8 - L0[W] N1,"
        "1,1,32,1,120,50,1,1,1,1,1",
    )
    runs = read_runs(path)
    assert runs.accelerator.rows.tolist() == [16.0, 8.0, 8.0]
    sizes = {letter: getattr(runs.run_operators, letter).tolist() for letter in "pqck"}
    assert sizes["p"] == [15.0, 60.0, 32.0]
    assert sizes["q"] == [15.0, 60.0, 1.0]
    bounds = runs.run_nest.temporal[:, 0]
    P, Q, C, K = 2, 3, 4, 5
    assert bounds[0, [P, Q, K]] == pytest.approx([15 / 7, 15 / 14, 2.0])
    assert bounds[1, [P, Q]] == pytest.approx([1.0, 30.0])
    # Tiles of 8, 40 and 50 become one, two and three blocks of 8.
    assert bounds[2, [P, C, K]] == pytest.approx([32 / 8, 120 / 16, 50 / 24])
    assert np.array_equal(runs.nest.temporal[:, 1:], runs.run_nest.temporal[:, 1:])


def test_any_file_with_these_columns_is_scored(tmp_path):
    row = (
        "mine,20000,L3[WIO] K2 - L2[WI] N1 K16X - L1[O] C4 P4 C16X - L0[W] P16,"
        "1,1,64,1,64,32,1,1,1,1,1"
    )
    report = validate(written(tmp_path, row))
    assert report.rows_scored == 1
    assert set(report.groups) == {"set=mine", "kind=gemm"}


def _edited(tmp_path: Path, old: str, new: str) -> Path:
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "edited.csv"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("training,9853947.0,", "training,-1,", "column 'rtl_cycles': got '-1', expected a number"),
        ("training,9853947.0,", "training,,", "column 'rtl_cycles': got ''"),
        ("K8 Q28 - L2", "K8 Z28 - L2", "line 5: mapping"),
        ("K8 Q28 - L2", "K8 Q27 - L2", "expected loops that multiply to R7 S7 P112"),
        ("L1[O] K2 S7", "L1[I] K2 S7", "expected the levels L3[WIO], L2[WI], L1[O] and L0[W]"),
        ("7,7,112,112,3,", "7,7,112,112,0,", "column 'C': got '0', expected a whole number"),
        ("rtl_cycles,timeloop", "cycles,timeloop", "no column 'rtl_cycles'"),
    ],
)
def test_error_of_one_line_names_a_broken_file(tmp_path, old, new, expected):
    with pytest.raises(ValueError, match=r"edited\.csv") as error:
        validate(_edited(tmp_path, old, new))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
