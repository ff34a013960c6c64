"""FP64 to FP16 ratio of every chip, and the AMD, Sunway and B300 presets as systems."""

import csv
from pathlib import Path

import pytest

from hwdse.config import load_chip, load_system
from hwdse.config.files.toml_files import preset_names
from hwdse.config.hardware.load_specs import load_chip_file

TABLE = Path(__file__).parents[1] / "data" / "fp64_fp16_chips.csv"
ROWS = {
    row["preset"]: row
    for row in csv.DictReader(
        line for line in TABLE.read_text().splitlines() if not line.startswith("#")
    )
}
NOT_PRINTED = {"h800"}  # a variant whose fp64 peak this file has no source for


def test_every_chip_is_in_the_table():
    assert set(ROWS) | NOT_PRINTED == set(preset_names("chips"))


@pytest.mark.parametrize("name", sorted(ROWS))
def test_fp64_ratio_is_that_of_the_published_peaks(name):
    """Of matrix units over dense fp16; half a percent covers figures rounded to three digits."""
    fp64, fp16 = (float(ROWS[name][column]) for column in ("fp64_tflops", "fp16_dense_tflops"))
    assert load_chip(name).fp64_per_fp16_ratio == pytest.approx(fp64 / fp16, rel=5e-3)


@pytest.mark.parametrize(
    ("name", "one_to"), [("h100", 14.8), ("a100", 16.0), ("b200", 60.0), ("b300", 1800.0),
                         ("mi300x", 8.0), ("sw26010_pro", 4.0)],
)  # fmt: skip
def test_usually_quoted_fp64_ratios(name, one_to):
    assert 1.0 / load_chip(name).fp64_per_fp16_ratio == pytest.approx(one_to, rel=5e-3)


class TestSunway:
    """384 cores, each with one pipe of 512 bit: every peak follows from that."""

    CHIP, PRINTED = load_chip("sw26010_pro"), load_chip_file("sw26010_pro").published

    @pytest.mark.parametrize(("bits", "figure"), [(16, "bf16"), (32, "fp32"), (64, "fp64")])
    def test_peaks_are_lanes_times_clock(self, bits, figure):
        peak = 384.0 * (512 / bits) * 2.0 * self.CHIP.array.clock_hz
        assert self.PRINTED[f"{figure}_flop_per_s"] == pytest.approx(peak, rel=2e-3)

    def test_array_has_the_same_lanes(self):
        array = self.CHIP.array
        peak = 2.0 * array.rows * array.cols * array.num_arrays * array.clock_hz
        assert self.PRINTED["bf16_flop_per_s"] == pytest.approx(peak, rel=2e-4)

    def test_memory_is_six_controllers(self):
        assert self.CHIP.hbm.bandwidth_bytes_per_s == pytest.approx(6 * 51.2e9)
        assert self.CHIP.hbm.capacity_bytes == pytest.approx(6 * 16e9)
        assert self.CHIP.sram.capacity_bytes == 384 * 256 * 1024

    def test_system_is_above_an_exaflop_of_fp64(self):
        system = load_system("oceanlight")
        total = system.cluster.num_chips * self.PRINTED["fp64_flop_per_s"]
        assert total == pytest.approx(1.48e18, rel=0.01)
        assert system.cluster.num_chips == 420 * system.cluster.torus_sizes[0]


SERVERS = [
    ("mi300x_platform", 8),
    ("mi350x_platform", 8),
    ("mi355x_platform", 8),
    ("p6_b300", 8),
    ("dgx_h200", 8),
    ("a40_pcie", 8),
    ("h100_nvl_pcie", 8),
    ("h200_nvl_pcie", 8),
    ("l40s_pcie", 8),
    ("mi210_pcie", 8),
    ("mi325x_platform", 8),
    ("rtx_4090_pcie", 8),
    ("rtx_pro_6000_pcie", 8),
]


@pytest.mark.parametrize(("name", "chips"), SERVERS)
def test_server_values_are_sums_over_chips(name, chips):
    system = load_system(name)
    assert system.cluster.num_chips == chips
    for figure in ("bf16_flop_per_s", "fp8_flop_per_s", "hbm_capacity_bytes"):
        if figure not in system.chip_published:  # no FP8
            continue
        together = chips * system.chip_published[figure]
        assert system.published[figure] == pytest.approx(together, rel=3e-3)
