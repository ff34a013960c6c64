"""Convolutions by image and filter sizes: outputs, GEMMs, distinct inputs of their windows."""

import itertools

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwdse.workload.gemms import Gemms
from hwdse.workload.loops.conv_shapes import (
    OUTPUT_SIZES,
    ConvLayer,
    ConvShape,
    conv_operators,
    gemm_as_conv,
    layer_list,
)
from hwdse.workload.loops.unrolled_inputs import input_words, windows_per_input


def gemms_of(*shapes: ConvShape) -> Gemms:
    layers = [ConvLayer(f"c{i}", shape, 1) for i, shape in enumerate(shapes)]
    return layer_list(conv_operators(layers)).gemms


def words(shape: ConvShape, num_blocks: float = 1.0) -> float:
    gemms = gemms_of(shape)
    with jax.enable_x64(True):
        return float(input_words(gemms, gemms.m, num_blocks)[0])


@pytest.mark.parametrize("rounding", sorted(OUTPUT_SIZES))
def test_rounding_rules_agree_if_the_stride_divides(rounding):
    shape = ConvShape(11, 9, 3, 3, 4, 8, 2, 3)
    assert shape.output_size(rounding) == (5, 3)
    assert ConvShape(3, 3, 3, 3, 4, 8, 2, 2).output_size(rounding) == (1, 1)


def test_ceil_rule_adds_a_window_beyond_the_edge():
    """Strided 1 x 1 layers of ResNet-50: 29 x 29 outputs in SCALE-Sim, 28 x 28 in frameworks."""
    shape = ConvShape(56, 56, 1, 1, 64, 128, 2, 2)
    assert (shape.gemm_size("ceil")[0], shape.gemm_size()[0]) == (29 * 29, 28 * 28)


def test_a_dilated_window_spans_the_taps_that_it_skips():
    """Three taps at distance 2 span 5 columns: 64 - 5 + 1 outputs."""
    shape = ConvShape(64, 64, 3, 3, 32, 32, 1, 1, dilation_height=2, dilation_width=2)
    assert shape.output_size() == (60, 60)
    assert shape.gemm_size() == (3600, 288, 32)


def test_images_of_a_batch_share_the_filters():
    gemms = gemms_of(ConvShape(58, 58, 3, 3, 64, 64, 1, 1, batch=4))
    assert (gemms.m[0], gemms.k[0], gemms.n[0]) == (4 * 56 * 56, 576, 64)


def test_a_window_over_a_whole_line_is_a_gemm():
    operators = conv_operators([ConvLayer("g", gemm_as_conv(128, 32, 64), 16)])
    assert (operators.p[0], operators.c[0], operators.k[0]) == (128, 32, 64)
    assert operators.r[0] * operators.s[0] * operators.q[0] == 1
    assert operators.count[0] == 16
    assert layer_list(operators).gemms.windows is None


def test_one_block_reads_every_input_once():
    """58 x 58 image under 3 x 3 windows, not 9 times; 230 columns under 7 taps at stride 2: 229."""
    assert words(ConvShape(58, 58, 3, 3, 64, 64, 1, 1)) == 58 * 58 * 64
    assert words(ConvShape(230, 230, 7, 7, 3, 64, 2, 2)) == 229 * 229 * 3
    assert words(ConvShape(58, 58, 3, 3, 64, 64, 1, 1, batch=4)) == 4 * 58 * 58 * 64


def test_blocks_of_lines_share_a_halo():
    """56 lines in 4 blocks: 14 + 2 input rows each."""
    shape = ConvShape(58, 58, 3, 3, 64, 64, 1, 1)
    assert words(shape, 4.0) == pytest.approx(4 * 16 * 58 * 64, rel=1e-12)
    assert words(shape, 56.0) == pytest.approx(56 * 3 * 58 * 64, rel=1e-12)


def test_blocks_of_parts_of_a_line_share_columns_as_well():
    """Blocks of 14 of 56 outputs: 3 rows of 16 columns."""
    shape = ConvShape(58, 58, 3, 3, 64, 64, 1, 1)
    assert words(shape, 224.0) == pytest.approx(224 * 3 * 16 * 64, rel=1e-12)
    assert words(shape, 56.0 * 56.0) == 56 * 56 * 576  # one output each: the unrolled image


def test_a_batch_in_few_blocks_has_one_halo_per_image():
    shape = ConvShape(58, 58, 3, 3, 64, 64, 1, 1, batch=4)
    assert words(shape, 2.0) == words(shape, 4.0) == 4 * 58 * 58 * 64
    assert words(shape, 8.0) == pytest.approx(8 * 30 * 58 * 64, rel=1e-12)


def test_rows_between_windows_are_not_read():
    assert words(ConvShape(56, 56, 1, 1, 64, 128, 2, 2)) == 28 * 28 * 64


extents = st.integers(1, 6)


@settings(deadline=None)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    taps=st.tuples(extents, extents),
    strides=st.tuples(extents, extents),
    blocks=st.integers(1, 30),
)
def test_one_block_equals_the_inputs_that_windows_cover(height, width, taps, strides, blocks):
    sizes = ((height - 1) * strides[0] + taps[0], (width - 1) * strides[1] + taps[1])
    shape = ConvShape(*sizes, *taps, 2, 3, *strides)
    covered = {
        (p * strides[0] + r, q * strides[1] + s)
        for p, q, r, s in itertools.product(
            range(height), range(width), range(taps[0]), range(taps[1])
        )
    }
    assert words(shape) == pytest.approx(2 * len(covered), rel=1e-12)
    unrolled = height * width * taps[0] * taps[1] * 2
    parts = [words(shape, float(n)) for n in (1, blocks, blocks + 1)]
    assert parts[0] <= parts[1] * (1 + 1e-12)
    assert parts[1] <= parts[2] * (1 + 1e-12)
    assert parts[-1] <= unrolled * (1 + 1e-12)


@settings(deadline=None)
@given(taps=extents, stride=extents, outputs=st.integers(1, 12))
def test_an_input_is_in_no_more_windows_than_counted(taps, stride, outputs):
    height = (outputs - 1) * stride + taps
    gemms = gemms_of(
        ConvShape(height, 8, taps, 2, 1, 1, stride, 1), ConvShape(9, 9, 2, 2, 1, 1, 1, 1)
    )
    found = [sum(0 <= row - p * stride < taps for p in range(outputs)) for row in range(height)]
    assert max(found) * 2 <= float(windows_per_input(gemms)[0]) + 1e-6
