"""SCALE-Sim topologies: columns by name, in the spellings of its files; one-line errors."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdse.config import ConfigError, load_workload
from hwdse.config.design.operator_csv import parse_operators

DATA = Path(__file__).parents[1] / "data"
CONV = "Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides"
GEMM = "Layer,M,N,K,\nqkv,128,1536,512,\n"


def conv(columns: str = "", row: str = "c,58,60,3,5,64,96,1", cells: str = ""):
    """Operators of one convolution with further columns."""
    return parse_operators(f"{CONV}{columns},\n{row}{cells},\n", "net.csv")


def sizes(operators) -> list[float]:
    return [float(getattr(operators, letter)[0]) for letter in "rspqckn"]


def message(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_operators(text, "net.csv")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_convolutions_become_gemms_of_their_windows():
    layers = load_workload(DATA / "topology_conv.csv")
    assert layers.names == ("Conv1", "Conv3_s", "FC", "DP_1", "Conv2D_1")
    gemms = layers.gemms
    np.testing.assert_array_equal(gemms.m, [109 * 109, 28 * 28, 1, 110 * 110, 47 * 47])
    np.testing.assert_array_equal(gemms.k, [147, 64, 512, 9, 27])
    np.testing.assert_array_equal(gemms.n, [64, 128, 1000, 1, 8])
    np.testing.assert_array_equal(gemms.count, [1, 1, 1, 32, 1])


def test_gemms_are_read_by_the_names_of_their_columns():
    gemms = load_workload(DATA / "topology_gemm.csv").gemms
    np.testing.assert_array_equal(gemms.m, [128, 512])
    np.testing.assert_array_equal(gemms.n, [1536, 128])
    np.testing.assert_array_equal(gemms.k, [512, 64])
    np.testing.assert_array_equal(gemms.a_in_hbm + gemms.b_in_hbm + gemms.c_in_hbm, [3, 3])
    np.testing.assert_array_equal(gemms.vector_flop + gemms.extra_bytes, [0, 0])
    swapped = parse_operators("K,Layer,N,M\n512,qkv,1536,128\n", "net.csv")
    assert sizes(swapped) == sizes(parse_operators(GEMM, "net.csv"))


@pytest.mark.parametrize(
    "header",
    [  # of the files of SCALE-Sim 3.0.0, and of what it writes itself
        "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, "
        "Strides,",
        "Layer,IFMAP Width,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,",
        "\ufeffLayer name,Ifmap height,ifmap width,filter height,filter width,channels,"
        "num filters,strides,",
        "Layer name,Ifmap height,ifmap width,filter height,filter width,channel,num filters,"
        "strides,batch size",
        "Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,"
        "Strides,Sparsity,",
        "Layer name\t IFMAP Height\t IFMAP Width\t Filter Height\t Filter Width\t Channels\t "
        "Num Filter\t Strides\t",
    ],
)
def test_headers_of_scale_sim(header):
    row = "c,58,60,3,5,64,96,1,".replace(",", "\t" if "\t" in header else ",")
    operators = parse_operators(f"{header}\n{row}\n".removeprefix("\ufeff"), "net.csv")
    assert sizes(operators) == [3, 5, 56, 56, 64, 96, 1]


def test_strides_of_two_axes():
    header = CONV.replace("Strides", "Stride height,stride_width")
    operators = parse_operators(f"{header}\nc,58,60,3,5,64,96,2,3\n", "net.csv")
    assert sizes(operators) == [3, 5, 28, 19, 64, 96, 1]
    assert (operators.stride_p[0], operators.stride_q[0]) == (2, 3)


def test_a_batch_of_images_and_a_batch_of_gemms():
    """Worked by hand: 58 - 3 + 1 = 56 outputs; 56^2 x 9 x 64 x 64 x 4 = 462,422,016 products."""
    operators = conv(",Batch Size", "c,58,58,3,3,64,64,1", ",4")
    assert operators.num_macs[0] == 462_422_016
    assert (operators.n[0], operators.count[0]) == (4, 1)
    gemms = parse_operators("Layer,M,N,K,Batch,\ng,128,64,32,16,\n", "net.csv")
    assert (gemms.n[0], gemms.count[0]) == (1, 16)


def test_dilation_and_padding():
    assert sizes(conv(",Dilation", "d,64,64,3,3,32,32,1", ",2"))[2:4] == [60, 60]
    assert sizes(conv(",Padding", "d,56,56,3,3,32,32,1", ",1"))[2:4] == [56, 56]
    both = conv(",Dilation Height,Dilation Width,Padding Height,Padding Width", cells=",2,1,0,3")
    assert sizes(both)[2:4] == [58 - 5 + 1, 60 + 6 - 5 + 1]
    assert (both.dilation_r[0], both.dilation_s[0]) == (2, 1)


def test_groups_are_convolutions_of_a_share_of_channels_and_filters():
    operators = conv(",Groups", cells=",32")
    assert sizes(operators)[4:6] == [2, 3]
    assert operators.count[0] == 32


def test_the_mark_of_depthwise_layers_gives_way_to_a_column_of_groups():
    marked = conv("", "DP_1,58,60,3,5,64,96,1")
    assert (marked.count[0], marked.c[0], marked.k[0]) == (64, 1, 96)
    one = conv(",Groups", "DP_1,58,60,3,5,64,96,1", ",1")
    assert (one.count[0], one.c[0], one.k[0]) == (1, 64, 96)


def test_empty_cells_of_optional_columns_have_no_effect():
    full = conv(",Batch Size,Groups,Dilation,Padding,Sparsity", cells=",1,1,1,0,1:1")
    assert sizes(conv(",Batch Size,Groups,Dilation,Padding,Sparsity")) == sizes(full)
    assert sizes(conv()) == sizes(full)


@given(st.permutations(range(12)))
def test_columns_may_have_any_order(order):
    columns = f"{CONV},Batch Size,Groups,Dilation,Padding".split(",")
    cells = ["c", "58", "60", "3", "5", "64", "96", "2", "4", "8", "2", "1"]
    text = "\n".join(",".join(row[i] for i in order) for row in (columns, cells))
    operators = parse_operators(text, "net.csv")
    assert sizes(operators) == [3, 5, 28, 27, 8, 12, 4]
    assert operators.count[0] == 8


def test_remarks_and_trailing_commas_are_allowed_everywhere():
    text = f"# my net\n\n  # more\n{CONV},,\n# between\nc,58,60,3,5,64,96,1,,,\n,,,\n#\n"
    assert sizes(parse_operators(text, "net.csv")) == sizes(conv())
    assert sizes(parse_operators(f"{CONV}\nc,58,60,3,5,64,96,1,1:1,#dw\n", "net.csv")) == (
        sizes(conv())
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Layer,M,N,K,\nqkv,128,1.5,512,\n", 'net.csv line 2 N = "1.5": expected a whole number'),
        ("Layer,M,N,K,\n\nqkv,128,0,512,\n", 'net.csv line 3 N = "0": expected a whole number'),
        ("Layer,M,N,K,\nqkv,128,5\n", 'net.csv line 2 K = "": expected a whole number'),
        ("Layer,M,N,K,\n,128,5,6\n", 'net.csv line 2 Layer name = "": expected a name'),
        ("Layer,M,N,K,\n", "net.csv: no operators, expected at least one row"),
        ("Layer,M,N,Kay\nq,1,2,3", "net.csv line 1 column = \"Kay\": expected one of"),
        ("Layer,M,N,\nq,1,2", "net.csv line 1: column K is missing, expected Layer name, M, N, K"),
        ("Layer,M,N,K,M\nq,1,2,3,4", 'net.csv line 1 column = "M": expected M once'),
        ("Layer,M,N,K,,B\nq,1,2,3,,4", "net.csv line 1: column 5 has no name"),
        ("Layer,M,N,K,Groups\nq,1,2,3,4", 'net.csv line 1 column = "Groups": expected one of'),
        ("Layer,M,N,K\nq,1,2,3,4", 'net.csv line 2: 5 cells, expected 4 as in the header; "4" has'),
        ("Layer,M,N,K,\nqkv,8,8,8,2:4,\n", 'net.csv line 2: 5 cells, expected 4'),
        ("Layer,M,N,K,Sparsity\nqkv,8,8,8,2:4,\n", 'net.csv line 2 Sparsity = "2:4": expected 1:1'),
        (f"{CONV},Batchsise\n", 'net.csv line 1 column = "Batchsise": expected one of'),
        (f"{CONV},Stride Width\n", 'net.csv line 1 column = "Stride Width": expected either'),
        (CONV.replace("Strides", "Stride Width"), "net.csv line 1: column Stride Height is"),
        (CONV.replace(",Filter Width", ""), "net.csv line 1: column Filter Width is missing"),
        (f"{CONV}\nc,2,8,3,3,1,1,1", 'net.csv line 2 Filter Height = 3: expected at most the'),
        (f"{CONV},Dilation\nc,4,8,3,3,1,1,1,2", "net.csv line 2 Filter Height = 3: expected at"),
        (f"{CONV},Groups\nc,8,8,3,3,9,6,1,2", "net.csv line 2 Groups = 2: expected a divisor of 9"),
        (f"{CONV},Padding\nc,8,8,3,3,9,6,1,same", 'net.csv line 2 Padding = "same": expected a'),
        (f"{CONV}\nc,8,8,3,3,9,6,-1", 'net.csv line 2 Strides = "-1": expected a whole number'),
    ],
)  # fmt: skip
def test_an_error_is_one_line(text, line):
    assert message(text).startswith(line), message(text)


def test_a_misspelled_column_gets_a_hint():
    assert "did you mean 'Batch Size'?" in message(f"{CONV},Batch Sise\nc,8,8,3,3,1,1,1,2\n")
    assert "did you mean 'Dilation'?" in message(f"{CONV},Dillation\nc,8,8,3,3,1,1,1,2\n")


@pytest.mark.parametrize(
    "cell", ["1" + "0" * 400, "1e3", "1_000", "\u0661", "0x10", " ", "nan", "9" * 14]
)
def test_sizes_are_plain_whole_numbers(cell):
    assert message(f"Layer,M,N,K\nq,{cell},2,3").startswith("net.csv line 2 M = ")


@pytest.mark.parametrize("text", [GEMM, "name,R,S,P,Q,C,K,N,count\nfc,1,1,7,7,16,16,1,1\n"])
@pytest.mark.parametrize("cell", ['"open', '"a"b', "x" * 140_000])
def test_broken_cells_are_one_line(text, cell):
    header, row = text.splitlines()
    _, rest = row.split(",", 1)
    line = message(f"{header}\n{cell},{rest}\n")
    assert line.startswith("net.csv line 2")
    assert len(line) < 400


def test_all_rows_with_mistakes_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_operators("Layer,M,N,K\na,0,1,1\nb,1,1,1\nc,1,x,1\n", "net.csv")
    first, second = str(caught.value).splitlines()
    assert first.startswith('net.csv line 2 M = "0"')
    assert second.startswith('net.csv line 4 N = "x"')
