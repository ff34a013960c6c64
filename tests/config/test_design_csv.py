"""Lists of designs from CSV: units, steps of ranges, values as they are, errors by line."""

import os

import numpy as np
import pytest
from support.small_search import SEARCH

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.config import ConfigError, load_search
from hwdse.config.search.design_csv import load_design_list, with_listed_values
from hwdse.runs.run_folder import open_run


@pytest.fixture(scope="module")
def loaded():
    # With FP64 units, so that the base design is inside the ranges.
    return load_search("trn2_llama3_70b", ["chip.fp64_per_fp16_ratio=0.001"])


def file_of(tmp_path, text):
    path = tmp_path / "designs.csv"
    path.write_text(text)
    return path


def listed(loaded, tmp_path, text):
    return load_design_list(file_of(tmp_path, text), loaded)


def designs_of(loaded, units, variants):
    space = loaded.space
    bases = [base for _, base in space.variant_bases(loaded.base)]
    snapped = space.snap_points(units)
    return [space.describe(u, bases[v]) for u, v in zip(snapped, variants, strict=True)]


def test_cells_have_units_or_columns_that_name_them(loaded, tmp_path):
    text = (
        "# measured last week\n"
        "chip.array.rows,chip.hbm.bandwidth,chip.array.clock_hz,chip.array.dataflow,\n"
        '128,"4 TB/s",2.4e9,output_stationary_overlapped\n'
        "  # between\n"
        "96,2.9 TB/s,1.2 GHz,weight_stationary_overlapped,,\n"
    )
    first, second = designs_of(loaded, *listed(loaded, tmp_path, text))
    assert (first["chip.array.rows"], second["chip.array.rows"]) == (128.0, 96.0)
    assert first["chip.hbm.bandwidth_bytes_per_s"] == pytest.approx(4.0e12)
    assert second["chip.array.clock_hz"] == pytest.approx(1.2e9)
    assert first["chip.array.dataflow"] == "output_stationary_overlapped"
    # Parameters without a column have the base value.
    assert first["chip.array.cols"] == float(loaded.base.chip.array.cols)
    assert first["parallelism.pipeline"] == float(loaded.base.parallelism.pipeline)


def test_strategies_are_given_by_label_or_by_values(loaded, tmp_path):
    choice = loaded.space.choices[0]
    labels = "".join(f'"{label}"\n' for label in choice.labels)
    units, _ = listed(loaded, tmp_path, f"{choice.name}\n{labels}")
    np.testing.assert_array_equal(choice.index(units[:, -1]), np.arange(len(choice.labels)))
    names = ",".join(choice.paths)
    rows = "".join(",".join(repr(value) for value in row) + "\n" for row in choice.table)
    by_values, _ = listed(loaded, tmp_path, f"{names}\n{rows}")
    np.testing.assert_array_equal(by_values[:, -1], units[:, -1])


def test_values_between_the_steps_are_refused_with_the_nearest_one(loaded, tmp_path):
    for cell, column, nearest in (
        ("100", "chip.array.rows", "nearest 96"),
        ("1.21 GHz", "chip.array.clock", "nearest 1.2 GHz"),
        ("2.95e12", "chip.hbm.bandwidth_bytes_per_s", "nearest"),
    ):
        with pytest.raises(ConfigError, match=nearest) as caught:
            listed(loaded, tmp_path, f"{column}\n{cell}\n")
        line = str(caught.value)
        assert "\n" not in line
        assert "designs.csv line 2" in line
        assert cell in line
        assert "--as-is keeps the value" in line


def test_values_between_the_steps_are_kept_as_they_are_on_request(loaded, tmp_path):
    text = "chip.array.rows,chip.array.cols,chip.array.clock\n100,128,1.21 GHz\n128,96,1.23 GHz\n"
    found = with_listed_values(file_of(tmp_path, text), loaded)
    first, second = designs_of(found, *listed(found, tmp_path, text))
    assert (first["chip.array.rows"], second["chip.array.rows"]) == (100.0, 128.0)
    assert (first["chip.array.clock_hz"], second["chip.array.clock_hz"]) == (1.21e9, 1.23e9)
    assert (first["chip.array.cols"], second["chip.array.cols"]) == (128.0, 96.0)
    # Nothing changes for a list on the steps.
    on_steps = file_of(tmp_path, "chip.array.rows\n128\n96\n")
    assert with_listed_values(on_steps, loaded).space == loaded.space


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a line of column names"),
        ("chip.array.rows\n", "one line per design"),
        ("chip.array.row\n128\n", "did you mean 'chip.array.rows'"),
        ("chip.array.rows,chip.array.rows\n1,2\n", "each path once"),
        ("chip.array.rows\n128\n4096\n", r"line 3 .*rows = \"4096\": expected a value from 32 to"),
        ("#\nchip.array.rows\n128,5\n", "line 3: 2 cells, expected 1"),
        ("chip.hbm.bandwidth\n4 GHz\n", "line 2 chip.hbm.bandwidth = "),
        ("chip.hbm.bandwidth\n4e12\n", "expected a number with a unit such as '2.9 TB/s'"),
        ("chip.array.rows\nmany\n", "line 2 chip.array.rows"),
        ("chip.array.dataflow\nweights\n", "expected one of weight_stationary_overlapped"),
        ("parallelism\nTP3\n", "one of the \\d+ alternatives"),
        ("parallelism.tensor\n7\n", "one of the \\d+ alternatives"),
        ('chip.array.rows\n"128\n', "line 2: expected cells separated by commas"),
        (f"chip.array.rows\n{'1' * 140_000}\n", "line 2: expected cells of at most 131,072"),
    ],
)
def test_an_error_is_one_line_with_its_place(loaded, tmp_path, text, expected):
    with pytest.raises(ConfigError, match=expected) as caught:
        listed(loaded, tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "designs.csv" in str(caught.value)


def test_a_pipe_is_not_read(loaded, tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ConfigError, match="expected a regular file"):
        load_design_list(tmp_path / "pipe.csv", loaded)


def test_a_missing_file_and_a_missing_option_are_one_line(tmp_path, capsys):
    for options, expected in (
        (
            ["--method", "list", "--designs", str(tmp_path / "no.csv")],
            "no.csv: expected an existing file",
        ),
        (["--method", "list"], "give both"),
        (["--designs", str(tmp_path / "no.csv")], "give both"),
        (["--as-is"], "--as-is needs --method list"),
    ):
        assert run(["sweep", "trn2_llama3_70b", *options]) == Exit.USER_ERROR
        err = capsys.readouterr().err
        assert expected in err
        assert len(err.splitlines()) == 1


def test_base_values_without_a_column_must_be_in_range(tmp_path):
    with pytest.raises(ConfigError, match=r"fp64_per_fp16_ratio = .*no column has this path"):
        listed(load_search("trn2_llama3_70b"), tmp_path, "chip.array.rows\n128\n")


def test_sweep_refuses_values_between_the_steps_or_keeps_them(tmp_path, capsys):
    search, designs = tmp_path / "small.toml", tmp_path / "designs.csv"
    search.write_text(SEARCH)
    designs.write_text("chip.array.rows\n100\n128\n")
    command = ["sweep", str(search), "--method", "list", "--designs", str(designs)]
    command += ["--out", str(tmp_path / "run")]
    assert run(command) == Exit.USER_ERROR
    assert "nearest 96; --as-is" in capsys.readouterr().err
    assert run([*command, "--as-is", "--keep", "all"]) == 0
    assert "chip.array.rows" in capsys.readouterr().out
    points = open_run(tmp_path / "run").read_points()
    assert sorted(points["chip.array.rows"]) == [100.0, 128.0]
