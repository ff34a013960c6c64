"""Loop nests as text and tables, with the numbers of the library."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.mapping_examples import ACCOUNTING, CORE, GEMM, NEST, TRAFFIC, nest, operands

from hwdse.cli.mapping import loop_nest_printing, mapping_plots, mapping_tables
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import print_json
from hwdse.core.mapper.mapper import HARDWARE, BestMapping
from hwdse.core.mapping_analysis import capacity_violations, unrolled
from hwdse.core.operator_loop_nests import MappedNetwork, MappedOperator, check_cover, costs_of_nest
from hwdse.core.ordered_loops import at_index, operator_at, tier_loops
from hwdse.models.memory.memory_level_costs import mapping_costs
from hwdse.specs.mappings.loop_nest import LevelTraffic
from hwdse.specs.mappings.tiles import RESIDENCIES, Tile
from hwdse.workload.loops.operators import Operators, gemm_operators

COSTS = at_index(mapping_costs(TRAFFIC, CORE), 0)
MAPPED = MappedOperator(operator_at(GEMM, 0), CORE, NEST, COSTS)
TILE = Tile(512.0, 1.0, 1.0, 64.0, 512.0, 64.0, 64.0, 64.0, RESIDENCIES["input_block"])
NAMES = loop_nest_printing.dimension_names(GEMM)


def with_level(core, index, traffic):
    """The example with another core or other traffic at one level."""
    levels = list(TRAFFIC.levels)
    levels[index] = traffic
    costs = mapping_costs(TRAFFIC.replace(levels=tuple(levels)), core)
    return MappedOperator(operator_at(GEMM, 0), core, NEST, at_index(costs, 0))


def test_nest_is_printed_as_loops():
    lines = loop_nest_printing.nest_lines(MAPPED)
    assert lines == [
        "DRAM keeps weights inputs outputs (1.31 MiB of 16 GiB, 0.0 %)",
        "  scratchpad keeps inputs (384 KiB of 512 KiB, 75.0 %)",
        "    for n in 12 (tile 64)",
        "      scratchpad keeps weights (48 KiB of 512 KiB, 9.4 %)",
        "        accumulator keeps outputs (128 KiB of 256 KiB, 50.0 %)",
        "          for k in 12 (tile 64)",
        "            spatial rows: k x 64; spatial columns: n x 64",
        "              registers keeps weights (4 KiB of 4 KiB, 100.0 %)",
        "                for m in 512",
        "                  multiply-accumulate",
    ]


def test_last_tile_of_a_partial_loop_is_printed():
    tree = tier_loops(nest({(1, "C"): 3.5}, {(3, "C"): 64.0}), CORE)
    assert (
        loop_nest_printing.loop_text(tree[1].temporal[0], NAMES) == "for k in 4 (tile 64, last 32)"
    )


def test_sizes_of_gemms_and_convolutions():
    assert loop_nest_printing.sizes_text(operator_at(GEMM, 0)) == "m512 k768 n768"
    one_row = gemm_operators(1.0, 64.0, 32.0, 1.0, ("vector",))
    assert loop_nest_printing.sizes_text(one_row) == "m1 k64 n32"
    layer = Operators(3.0, 3.0, 56.0, 56.0, 64.0, 128.0, 1.0, 2.0, 2.0, 1.0, 3.0, 1.0, ("c",))
    assert loop_nest_printing.sizes_text(layer) == "R3 S3 P56 Q56 C64 K128 stride 2 dilation 1 x 3"
    assert set(loop_nest_printing.dimension_names(layer).values()) == set("RSPQCKN")


def test_bounding_resource_and_distance_to_the_next():
    slow = MappedOperator(MAPPED.operator, CORE, NEST, COSTS.replace(compute_s=49.152e-6))
    assert [name for name, _ in slow.resources] == [
        "accumulator", "array", "scratchpad", "DRAM", "registers",
    ]  # fmt: skip
    text = loop_nest_printing.bounds_text(slow.resources)
    assert text == "bound by accumulator (73.7 µs), next array (66.7 % of that time)"
    assert loop_nest_printing.bounds_text(MAPPED.resources) == (
        "bound by array (73.7 µs), next accumulator (100.0 % of that time)"
    )


def test_fitting_mapping_has_no_capacity_violations():
    assert MAPPED.capacity_violations == []
    assert (unrolled(MAPPED.tree, "rows"), unrolled(MAPPED.tree, "cols")) == (64.0, 64.0)


def test_capacity_violations_have_name_and_size_worst_first():
    full = LevelTraffic(operands(), operands(), operands(outputs=1.5 * 256.0 * 1024.0))
    found = with_level(CORE.replace(rows=16.0), 2, full).capacity_violations
    assert [(x.resource, x.ratio) for x in found] == [("rows", 4.0), ("accumulator", 1.5)]
    rows = [mapping_tables.violation_row(violation) for violation in found]
    assert loop_nest_printing.violations_text(rows) == (
        "rows: 64 required, 4x the available 16; "
        "accumulator: 384 KiB required, 1.5x the available 256 KiB"
    )


def test_register_capacity_of_a_smaller_array_is_no_limit():
    words = LevelTraffic(operands(), operands(), operands(weights=8192.0))
    assert [x.resource for x in with_level(CORE, 3, words).capacity_violations] == ["registers"]
    few = CORE.levels[3].replace(capacity_bytes=256.0)
    other = with_level(CORE.replace(levels=(*CORE.levels[:3], few)), 3, words)
    assert capacity_violations(other.costs, other.accelerator) == []
    assert loop_nest_printing.footprint_text(other.tree[4], other) == "8 KiB"
    assert loop_nest_printing.footprint_text(MAPPED.tree[4], MAPPED) == "4 KiB of 4 KiB, 100.0 %"
    assert not mapping_plots.nest_boxes(other)[4].is_overfull


def test_boxes_include_tiles_of_other_tiers_of_the_memory():
    boxes = mapping_plots.nest_boxes(MAPPED)
    assert [box.title for box in boxes] == [tier.memory for tier in MAPPED.tree]
    assert [box.level for box in boxes] == [0, 1, 1, 2, 3]
    assert boxes[1].shares == {"inputs": 0.75}
    assert boxes[1].others == {"weights": 0.09375}
    assert boxes[2].others == {"inputs": 0.75}
    large = LevelTraffic(operands(), operands(), operands(262144.0, 393216.0))
    boxes = mapping_plots.nest_boxes(with_level(CORE, 1, large))
    assert boxes[1].is_overfull
    assert boxes[2].is_overfull


def test_array_box_has_the_used_rows_and_columns():
    box = mapping_plots.array_box(MAPPED)
    assert (box.rows_ratio, box.cols_ratio) == (1.0, 1.0)
    wide = MappedOperator(MAPPED.operator, CORE.replace(rows=256.0), NEST, COSTS)
    assert mapping_plots.array_box(wide).rows_ratio == 0.25


def test_level_tables_sum_to_totals(capsys):
    rows = mapping_tables.level_rows(COSTS, MAPPED.metrics, CORE)
    assert sum(row["energy_j"] for row in rows) + COSTS.mac_j == pytest.approx(COSTS.energy_j)
    for row in rows:
        parts = row["operands"].values()
        moved = sum(part["read_bytes"] + part["written_bytes"] for part in parts)
        assert moved == pytest.approx(row["traffic_bytes"])
        assert sum(part["capacity_ratio"] for part in parts) == pytest.approx(row["used_ratio"])
    mapping_tables.print_operands(rows)
    mapping_tables.print_levels(rows, COSTS)
    text = capsys.readouterr().out
    assert re.search(r"scratchpad   weights +0.5625 +0.5625 +0.04688 ", text)
    assert re.search(r" 3\.2 ", text)
    print_json({"levels": rows})
    assert json.loads(capsys.readouterr().out)["levels"] == rows


def network(*counts):
    """The example as several operators with the given counts."""
    many = len(counts)
    sizes = (jnp.full(many, x) for x in (512.0, 768.0, 768.0))
    operators = gemm_operators(*sizes, jnp.array(counts), tuple(f"p{i}" for i in range(many)))
    found = BestMapping(mapping_costs(TRAFFIC, CORE), residency=1, tile=TILE)
    return MappedNetwork(operators, CORE, lambda: found, leakage_w=2.0)


def test_network_totals_are_sums_times_counts(capsys):
    pair = network(3.0, 1.0)
    rows = mapping_tables.network_rows(pair)
    totals = mapping_tables.network_totals(rows, pair)
    assert totals["time_s"] == pytest.approx(4.0 * 73.728e-6)
    assert totals["energy_j"] == pytest.approx(4.0 * COSTS.energy_j)
    assert totals["static_j"] == pytest.approx(8.0 * 73.728e-6)
    assert totals["utilization_fraction"] == pytest.approx(1.0)
    assert [row["bound_by"] for row in rows] == ["array", "array"]
    mapping_tables.print_network(rows, totals, "two products")
    text = capsys.readouterr().out
    assert re.search(r" 75\.0 ", text)
    assert re.search(r"total .* 294\.9 +100\.0 ", text)


@pytest.mark.parametrize(("asked", "index"), [("p1", 1), ("2", 2), ("0", 0)])
def test_operators_are_found_by_name_and_index(asked, index):
    assert loop_nest_printing.find_operator(("p0", "p1", "p2"), asked) == index


@pytest.mark.parametrize("asked", ["3", "-1", "1.0", "q1", "", "\x1b"])
def test_unknown_operator_is_an_error(asked):
    with pytest.raises(CommandError, match="from 0 to 2"):
        loop_nest_printing.find_operator(("p0", "p1", "p2"), asked)
    with pytest.raises(CommandError, match="did you mean 'up'"):
        loop_nest_printing.find_operator(("down", "up"), "upp")


def test_given_nest_has_the_reference_costs():
    text = (
        "DRAM[WIO] N1 - scratchpad[I] K12 - scratchpad[W] N1 - accumulator[O] C12 C64X K64X "
        "- registers[W] P512"
    )
    given = network(1.0).given(0, text)
    assert given.text == text
    for own, known in zip(
        jax.tree.leaves(given.costs.traffic), jax.tree.leaves(TRAFFIC), strict=True
    ):
        assert own == pytest.approx(known)
    assert given.costs.time_s == pytest.approx(COSTS.time_s)
    assert given.costs.energy_j == pytest.approx(COSTS.energy_j)
    assert given.capacity_violations == []


def test_nest_of_the_best_mapping_has_its_costs():
    found = network(1.0, 2.0).operator(1)
    assert found.operator.count == 2.0
    again = costs_of_nest(found.nest, found.operator, found.accelerator)
    assert again.energy_j == pytest.approx(COSTS.energy_j)
    assert again.time_s == pytest.approx(COSTS.time_s)
    assert "K12" in found.text


@pytest.mark.parametrize(
    ("loops", "named"),
    [
        ("DRAM[WIO] K12 C12 - registers[W] P512 C64X K32X", "K cover 384: expected 768"),
        ("DRAM[WIO] K12 C13 - registers[W] P512 C64X K64X", "fraction"),
        ("DRAM[WIO] K12 C12 - registers[W] P512 C64X K64X - L9[O] N1", "L9"),
        ("DRAM[WIO] K12 C12 P512 C64X K64", "K64"),
        ("DRAM[WI] K12 C12 P512 C64X K64X", "outputs"),
    ],
)
def test_invalid_nest_is_an_error(loops, named):
    with pytest.raises(ValueError, match=named) as caught:
        network(1.0).given(0, loops)
    assert "\n" not in str(caught.value)


def test_fractional_bound_covers_the_operator():
    operator = operator_at(gemm_operators(100.0, 64.0, 64.0, 1.0, ("a",)), 0)
    ragged = nest({(1, "P"): 100.0 / 64.0, (4, "P"): 64.0}, {(3, "C"): 64.0, (3, "K"): 64.0})
    check_cover(ragged, operator)
    costs = costs_of_nest(ragged, operator, CORE)
    assert costs.compute_s * CORE.clock_hz == pytest.approx(100.0)
    assert ACCOUNTING == HARDWARE
    assert np.isfinite(costs.energy_j)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 B"), (96.0, "96 B"), (1536.0, "1.5 KiB"), (4.5 * 2**20, "4.5 MiB"),
     (2.0**80, "1049000 EiB"), (1.0, "1 B"), (1023.9, "1024 B")],
)  # fmt: skip
def test_sizes_have_binary_prefixes(value, text):
    assert loop_nest_printing.bytes_text(value) == text
