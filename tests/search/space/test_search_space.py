"""Search spaces and point sequences: rounding, inverses, variants, agreement of device and host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from hwdse.numerics import struct
from hwdse.search.space import point_sequences
from hwdse.search.space.dimension import Ranges
from hwdse.search.space.search_space import (
    Choice,
    Dimension,
    SearchSpace,
    Variant,
    get_path,
    set_path,
)


@struct.dataclass
class Engine:
    rows: object
    clock_hz: object
    dataflow: str = struct.field(pytree_node=False)


@struct.dataclass
class Machine:
    engine: Engine
    sizes: tuple
    interval_s: object


BASE = Machine(Engine(128.0, 1.4e9, "weight_stationary"), (4.0, 4.0), 600.0)
SPACE = SearchSpace(
    dimensions=(
        Dimension("engine.rows", 32.0, 512.0, "log", 32.0),
        Dimension("engine.clock_hz", 0.6e9, 2.4e9, "linear", 0.05e9),
        Dimension("interval_s", 10.0, 7200.0, "log", None),
    ),
    choices=(
        Choice(
            "layout",
            ("sizes.0", "sizes.1"),
            ((1.0, 16.0), (2.0, 8.0), (4.0, 4.0)),
            ("1x16", "2x8", "4x4"),
        ),
    ),
    variants=(Variant("engine.dataflow", ("weight_stationary", "output_stationary")),),
)
UNITS = st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4).map(np.asarray)
decode_jit = jax.jit(lambda unit: SPACE.decode(unit, BASE))
build_jit = jax.jit(lambda unit: SPACE.decode_rounded(unit, BASE))
snap_jit = jax.jit(jax.vmap(SPACE.snap))


def test_paths_address_tuple_items_and_keep_the_original():
    changed = set_path(set_path(BASE, "sizes.1", 8.0), "engine.rows", 64.0)
    assert (changed.sizes, changed.engine.rows) == ((4.0, 8.0), 64.0)
    assert BASE.sizes == (4.0, 4.0)
    assert get_path(changed, "sizes.1") == 8.0


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("engine.row", ("'rows'", "clock_hz")),
        ("sizes.2", ("0, 1",)),
        ("engine.rows.x", ("number",)),
    ],
)
def test_unknown_paths_list_the_existing_names(path, words):
    for attempt in (lambda: get_path(BASE, path), lambda: set_path(BASE, path, 1.0)):
        with pytest.raises(KeyError) as caught:
            attempt()
        assert all(word in str(caught.value) for word in words)


@given(UNITS)
@settings(deadline=None)
def test_snapped_points_are_on_steps_in_bounds_and_idempotent(unit):
    snapped = SPACE.snap(unit)
    assert np.all((snapped >= 0.0) & (snapped <= 1.0))
    np.testing.assert_array_equal(SPACE.snap(snapped), snapped)
    built = SPACE.decode_rounded(snapped, BASE)
    assert built.engine.rows % 32.0 == 0.0
    assert 32.0 <= built.engine.rows <= 512.0
    assert built.sizes[0] * built.sizes[1] == 16.0
    loose = SPACE.decode(snapped, BASE)
    assert loose.engine.rows == pytest.approx(built.engine.rows, rel=1e-12)
    assert loose.engine.clock_hz == pytest.approx(built.engine.clock_hz, rel=1e-12)


@given(UNITS)
@settings(deadline=None)
def test_encode_is_the_inverse_of_decode_at_rounded_points(unit):
    snapped = SPACE.snap(unit)
    np.testing.assert_allclose(SPACE.encode(SPACE.decode(snapped, BASE)), snapped, atol=1e-12)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_snapping_is_monotone(first, second):
    low, high = sorted((first, second))
    for part in (*SPACE.dimensions, *SPACE.choices):
        assert part.snap(np.float64(low)) <= part.snap(np.float64(high))


def test_device_and_host_agree():
    units = np.random.default_rng(0).random((200, 4))
    host = SPACE.snap_points(units)
    with jax.enable_x64(True):
        np.testing.assert_allclose(snap_jit(jnp.asarray(units)), host, atol=1e-12)
        for unit in units[:5]:
            on_device, on_host = build_jit(jnp.asarray(unit)), SPACE.decode_rounded(unit, BASE)
            assert float(on_device.engine.rows) == on_host.engine.rows
            assert float(on_device.sizes[1]) == on_host.sizes[1]


def test_dtype_is_that_of_the_scope():
    assert decode_jit(jnp.full(4, 0.5)).engine.rows.dtype == jnp.float32
    with jax.enable_x64(True):
        design = decode_jit(jnp.full(4, 0.5))
        assert {leaf.dtype for leaf in jax.tree.leaves(design)} == {jnp.dtype("float64")}


def test_gradient_of_a_dimension_is_exact_and_zero_for_a_choice():
    def total(unit):
        design = SPACE.decode(unit, BASE)
        return jnp.log(design.engine.rows) + design.sizes[0]

    gradient = jax.grad(total)(jnp.full(4, 0.5))
    np.testing.assert_allclose(gradient, [np.log(16.0), 0.0, 0.0, 0.0], rtol=1e-6)


def test_alternatives_have_equal_intervals():
    units = np.linspace(0.0, 1.0, 3001)
    counts = np.bincount(SPACE.choices[0].index(units).astype(int))
    assert counts.tolist() == pytest.approx([1000, 1000, 1000], abs=2)


def test_variants_are_combined_and_described():
    bases = SPACE.variant_bases(BASE)
    assert [base.engine.dataflow for _, base in bases] == list(SPACE.variants[0].values)
    text = SPACE.describe(SPACE.encode(BASE), bases[1][1])
    assert text["engine.rows"] == 128.0
    assert text["layout"] == "4x4"
    assert text["engine.dataflow"] == "output_stationary"


@struct.dataclass
class IndexedEngine:
    rows: object
    kind: str = struct.field(pytree_node=False)
    mode: str = struct.field(pytree_node=False)
    kind_index: object = None


def test_values_with_an_index_share_a_structure():
    space = SearchSpace(
        (), variants=(Variant("kind", ("a", "b", "c")), Variant("mode", ("x", "y")))
    )
    base = IndexedEngine(1.0, "b", "x")
    designs = space.program_bases(base)
    assert [(d.kind, d.kind_index, d.mode) for d in designs] == [
        ("a|b|c", index, mode) for index in (0.0, 1.0, 2.0) for mode in ("x", "y")
    ]
    assert len({jax.tree.structure(design) for design in designs}) == 2
    labels = [label for label, _ in space.variant_bases(base)]
    assert [(label["kind"], label["mode"]) for label in labels] == [
        (kind, mode) for kind in "abc" for mode in "xy"
    ]
    assert SearchSpace(()).program_bases(base) == (base,)
    assert [d.engine.dataflow for d in SPACE.program_bases(BASE)] == list(SPACE.variants[0].values)


@pytest.mark.parametrize(
    "arguments",
    [
        ("x", 2.0, 1.0, "log", None),
        ("x", 0.0, 1.0, "log", None),
        ("x", 1.0, 2.0, "cubic", None),
        ("x", 1.1, 1.9, "linear", 1.0),
    ],
)
def test_dimension_without_values_is_refused(arguments):
    with pytest.raises(ValueError, match="x: "):
        Dimension(*arguments)


def test_range_of_one_point_decodes_to_that_point():
    space = SearchSpace((Dimension("interval_s", 60.0, 60.0, "log", 60.0),))
    assert space.decode(space.encode(BASE), BASE).interval_s == 60.0
    assert np.isfinite(space.snap(np.asarray([0.7]))).all()


def test_direction_numbers_agree_with_scipy():
    count = 256
    theirs = qmc.Sobol(64, scramble=False).random(count)
    numbers = np.arange(count)
    gray = numbers ^ (numbers >> 1)
    for dim in (0, 1, 2, 17, 63):
        words = np.zeros(count, np.uint64)
        for bit, direction in enumerate(point_sequences.direction_numbers(dim)):
            words ^= np.where(gray >> bit & 1, np.uint64(direction), np.uint64(0))
        np.testing.assert_allclose(words / 2.0**32, theirs[:, dim], atol=1e-9)


@pytest.mark.parametrize("method", point_sequences.METHODS)
@pytest.mark.parametrize("start", [0, 3 * 64, (1 << 32) + 64])
def test_chunks_are_parts_of_one_sequence(method, start):
    sequence = point_sequences.make_sequence(method, SPACE, seed=3, num_points=5000)
    if method == "grid" and start > sequence.num_grid_points:
        return
    shared, shift = (
        point_sequences.shared_words(sequence, 64),
        point_sequences.chunk_words(sequence, start),
    )
    rows = point_sequences.unit_rows(sequence, shared, shift, np.float64, np)
    np.testing.assert_array_equal(
        np.stack(rows, axis=1), point_sequences.host_points(sequence, start + np.arange(64))
    )
    single = point_sequences.unit_rows(sequence, jnp.asarray(shared), shift, np.float32, jnp)
    np.testing.assert_allclose(np.stack(single), np.stack(rows), rtol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_scrambled_sobol_points_fill_every_dyadic_interval(seed):
    sequence = point_sequences.make_sequence("sobol", SPACE, seed=seed)
    units = point_sequences.host_points(sequence, np.arange(256))
    for column in units.T:
        assert np.bincount((column * 256).astype(int), minlength=256).tolist() == [1] * 256


def test_seeds_and_dimensions_differ():
    first, second = (
        point_sequences.host_points(
            point_sequences.make_sequence("random", SPACE, seed=s), np.arange(4000)
        )
        for s in (0, 1)
    )
    assert abs(np.corrcoef(first[:, 0], second[:, 0])[0, 1]) < 0.05
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) < 0.05
    assert first.mean() == pytest.approx(0.5, abs=0.02)


def test_grid_has_every_combination_once_and_both_range_ends():
    sequence = point_sequences.make_sequence("grid", SPACE, seed=0, num_points=3000)
    units = point_sequences.host_points(sequence, np.arange(sequence.num_grid_points))
    assert 1000 < len(units) <= 3000
    assert len(np.unique(SPACE.snap_points(units), axis=0)) == len(units)
    assert {SPACE.describe(u, BASE)["engine.rows"] for u in units} >= {32.0, 512.0}


def test_unknown_point_sequence_is_refused():
    with pytest.raises(ValueError, match="sobol, random, grid"):
        point_sequences.make_sequence("lattice", SPACE, seed=0)


def test_derivative_of_decoding_has_no_padding():
    """XLA would fuse a sum of padded scalars with their producers, once per coordinate."""

    def total(unit):
        return sum(jnp.sum(jnp.asarray(x)) for x in jax.tree.leaves(SPACE.decode(unit, BASE)))

    unit = jnp.asarray([0.2, 0.5, 0.7, 0.4])
    program = str(jax.make_jaxpr(jax.grad(total))(unit))
    assert "concatenate" in program
    assert " pad[" not in program
    slopes = np.asarray(jax.grad(total)(unit))
    assert np.all(slopes[:3] > 0.0)
    assert slopes[3] == 0.0


@given(st.lists(st.floats(-0.2, 1.2), min_size=4, max_size=4), st.integers(0, 30))
def test_ranges_are_bit_identical_to_dimensions(unit, seed):
    dimensions = (
        Dimension("a", 3.0, 700.0, "log", 4.0),
        Dimension("b", 1e-3, 2e4, "log", None),
        Dimension("c", -2.0, 5.0, "linear", 0.25),
        Dimension("d", 6.0, 6.0, "log", 2.0),
    )
    ranges = Ranges(dimensions)
    units = np.vstack((unit, np.random.default_rng(seed).random((6, 4))))
    values = ranges.value(units)
    for i, dimension in enumerate(dimensions):
        column = units[:, i]
        np.testing.assert_array_equal(values[:, i], dimension.value(column))
        np.testing.assert_array_equal(ranges.unit(values)[:, i], dimension.unit(values[:, i]))
        np.testing.assert_array_equal(ranges.snap(units)[:, i], dimension.snap(column))
        if dimension.step is not None:
            np.testing.assert_array_equal(ranges.count(units)[:, i], dimension.count(column))
