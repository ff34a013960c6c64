"""Messages on stderr are short printable lines; a closed pipe is no error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwdse.cli.main import MAX_LINE, one_line, run
from hwdse.cli.shared.exit_codes import Exit
from hwdse.runs.atomic_files import replacing


@pytest.mark.parametrize("length", [1, MAX_LINE, MAX_LINE + 1, 30_000])
def test_a_long_message_keeps_its_head_and_its_tail(length):
    text = "file.toml: key = " + "x" * length + ": expected a number"
    line = one_line(text)
    assert len(line) <= MAX_LINE + len(" ... ")
    assert line.startswith("file.toml: key = x")
    assert line.endswith("x: expected a number")
    assert (line == text) == (len(text) <= MAX_LINE)


def test_control_characters_of_a_message_are_escaped():
    assert one_line("a\x1b[31mred\u202e\x07 b\n c") == "a\\x1b[31mred\\u202e\\x07 b c"


@pytest.mark.parametrize(
    "arguments",
    [["evaluate", "y" * 20_000], ["evaluate", "trn2_llama3_70b", "--set", "z" * 20_000 + "=1"],
     ["presets", "w\x1b[31m" * 4_000]],
)  # fmt: skip
def test_hostile_arguments_are_one_short_printable_line(arguments, capsys):
    assert run(arguments) == Exit.USER_ERROR
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert len(error) < MAX_LINE + 50
    assert error.strip().isprintable()


@pytest.mark.skipif(os.name != "posix", reason="pipes as on POSIX")
@pytest.mark.parametrize("arguments", [["presets"], ["presets", "--json"], ["optimize", "--help"]])
def test_output_into_a_closed_pipe_is_no_error(arguments):
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [sys.executable, "-c", "from hwdse.cli import main; main()", *arguments],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert (ended.returncode, ended.stderr) == (Exit.OK, "")


def test_every_exit_code_is_documented():
    page = Path(__file__).parents[2] / "docs" / "reference" / "exit-codes.md"
    lines = [line.split("|")[1].strip() for line in page.read_text().splitlines() if "|" in line]
    assert {str(int(code)) for code in Exit} == {text for text in lines if text.isdecimal()}


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def no_space(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    path = tmp_path / "front.csv"
    with pytest.raises(OSError, match="No space") as caught, replacing(path) as temporary:
        temporary.write_text("x")
    assert caught.value.filename == str(path)
