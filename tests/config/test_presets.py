"""Presets: published values, and geometry that reproduces the published peaks."""

import csv
import re
from pathlib import Path

import jax
import pytest

from hwdse.config import list_presets, load_chip, load_search, load_system, load_workload
from hwdse.config.files.toml_files import FOLDERS, preset_names, preset_root
from hwdse.config.hardware.load_specs import load_chip_file
from hwdse.specs.hardware.chip import Chip
from hwdse.workload.transformer.dense_transformer import num_active_parameters, num_parameters
from hwdse.workload.transformer.model_config import TransformerTraining

DATA = Path(__file__).parents[1] / "data"
CHIPS = [
    "a100",
    "a40",
    "b200",
    "b300",
    "gb300",
    "h100",
    "h100_nvl",
    "h200",
    "h200_nvl",
    "inferentia2",
    "l40s",
    "mi210",
    "mi300x",
    "mi325x",
    "mi350x",
    "mi355x",
    "rtx_4090",
    "rtx_pro_6000",
    "tpu_v4",
    "tpu_v5p",
    "tpu_v6e",
    "tpu_v7x",
    "trainium1",
    "trainium2",
    "trainium3",
]
SYSTEMS = ["p5_48xlarge", "trn1_32xlarge", "trn2_48xlarge", "trn2_ultraserver", "trn3_ultraserver"]
GPUS = {
    "a100",
    "a40",
    "h100_nvl",
    "h200_nvl",
    "l40s",
    "mi210",
    "mi325x",
    "rtx_4090",
    "rtx_pro_6000",
    "h100",
    "h200",
    "b200",
    "b300",
    "gb300",
    "mi300x",
    "mi350x",
    "mi355x",
    "p5_48xlarge",
}
EXCESS = {  # printed 16-bit peak over rows x cols x arrays x 2 x clock, less one
    "inferentia2": 0.0354,
    "trainium1": 0.0354,
    "trainium2": 0.0602,
    "trainium3": 0.0665,
    "a100": 0.0004,
    "a40": 0.0002,
    "h100_nvl": 0.0000,
    "h200_nvl": 0.0000,
    "l40s": 0.0000,
    "mi210": -0.0002,
    "mi325x": 0.0000,
    "rtx_4090": 0.0003,
    "rtx_pro_6000": 0.0000,
    "h100": -0.0004,
    "h200": -0.0004,
    "b200": -0.0023,
    "b300": -0.0023,
    "gb300": 0.0010,
    "mi300x": -0.0003,
    "mi350x": 0.0000,
    "mi355x": 0.0000,
    "tpu_v4": -0.0009,
    "tpu_v5p": 0.0005,
    "tpu_v6e": 0.0005,
    "tpu_v7x": 0.0001,
}
EXCESS_FP8 = {
    "h100_nvl": -0.0003,
    "h200_nvl": -0.0003,
    "l40s": 0.0122,
    "mi325x": 0.0000,
    "rtx_4090": 0.0000,
    "rtx_pro_6000": 0.0000,
    "inferentia2": 0.0354,
    "trainium1": 0.0354,
    "trainium2": 0.0324,
    "trainium3": 0.0002,
    "h100": 0.0001,
    "h200": 0.0001,
    "b200": -0.0023,
    "b300": -0.0023,
    "gb300": 0.0010,
    "mi300x": 0.0000,
    "mi350x": 0.0000,
    "mi355x": 0.0000,
    "tpu_v5p": 0.0005,
    "tpu_v6e": 0.0005,
    "tpu_v7x": 0.0001,
}


def published_rows(name: str) -> dict[str, dict[str, float]]:
    """Published values by preset; empty cells are left out."""
    lines = [line for line in (DATA / name).read_text().splitlines() if not line.startswith("#")]
    table = csv.DictReader(lines)
    return {
        row["preset"]: {k: float(v) for k, v in row.items() if v and k != "preset"} for row in table
    }


def geometric_peak(chip: Chip) -> float:
    """16-bit FLOP/s of the arrays: two per PE and cycle."""
    array = chip.array
    return float(2.0 * array.rows * array.cols * array.num_arrays * array.clock_hz)


def test_all_presets_load_and_name_their_sources():
    entries = list_presets()
    names = {entry.name for entry in entries}
    assert {*CHIPS, *SYSTEMS} <= names
    for entry in entries:
        assert entry.published, entry.name
        assert entry.sources, entry.name
        assert entry.title


@pytest.mark.parametrize("name", preset_names("searches"))
def test_searches_load(name):
    assert load_search(name).space.num_dims > 0


@pytest.mark.parametrize("name", CHIPS)
def test_published_chip_values(name):
    row, printed = published_rows("chips_published.csv")[name], load_chip_file(name).published
    chip, gigabyte = load_chip(name), 1e9 if name in GPUS else 2.0**30
    assert printed["bf16_flop_per_s"] == row["bf16_tflops"] * 1e12
    assert printed.get("fp8_flop_per_s", 0.0) == row.get("fp8_tflops", 0.0) * 1e12
    assert printed.get("fp32_flop_per_s", 0.0) == row.get("fp32_tflops", 0.0) * 1e12
    assert printed.get("tdp_w") == row.get("tdp_w")
    assert printed["hbm_capacity_bytes"] == row["mem_gib"] * gigabyte
    if name not in GPUS:
        assert chip.hbm.capacity_bytes == printed["hbm_capacity_bytes"]
    assert printed["hbm_bandwidth_bytes_per_s"] == row["mem_bw_gbs"] * 1e9
    assert chip.hbm.bandwidth_bytes_per_s == row["mem_bw_gbs"] * 1e9
    assert chip.link.bandwidth_bytes_per_s == row["link_unidir_gbs"] * 1e9


@pytest.mark.parametrize(
    ("name", "mib"),
    [
        ("a100", 81920),
        ("a100_40", 40960),
        ("h100", 81559),
        ("h800", 81559),
        ("h200", 143771),
        ("gh200", 146831),
        ("b200", 183359),
        ("gb200", 189471),
        ("b300", 275040),
        ("mi300x", 196592),
        ("l40s", 46068),
        ("rtx_pro_6000", 97887),
    ],
)
def test_memory_of_gpus_is_that_of_the_driver(name, mib):
    """Total memory of nvidia-smi and rocm-smi; the vendor prints it with decimal prefixes."""
    file = load_chip_file(name)
    assert file.chip.hbm.capacity_bytes == mib * 2**20
    assert 0.98 < mib * 2**20 / file.published["hbm_capacity_bytes"] < 1.1


@pytest.mark.parametrize("name", CHIPS)
def test_geometry_reproduces_the_published_peak_within_a_stated_difference(name):
    printed, chip = load_chip_file(name).published, load_chip(name)
    peak = geometric_peak(chip)
    assert printed["bf16_flop_per_s"] / peak - 1.0 == pytest.approx(EXCESS[name], abs=1e-4)
    if name in EXCESS_FP8:
        ratio = printed["fp8_flop_per_s"] / (peak * chip.fp8_speedup_ratio)
        assert ratio - 1.0 == pytest.approx(EXCESS_FP8[name], abs=1e-4)


@pytest.mark.parametrize(("name", "excess"), [("trainium2", 0.151), ("trainium1", 0.0354)])
def test_fp32_runs_at_a_quarter_on_the_tensor_engine(name, excess):
    printed = load_chip_file(name).published["fp32_flop_per_s"]
    ratio = printed / (geometric_peak(load_chip(name)) / 4.0)
    assert ratio - 1.0 == pytest.approx(excess, abs=1e-3)


@pytest.mark.parametrize("name", sorted(set(CHIPS) - {"trainium1", "trainium2", "inferentia2"}))
def test_native_fp64_ratio(name):
    printed, chip = load_chip_file(name).published, load_chip(name)
    share = printed["fp64_flop_per_s"] / printed["bf16_flop_per_s"]
    assert chip.fp64_per_fp16_ratio == pytest.approx(share, rel=1e-3)


@pytest.mark.parametrize("name", SYSTEMS)
def test_published_system_values(name):
    row, system = published_rows("servers_published.csv")[name], load_system(name)
    printed, gigabyte = system.published, 1e9 if name in GPUS else 2.0**30
    num_chips = system.cluster.num_chips
    assert num_chips == row["accel_count"]
    assert printed["bf16_flop_per_s"] == pytest.approx(row["bf16_pflops"] * 1e15, rel=5e-4)
    assert printed["fp8_flop_per_s"] == pytest.approx(row["fp8_pflops"] * 1e15, rel=5e-4)
    assert printed["fp32_flop_per_s"] == pytest.approx(row["fp32_pflops"] * 1e15, rel=5e-4)
    assert printed["hbm_capacity_bytes"] == row["accel_mem_gib"] * gigabyte
    if name not in GPUS:
        assert num_chips * system.chip.hbm.capacity_bytes == printed["hbm_capacity_bytes"]
    bandwidth = num_chips * system.chip.hbm.bandwidth_bytes_per_s
    assert bandwidth == pytest.approx(row["accel_mem_bw_tbs"] * 1e12, rel=1e-9)
    network = num_chips * system.chip.network.bandwidth_bytes_per_s * 8e-9
    assert network == pytest.approx(row["scaleout_gbps"], rel=1e-9)
    price = printed.get("price_usd_per_s", 0.0) * 3600.0
    assert price == pytest.approx(row.get("on_demand_usd_h", 0.0))


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("figure", ["bf16_flop_per_s", "fp8_flop_per_s"])
def test_system_values_are_sums_over_chips(name, figure):
    system = load_system(name)
    together = system.cluster.num_chips * system.chip_published[figure]
    assert system.published[figure] == pytest.approx(together, rel=3e-3)


def test_links_of_a_lone_trn2_server_leave_out_the_third_dimension():
    lone, ultra = load_system("trn2_48xlarge"), load_system("trn2_ultraserver")
    fractions = ultra.cluster.torus_bandwidth_fractions
    in_plane = ultra.chip.link.bandwidth_bytes_per_s * (fractions[0] + fractions[1])
    assert lone.chip.link.bandwidth_bytes_per_s == pytest.approx(in_plane)


class TestClaims:
    """Statements of AWS at re:Invent 2024, from the figures of the presets."""

    def test_ultraserver_of_83_2_petaflops(self):
        system = load_system("trn2_ultraserver")
        total = system.cluster.num_chips * system.chip_published["fp8_flop_per_s"]
        assert total == pytest.approx(83.136e15)
        assert total == pytest.approx(83.2e15, rel=1e-3)
        assert system.published["fp8_flop_per_s"] == 83.2e15

    def test_five_times_the_compute_and_ten_times_the_memory_of_p5(self):
        ultra, p5 = load_system("trn2_ultraserver"), load_system("p5_48xlarge")
        compute = ultra.published["fp8_flop_per_s"] / p5.published["fp8_flop_per_s"]
        memory = ultra.published["hbm_capacity_bytes"] / p5.published["hbm_capacity_bytes"]
        assert compute == pytest.approx(5.26, abs=0.01)
        assert memory == pytest.approx(10.3, abs=0.02)

    def test_trainium3_is_twice_trainium2_in_fp8_only(self):
        old, new = load_chip_file("trainium2").published, load_chip_file("trainium3").published
        assert new["fp8_flop_per_s"] / old["fp8_flop_per_s"] == pytest.approx(1.94, abs=0.01)
        assert new["bf16_flop_per_s"] / old["bf16_flop_per_s"] == pytest.approx(1.01, abs=0.01)

    def test_trn3_ultraserver_is_four_times_trn2(self):
        old, new = load_system("trn2_ultraserver"), load_system("trn3_ultraserver")
        ratio = new.published["fp8_flop_per_s"] / old.published["fp8_flop_per_s"]
        assert ratio == pytest.approx(4.36, abs=0.01)
        geometric = geometric_peak(new.chip) * new.chip.fp8_speedup_ratio * 144.0
        assert geometric == pytest.approx(new.published["fp8_flop_per_s"], rel=1e-3)


@pytest.fixture(scope="module")
def published_values():
    return {entry.name: entry.published for entry in list_presets()}


def printed_digits(value: float) -> int:
    """Significant digits that a figure was printed with, without zeros at its end."""
    return max(len(f"{value:.15e}".partition("e")[0].replace(".", "").rstrip("0")), 1)


@pytest.mark.parametrize("name", preset_names("models"))
def test_parameter_counts_are_the_published_ones(name, published_values):
    training = load_workload(name)
    assert isinstance(training, TransformerTraining)
    published = published_values[name]
    with jax.enable_x64(True):
        counts = {
            "num_parameters": float(num_parameters(training.model)),
            "num_active_parameters": float(num_active_parameters(training.model)),
        }
    assert "num_parameters" in published
    for figure in set(counts) & set(published):
        # Files of weights print every digit, papers three or four, rounded or cut off.
        exponent = int(f"{published[figure]:e}".partition("e")[2])
        unit = 10.0 ** (exponent + 1 - printed_digits(published[figure]))
        assert abs(counts[figure] - published[figure]) < unit


def test_process_presets_follow_from_each_other():
    n7 = load_chip("a100").process
    n5, n3 = load_chip("trainium2").process, load_chip("trainium3").process
    assert n7.mac_area_mm2 == pytest.approx(14.0 / 128**2, rel=1e-3)
    assert n5.mac_area_mm2 == pytest.approx(n7.mac_area_mm2 * 96.3 / 138.2, rel=1e-4)
    assert n3.mac_area_mm2 == pytest.approx(n5.mac_area_mm2 / 1.6, rel=1e-4)
    assert n5.mac_energy_j == pytest.approx(n7.mac_energy_j * 0.70)
    assert n3.mac_energy_j == pytest.approx(n5.mac_energy_j * 0.68)
    ratio = n5.sram_area_mm2_per_byte / n7.sram_area_mm2_per_byte
    assert ratio == pytest.approx(0.252 / 0.324, rel=1e-5)
    for process in (n7, n5, n3):
        assert process.fp64_area_ratio == pytest.approx((53 / 11) ** 2, rel=1e-7)
        assert process.fp64_energy_ratio == pytest.approx((12.7 + 2.0) / (1.1 + 0.9))


def phy_mm2(fixed_mm2: float, transistors_m: float, density: float) -> float:
    """Area of a PHY that does not shrink and of its controller, which does."""
    return fixed_mm2 + transistors_m / (density * 0.645)


@pytest.mark.parametrize(
    ("name", "density", "stacks"),
    [
        ("inferentia2", 96.3, 2),
        ("trainium1", 96.3, 2),
        ("trainium2", 138.2, 4),
        ("trainium3", 221.12, 4),
        ("a100", 96.3, 5),
        ("h100", 138.2, 5),
        ("h200", 138.2, 6),
        ("b200", 138.2, 8),
        ("b300", 138.2, 8),
        ("mi300x", 138.2, 8),
        ("tpu_v4", 96.3, 4),
        ("tpu_v5p", 138.2, 6),
        ("tpu_v6e", 138.2, 2),
    ],
)
def test_memory_phy_area_is_per_stack(name, density, stacks):
    chip = load_chip(name)
    area = chip.process.hbm_phy_area_mm2_per_bytes_per_s * chip.hbm.bandwidth_bytes_per_s
    assert area == pytest.approx(stacks * phy_mm2(10.45, 552.743, density), rel=2e-3)


@pytest.mark.parametrize(
    ("name", "density", "fixed", "transistors", "links"),
    [
        ("trainium2", 138.2, 0.64, 5.37, 160),  # PCIe 5 lanes of 4 GB/s a direction
        ("trainium1", 96.3, 0.64, 5.37, 48),
        ("trainium3", 221.12, 0.64, 5.37, 160),  # PCIe 6 lanes of 8 GB/s
        ("a100", 96.3, 1.888, 74.6, 12),
        ("h100", 138.2, 0.965, 86.6, 18),
        ("b200", 138.2, 0.965, 86.6, 18),
        ("mi300x", 138.2, 5.69, 348, 7),
    ],
)
def test_link_phy_area_is_per_link(name, density, fixed, transistors, links):
    chip = load_chip(name)
    area = chip.process.link_phy_area_mm2_per_bytes_per_s * chip.link.bandwidth_bytes_per_s
    assert area == pytest.approx(links * phy_mm2(fixed, transistors, density), rel=1e-3)


@pytest.mark.parametrize("folder", [name for name in FOLDERS if name != "searches"])
def test_every_number_has_a_comment(folder):
    """A value is commented on its line or on the lines just above; [published] names its page."""
    for path in sorted((preset_root() / folder).glob("*.toml")):
        is_explained, in_published = False, False
        for line in path.read_text().splitlines():
            if line.startswith("["):
                in_published = line.startswith("[published]")
            has_value = re.match(r"[A-Za-z_.0-9]+ = ", line) and "sources" not in line
            if has_value and not line.startswith(("name =", "chip =", "seed =")):
                is_fine = is_explained or "#" in line or in_published
                assert is_fine, f"{path.name}: {line}"
            is_explained = line.startswith("#")


def test_no_preset_refers_to_private_files():
    for path in preset_root().rglob("*.toml"):
        assert not re.search(r"\.\./|/work/|/tmp/|session|helper", path.read_text()), path.name
