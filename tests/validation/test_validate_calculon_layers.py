"""Kernels equal Calculon's layers; errors name mistakes in files."""

from pathlib import Path

import pytest

from hwdse.validation.simulators.calculon_layers import LAYERS, QUANTITIES, validate

FILE = Path(__file__).parents[1] / "data" / "calculon_layers_public.csv"
BLOCKS = FILE.with_name("calculon_public.csv")


def test_every_layer_of_every_configuration_is_equal():
    report = validate(FILE)
    assert report.rows_scored == 352
    assert report.rows_skipped == {}
    assert set(report.metrics) == set(QUANTITIES)
    for name, metrics in report.metrics.items():
        assert metrics["num_rows"] == 352, name
        assert metrics["mismatches"] == 0, name
        assert metrics["max_ape"] == 0.0, name


def test_no_two_layers_share_a_kernel():
    assert len(set(LAYERS.values())) == len(LAYERS)


@pytest.fixture
def edited(tmp_path):
    """Function that copies the first configuration of both files and edits one text."""

    def edit(old, new, in_layers=True):
        for path, is_it in ((FILE, in_layers), (BLOCKS, not in_layers)):
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            text = "".join(x for x in lines if x.startswith(("#", "row_id,", "pub0000,")))
            assert not is_it or old in text
            copy = text.replace(old, new, 1) if is_it else text
            (tmp_path / path.name).write_text(copy, encoding="utf-8")
        return tmp_path / FILE.name

    return edit


def test_difference_is_a_mismatch(edited):
    report = validate(
        edited("pub0000,4,AttnBlock_Query,77309411328", "pub0000,4,AttnBlock_Query,7")
    )
    assert report.metrics["forward_flop"]["mismatches"] == 1
    assert report.metrics["forward_bytes"]["mismatches"] == 0


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("pub0000,4,AttnBlock_Query,", "pub0000,4,AttnBlock_Rotary,", "unknown layer AttnBlock_Ro"),
        ("pub0000,4,AttnBlock_Query,", "pub9999,4,AttnBlock_Query,", "its configuration is not in"),
        ("pub0000,4,AttnBlock_Query,", "pub0000,4,AttnBlock_QKV_AG,", "a layer that its config"),
    ],
)
def test_rows_without_a_comparison_are_skipped_with_a_reason(edited, old, new, reason):
    report = validate(edited(old, new))
    assert report.rows_scored == 23
    (text,) = report.rows_skipped
    assert text.startswith(reason)


@pytest.mark.parametrize(
    ("old", "new", "in_layers", "expected"),
    [
        ("forward_flop", "flop", True, None),
        ("pub0000,4,AttnBlock_Query,77309411328", "pub0000,4,AttnBlock_Query,x", True, "got 'x'"),
        ("float16", "int4", False, "column 'number_format': got 'int4', expected one of bfloat16"),
        ("micro_batch", "batch", False, "no column 'micro_batch'"),
    ],
)
def test_error_of_one_line_names_a_broken_file(edited, old, new, in_layers, expected):
    path = edited(old, new, in_layers)
    if expected is None:  # a column less is a quantity less
        assert "forward_flop" not in validate(path).metrics
        return
    with pytest.raises(ValueError, match="calculon_") as error:
        validate(path)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_table_of_configurations_is_required(tmp_path):
    alone = tmp_path / "calculon_layers_mine.csv"
    alone.write_text(FILE.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"calculon_mine\.csv: expected an existing file"):
        validate(alone)
    other = tmp_path / "blocks.csv"
    other.write_text(alone.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ValueError, match="expected '_layers' in the file's name"):
        validate(other)
