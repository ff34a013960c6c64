"""Jobs from flags and files: strategies as text, best strategies, titles, all mistakes at once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwdse.config import ConfigError, load_search, to_toml
from hwdse.config.design.strategy import parse_strategy, text_of
from hwdse.config.files.named_items import FOLDERS, find_item, system_and_count
from hwdse.config.files.toml_files import preset_root
from hwdse.config.search.job_source import JobSource
from hwdse.evaluation import evaluate_exact

JOB = {"system": "dgx_h100", "model": "llama3_8b", "global_batch": 64, "seq_len": 2048}


def loaded(overrides=(), **changes):
    design = {key: value for key, value in {**JOB, **changes}.items() if value is not None}
    return load_search(JobSource(None, {"design": design}), overrides)


@given(
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2]),
    st.integers(0, 3),
    st.sampled_from(["no", "selective", "full"]),
)
def test_strategy_texts_are_read_back(tensor, pipeline, micro_batch, zero, recompute):
    text = f"TP{tensor} PP{pipeline}, micro-batch {micro_batch}, {recompute} recompute, ZeRO-{zero}"
    values = parse_strategy(text, 64.0)
    assert (values["tensor"], values["pipeline"], values["micro_batch"]) == (
        tensor,
        pipeline,
        micro_batch,
    )
    shards = sum(value for name, value in values.items() if name.endswith("shard_fraction"))
    assert shards == zero
    assert values["recompute_fraction"] == (recompute == "full")
    assert parse_strategy(f"{text} DP{64 // (tensor * pipeline)}", 64.0) == values


@pytest.mark.parametrize("text", ["", "TP", "TPx", "fast", "TP8 DP3", "ZeRO-4", "TP0"])
def test_other_texts_are_refused(text):
    with pytest.raises(ConfigError, match=r"the command line \[design\] strategy"):
        loaded(strategy=text)


def test_the_best_strategy_is_the_default_and_is_written_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = loaded()
    again = loaded(strategy="best")
    assert job.base == again.base
    text = to_toml(job, job.base)
    Path("best.toml").write_text(text)
    assert load_search("best.toml").base == job.base
    assert "strategy" not in text


def test_given_degrees_are_kept_by_the_best_strategy():
    job = loaded(["parallelism.tensor=4"], strategy="best")
    assert job.base.parallelism.tensor == 4.0
    other = loaded(strategy="best", parallelism={"tensor": 2, "tensor_overlap_fraction": 0.25})
    assert other.base.parallelism.tensor == 2.0
    assert other.base.parallelism.tensor_overlap_fraction == 0.25


def test_the_text_of_a_design_is_its_strategy():
    job = loaded(strategy="TP2 PP2, micro-batch 2, full recompute, ZeRO-3")
    text = text_of(job.base, job.workload)
    assert loaded(strategy=text).base == job.base


def test_a_model_without_recipe_needs_sequences_and_batch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (preset_root() / "models/llama3_8b.toml").read_text()
    Path("m.toml").write_text(text.split("[pretraining]")[0])
    assert loaded(model="m.toml", strategy="TP8").workload.seq_len == 2048.0
    with pytest.raises(ConfigError, match="seq_len is missing: expected a value in one of"):
        loaded(model="m.toml", seq_len=None, strategy="TP8")


def test_values_of_the_job_come_before_the_task_and_the_recipe():
    recipe = load_search(JobSource(None, {"design": {**JOB, "strategy": "TP8"}}))
    assert recipe.workload.seq_len == 2048.0
    own = loaded(seq_len=None, global_batch=None, strategy="TP8")
    assert (own.workload.seq_len, own.workload.global_batch) == (8192.0, 1024.0)


def test_titles_follow_the_job():
    assert loaded(strategy="TP8").title == "Llama 3 8B pre-training on DGX H100"
    changes = ["design.num_systems=2", "design.system=dgx_h100"]
    changes += ["parallelism.tensor=8", "parallelism.pipeline=2"]
    other = load_search("trn2_llama3_70b", changes)
    assert other.title == "Llama 3 70B pre-training on 2 x DGX H100"
    assert "UltraServers" in load_search("trn2_llama3_70b").title


def test_all_mistakes_of_a_file_come_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("j.toml").write_text(
        '[design]\nsystem = "dgx_h10"\nmodel = "llama3_8"\n[objective]\nminimize = "foo"\n'
        '[limits]\nchip_power = "3 mm"\n'
    )
    with pytest.raises(ConfigError) as error:
        load_search("j.toml")
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert all(line.startswith("j.toml [") for line in lines)
    Path("k.toml").write_text(
        '[design]\nsystem = "dgx_h100"\nmodel = "llama3_8b"\n'
        + "".join(f'[[variables]]\npath = "chip.x{i}"\nlow = 1\nhigh = 2\n' for i in range(30))
    )
    with pytest.raises(ConfigError) as error:
        load_search("k.toml")
    lines = str(error.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 10 more mistakes"


def test_all_mistakes_of_overrides_and_sets_and_variables_come_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    design = '[design]\nsystem = "dgx_h100"\nmodel = "llama3_8b"\n'
    Path("j.toml").write_text(
        design + "[overrides]\nchip.foo = 1\nchip.hbm.bandwidth = 3\nchip.num_dies = 2.5\n"
        '[[variables]]\npath = "chip.bar"\nlow = 1\nhigh = 2\n'
    )
    with pytest.raises(ConfigError) as error:
        load_search("j.toml", ["cluster.foo=1", "chip.array.clock=3"])
    lines = str(error.value).splitlines()
    words = ("chip.foo", "bandwidth = 3", "num_dies = 2.5", "cluster.foo", "clock = 3", "chip.bar")
    assert len(lines) == len(words)
    for word, line in zip(words, lines, strict=True):
        assert word in line
    Path("u.toml").write_text(
        design + '[[uncertain]]\npath = "chip.foo"\nrelative = "30 %"\n'
        '[[uncertain]]\npath = "chip.hbm.energy"\nrelative = "80 %"\ndistribution = "normal"\n'
    )
    with pytest.raises(ConfigError) as error:
        load_search("u.toml")
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert "expected a relative uncertainty with which a normal distribution stays" in lines[1]


def test_a_misspelled_required_key_is_one_mistake(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("j.toml").write_text('[design]\nsystme = "dgx_h100"\nmodel = "llama3_8b"\n')
    with pytest.raises(ConfigError) as error:
        load_search("j.toml")
    assert len(str(error.value).splitlines()) == 1
    assert "did you mean 'system'" in str(error.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("dgx_h100:8", ("dgx_h100", 8)),
        ("dgx_h100", ("dgx_h100", None)),
        ("a/b.toml:2", ("a/b.toml", 2)),
        ("a/b.toml", ("a/b.toml", None)),
    ],
)
def test_systems_with_a_number(text, parts):
    assert system_and_count(text) == parts


@pytest.mark.parametrize("text", ["dgx_h100:", "dgx_h100:0", "dgx_h100:x", "dgx_h100:1.5"])
def test_wrong_numbers_of_systems_are_refused(text):
    with pytest.raises(ValueError, match="whole number of at least 1"):
        system_and_count(text)


def test_items_are_found_by_name_and_by_their_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, kind in (("h100", "chip"), ("dgx_h100:2", "system"), ("llama3_8b", "model"),
                       ("gemmini", "accelerator"), ("trn2_llama3_70b", "job")):  # fmt: skip
        assert find_item(name).kind == kind
    Path("c.toml").write_text('base = "h100"\n')
    Path("s.toml").write_text('base = "dgx_h100"\n')
    Path("j.toml").write_text("[design]\n")
    kinds = [find_item(f"{name}.toml").kind for name in "csj"]
    assert kinds == ["chip", "system", "job"]
    with pytest.raises(ConfigError, match="h100"):
        find_item("h10")
    with pytest.raises(ConfigError, match="h100 is a chip: expected a job"):
        load_search("h100")


@pytest.mark.parametrize("kind", FOLDERS)
def test_files_in_a_folder_named_as_one_of_the_presets_have_its_kind(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path(FOLDERS[kind])
    folder.mkdir()
    for preset in (preset_root() / folder).glob("*.toml"):
        copy = folder / preset.name
        copy.write_text(preset.read_text())
        assert find_item(str(copy)).kind == find_item(str(preset)).kind == kind


def test_the_best_strategy_meets_all_limits_that_a_strategy_can_meet():
    """The fastest strategy has the highest power of all but a few; a limit below it chooses
    another one, and a limit that no strategy meets chooses as without it."""
    free = loaded(["limits.chip_power=100 kW"])
    power = evaluate_exact(free.base, free.workload).chip_power_w
    job = loaded([f'limits.chip_power="{0.97 * power} W"'])
    assert job.base.parallelism != free.base.parallelism
    found = evaluate_exact(job.base, job.workload)
    assert found.chip_power_w <= 0.97 * power
    assert found.hbm_used_ratio <= 1.0
    impossible = loaded(['limits.die_area="1 mm^2"'])
    assert impossible.base == free.base
