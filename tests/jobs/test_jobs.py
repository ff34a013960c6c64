"""Jobs in Python: answers equal to the functional core, tables, searches, comparisons."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hwdse
from hwdse.config import ConfigError
from hwdse.jobs.comparison import TOTALS, compare_named
from hwdse.jobs.job_results import ResultTable
from hwdse.jobs.variants import parse_axis

PARTS = {"system": "dgx_h100", "count": 2, "model": "llama3_8b", "batch": 64}


@pytest.fixture(scope="module")
def training():
    return hwdse.job(**PARTS, strategy="TP8")


def test_a_job_is_the_functional_core_by_name(training):
    with jax.enable_x64(True):
        design = jax.tree.map(float, training.design)
        direct = hwdse.evaluate(design, training.workload)
    assert training.evaluate().step_time_s == pytest.approx(float(direct.step_time_s), rel=1e-12)


def test_numbers_are_si_and_texts_have_units(training):
    text = training.with_({"chip.hbm.bandwidth": "4 TB/s"})
    number = training.with_({"chip.hbm.bandwidth": 4e12})
    assert text.design == number.design
    assert text.design.chip.hbm.bandwidth_bytes_per_s == 4e12
    assert training.design.chip.hbm.bandwidth_bytes_per_s != 4e12


@pytest.mark.parametrize("number", [np.float32(2e9), np.float64(2e9), jnp.float32(2e9), 2e9])
def test_numbers_of_all_kinds_are_values(number):
    core = hwdse.job(core="gemmini", layers="bert_base").with_({"accelerator.clock": number})
    assert core.design.accelerator.clock_hz == 2e9
    assert not core.is_traced


def test_a_search_of_traced_values_is_refused(training):
    def searched(bandwidth):
        changed = training.with_({"chip.link.bandwidth": bandwidth})
        return changed.search({"chip.hbm.bandwidth": ("1 TB/s", "2 TB/s")})

    with pytest.raises(ConfigError, match="a search has no traced values"):
        jax.grad(searched)(450e9)


def test_traced_values_have_gradients(training):
    def time(bandwidth):
        changed = training.with_({"chip.link.bandwidth": bandwidth})
        return changed.evaluate().time_per_token_s

    with jax.enable_x64(True):
        here = 450e9
        slope = float(jax.grad(time)(here))
        step = 1e-4 * here
        difference = (float(jax.jit(time)(here + step)) - float(jax.jit(time)(here - step))) / (
            2 * step
        )
    assert slope == pytest.approx(difference, rel=1e-4)
    table = training.gradient("time_per_token", top=None)
    row = list(table.columns["parameter"]).index("chip.link.bandwidth_bytes_per_s")
    assert table.columns["derivative"][row] == pytest.approx(slope, rel=1e-9)


def test_strategies_are_ranked_and_the_best_is_the_default(training):
    table = training.strategies(top=3, tensor=(1.0, 2.0, 4.0, 8.0))
    times = table.columns["step_time_s"]
    assert list(times) == sorted(times)
    best = hwdse.job(**PARTS)
    assert best.evaluate().time_per_token_s <= training.evaluate().time_per_token_s


def test_parts_that_differ(training):
    other = training.with_(count=4, strategy="TP4")
    assert other.design.cluster.num_chips == 32.0
    assert other.strategy.startswith("TP4 PP1 DP8")
    with pytest.raises(ConfigError, match="sytem: expected one of"):
        training.with_(sytem="dgx_h100")
    with pytest.raises(ConfigError, match="did you mean"):
        training.with_({"chip.hbm.bandwith": 1e12})


def test_tables_print_and_become_data_frames(training):
    result = training.evaluate()
    lines = repr(result).splitlines()
    assert lines[0] == training.title
    assert "step time (s)" in repr(result)
    assert result._repr_html_().startswith("<table>")
    frame = result.to_pandas()
    assert frame["metric"].iloc[0] == "step_time_s"
    assert frame["value"][0] == result.step_time_s


def test_long_tables_say_how_many_rows_are_hidden():
    cells = tuple((str(i), "1") for i in range(50))
    assert repr(ResultTable("t", ("a", "b"), cells)).endswith("... 10 more rows")


def test_a_search_in_one_line(tmp_path):
    core = hwdse.job(core="gemmini", layers="bert_base")
    search = core.search(
        {"accelerator.rows": (4, 64, 4), "accelerator.cols": [8, 16, 32]},
        minimize="energy_delay",
        limits={"die_area": "4 mm^2"},
    )
    best = search.optimize(60)
    assert best.is_feasible
    assert best.design.accelerator.cols in (8.0, 16.0, 32.0)
    assert best.columns["best"][0] <= best.columns["base"][0]
    front = search.sweep(64)
    times = list(front.columns["time_per_token_s"])
    assert times == sorted(times)
    energies = list(front.columns["energy_per_token_j"])
    assert energies == sorted(energies, reverse=True)
    assert {path.name for path in front.plot(tmp_path, ("svg",))} == {"pareto.svg"}
    names = {path.name for path in core.evaluate().plot(tmp_path, ("png",))}
    assert names == {"breakdown.png", "roofline.png"}
    pair = hwdse.compare([core, core.with_({"accelerator.rows": 32})])
    assert [path.name for path in pair.plot(tmp_path, ("png",))] == ["comparison.png"]
    with pytest.raises(ConfigError, match="expected something to search"):
        core.search().optimize(10)
    with pytest.raises(ConfigError, match="expected \\(low, high\\)"):
        core.search({"accelerator.rows": 3})


def test_a_search_of_a_job_keeps_its_title(tmp_path):
    file = tmp_path / "job.toml"
    file.write_text('title = "mine"\n[design]\nsystem = "dgx_h100"\nmodel = "llama3_8b"\n'
                    'strategy = "TP8"\n')  # fmt: skip
    mine = hwdse.job(file)
    assert mine.search({"chip.array.rows": [32, 64]}).job.title == "mine"
    assert mine.with_(count=2).title != "mine"


@pytest.mark.parametrize("equal", sorted(TOTALS))
def test_totals_are_near_those_of_the_first_job(equal, training):
    pair = hwdse.compare([training, training.with_(system="dgx_a100", count=1)], equal=equal)
    totals = [
        TOTALS[equal](one, result) for one, result in zip(pair.jobs, pair.results, strict=True)
    ]
    one_system = totals[1] / (pair.values["num_chips"][1] / 8.0)
    assert abs(totals[1] - totals[0]) <= one_system


def test_totals_that_whole_systems_cannot_equal_are_told():
    parts = {"model": "llama3_8b", "batch": 64, "strategy": "TP8"}
    found = hwdse.compare(["dgx_h100", "trn2_ultraserver", "dgx_a100"], equal="chips", **parts)
    assert found.ratios("num_chips") == (1.0, 8.0, 1.0)
    told = (
        "Trn2 UltraServer: 8.00x the chips of DGX H100, the nearest with a whole number of systems"
    )
    assert [note for note in found.notes if "nearest" in note] == [told]


def test_comparing_a_job_with_itself_gives_ratios_of_one(training):
    pair = hwdse.compare([training, training])
    assert len(set(pair.labels)) == 2
    for name in pair.values:
        assert pair.ratios(name) in ((1.0, 1.0),) or math.isnan(pair.ratios(name)[0])


def test_variants_of_a_path_and_of_a_part():
    parts = {"model": "llama3_8b", "batch": 64, "strategy": "TP8"}
    found = compare_named(["dgx_h100"], parts, vary=["chip.link.bandwidth=100..400 GB/s:4"])
    assert found.labels[0] == "link.bandwidth 100 GB/s"
    times = found.values["step_time_s"]
    assert list(times) == sorted(times, reverse=True)
    found = compare_named([], parts, vary=["system=dgx_h100,dgx_a100"])
    assert found.labels == ("DGX H100", "DGX A100 80 GB")
    with pytest.raises(ConfigError, match="h100 is a chip: expected a job, a system or a core"):
        compare_named(["h100", "dgx_h100"], parts)


@pytest.mark.parametrize("text", ["a", "a=", "a=1,,2", "a=1,1", "a=5..1:3", "a=1..2:1", "=1,2"])
def test_wrong_axes_are_refused(text):
    with pytest.raises(ConfigError, match=r"--vary .*expected"):
        parse_axis(text)


def test_ranges_are_linear_with_units():
    assert parse_axis("x=2..8TB/s:7").values == tuple(f"{n} TB/s" for n in range(2, 9))


def test_semicolons_separate_values_with_commas():
    axis = parse_axis("strategy=TP8 PP2, ZeRO-1; best")
    assert axis.values == ("TP8 PP2, ZeRO-1", "best")
