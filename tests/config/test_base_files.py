"""Files with a base: inheritance key by key, and refusals."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdse.config import ConfigError, load_chip, load_search, load_software, load_system
from hwdse.config.files.base_files import merge_tables


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(name, text):
    Path(name).write_text(text)
    return name


def test_a_chip_differs_from_its_base_in_the_given_keys_only():
    file = written("c.toml", 'base = "trainium2"\n[hbm]\nbandwidth = "4 TB/s"\n')
    base = load_chip("trainium2")
    assert load_chip(file) == base.replace(hbm=base.hbm.replace(bandwidth_bytes_per_s=4e12))


def test_keys_with_and_without_unit_are_the_same_key():
    file = written("c.toml", 'base = "h100"\n[hbm]\nbandwidth_bytes_per_s = "4 TB/s"\n')
    assert load_chip(file).hbm.bandwidth_bytes_per_s == 4e12


def test_a_preset_of_the_process_replaces_the_process_of_the_base():
    file = written("c.toml", 'base = "trainium2"\n[process]\npreset = "n3"\n')
    other = written("d.toml", 'base = "trainium2"\n[process]\nmin_voltage = "0.6 V"\n')
    trainium = load_chip("trainium2").process
    assert load_chip(file).process != trainium
    assert load_chip(other).process == trainium.replace(min_voltage_v=0.6)


def test_bases_of_bases_are_read_and_circles_are_refused():
    written("a.toml", 'base = "h100"\nnum_dies = 1\n[hbm]\nbandwidth = "4 TB/s"\n')
    written("b.toml", 'base = "a.toml"\n[hbm]\ncapacity = "96 GiB"\n')
    assert load_chip("b.toml").hbm.bandwidth_bytes_per_s == 4e12
    written("x.toml", 'base = "y.toml"\n')
    written("y.toml", 'base = "x.toml"\n')
    with pytest.raises(ConfigError, match=r"y\.toml base = .*does not lead back"):
        load_chip("x.toml")


def test_an_unknown_base_names_the_nearest_preset():
    written("c.toml", 'base = "trainium_2"\n')
    with pytest.raises(ConfigError, match="did you mean 'trainium2'"):
        load_chip("c.toml")
    written("c.toml", "base = 2\n")
    with pytest.raises(ConfigError, match=r"c\.toml base = 2: expected the name of a preset"):
        load_chip("c.toml")


def test_paths_of_a_base_are_relative_to_its_own_folder():
    Path("below").mkdir()
    written("below/chip.toml", 'base = "h100"\n[hbm]\nbandwidth = "5 TB/s"\n')
    written("below/system.toml", 'base = "dgx_h100"\nchip = "chip.toml"\n')
    written("system.toml", 'base = "below/system.toml"\n[cluster]\nserver_cost = "1 USD"\n')
    system = load_system("system.toml")
    assert system.chip.hbm.bandwidth_bytes_per_s == 5e12
    assert system.cluster.server_cost_usd_per_chip == 1.0


def test_name_and_published_values_are_not_inherited():
    file = written("own.toml", 'base = "dgx_h100"\n')
    system = load_system(file)
    assert system.name == "own"
    assert not system.published


def test_uncertainties_of_a_base_hold_until_the_value_is_given():
    written("a.toml", 'base = "h100"\n[hbm]\nenergy = "4 pJ/bit +- 30 %"\n')
    written("b.toml", 'base = "a.toml"\n')
    written("c.toml", 'base = "a.toml"\n[hbm]\nenergy = "4 pJ/bit"\n')
    for name, number in (("a", 1), ("b", 1), ("c", 0)):
        job = {"system": "dgx_h100", "chip": f"{name}.toml", "model": "llama3_8b"}
        text = "[design]\n" + "".join(f'{k} = "{v}"\n' for k, v in job.items())
        written("j.toml", text + 'strategy = "TP8"\n')
        found = [one.path for one in load_search("j.toml").uncertain_constants]
        own = [path for path in found if not path.startswith("chip.process.")]  # voltages of n5
        assert own == ["chip.hbm.energy_j_per_byte"] * number


def test_every_kind_of_file_has_a_base():
    written("s.toml", 'base = "megatron_lm"\nstep_overhead = "3 s"\n')
    assert load_software("s.toml").step_overhead_s == 3.0
    written("j.toml", 'base = "trn2_llama3_70b"\n[design]\nnum_systems = 8\n')
    base, job = load_search("trn2_llama3_70b"), load_search("j.toml")
    assert job.base.cluster.num_chips == 512.0
    assert job.space.dimensions == base.space.dimensions
    written("m.toml", 'base = "llama3_8b"\n[model]\nnum_layers = 16\n')
    written("t.toml", 'base = "pretraining"\nseq_len = 4096\nglobal_batch = 64\n')
    written(
        "k.toml",
        '[design]\nsystem = "dgx_h100"\nmodel = "m.toml"\ntask = "t.toml"\nstrategy = "TP8"\n',
    )
    work = load_search("k.toml").workload
    assert (work.model.num_layers, work.seq_len, work.global_batch) == (16.0, 4096.0, 64.0)


KEYS = st.sampled_from(["rows", "capacity", "capacity_bytes", "hbm", "clock"])
TABLES = st.recursive(
    st.dictionaries(KEYS, st.integers(0, 9), max_size=4),
    lambda inner: st.dictionaries(KEYS, st.one_of(st.integers(0, 9), inner), max_size=4),
    max_leaves=8,
)


@given(TABLES, TABLES)
def test_merging_keeps_every_own_value_and_is_idempotent(base, own):
    merged = merge_tables(base, own)
    for key, value in own.items():
        if not isinstance(value, dict) and not ({"capacity", "capacity_bytes"} <= set(own)):
            assert merged[key] == value
    assert merge_tables(merged, {}) == merged
    assert merge_tables({}, own) == own or {"capacity", "capacity_bytes"} <= set(own)


def test_a_base_of_another_kind_is_named():
    file = written("c.toml", 'base = "trainium2"\n')
    expected = "preset of systems, which the file is read as; 'trainium2' is a preset of chips"
    with pytest.raises(ConfigError, match=expected):
        load_system(file)


def test_other_dimensions_of_a_torus_name_all_lists_that_follow():
    file = written("s.toml", 'base = "trn2_ultraserver"\n[cluster]\ntorus_sizes = [8, 8]\n')
    with pytest.raises(ConfigError) as caught:
        load_system(file)
    for part in ("torus_bandwidth_fractions", "torus_sizes = [8, 8]", "torus_latency_ratios"):
        assert part in str(caught.value)
