"""Files of `hwdse new`: every key of the reference, values of a preset, and they load."""

import re
import tomllib

import pytest

from hwdse.config import ConfigError, load_search
from hwdse.config.design.serving_design_table import SERVING
from hwdse.config.files.named_items import FOLDERS, find_item
from hwdse.config.files.toml_files import find_file, preset_names
from hwdse.config.hardware.accelerators import load_accelerator_file
from hwdse.config.hardware.load_specs import load_chip, load_software, load_system
from hwdse.config.key_reference import key_tables
from hwdse.config.new_files import KINDS, new_file
from hwdse.config.schema.field_rules import field_of

LOADERS = {
    "chip": load_chip,
    "system": load_system,
    "software": load_software,
    "core": lambda path: load_accelerator_file(path).accelerator,
}
ALL = [(kind, name) for kind, known in KINDS.items() for name in preset_names(known.folder)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder, kind, preset=None):
    path = folder / "mine.toml"
    path.write_text(new_file(kind, "mine", preset), encoding="utf-8")
    return path


def uncommented(text):
    """The text with all commented keys and tables that have a value."""
    return re.sub(r"(?m)^# (?=\[|\w+ = \S)", "", text)


@pytest.mark.parametrize("kind", sorted(LOADERS))
def test_a_new_file_is_its_typical_preset(kind, folder):
    mine = LOADERS[kind](str(written(folder, kind)))
    typical = LOADERS[kind](KINDS[kind].typical)
    if kind == "system":
        mine, typical = (mine.chip, mine.cluster), (typical.chip, typical.cluster)
    assert mine == typical


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_key_of_the_reference_is_in_the_file(kind):
    if kind in ("job", "search"):
        text = "".join(new_file(kind, "mine", name) for name in ("trn2_llama3_70b", "gemmini_bert"))
    else:
        text = new_file(kind, "mine")
    for table in key_tables():
        if table.kind != KINDS[kind].tables or table.name.startswith("published"):
            continue
        if table.job is SERVING:
            continue  # neither preset is a service
        assert not table.heading or table.heading in text
        for row in table.rows:
            if row.key not in ("base", "sources"):
                assert re.search(rf"(?m)^(# )?{re.escape(row.key)} =", text), (table.name, row.key)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_file_of_a_preset_names_it_and_has_its_values_as_comments(kind, name):
    text = new_file(kind, "mine", name)
    own = tomllib.loads(text)
    assert own["base"] == name
    assert set(own) <= {"name", "title", "base"}
    values = tomllib.loads(find_file(KINDS[kind].folder, name).read_text())
    plain = {key: value for key, value in values.items() if not isinstance(value, dict | list)}
    shown = tomllib.loads(uncommented(text.partition("\n[")[0].partition("\n# [")[0]))
    for key, value in plain.items():
        if key not in ("name", "title", "base"):
            assert shown[next(one for one in shown if field_of(key, [one]) or one == key)] == value


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_file_says_the_next_command(kind, folder):
    path = written(folder, kind)
    item = find_item(str(path))
    assert item.kind == {"core": "accelerator", "search": "job"}.get(kind, kind)
    assert item.kind in FOLDERS
    first = path.read_text().splitlines()[0]
    assert f"Next: {KINDS[kind].next_step.format(file='mine.toml')}" in first


@pytest.mark.parametrize("name", ["trn2_llama3_70b", "gemmini_bert_explicit"])
def test_a_search_of_a_preset_is_that_search(name, folder):
    mine, preset = load_search(written(folder, "search", name)), load_search(name)
    assert mine.base == preset.base
    assert len(mine.space.dimensions) == len(preset.space.dimensions)
    headings = re.findall(r"(?m)^# (\[design\S*\])", (folder / "mine.toml").read_text())
    assert len(set(headings)) == len(headings)


def test_new_jobs_and_searches_load(folder):
    job = load_search(written(folder, "job"))
    assert job.title == "mine"
    assert not job.space.dimensions
    search = load_search(written(folder, "search"))
    assert search.space.dimensions[0].path == "chip.array.rows"


def test_unknown_kinds_and_presets_are_refused():
    with pytest.raises(ConfigError, match="expected one of chip, system"):
        new_file("cpu", "mine")
    with pytest.raises(ConfigError, match="did you mean 'trainium2'"):
        new_file("chip", "mine", "trainum2")
