"""Units: accepted and rejected texts, error messages, round trips."""

import math
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdse.units.format_units import format_field, format_number, format_quantity
from hwdse.units.parse_units import (
    ATOMS,
    SUFFIXES,
    example,
    near_unit,
    split_field,
    to_base,
    unit_size,
)

BASE_UNITS = sorted({*SUFFIXES.values(), "1"})


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("2.9 TB/s", "B/s", 2.9e12),
        ("2.9TB/s", "B/s", 2.9e12),
        ("200 Gb/s", "B/s", 25e9),
        ("200 Gbit/s", "B/s", 25e9),
        ("200 Gbps", "B/s", 25e9),
        ("1 GiB/s", "B/s", 2.0**30),
        ("1 Gib", "B", 2.0**27),
        ("96 GiB", "B", 96 * 2.0**30),
        ("96 GB", "B", 96e9),
        ("2.4 GHz", "Hz", 2.4e9),
        ("667 TFLOPS", "FLOP/s", 667e12),
        ("667 TFLOP/s", "FLOP/s", 667e12),
        ("3.7 pJ/bit", "J/B", 29.6e-12),
        ("0.9 pJ/B", "J/B", 0.9e-12),
        ("0.08 USD/kWh", "USD/J", 0.08 / 3.6e6),
        ("10 USD/GB", "USD/B", 1e-8),
        ("55.04 USD/h", "USD/s", 55.04 / 3600),
        ("814 mm^2", "mm^2", 814.0),
        ("854 um^2", "mm^2", 854e-6),
        ("8.14 cm2", "mm^2", 814.0),
        ("0.11 1/cm^2", "1/mm^2", 0.0011),
        ("0.1 W/mm^2", "W/mm^2", 0.1),
        ("750 mV", "V", 0.75),
        ("1.5 us", "s", 1.5e-6),
        ("1.5 \u00b5s", "s", 1.5e-6),
        ("1.5 \u03bcs", "s", 1.5e-6),
        ("854 \u03bcm^2", "mm^2", 854e-6),
        ("60 min", "s", 3600.0),
        ("2 days", "s", 172800.0),
        ("4 years", "s", 4 * 365.25 * 86400),
        ("1 kWh", "J", 3.6e6),
        ("500 W", "W", 500.0),
        ("0.875 mm^2/MiB", "mm^2/B", 0.875 / 2**20),
        ("0.04 mm^2/(GB/s)", "mm^2/(B/s)", 4e-11),
        ("15 mm^2/TFLOPS", "mm^2/(FLOP/s)", 15e-12),
        ("5 %", "1", 0.05),
        ("1e-4", "1", 1e-4),
        (4, "B/s", 4.0),
        (4e12, "B/s", 4e12),
    ],
)
def test_value_in_base_units(text, unit, value):
    assert to_base(text, unit) == pytest.approx(value, rel=1e-15)


def test_conversion_rounds_once():
    assert to_base("2.9 TB/s", "B/s") == 2.9e12
    assert to_base("0.1 GHz", "Hz") == 1e8
    assert to_base("1.1 us", "s") == 1.1e-6


def test_bits_are_eighths_of_bytes_and_prefixes_are_kept_apart():
    for prefix in ("", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"):
        assert unit_size(prefix + "b")[0] * 8 == unit_size(prefix + "B")[0]
        assert unit_size(prefix + "bit") == unit_size(prefix + "b")
    assert unit_size("MiB")[0] / unit_size("MB")[0] == Fraction(2**20, 10**6)


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        ("4 TBs", "B/s", ("'TBs' is no unit", 'did you mean "TB/s"?')),
        ("4 TB", "B/s", ("another dimension", 'did you mean "TB/s"?')),
        ("4 gb/s", "B/s", ("'gb' is no unit", 'did you mean "GB/s"?')),
        ("2 ghz", "Hz", ('did you mean "GHz"?',)),
        ("3 minutes", "s", ('did you mean "min"?',)),
        ("1 pJ/bits", "J/B", ('did you mean "pJ/bit"?',)),
        ("800 mm", "mm^2", ('did you mean "mm',)),
        ("4 K", "1", ("a finite number",)),
        ("4", "B", ("a text with a unit",)),
        ("", "B", ('such as "96 GiB"',)),
        ("GiB", "B", ('such as "96 GiB"',)),
        ("nan", "B", ('such as "96 GiB"',)),
        ("inf GiB", "B", ('such as "96 GiB"',)),
        ("1e400 B", "B", ("finite",)),
        ("1e999999999999 B", "B", ("finite",)),
        ("9" * 500 + " B", "B", ("finite",)),
        (10**400, "B", ("finite",)),
        (math.nan, "B", ("finite",)),
        (math.inf, "B", ("finite",)),
        (True, "B", ("finite",)),
        (None, "B", ("finite",)),
        ([1], "B", ("finite",)),
        ("1,000 B", "B", ("finite", "without commas")),
        ("1,979,000 TFLOPS", "FLOP/s", ("without commas",)),
        ("1 B B", "B", ("finite",)),
        ("1 B/", "B", ("finite",)),
        ("1 (((B", "B", ("finite",)),
        ("\uff11 B", "B", ("finite",)),
        ("1 " + "B/" * 500, "B", ("finite",)),
    ],
)
def test_errors_contain_the_expected_form(value, unit, words):
    with pytest.raises(ValueError, match=r"number|unit") as caught:
        to_base(value, unit)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "unit", "hint"),
    [
        ("50 GBps", "B/s", "GB/s"),
        ("40000 MBps", "B/s", "MB/s"),
        ("5 MiBps", "B/s", "MiB/s"),
        ("400 gbps", "B/s", "Gbps"),
        ("50 GB/sec", "B/s", "GB/s"),
        ("50 GB per second", "B/s", "GB/s"),
        ("50 GB/ps", "B/s", "GB/s"),
        ("900 G", "B/s", "GB/s"),
        ("80 gb", "B", "GB"),
        ("80 G", "B", "GB"),
        ("96 GIB", "B", "GiB"),
        ("64 KB", "B", "kB"),
        ("3 GByte", "B", "GB"),
        ("3 Gbits", "B", "Gbit"),
        ("7.2 pJ/byte", "J/B", "pJ/B"),
        ("7.2 pj/bits", "J/B", "pJ/bit"),
        ("10 usec", "s", "us"),
        ("5 msec", "s", "ms"),
        ("30 mins", "s", "min"),
        ("1 hour", "s", "h"),
        ("2 hours", "s", "h"),
        ("1 hr", "s", "h"),
        ("5 yrs", "s", "year"),
        ("700 Watt", "W", "W"),
        ("2 kw", "W", "kW"),
        ("989 TFLOPs", "FLOP/s", "TFLOPS"),
        ("989 TFlops", "FLOP/s", "TFLOPS"),
        ("989 TF", "FLOP/s", "TFLOPS"),
        ("10 GFLOPs", "FLOP", "GFLOP"),
        ("2.4 Ghz", "Hz", "GHz"),
        ("0.12 $/kWh", "USD/J", "USD/kWh"),
        ("3 $ per hour", "USD/s", "USD/h"),
    ],
)
def test_a_misspelled_unit_gets_a_hint(text, unit, hint):
    with pytest.raises(ValueError, match="is no unit") as caught:
        to_base(text, unit)
    assert f'did you mean "{hint}"?' in str(caught.value)


@pytest.mark.parametrize("text", ["25 GT/s", "50 ips", "3 GHz", "9 parsec"])
def test_a_unit_of_another_meaning_gets_no_hint(text):
    with pytest.raises(ValueError, match=r"no unit|another dimension") as caught:
        to_base(text, "B/s")
    assert "did you mean" not in str(caught.value)


@given(st.sampled_from(sorted(ATOMS)), st.sampled_from(BASE_UNITS), st.data())
def test_a_hint_has_the_dimension_of_its_field_and_the_prefix_of_its_text(word, unit, data):
    spelled = data.draw(st.sampled_from((word.lower(), word.upper(), word + "s", word + "ps")))
    hint = near_unit(spelled, unit)
    if not hint:
        return
    (found,) = re.findall(r'; did you mean "(.*)"\?', hint)
    assert unit_size(found)[1] == unit_size(unit)[1]
    assert found[0].lower() == spelled[0].lower()


@pytest.mark.parametrize("unit", ["GB/ps", "GB/fs", "FLOP/ps", "mm^2/(GB/ps)", "J/ps"])
def test_no_rate_is_per_picosecond(unit):
    with pytest.raises(KeyError):
        unit_size(unit)


@pytest.mark.parametrize("unit", BASE_UNITS)
def test_examples_have_the_dimension_of_their_unit(unit):
    assert math.isfinite(to_base(example(unit), unit))


@pytest.mark.parametrize("unit", BASE_UNITS)
def test_base_units_have_size_one(unit):
    assert unit_size(unit)[0] == 1


@pytest.mark.parametrize(
    ("name", "short", "unit"),
    [
        ("clock_hz", "clock", "Hz"),
        ("bandwidth_bytes_per_s", "bandwidth", "B/s"),
        ("energy_j_per_byte", "energy", "J/B"),
        ("hbm_phy_area_mm2_per_bytes_per_s", "hbm_phy_area", "mm^2/(B/s)"),
        ("sram_port_area_mm2_per_byte", "sram_port_area", "mm^2/B"),
        ("fp32_unit_area_mm2", "fp32_unit_area", "mm^2"),
        ("sram_area_mm2_per_byte", "sram_area", "mm^2/B"),
        ("leakage_w_per_mm2", "leakage", "W/mm^2"),
        ("defects_per_mm2", "defects", "1/mm^2"),
        ("electricity_usd_per_j", "electricity", "USD/J"),
        ("optimizer_state_bytes_per_parameter", "optimizer_state", "B"),
        ("fp64_traffic_bytes_per_flop", "fp64_traffic", "B/FLOP"),
        ("rows", "rows", "1"),
        ("hbm_used_ratio", "hbm_used_ratio", "1"),
        ("fp64_flop_fraction", "fp64_flop_fraction", "1"),
        ("_s", "_s", "1"),
    ],
)
def test_the_suffix_of_a_field_gives_its_unit(name, short, unit):
    assert split_field(name) == (short, unit)


def test_longer_suffixes_come_first():
    suffixes = list(SUFFIXES)
    for index, suffix in enumerate(suffixes):
        assert not any(later.endswith(suffix) for later in suffixes[index + 1 :])


@given(st.floats(min_value=-1e30, max_value=1e30), st.sampled_from(BASE_UNITS))
def test_formatted_quantities_read_back(value, unit):
    text = format_quantity(value, unit, digits=17)
    assert to_base(text, unit) == pytest.approx(value, rel=1e-15, abs=1e-300)


@given(
    st.floats(min_value=1e-18, max_value=1e18).filter(lambda x: x > 0),
    st.sampled_from(sorted(ATOMS)),
)
def test_every_unit_scales_linearly(value, word):
    size, dim = ATOMS[word]
    for unit in BASE_UNITS:
        if unit_size(unit)[1] == dim:
            assert to_base(f"{value!r} {word}", unit) == pytest.approx(
                value * float(size), rel=1e-14
            )


@given(st.text(max_size=30), st.sampled_from(BASE_UNITS))
def test_any_text_is_a_finite_number_or_rejected(text, unit):
    try:
        value = to_base(text, unit)
    except ValueError:
        return
    assert math.isfinite(value)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.9e12, "B/s", "2.9 TB/s"),
        (103079215104.0, "B", "96 GiB"),
        (80e9, "B", "80 GB"),
        (0.00123, "s", "1.23 ms"),
        (90.0, "s", "90 s"),
        (3600.0, "s", "60 min"),
        (29.6e-12, "J/B", "29.6 pJ/B"),
        (0.0, "W", "0 W"),
        (1e6, "W", "1 MW"),
        (2.2222222222222224e-08, "USD/J", "0.08 USD/kWh"),
        (117e-12, "J/mm^2", "117 pJ/mm^2"),
        (9.9e4, "J/mm^2", "2.75 kWh/cm^2"),
        (0.0011, "1/mm^2", "0.11 1/cm^2"),
        (0.5, "1", "0.5"),
        (123456.0, "1", "123000"),
        (math.inf, "s", "inf s"),
    ],
)
def test_formatted_units_are_scaled(value, unit, text):
    assert format_quantity(value, unit) == text


def test_format_field_uses_the_unit_of_the_name():
    assert format_field("clock_hz", 2.4e9) == "2.4 GHz"
    assert format_number(2.0) == "2"
