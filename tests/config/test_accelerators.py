"""Cores from files: presets, short forms, hierarchies of any depth, errors, paths."""

import math

import jax
import pytest

from hwdse.config import ConfigError, load_accelerator, load_chip
from hwdse.config.files.toml_files import preset_names, preset_root
from hwdse.config.hardware.accelerators import load_accelerator_file
from hwdse.config.schema.allowed_names import allowed_names
from hwdse.config.schema.user_paths import (
    check_value,
    format_value,
    get_value,
    replace_value,
    resolve,
    resolve_all,
)
from hwdse.models.memory.memory_level_costs import access_energy_j_per_byte
from hwdse.search.space.pytree_path import get_path, readable, set_path
from hwdse.specs.hardware.accelerator import OPERANDS, num_instances

GEMMINI = (preset_root() / "accelerators/gemmini.toml").read_text()
PROCESS = GEMMINI[GEMMINI.index("[process]") :]
HEAD = GEMMINI[: GEMMINI.index("[[levels]]")]
LEVEL = """
[[levels]]
name = "{name}"
keeps = {keeps}
capacity = "{capacity}"
bandwidth = "4 B/cycle"
energy = "1 pJ/B"
word = "16 bit"
ports = "one"
banks = "one"
shares_port = true
follows_clock = {on_chip}
"""


def written(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.toml").write_text(text)
    return "x.toml"


def levels_of(name):
    return {level.name: level for level in load_accelerator(name).levels}


@pytest.mark.parametrize("name", preset_names("accelerators"))
def test_every_preset_loads_with_sources(name):
    file = load_accelerator_file(name)
    assert file.sources
    assert set(file.accelerator.levels[0].keeps) == set(OPERANDS)
    assert all(leaf >= 0.0 for leaf in jax.tree.leaves(file.accelerator))


@pytest.mark.parametrize(
    ("scratchpad_kb", "accumulator_kb", "dim"), [(128, 32, 16), (512, 256, 64)]
)
def test_gemmini_has_the_energies_of_dosa(scratchpad_kb, accumulator_kb, dim):
    """energy_model.py: 0.49 + 0.02513 KB a byte; 1.94 + 0.1005 KB / columns for 32 bit."""
    core = load_accelerator("gemmini")
    core = core.replace(rows=float(dim), cols=float(dim))
    core = set_path(core, "scratchpad.capacity_bytes", 1024.0 * scratchpad_kb)
    core = set_path(core, "accumulator.capacity_bytes", 1024.0 * accumulator_kb)
    energies = {x.name: access_energy_j_per_byte(x, core) for x in core.levels}
    scratchpad = 0.49 + 0.02513 * scratchpad_kb
    accumulator = (1.94 + 0.1005 * accumulator_kb / dim) / 4.0
    assert energies["scratchpad"] == pytest.approx((1e-12 * scratchpad,) * 2)
    assert energies["accumulator"] == pytest.approx((1e-12 * accumulator,) * 2)
    assert energies["dram"] == pytest.approx((1e-10, 1e-10))
    assert energies["registers"] == pytest.approx((0.48746e-12,) * 2)


def test_gemmini_has_the_bandwidths_of_dosa():
    """latency_model.py: 2 words a cycle for each row, column (32 bit) and 8 from DRAM."""
    core = load_accelerator("gemmini")
    ports = {
        x.name: x.read_bandwidth_bytes_per_s * num_instances(x.ports, core) for x in core.levels
    }
    assert ports["dram"] == 8e9
    assert ports["scratchpad"] == 2.0 * 16 * 1e9
    assert ports["accumulator"] == 2.0 * 4 * 16 * 1e9
    assert core.process.leakage_w_per_mm2 == 0.0


@pytest.mark.parametrize("name", ["horowitz45_int8", "horowitz45_fp16"])
@pytest.mark.parametrize(("kib", "pj"), [(32, 20.0), (1024, 100.0)])
def test_horowitz_sram_has_both_published_energies(name, kib, pj):
    core = load_accelerator(name)
    sram = levels_of(name)["sram"].replace(capacity_bytes=1024.0 * kib)
    assert access_energy_j_per_byte(sram, core)[0] == pytest.approx(pj * 1e-12 / 8.0)


def test_tpu_sram_has_both_published_energies():
    core, sram = load_accelerator("tpu_v4i"), levels_of("tpu_v4i")["sram"]
    assert access_energy_j_per_byte(sram, core) == pytest.approx((1.992e-12, 2.344e-12))
    large = sram.replace(capacity_bytes=2.0**27)
    assert access_energy_j_per_byte(large, core)[0] == pytest.approx(15.04e-12)


def test_process_of_40_nm_follows_from_its_sources():
    process = load_accelerator("horowitz45_int8").process
    assert process.mac_area_mm2 == pytest.approx((282 + 137) * 1e-6)  # the file's own
    n40, n7 = load_accelerator("gemmini").process, load_chip("tpu_v4").process
    shrink = (40.0 / 45.0) ** 2
    assert n40.sram_area_mm2_per_byte * 2**20 == pytest.approx(3.17 * shrink, rel=0.1)  # CACTI
    phy = (10.45 + 552.743 / (7.7 * 0.645)) / 460.0
    assert n40.hbm_phy_area_mm2_per_bytes_per_s * 1e9 == pytest.approx(phy, rel=1e-4)
    assert n40.sram_area_mm2_per_byte > n7.sram_area_mm2_per_byte
    assert n40.wafer_cost_usd < n7.wafer_cost_usd


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('bandwidth = "2 B/cycle"     # arch', 'bandwidth = "2 GB/s"     # arch'),
        ('bandwidth = "8 B/cycle"', 'read_bandwidth = "8 GB/s"\nwrite_bandwidth = "8 B/cycle"'),
        ('energy = "0.49 pJ/B"', 'read_energy_j_per_byte = 0.49e-12\nwrite_energy = "0.49 pJ/B"'),
        ('"0.02513 pJ/B/KiB"', f"{0.02513e-12 / 1024.0!r}"),
        ('word = "32 bit"', 'word = { weights = "4 B", inputs = "4 B", outputs = "32 bit" }'),
        ("energy_exponent = 1  ", "energy_exponent = 1.0"),
        ('[process]\npreset = "n40"', '[process]\ndefects_per_mm2 = 7e-4\npreset = "n40"'),
    ],
)
def test_short_forms_and_units_are_equivalent(tmp_path, monkeypatch, old, new):
    assert old in GEMMINI
    path = written(tmp_path, monkeypatch, GEMMINI.replace(old, new, 1))
    for one, other in zip(
        jax.tree.leaves(load_accelerator(path)), jax.tree.leaves(load_accelerator("gemmini")),
        strict=True,
    ):  # fmt: skip
        assert one == pytest.approx(other, rel=1e-15)


@pytest.mark.parametrize("depth", [2, 3, 7])
def test_hierarchies_of_any_depth_load_in_their_order(tmp_path, monkeypatch, depth):
    text = HEAD + LEVEL.format(name="dram", keeps=list(OPERANDS), capacity="1 GiB", on_chip="false")
    for number in range(depth - 1):
        text += LEVEL.format(
            name=f"l{number}", keeps=["inputs", "outputs"], capacity=f"{2**number} KiB",
            on_chip="true",
        )  # fmt: skip
    core = load_accelerator(written(tmp_path, monkeypatch, text + PROCESS))
    assert [level.name for level in core.levels][1:] == [f"l{i}" for i in range(depth - 1)]
    assert [level.capacity_bytes for level in core.levels[1:]] == [
        1024.0 * 2**i for i in range(depth - 1)
    ]
    assert core.levels[1].word_bytes.outputs == 2.0
    assert core.levels[1].read_bandwidth_bytes_per_s == 4e9
    assert core.levels[0].energy_slope == 0.0
    assert core.levels[1].keeps == ("inputs", "outputs")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("rows = 16", "rows = -4", "x.toml rows = -4: expected a whole number above 0"),
        ("rows = 16", "row = 16", "x.toml row = 16: expected one of the keys "),
        (
            'rows_dims = "C"',
            'rows_dims = "X"',
            'x.toml rows_dims = "X": expected distinct letters',
        ),
        ('rows_dims = "C"', 'rows_dims = "K"', 'x.toml cols_dims = "K": expected other dimensions'),
        ('clock = "1 GHz" ', 'clock = "1 GB" ', 'x.toml clock = "1 GB": expected a finite number'),
        (
            'capacity = "128 KiB"',
            'capacity = "128 KB/s"',
            'x.toml [levels 2] capacity = "128 KB/s": expected a finite number with a unit',
        ),
        (
            'capacity = "128 KiB"',
            "",
            "x.toml [levels 2] capacity is missing: expected a number with a unit",
        ),
        (
            'bandwidth = "2 B/cycle"     # arch.yaml: 32',
            'bandwidth = "2 W/cycle"     # arch.yaml: 32',
            'x.toml [levels 2] bandwidth = "2 W/cycle": expected bytes per cycle such as',
        ),
        (
            'energy = "0.49 pJ/B"',
            'energy = "0.49 pJ/B"\nread_energy = "1 pJ/B"',
            'x.toml [levels 2] read_energy = "1 pJ/B": expected either read_energy or energy',
        ),
        (
            '"0.02513 pJ/B/KiB"',
            '"0.02513 pJ/B"',
            'x.toml [levels 2] energy_slope = "0.02513 pJ/B": expected a number, or a text',
        ),
        (
            'energy_exponent = 1         # linear there\nword = "8',
            'energy_exponent = 0.5       # linear there\nword = "8',
            "x.toml [levels 2] energy_exponent = 0.5: expected 1 beside an energy_slope",
        ),
        (
            'ports = "rows"',
            'ports = "row"',
            'x.toml [levels 2] ports = "row": expected one of one, rows, cols, pes; did you '
            "mean 'rows'?",
        ),
        (
            'keeps = ["outputs"]',
            'keeps = ["output"]',
            "x.toml [levels 3] keeps = ['output']: expected a list, each item one of weights, "
            "inputs, outputs; did you mean 'outputs'?",
        ),
        (
            'keeps = ["outputs"]',
            'keeps = ["outputs", "outputs"]',
            "x.toml [levels 3] keeps = ['outputs', 'outputs']: expected each operand once",
        ),
        (
            'keeps = ["weights", "inputs", "outputs"]',
            'keeps = ["weights", "inputs"]',
            "x.toml [levels 1] keeps = ['weights', 'inputs']: expected all of weights, inputs, ",
        ),
        (
            "shares_port = true          # arch.yaml: shared_bandwidth\nfollows_clock = false",
            'shares_port = "yes"\nfollows_clock = false',
            'x.toml [levels 1] shares_port = "yes": expected true or false',
        ),
        (
            'name = "scratchpad"',
            'name = "rows"',
            'x.toml [levels 2] name = "rows": expected a name of letters, digits, _ and - that',
        ),
        (
            'name = "scratchpad"',
            'name = "dram"',
            'x.toml [levels 2] name = "dram": expected a name that no other level has',
        ),
        (
            'word = "32 bit"',
            'word = { weights = "4 B", inputs = "4 B", output = "4 B" }',
            "x.toml [levels 3.word_bytes] output = ",
        ),
        ('preset = "n40"', 'preset = "n41"', 'x.toml [process] preset = "n41": expected a path'),
        ('leakage = "0 W/mm^2"', 'leakage = "-1 W/mm^2"', "x.toml [process] leakage = "),
    ],
)
def test_an_error_is_one_line(tmp_path, monkeypatch, old, new, line):
    assert GEMMINI.count(old) >= 1
    path = written(tmp_path, monkeypatch, GEMMINI.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        load_accelerator(path)
    text = str(caught.value)
    assert text.startswith(line), text
    assert "\n" not in text


def test_an_unknown_core_is_reported_with_the_known_ones():
    with pytest.raises(ConfigError, match="did you mean 'gemmini'"):
        load_accelerator("gemini")


def test_levels_are_addressed_by_name():
    roots = {"accelerator": load_accelerator("gemmini")}
    assert resolve(roots, "accelerator.scratchpad.capacity") == (
        "accelerator.scratchpad.capacity_bytes"
    )
    assert resolve(roots, "accelerator.dram.bandwidth") == (
        "accelerator.dram.read_bandwidth_bytes_per_s"
    )
    width = resolve(roots, "accelerator.accumulator.word.outputs")
    assert width == "accelerator.accumulator.word_bytes.outputs"
    assert check_value(roots, width, "24 bit") == 3.0
    assert format_value(width, 3.0) == "3 B"
    changed = replace_value(roots, width, 3.0)
    assert get_value(changed, width) == 3.0
    assert get_value(roots, width) == 4.0
    assert changed["accelerator"].levels[1] == roots["accelerator"].levels[1]
    with pytest.raises(ValueError, match=r"did you mean 'accelerator\.scratchpad\.capacity'"):
        resolve(roots, "accelerator.scratchpat.capacity")


def test_paths_cannot_change_the_structure():
    roots = {"accelerator": load_accelerator("gemmini")}
    for name, value in (("keeps", "weights"), ("name", "x"), ("shares_port", True)):
        with pytest.raises(ValueError, match="set in its own file"):
            check_value(roots, resolve(roots, f"accelerator.dram.{name}"), value)
    assert check_value(roots, "accelerator.dram.ports", "cols") == "cols"
    core = roots["accelerator"]
    assert [num_instances(name, core) for name in allowed_names("ports")] == [
        1.0,
        16.0,
        16.0,
        256.0,
    ]


def test_a_star_matches_every_name():
    roots = {"accelerator": load_accelerator("gemmini")}
    found = resolve_all(roots, "accelerator.*.capacity")
    assert found == [
        f"accelerator.{name}.capacity_bytes"
        for name in ("dram", "scratchpad", "accumulator", "registers")
    ]
    assert resolve_all(roots, "accelerator.dram.word.*") == [
        f"accelerator.dram.word_bytes.{name}" for name in OPERANDS
    ]
    for wrong in ("*.dram", "accelerator.*.capacty", "accelerater.*.capacity"):
        with pytest.raises(ValueError, match="a path"):
            resolve_all(roots, wrong)


def test_paths_of_leaves_resolve_to_themselves():
    core = load_accelerator("tpu_v4i")
    for keys, leaf in jax.tree_util.tree_leaves_with_path({"a": core}):
        path = readable(core, keys[1:])
        assert get_path(core, path) == leaf
        moved = set_path(core, path, math.pi)
        assert sum(x == math.pi for x in jax.tree.leaves(moved)) == 1
