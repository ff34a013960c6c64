"""Numbers of quantities need a unit, in files and on the command line: 4 is not 4 B/s."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdse.config import ConfigError, load_accelerator, load_chip, load_search, load_system
from hwdse.config.files.toml_files import preset_root
from hwdse.config.files.uncertainty_suffix import relative_fraction
from hwdse.config.schema.field_rules import UnitInKey, rule_of, with_units_of_keys
from hwdse.config.search.metric_names import parse_target
from hwdse.units.parse_units import SUFFIXES, example

SEARCH = (preset_root() / "searches" / "trn2_llama3_70b.toml").read_text()
CHIP = (preset_root() / "chips" / "trainium2.toml").read_text()
ADVICE = "expected a number with a unit such as '"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refusal(load, text, *arguments):
    Path("x.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load("x.toml", *arguments)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_unit_is_required(suffix):
    """Of every kind of quantity: a bare number is refused, zero and a text are not."""
    rule = rule_of(f"x{suffix}")
    with pytest.raises(ValueError, match="a number with a unit such as") as caught:
        rule.check(4)
    assert example(rule.unit) in str(caught.value)
    assert rule.check(example(rule.unit)) > 0.0
    assert rule.check(UnitInKey(4.0)) == 4.0
    assert rule_of("energy_j_per_byte").check(0) == 0.0


@given(st.floats(allow_nan=True, allow_infinity=True) | st.integers())
def test_no_bare_number_is_taken_for_a_quantity(value):
    if value == 0:
        return
    with pytest.raises(ValueError, match="a number with a unit"):
        rule_of("bandwidth_bytes_per_s").check(value)


@pytest.mark.parametrize("name", ["rows", "overlap_fraction", "fp8_speedup_ratio"])
def test_pure_numbers_have_no_unit(name):
    assert rule_of(name).check(1) == 1.0


def test_keys_that_name_their_unit_need_no_other():
    table = with_units_of_keys(
        {
            "hbm": {"bandwidth": 4, "bandwidth_bytes_per_s": 4},
            "word_bytes": {"weights": 2},
            "n": [3],
        }
    )
    assert not isinstance(table["hbm"]["bandwidth"], UnitInKey)
    assert isinstance(table["hbm"]["bandwidth_bytes_per_s"], UnitInKey)
    assert isinstance(table["word_bytes"]["weights"], UnitInKey)
    assert table["n"] == [3]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('bandwidth = "2.9 TB/s"', "bandwidth = 2.9e12", "x.toml [hbm] bandwidth = 2900000000000"),
        ('nominal_clock = "2.4 GHz"', "nominal_clock = 2.4", "x.toml nominal_clock = 2.4"),
        ('preset = "n5"', 'preset = "n5"\nmac_energy = 1e-12', "x.toml [process] mac_energy = "),
    ],
)
def test_files_of_chips(old, new, place):
    assert old in CHIP
    line = refusal(load_chip, CHIP.replace(old, new, 1))
    assert line.startswith(place)
    assert ADVICE in line


def test_a_key_with_its_unit_is_accepted():
    Path("x.toml").write_text(CHIP.replace('bandwidth = "2.9 TB/s"', "bandwidth_bytes_per_s = 4"))
    assert load_chip("x.toml").hbm.bandwidth_bytes_per_s == 4.0


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("chip.hbm.bandwidth=4", "--set chip.hbm.bandwidth = 4"),
        ("chip.hbm.bandwidth=4e12", "--set chip.hbm.bandwidth = 4000000000000"),
        ("cluster.restart_time=600", "--set cluster.restart_time = 600"),
        ("design.checkpoint_interval=600", "--set checkpoint_interval = 600"),
        ("limits.chip_power=400", "x.toml with --set [limits] chip_power = 400"),
    ],
)
def test_set(override, place):
    line = refusal(load_search, SEARCH, [override])
    assert line.startswith(place)
    assert ADVICE in line


def test_set_accepts_zero_pure_numbers_and_named_units():
    base = load_search(
        "trn2_llama3_70b",
        ["chip.link.latency=0", "chip.array.rows=64", "chip.hbm.bandwidth_bytes_per_s=4e12"],
    ).base
    assert base.chip.link.latency_s == 0.0
    assert base.chip.array.rows == 64.0
    assert base.chip.hbm.bandwidth_bytes_per_s == 4e12


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('low = "1 TB/s"', "low = 1", "x.toml [variables 4] low = 1"),
        ('high = "8 TB/s"', "high = 8", "x.toml [variables 4] high = 8"),
        ('step = "0.1 TB/s"', "step = 0.1", "x.toml [variables 4] step = 0.1"),
        ('chip_power = "290 W"', "chip_power = 290", "x.toml [limits] chip_power = 290"),
        ('checkpoint_interval = "60 min"', "checkpoint_interval = 60",
         "x.toml [design] checkpoint_interval = 60"),
        ("[limits]", "[overrides]\nchip.hbm.bandwidth = 4\n[limits]",
         "x.toml [overrides] chip.hbm.bandwidth = 4"),
        ("[limits]", '[[choices]]\npath = "chip.hbm.capacity"\nvalues = [96, 192]\n[limits]',
         "x.toml [choices 1] chip.hbm.capacity = 96"),
        ("[limits]", '[[uncertain]]\npath = "chip.hbm.energy"\nlow = 1e-12\nhigh = 9e-11\n[limits]',
         "x.toml [uncertain] low = 1e-12"),
    ],
)  # fmt: skip
def test_search_files(old, new, place):
    assert old in SEARCH
    line = refusal(load_search, SEARCH.replace(old, new, 1))
    assert line.startswith(place)
    assert ADVICE in line


def test_systems_and_cores():
    text = (preset_root() / "systems" / "trn2_ultraserver.toml").read_text()
    system = text.replace("[cluster]", "[cluster]\nrestart_time = 3", 1)
    kept = "\n".join(
        row for i, row in enumerate(system.splitlines())
        if not row.startswith("restart_time") or row == "restart_time = 3"
    )  # fmt: skip
    assert "[cluster] restart_time = 3: " + ADVICE in refusal(load_system, kept)
    core = (preset_root() / "accelerators" / "gemmini.toml").read_text()
    for old, new, place in (
        ('word = "8 bit"', "word = 1", "[levels 1] word = 1: "),
        ('capacity = "128 KiB"', "capacity = 128", "capacity = 128: "),
    ):
        assert old in core
        assert place + ADVICE in refusal(load_accelerator, core.replace(old, new, 1))


@pytest.mark.parametrize("value", [30, 0.3, 1, "0.3", "30", "30 pct", "-30 %", "nan %", "%", True])
def test_relative_uncertainties_are_in_percent(value):
    with pytest.raises(ValueError, match='in percent such as "30 %"'):
        relative_fraction(value)


@pytest.mark.parametrize(
    ("text", "fraction"), [("30 %", 0.3), ("30%", 0.3), (" 0.5 % ", 0.005), ("1e2 %", 1.0)]
)
def test_percent_of_a_relative_uncertainty(text, fraction):
    assert relative_fraction(text) == pytest.approx(fraction, rel=1e-15)


@pytest.mark.parametrize("value", ["30", "0.3", '"0.3"'])
def test_uncertainties_of_a_search_file(value):
    for table in (
        f'[[uncertain]]\npath = "chip.hbm.energy"\nrelative = {value}\n[limits]',
        f'[uncertain]\n"chip.hbm.energy" = {value}\n[limits]',
    ):
        line = refusal(load_search, SEARCH.replace("[limits]", table, 1))
        assert 'expected a relative uncertainty in percent such as "30 %"' in line


def test_targets():
    with pytest.raises(ConfigError, match="expected a number with a unit such as '500 W'"):
        parse_target("chip_power <= 500")
    assert parse_target("chip_power <= 500 W").limit == 500.0
    assert parse_target("chip_power_w <= 500").limit == 500.0
    assert parse_target("effective_tokens_per_s >= 7e5").limit == 7e5
    assert parse_target("mfu_fraction >= 0.4").limit == 0.4


@pytest.mark.parametrize("value", ["1e300 %", "0 %", "1e5 %"])
def test_uncertainties_have_a_bound(value):
    table = f'[uncertain]\n"chip.hbm.energy" = "{value}"\n[limits]'
    line = refusal(load_search, SEARCH.replace("[limits]", table, 1))
    assert "expected a relative uncertainty above 0, and below 10,000 %" in line


@pytest.mark.parametrize("depth", [100, 5000])
def test_deeply_nested_tables_are_one_line(depth):
    for text in (
        "[" + ".".join(["a"] * depth) + "]\n",
        SEARCH + "\n[overrides." + ".".join(["a"] * depth) + "]\n",
    ):
        assert "nested too deeply" in refusal(load_search, text)
