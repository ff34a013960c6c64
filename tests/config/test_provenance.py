"""Origins of constants: comments of files by key, kinds, order of files, bands."""

from collections import Counter
from pathlib import Path

import pytest

from hwdse.config import load_search
from hwdse.config.files.toml_files import preset_names, preset_root
from hwdse.config.provenance import KINDS, UNSURE, commented_keys, kind_of, origins
from hwdse.config.search.job_source import JobSource
from hwdse.jobs.reliance import reliances

TEXT = """\
name = "x"  # a title
# derived: above
top = 1
[hbm]  # of the table
capacity = "96 GiB"   # vendor
bandwidth = "2 # TB/s"
[list]
values = [
    1,  # inside
    2,
]
after = 3  # assumed: after the list
[[levels]]
name = "dram"
"""


def test_comments_belong_to_their_keys():
    found = {(one.table, one.key): one for one in commented_keys(TEXT)}
    assert found["", "name"].comment == "a title"
    assert found["", "top"].comment == "derived: above"
    assert found["hbm", "capacity"].comment == "vendor"
    assert found["hbm", "bandwidth"].comment == "of the table"
    assert found["list", "after"].comment == "assumed: after the list"
    assert found["list", "after"].line == 12
    assert found["levels", "name"].value == "dram"


@pytest.mark.parametrize(
    ("comment", "kind"),
    [
        ("assumed: as before", "assumed"),
        ("Derived: 2 x 3", "derived"),
        ("fitted on 3 rows", "fitted"),
        ("measured", "measured"),
        ("Neuron docs", "published"),
        ("", "unmarked"),
    ],
)
def test_kinds_follow_from_the_first_word(comment, kind):
    assert kind_of(comment) == kind


def test_later_files_and_flags_win():
    found = origins(load_search("trn2_llama3_70b", ['chip.hbm.bandwidth="4 TB/s"']))
    assert found["chip.hbm.bandwidth_bytes_per_s"].kind == "given"
    assert found["chip.hbm.capacity_bytes"].place.startswith("trainium2 line")
    assert found["chip.process.sram_area_mm2_per_byte"].place.startswith("n5 line")
    assert found["chip.matrix_efficiency_fraction"].kind == "class"
    assert found["workload.model.num_layers"].note == "Llama 3 paper, table 3"
    assert found["cluster.torus_sizes.1"].kind == "published"
    assert found["checkpoint_interval_s"].kind == "assumed"
    assert found["parallelism.tensor"].band == 0.0
    assert {one.kind for one in found.values()} <= set(KINDS)
    assert set(UNSURE) <= set(KINDS)


def test_a_base_keeps_its_comments_and_own_bands_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text('base = "h100"\n[hbm]\nenergy = "5 pJ/bit +- 12 %"  # vendor\n')
    design = {"system": "dgx_h100", "chip": "c.toml", "model": "llama3_8b", "strategy": "TP8"}
    found = origins(load_search(JobSource(None, {"design": design})))
    own = found["chip.hbm.energy_j_per_byte"]
    assert (own.place, own.band, own.kind) == ("c.toml line 3", 0.12, "published")
    assert found["chip.array.rows"].place.startswith("h100 line")


def test_a_count_of_an_own_file_is_known_without_a_comment(tmp_path, monkeypatch):
    """Lists of counts as well: a domain of four times four chips has no band."""
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(
        'base = "trn2_ultraserver"\n[cluster]\nnum_chips = 16\ntorus_sizes = [4, 4]\n'
        "torus_bandwidth_fractions = [0.5, 0.5]\ntorus_latency_ratios = [1, 1]\n"
    )
    design = {"system": "s.toml", "model": "llama3_8b", "strategy": "TP4"}
    loaded = load_search(JobSource(None, {"design": design}))
    found = origins(loaded)
    counts = ("cluster.num_chips", "cluster.torus_sizes.0", "cluster.torus_sizes.1")
    assert {(found[path].kind, found[path].band) for path in counts} == {("unmarked", 0.0)}
    assert found["cluster.torus_latency_ratios.0"].band > 0.0
    relied = reliances(loaded, loaded.base, "time_per_token")
    assert relied[0].effect < 1.0
    assert not {one.path for one in relied} & set(counts)


def test_levels_of_cores_are_found_by_name():
    found = origins(load_search("gemmini_bert"))
    assert found["accelerator.scratchpad.capacity_bytes"].place.startswith("gemmini line")
    kinds = Counter(one.kind for one in found.values())
    assert kinds["default"] < sum(kinds.values()) / 2


@pytest.mark.parametrize("name", preset_names("chips"))
def test_every_value_of_a_chip_preset_has_a_note(name):
    text = (preset_root() / f"chips/{name}.toml").read_text()
    own = [one for one in commented_keys(text) if one.table != "published"]
    assert [o.key for o in own if not o.comment and o.key not in ("name", "sources")] == []


def test_a_process_belongs_to_the_core_of_a_job_on_a_core():
    loaded = load_search("gemmini_bert")
    path = "accelerator.process.nominal_voltage_v"
    assert path in {constant.path for constant in loaded.uncertain_constants}
    found = origins(loaded)[path]
    assert (found.kind, found.band) == ("assumed", 0.05)
