"""Training stacks in files: values, defaults and one-line errors."""

from pathlib import Path

import pytest

from hwdse.config import ConfigError, load_search, load_software
from hwdse.config.files.toml_files import MAX_LISTED, preset_root
from hwdse.search.space.pytree_path import get_path, set_path
from hwdse.specs.software import COMPILED, Software

STACK = (preset_root() / "software/megatron_deepspeed.toml").read_text()
SEARCH = (preset_root() / "searches/trn2_llama3_70b.toml").read_text()
NAMES = sorted(path.stem for path in (preset_root() / "software").glob("*.toml"))


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def message(load, text):
    Path("x.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load("x.toml")
    line = str(caught.value)
    assert line.isprintable()
    return line


def changed(text, old, new):
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize("name", NAMES)
def test_presets_have_ratios_and_fractions_in_range(name):
    stack = load_software(name)
    for field, value in vars(stack).items():
        assert value >= 0.0
        if field.endswith("_fraction"):
            assert value <= 1.0
    assert stack.gather_network_fraction > 0.0
    assert stack.num_layer_messages >= 1.0


def test_keys_that_are_left_out_have_the_values_of_a_compiled_program():
    assert load_software("compiled") == COMPILED == Software()
    Path("x.toml").write_text(
        'name = "Mine"\nsources = ["none"]\ndispatch_time = "250 us"\nstep_overhead = "0.1 s"\n'
    )
    assert load_software("x.toml") == Software(dispatch_time_s=250e-6, step_overhead_s=0.1)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("dispatch_time =", "dispatch_tme =", "x.toml dispatch_tme = "),
        ("dispatch_time =", "dispatch_tme =", "did you mean 'dispatch_time'?"),
        ('"1.04 ms"', '"-1 ms"', 'x.toml dispatch_time = "-1 ms": expected a number with a unit'),
        ('"1.04 ms"', '"3 GB"', '("GB" is another dimension)'),
        (
            "fused_attention_fraction = 0 ",
            "fused_attention_fraction = 1.5 ",
            "x.toml fused_attention_fraction = 1.5: expected a number from 0 to 1",
        ),
        (
            "elementwise_traffic_ratio = 1.26",
            "elementwise_traffic_ratio = 0",
            "x.toml elementwise_traffic_ratio = 0: expected a number above 0",
        ),
        (
            "num_elementwise_kernels = 8 ",
            "num_elementwise_kernels = -8 ",
            "x.toml num_elementwise_kernels = -8: expected a number of at least 0",
        ),
        (
            "num_elementwise_kernels = 8 ",
            "num_layer_messages = 0.5 ",
            "x.toml num_layer_messages = 0.5: expected a whole number of at least 1",
        ),
        ("name =", "#", "x.toml name is missing: expected a text"),
    ],
)
def test_broken_stacks(old, new, line):
    assert line in message(load_software, changed(STACK, old, new))


def test_unknown_stacks_are_reported_with_the_known_ones():
    with pytest.raises(ConfigError, match="did you mean 'megatron_lm'") as caught:
        load_software("megatron")
    assert all(name in str(caught.value) for name in NAMES[:MAX_LISTED])
    text = changed(SEARCH, 'software = "neuron"', 'software = "megatron"')
    line = message(load_search, text)
    assert line.startswith('x.toml [design] software = "megatron": expected')
    assert "did you mean 'megatron_lm'" in line


def test_a_design_has_the_stack_of_its_file():
    assert load_search("trn2_llama3_70b").base.software == load_software("neuron")
    Path("x.toml").write_text(changed(SEARCH, '"neuron"', '"megatron_deepspeed"'))
    search = load_search("x.toml")
    assert search.base.software == load_software("megatron_deepspeed")
    (source,) = [x for x in search.resolved["sources"] if x["kind"] == "software"]
    assert "megatron_deepspeed" in source["file"]
    slower = set_path(search.base, "software.dispatch_time_s", 1.0)
    assert get_path(slower, "software.dispatch_time_s") == 1.0
