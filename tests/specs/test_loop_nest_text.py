"""Loop nests as text: parsing, formatting, errors."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdse.specs.hardware.accelerator import OPERANDS
from hwdse.specs.mappings import loop_nest_text
from hwdse.specs.mappings.loop_nest import NestTier
from hwdse.specs.mappings.loop_nest_text import format_nest, parse_nest
from hwdse.workload.loops.operators import DIMS

TEXT = "L3[WIO] C2 K8 R3 - L2[WI] N1 K4X - L1[O] K16 C2X - L0[W] P7"
REFERENCE = Path(__file__).parents[1] / "data" / "timeloop_gemmini_public.csv"


def bounds(values):
    """{(tier, letter): bound} of bounds above one."""
    return {
        (int(t), DIMS[d]): float(values[t, d])
        for t, d in zip(*np.nonzero(values > 1.0), strict=True)
    }


def test_letters_equal_those_of_operators():
    assert loop_nest_text._DIMS == DIMS


def test_example_is_parsed_and_formatted():
    nest = parse_nest(TEXT)
    assert nest.tiers == (
        NestTier("L3", OPERANDS),
        NestTier("L2", ("weights", "inputs")),
        NestTier("L1", ("outputs",)),
        NestTier("L0", ("weights",)),
    )
    assert bounds(nest.temporal) == {
        (0, "C"): 2.0, (0, "K"): 8.0, (0, "R"): 3.0, (2, "K"): 16.0, (3, "P"): 7.0
    }  # fmt: skip
    assert bounds(nest.spatial) == {(1, "K"): 4.0, (2, "C"): 2.0}
    order = [nest.position[0, DIMS.index(letter)] for letter in "CKR"]
    assert order == sorted(order)
    assert len(set(order)) == 3


def test_reference_mappings_round_trip():
    lines = [x for x in REFERENCE.read_text().splitlines() if not x.startswith("#")]
    texts = [row["mapping"] for row in csv.DictReader(lines)]
    assert len(texts) == 3000
    assert [format_nest(parse_nest(text)) for text in texts[::7]] == texts[::7]


_LOOPS = st.lists(
    st.tuples(st.sampled_from(DIMS), st.sampled_from([2.0, 3.0, 1.5625, 100.0, 1e7])),
    max_size=7,
    unique_by=lambda loop: loop[0],
)
_KEPT = st.sets(st.sampled_from(OPERANDS)).map(lambda kept: [x for x in OPERANDS if x in kept])


@given(st.lists(st.tuples(_KEPT, _LOOPS, _LOOPS), min_size=1, max_size=4))
def test_random_nests_round_trip(tiers):
    letter = {"weights": "W", "inputs": "I", "outputs": "O"}
    parts = []
    for place, (kept, temporal, spatial) in enumerate(tiers):
        words = [f"{d}{bound:g}" if bound < 1e6 else f"{d}{bound:.0f}" for d, bound in temporal]
        unrolled = sorted(spatial, key=lambda loop: DIMS.index(loop[0]))
        words = words or ["N1"]
        words += [f"{d}{bound:g}X" if bound < 1e6 else f"{d}{bound:.0f}X" for d, bound in unrolled]
        head = f"mem-{place}[{''.join(letter[x] for x in kept)}]"
        parts.append(" ".join([head, *words]))
    text = " - ".join(parts)
    nest = parse_nest(text)
    assert format_nest(nest) == text
    for (_, temporal, spatial), found, unrolled in zip(
        tiers, nest.temporal, nest.spatial, strict=True
    ):
        assert np.prod(found) == pytest.approx(np.prod([bound for _, bound in temporal]))
        assert np.prod(unrolled) == pytest.approx(np.prod([bound for _, bound in spatial]))


def test_loops_of_one_and_the_axis_letter_are_dropped():
    assert (
        format_nest(parse_nest("  L1[OW]  P1 C2Y  K3 P1 -  L0[] R1 ")) == "L1[WO] K3 C2X - L0[] N1"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "got '', expected a memory with its operands such as L2"),
        ("L3 C2", "got 'L3', expected a memory with its operands"),
        ("L3[WIO] C2 - - L0[W]", "got '-', expected a memory"),
        ("L3[WXO] C2", r"got 'L3\[WXO\]', expected each of W, I and O at most once"),
        ("L3[WW] C2", r"got 'L3\[WW\]', expected each of W, I and O at most once"),
        ("L3[WIO] Z2", "got 'Z2', expected a loop such as C2 or K4X"),
        ("L3[WIO] C0", "got 'C0', expected a loop"),
        ("L3[WIO] C-2", "got 'C-2', expected a loop"),
        ("L3[WIO] C2Z", "got 'C2Z', expected a loop"),
        ("L3[WIO] C1.2.3", "got 'C1.2.3', expected a loop"),
        ("L3[WIO] C2 K2 C3", r"got 'C3', expected one loop over C in L3\[WIO\]"),
        ("L3[WIO] C2X C3X", "got 'C3X', expected one loop over C"),
    ],
)
def test_malformed_text_is_named_in_one_line(text, expected):
    with pytest.raises(ValueError, match=expected) as error:
        parse_nest(text)
    assert "\n" not in str(error.value)


def test_long_text_is_shortened_in_the_message():
    with pytest.raises(ValueError, match=r"mapping 'L3\[WIO\] C2.*\.\.\.': got 'Z9'") as error:
        parse_nest(" - ".join(["L3[WIO] C2 K2"] * 40) + " Z9")
    assert len(str(error.value)) < 400
