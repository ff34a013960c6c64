"""SCALE-Sim topology files: sizes, counts, rounding, error messages."""

from pathlib import Path

import numpy as np
import pytest

from hwdse.workload.loops.scalesim_topology import (
    OUTPUT_SIZES,
    ConvShape,
    load_topology,
    parse_topology,
)

DATA = Path(__file__).parents[1] / "data"
CONV_HEADER = (
    "Layer, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num, Strides,\n"
)


def test_convolutions_become_gemms():
    layers = load_topology(DATA / "topology_conv.csv")
    assert layers.names == ("Conv1", "Conv3_s", "FC", "DP_1", "Conv2D_1")
    gemms = layers.gemms
    np.testing.assert_array_equal(gemms.m, [109 * 109, 28 * 28, 1, 110 * 110, 47 * 94])
    np.testing.assert_array_equal(gemms.k, [147, 64, 512, 9, 27])
    np.testing.assert_array_equal(gemms.n, [64, 128, 1000, 1, 8])
    np.testing.assert_array_equal(gemms.count, [1, 1, 1, 32, 1])


def test_gemms_are_read_in_the_order_m_n_k():
    gemms = load_topology(DATA / "topology_gemm.csv").gemms
    np.testing.assert_array_equal(gemms.m, [128, 512])
    np.testing.assert_array_equal(gemms.n, [1536, 128])
    np.testing.assert_array_equal(gemms.k, [512, 64])
    np.testing.assert_array_equal(gemms.a_in_hbm + gemms.b_in_hbm + gemms.c_in_hbm, [3, 3])
    np.testing.assert_array_equal(gemms.vector_flop + gemms.extra_bytes, [0, 0])


def test_ceil_rule_adds_a_window_beyond_the_edge():
    """Strided 1 x 1 layers of ResNet-50: 29 x 29 outputs in SCALE-Sim, 28 x 28 in frameworks."""
    gemms = load_topology(DATA / "topology_conv.csv", rounding="ceil").gemms
    assert gemms.m[1] == 29 * 29


@pytest.mark.parametrize("rounding", sorted(OUTPUT_SIZES))
def test_rounding_rules_agree_if_the_stride_divides(rounding):
    shape = ConvShape(11, 9, 3, 3, 4, 8, 2, 3)
    assert shape.output_size(rounding) == (5, 3)
    assert ConvShape(3, 3, 3, 3, 4, 8, 2, 2).output_size(rounding) == (1, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Layer,M,N,K,\nqkv,128,1.5,512,\n", "line 2, column 'N': got '1.5', expected a whole"),
        ("Layer,M,N,K,\n\nqkv,128,0,512,\n", "line 3, column 'N': got '0', expected a whole"),
        ("Layer,M,N,K,\nqkv,128,5\n", "line 2: 3 cells, expected a layer name, then M, N, K"),
        ("Layer,M,N,K,\n", "no layers, expected at least one row"),
        ("", "line 1: got the header ''"),
        ("a,b\n1,2\n", "line 1: got the header 'a, b', expected a layer name, then M, N, K or"),
        ("Layer,M,N,K,\nqkv,8,8,8,2:4,\n", "column 'Sparsity': got '2:4', expected 1:1"),
        (CONV_HEADER + "c,2,8,3,3,1,1,1,\n", "'Filter Height': got '3', expected at most"),
        (CONV_HEADER + "c,8,8,3,3,1,1,1,0\n", "column 'Stride width': got '0', expected"),
    ],
)
def test_malformed_file_error_names_place_value_and_expectation(text, said):
    with pytest.raises(ValueError, match=r"net\.csv") as caught:
        parse_topology(text, "net.csv")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_unknown_rule_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"none.csv: cannot be read \(No such file"):
        load_topology(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="rounding 'up', expected one of ceil, floor"):
        parse_topology("Layer,M,N,K,\nq,1,1,1,\n", "net.csv", rounding="up")
