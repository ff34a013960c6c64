"""SQL on a run: names with units, optional FROM, errors in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("duckdb")

from hwdse.cli.main import run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.cli.sweep.query_command import column_names, with_tables
from hwdse.runs.run_folder import create_run

PATHS = ["is_front", "chip.array.rows", "chip.sram.capacity_bytes", "chip.hbm.capacity_bytes",
         "step_time_s", "log.step_time"]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    record = create_run(tmp_path / "run", {"points": 1}, "", seed=0)
    for index in range(3):
        numbers = np.arange(4.0) + 4 * index
        record.write_part(
            index,
            {
                "is_front": np.arange(4) == 0,
                "chip.array.rows": 32.0 * numbers,
                "parallelism": np.array(["TP1", "TP2", "it's", "TP8"]),
                "die_area_mm2": 500.0 + 20.0 * numbers,
                "step_time_s": 1.0 / (1.0 + numbers),
                "log.step_time": -np.log1p(numbers),
            },
        )
    record.part_path(7).write_bytes(b"PAR1")  # left by a killed writer: not read
    return record.folder


def queried(folder, query, capsys):
    assert run(["query", str(folder), query, "--json"]) == Exit.OK
    printed = json.loads(capsys.readouterr().out)
    return printed["columns"], printed["rows"]


def test_the_query_of_the_documentation(folder, capsys):
    columns, rows = queried(
        folder,
        "select chip.array.rows, step_time_s where die_area_mm2 < 600 order by step_time_s limit 2",
        capsys,
    )
    assert columns == ["rows", "step_time_s"]
    assert rows == [[128.0, 0.2], [96.0, 0.25]]


def test_strings_are_unchanged_and_tables_may_be_named(folder, capsys):
    query = "select count(*) from points where parallelism = 'it''s'"
    assert queried(folder, query, capsys)[1] == [[3]]
    assert queried(folder, "select 'chip.array.rows where' as t limit 1", capsys)[1][0] == [
        "chip.array.rows where"
    ]
    query = "with a as (select max(rows) as most from points) select most from a"
    assert queried(folder, query, capsys)[1] == [[352.0]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select 1", "select 1 from points "),
        ("SELECT a WHERE b", "SELECT a  from points WHERE b"),
        ("select (select 1 from t) limit 2", "select (select 1 from t)  from points limit 2"),
        ("select year(x from y) order by 1", "select year(x from y)  from points order by 1"),
        ("select a from front where b;", "select a from front where b"),
        ("describe points", "describe points"),
        ('select "where" -- from here', 'select "where"  from points '),
    ],
)  # fmt: skip
def test_points_are_read_if_no_table_is_named(query, expected):
    assert with_tables(query, {}) == expected


def test_last_words_name_columns_if_they_are_unique():
    names = column_names(PATHS)
    assert names["chip.array.rows"] == "rows"
    assert names["chip.sram.capacity_bytes"] == "chip.sram.capacity_bytes"
    assert names["log.step_time"] == "log.step_time"
    assert len(set(names.values())) == len(PATHS)
    assert with_tables("select chip.hbm.capacity_bytes from front", names) == (
        'select "chip.hbm.capacity_bytes" from front'
    )


def test_table_and_csv(folder, capsys):
    assert run(["query", str(folder), "select count(*) as n, max(parallelism) as p", "--csv"]) == 0
    assert capsys.readouterr().out == "n,p\n12,it's\n"
    assert run(["query", str(folder)]) == Exit.OK
    captured = capsys.readouterr()
    assert captured.out.split()[:3] == ["step_time_s", "rows", "parallelism"]
    assert "3 rows" in captured.err


@pytest.mark.parametrize("query", ["select nothing", "selec 1", "select 1 from nowhere", "drop"])
def test_an_error_in_the_query_is_one_line(folder, query, capsys):
    assert run(["query", str(folder), query]) == Exit.USER_ERROR
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "Error" in err


@pytest.mark.parametrize("query", ["", " ; ", "-- nothing"])
def test_an_empty_query_is_an_error(folder, query, capsys):
    assert run(["query", str(folder), "--", query]) == Exit.USER_ERROR
    assert "expected a query such as" in capsys.readouterr().err


def test_a_few_wide_rows_are_printed_as_columns(folder, capsys):
    many = ", ".join(f"parallelism as name_of_column_{i}" for i in range(12))
    assert run(["query", str(folder), f"select {many} limit 2"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["1", "2"]
    assert lines[1].split() == ["name_of_column_0", "TP1", "TP2"]


def test_a_run_must_have_points(tmp_path, capsys):
    assert run(["query", str(tmp_path), "select 1"]) == Exit.USER_ERROR
    assert "not a run folder" in capsys.readouterr().err
    create_run(tmp_path / "empty", {}, "", seed=0)
    assert run(["query", str(tmp_path / "empty"), "select 1"]) == Exit.USER_ERROR
    assert "contains no designs yet" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["gl*", "gl?", "gl[ab]x", "it's"])
def test_the_name_of_a_folder_is_no_pattern(folder, tmp_path, capsys, name):
    for other in (name, "gla", "glax", "glbx"):
        shutil.copytree(folder, tmp_path / other)
    assert run(["query", str(tmp_path / name), "select count(*) as n", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["rows"] == [[12]]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PAR1")])
def test_lost_parts_of_an_ended_run_are_told(tmp_path, capsys, damage):
    record = create_run(tmp_path / "run", {"options": {"points": 30}}, "", seed=0)
    for index in range(3):
        record.write_part(index, {"is_front": np.zeros(10, bool)}, {"num_points": 10})
    record.finish("finished", num_points=30)
    assert run(["query", str(record.folder), "select count(*)"]) == Exit.OK
    assert "missing" not in capsys.readouterr().err
    damage(record.part_path(1))
    assert run(["query", str(record.folder), "select count(*)"]) == Exit.OK
    assert "10 designs are missing" in capsys.readouterr().err
    record.finish("interrupted", num_points=20)
    assert run(["query", str(record.folder), "select count(*)"]) == Exit.OK
    assert "partial run (interrupted, 20 of 30 designs)" in capsys.readouterr().err
