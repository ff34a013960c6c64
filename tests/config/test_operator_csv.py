"""Operators from CSV files: networks of DOSA, SCALE-Sim topologies, one-line errors."""

from pathlib import Path

import numpy as np
import pytest

from hwdse.config import ConfigError, load_operators, load_workload
from hwdse.config.design.operator_csv import load_operators_file, parse_operators
from hwdse.config.files.toml_files import preset_names, preset_root
from hwdse.workload.loops.operators import DIMS, extents

DATA = Path(__file__).parents[1] / "data"
TEXT = """# Two layers
# Source: nobody
name,R,S,P,Q,C,K,N,stride_p,dilation_s,count

conv,3,5,14,7,64,128,2,2,3,4
# between
product,1,1,100,1,300,200,1,1,1,1
"""


@pytest.mark.parametrize(
    ("name", "unique", "giga_macs"),
    # distinct layers of DOSA (MICRO 2023), and the usual figures: ResNet-50 has 4.1 GMAC
    [
        ("bert_base", 5, 0.757),
        ("resnet50", 24, 4.089),
        ("unet", 23, 167.3),
        ("retinanet", 22, 3.32),
    ],
)
def test_networks_of_dosa(name, unique, giga_macs):
    file = load_operators_file(name)
    operators = file.operators
    assert len(operators.names) == len(set(operators.names)) == unique
    macs = np.sum(operators.num_macs * operators.count)
    assert macs / 1e9 == pytest.approx(giga_macs, rel=2e-3)
    assert any("BSD-2" in line for line in file.sources)
    assert file.published == {"num_operators": unique, "num_macs": macs}


def test_resnet50_has_its_53_convolutions_and_one_classifier():
    operators = load_operators("resnet50")
    is_classifier = np.array([name == "classifier" for name in operators.names])
    assert np.sum(operators.count[~is_classifier]) == 53
    assert np.sum(operators.count[is_classifier]) == 1
    kernels = operators.r * operators.s * operators.c * operators.k
    assert np.sum(kernels * operators.count) == pytest.approx(25.5e6, rel=5e-3)  # parameters


def test_bert_is_the_encoder_layer_of_dosa():
    operators = load_operators("bert_base")
    sizes = {tuple(int(x) for x in row) for row in zip(operators.p, operators.c, operators.k,
                                                       strict=True)}  # fmt: skip
    assert sizes == {
        (128, 768, 768), (128, 64, 128), (128, 128, 64), (128, 768, 3072), (128, 3072, 768),
    }  # fmt: skip
    assert np.all(operators.r * operators.s * operators.q * operators.n == 1.0)


@pytest.mark.parametrize("name", preset_names("operators"))
def test_every_preset_names_its_source(name):
    lines = (preset_root() / "operators" / f"{name}.csv").read_text().splitlines()
    assert any("Source" in line for line in lines if line.startswith("#"))
    assert np.all(np.asarray(extents(load_operators(name))) >= 1.0)


def test_columns_in_any_order_and_steps_that_default_to_one():
    operators = parse_operators(TEXT, "x.csv")
    assert operators.names == ("conv", "product")
    np.testing.assert_array_equal(extents(operators)[0], [3, 5, 14, 7, 64, 128, 2])
    np.testing.assert_array_equal(operators.stride_p, [2, 1])
    np.testing.assert_array_equal(operators.stride_q, [1, 1])
    np.testing.assert_array_equal(operators.dilation_s, [3, 1])
    np.testing.assert_array_equal(operators.count, [4, 1])
    swapped = "count,name,K,N,R,S,P,Q,C\n4,x,128,2,3,5,14,7,64\n"
    one = parse_operators(swapped, "x.csv")
    np.testing.assert_array_equal(extents(one)[0], extents(operators)[0])


@pytest.mark.parametrize("name", ["topology_conv.csv", "topology_gemm.csv"])
def test_chips_of_a_cluster_run_the_gemms_of_the_operators(name):
    """m = N P Q, k = R S C, n = K, and the counts of depthwise layers."""
    operators, gemms = load_operators(DATA / name), load_workload(DATA / name).gemms
    np.testing.assert_array_equal(operators.n * operators.p * operators.q, gemms.m)
    np.testing.assert_array_equal(operators.r * operators.s * operators.c, gemms.k)
    np.testing.assert_array_equal(operators.k, gemms.n)
    np.testing.assert_array_equal(operators.count, gemms.count)


def test_a_gemm_of_a_topology_has_no_filter():
    operators = load_operators(DATA / "topology_gemm.csv")
    np.testing.assert_array_equal(operators.c, [512, 64])
    np.testing.assert_array_equal(operators.r * operators.s, [1, 1])


def test_the_file_is_recorded(tmp_path):
    path = tmp_path / "net.csv"
    path.write_text(TEXT)
    (file,) = load_operators_file(path).files
    assert len(file.sha256) == 64
    assert load_operators_file(path).name == "Two layers"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (",count\n", ",cuont\n", 'x.csv line 3: column "cuont", expected one of name, R, '),
        (",count\n", ",K\n", 'x.csv line 3: column "K", expected it once'),
        (",C,K", ",C,dilation_r", "x.csv line 3: column K is missing, expected name, R, S, "),
        ("64,128,2,2,3,4", "0,128,2,2,3,4", 'x.csv line 5 C = "0": expected a whole number'),
        ("64,128,2,2,3,4", "6.5,128,2,2,3,4", 'x.csv line 5 C = "6.5": expected a whole'),
        ("64,128,2,2,3,4", "64,128,2,2,3,nan", 'x.csv line 5 count = "nan": expected a whole'),
        ("conv,3", ",3", 'x.csv line 5: name = "": expected a name'),
        ("300,200,1,1,1,1", "300,200,1,1,1", "x.csv line 7: 10 cells, expected 11"),
        ("name,R,S,P,Q", "layer,M,N,K", "x.csv line 3: column "),
    ],
)
def test_an_error_is_one_line(old, new, line):
    with pytest.raises(ConfigError) as caught:
        parse_operators(TEXT.replace(old, new), "x.csv")
    assert str(caught.value).startswith(line), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "x.csv: no header"),
        (TEXT.splitlines()[2], "x.csv: no operators"),
        ("Layer,M,N,K\na,1,2", "x.csv line 2 K"),
        ("what,is,this\n1,2,3", 'x.csv line 1: header "what, is, this", expected name, R, S, '),
    ],
)
def test_an_empty_or_foreign_file_is_one_line(text, line):
    with pytest.raises(ConfigError) as caught:
        parse_operators(text, "x.csv")
    assert str(caught.value).startswith(line), str(caught.value)


def test_unknown_names_and_unreadable_files(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'resnet50'"):
        load_operators("resnet-5o")
    with pytest.raises(ConfigError, match="found a folder"):
        load_operators(tmp_path)
    path = tmp_path / "bad.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_operators(path)


def test_dimensions_are_those_of_operators():
    assert set(DIMS) == set("RSPQCKN")
