"""Presets of NeuronCores: published values of AWS and one-line errors."""

from pathlib import Path

import pytest

from hwdse.config.files.errors import ConfigError
from hwdse.config.files.toml_files import preset_names, preset_root
from hwdse.config.hardware.neuron_cores import load_engines, load_engines_file
from hwdse.models.compute.neuron_engines import peak_flop_per_s

NAMES = preset_names("engines")
FILES = pytest.mark.parametrize("name", NAMES)


def test_three_generations():
    assert NAMES == ("neuron_core_v2", "neuron_core_v3", "neuron_core_v4")


@FILES
def test_peaks_are_the_published_ones(name):
    file = load_engines_file(name)
    formats = {"bf16": "bf16", "fp32": "fp32", "fp8": "mx" if name.endswith("v4") else "fp8"}
    for key, format_name in formats.items():
        printed = file.published.get(f"{key}_flop_per_s")
        if printed is not None:
            peak = peak_flop_per_s(format_name, file.core.tensor)
            assert float(peak) == pytest.approx(printed, rel=0.02)


@FILES
def test_memories_follow_from_their_partitions(name):
    core = load_engines(name)
    kib = {"neuron_core_v2": 192, "neuron_core_v3": 224, "neuron_core_v4": 256}[name]
    assert core.sbuf.capacity_bytes == kib * 1024 * 128
    psum = core.tensor.psum_banks * core.tensor.psum_bank_elements * 4 * 128
    assert psum == 2 * 2**20
    assert core.sbuf.bandwidth_bytes_per_s == pytest.approx(20 * core.hbm_bandwidth_bytes_per_s)


@FILES
def test_every_number_has_a_source_comment(name):
    lines = (preset_root() / "engines" / f"{name}.toml").read_text().splitlines()
    table = lines[: lines.index(next(line for line in lines if line.startswith("[published]")))]
    start = next(i for i, line in enumerate(table) if line.startswith("]")) + 1
    for previous, line in zip(table[start - 1 :], table[start:], strict=False):
        if "=" in line and not line.startswith("#"):
            assert "#" in line or previous.startswith("#"), line


def edited(tmp_path: Path, old: str, new: str) -> Path:
    text = (preset_root() / "engines" / "neuron_core_v3.toml").read_text()
    assert old in text
    path = tmp_path / "core.toml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rows = 128", "rows = -4", ["[tensor] rows = -4", "above 0"]),
        ("rows = 128", "rows = 128.5", ["[tensor] rows = 128.5", "whole number"]),
        ("psum_banks = 8", "psum_banks = 8.5", ["psum_banks = 8.5", "whole number"]),
        ('bandwidth = "27.2 GB/s"', 'bandwidth = "27.2 GHz"', ["[dma] bandwidth", "dimension"]),
        ("sustained_fraction = 1", "sustained_fraction = 0", ["sustained_fraction = 0", "above 0"]),
        ("sustained_fraction = 1", "sustained_fraction = 1.2", ["from 0 to 1"]),
        ("issue_cycles = 64", "issue_cycle = 64", ["issue_cycle", "did you mean 'issue_cycles'?"]),
        ("[gpsimd]", "[gpsmd]", ["gpsmd", "gpsimd"]),
        ("num_engines = 16", "", ["[dma] num_engines is missing"]),
    ],
)
def test_an_error_is_one_line_with_its_key(tmp_path, old, new, words):
    path = edited(tmp_path, old, new)
    with pytest.raises(ConfigError) as error:
        load_engines(path)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert all(word in message for word in words), message


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match="neuron_core_v2, neuron_core_v3, neuron_core_v4"):
        load_engines("neuron_core_v9")
