"""Objectives, limits and metrics: both names, units, and the memory limit of every search."""

from pathlib import Path

import pytest

from hwdse.config import ConfigError, load_search
from hwdse.config.schema.metric_fields import DERIVED, SCALARS, metric_field, metric_unit
from hwdse.config.search.metric_names import parse_metric, parse_objective, parse_target
from hwdse.objectives import CONSTRAINTS, OBJECTIVES
from hwdse.report.metrics import metric_of
from hwdse.units.format_units import format_quantity
from hwdse.units.parse_units import split_field, to_base

SEARCHES = Path(__file__).parents[2] / "configs" / "searches"


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_objectives_have_two_names(name):
    full = metric_field(name)
    assert parse_objective(name, "--metric") == parse_objective(full, "--metric") == name
    assert parse_metric(name).name == parse_metric(full).name == full
    assert parse_metric(full).unit == metric_unit(name) != "1"
    for given in (name, full):
        loaded = load_search("trn2_llama3_70b", [f"objective.minimize={given}"])
        assert loaded.objective == name


@pytest.mark.parametrize("name", sorted(CONSTRAINTS))
def test_limits_have_two_names(name):
    unit = metric_unit(name)
    text = format_quantity(12.0, unit)
    for given in (name, metric_field(name)):
        found = load_search("trn2_llama3_70b", [f"limits.{given}={text}"]).limits[name]
        assert found == pytest.approx(12.0)


def test_fronts_have_the_names_of_objectives():
    given = 'objective.front=["time_per_token_s", "cost_per_token"]'
    loaded = load_search("trn2_llama3_70b", [given])
    assert loaded.front_objectives == ("time_per_token", "cost_per_token")
    with pytest.raises(ConfigError, match="two or more distinct"):
        load_search("trn2_llama3_70b", ['objective.front=["step_time", "step_time_s"]'])
    with pytest.raises(ConfigError, match="did you mean 'cost_per_token_usd'"):
        parse_objective("cost_per_token_uds", "--metric")


def test_the_energy_delay_product_has_a_unit():
    assert split_field("energy_delay_j_s") == ("energy_delay", "J s")
    assert parse_metric("energy_delay").unit == "J s"
    for text in ("0.3 uJ s", "0.3 µJ·s", "3e-7 J*s", "0.3 mJ s"):
        scale = 1000.0 if "m" in text else 1.0
        assert to_base(text, "J s") == pytest.approx(3e-7 * scale)
        assert parse_target(f"energy_delay <= {text}").limit == pytest.approx(3e-7 * scale)
    assert format_quantity(2.4e-7, "J s") == "240 nJ s"
    with pytest.raises(ConfigError, match="another dimension"):
        parse_target("energy_delay <= 3 J/s")


def test_targets_in_the_units_of_tables():
    assert parse_target("cost_per_token <= 0.02 USD/Mtoken").limit == pytest.approx(2e-8)
    assert parse_target("effective_tokens >= 700 ktokens/s").limit == pytest.approx(7e5)


@pytest.mark.parametrize("field", [*SCALARS, *DERIVED])
def test_every_metric_can_be_an_objective(field):
    """A new objective needs an entry of `OBJECTIVES` only: label, unit and column follow."""
    short = split_field(field)[0]
    metric = metric_of(short)
    assert metric.field == field
    assert metric.name
    assert metric.text(1.0)


def test_memory_is_limited_unless_it_is_off():
    text = (SEARCHES / "trn2_llama3_70b.toml").read_text()
    assert "hbm_used_ratio" in text
    cut = "".join(line for line in text.splitlines(True) if not line.startswith("hbm_used_ratio"))
    Path("x.toml").write_text(cut)
    assert load_search("x.toml").limits["hbm_used_ratio"] == 1.0
    assert load_search("x.toml", ["limits.hbm_used_ratio=0.9"]).limits["hbm_used_ratio"] == 0.9
    assert "hbm_used_ratio" not in load_search("x.toml", ["limits.hbm_used_ratio=off"]).limits
    text = (SEARCHES / "gemmini_bert.toml").read_text()
    cut = "".join(
        line for line in text.splitlines(True) if not line.startswith("memory_used_ratio")
    )
    Path("core.toml").write_text(cut)
    assert load_search("core.toml").limits["memory_used_ratio"] == 1.0
    with pytest.raises(ConfigError, match='chip_power = "off"'):
        load_search("x.toml", ["limits.chip_power=off"])


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
