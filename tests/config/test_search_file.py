"""Config files: every error is one line with its place; values are read in base units."""

import json
from pathlib import Path

import jax
import pytest

from hwdse.config import ConfigError, load_chip, load_search, load_system, load_workload, to_toml
from hwdse.config.files.errors import did_you_mean
from hwdse.config.files.toml_files import preset_root
from hwdse.config.schema.metric_fields import SCALARS, metric_field
from hwdse.config.search.metric_names import objective_columns
from hwdse.objectives import CONSTRAINTS, OBJECTIVES
from hwdse.search.space.pytree_path import get_path, set_path
from hwdse.training.strategy_enumeration import ZERO, ZERO_FIELDS
from hwdse.workload.gemms import LayerList

CHIP = (preset_root() / "chips/trainium2.toml").read_text()
SYSTEM = (preset_root() / "systems/trn2_ultraserver.toml").read_text()
WORKLOAD = (preset_root() / "models/llama3_70b.toml").read_text()
SEARCH = (preset_root() / "searches/trn2_llama3_70b.toml").read_text()
HBM = 'bandwidth = "2.9 TB/s"'


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def message(load, text: str | bytes, *args) -> str:
    """Error lines of a broken file `x.toml`, one per mistake."""
    Path("x.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load("x.toml", *args)
    line = str(caught.value)
    assert all(each.isprintable() for each in line.splitlines())
    assert line.startswith(("x.toml", "--set"))
    assert all(len(each) < 900 for each in line.splitlines())
    return line


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("rows = 128", "rows = -4", "x.toml [array] rows = -4: expected a whole number above 0"),
        ("rows = 128", "rows = 0.5", "x.toml [array] rows = 0.5: expected a whole number above 0"),
        ("rows = 128", "rows = true", "x.toml [array] rows = true: expected a whole number above"),
        ("rows = 128", 'rows = "128 B"', 'x.toml [array] rows = "128 B": expected a whole number'),
        (
            "rows = 128",
            "rowz = 128",
            "x.toml [array] rowz = 128: expected one of the keys rows, cols, num_arrays, clock, "
            "dataflow, fold_overhead_cycles; did you mean 'rows'?",
        ),
        ("rows = 128", "#", "x.toml [array] rows is missing: expected a whole number above 0"),
        (
            HBM,
            'bandwidth = "4 TBs"',
            'x.toml [hbm] bandwidth = "4 TBs": expected a finite number with a unit such as '
            '"2.9 TB/s" (\'TBs\' is no unit; did you mean "TB/s"?)',
        ),
        (
            HBM,
            'bandwidth = "2.9 TB"',
            'x.toml [hbm] bandwidth = "2.9 TB": expected a finite number with a unit such as '
            '"2.9 TB/s" ("TB" is another dimension; did you mean "TB/s"?)',
        ),
        (HBM, "bandwidth = nan", "x.toml [hbm] bandwidth = nan: expected a number with a unit"),
        (HBM, "bandwidth = 1e400", "x.toml [hbm] bandwidth = inf: expected a number with a unit"),
        (HBM, 'bandwidth = ""', 'x.toml [hbm] bandwidth = "": expected a finite number with'),
        (HBM, 'bandwidth = "0 TB/s"', 'x.toml [hbm] bandwidth = "0 TB/s": expected a number with'),
        (
            HBM,
            f"{HBM}\nbandwidth_bytes_per_s = 3e12",
            "x.toml [hbm] bandwidth_bytes_per_s = 3000000000000: expected the key once; it is "
            "also given as bandwidth",
        ),
        ("rows = 128", f"rows = {'9' * 5000}", "x.toml: expected valid TOML (a number is too long"),
        ("rows = 128", f"rows = {'9' * 400}", "x.toml [array] rows = 99999"),
        (
            '"weight_stationary_overlapped"',
            '"weight_stationry"',
            'x.toml [array] dataflow = "weight_stationry": expected one of ',
        ),
        (
            'preset = "n5"',
            'preset = "n6"',
            'x.toml [process] preset = "n6": expected a path ending in .toml or a preset of '
            "processes: n14, n3, n40, n5, n7",
        ),
        (
            'preset = "n5"',
            'preset = "n5"\nmac_aera = 1',
            "x.toml [process] mac_aera = 1: expected one of the keys mac_area, ",
        ),
        (
            'preset = "n5"',
            'preset = "n5"\nthreshold_voltage = "800 mV"',
            "x.toml [process] threshold_voltage = 0.8: expected a voltage below the nominal one",
        ),
        ("num_dies = 2", "num_dies = 3", "x.toml num_dies = 3: expected a divisor of num_arrays"),
        ("[process]", "[proces]", "x.toml proces = {'preset': 'n5'}: expected one of the keys "),
        ("rows = 128", "rows = = 1", "x.toml: expected valid TOML (Invalid value (at line "),
        ("rows = 128", "rows = 1\nrows = 2", "x.toml: expected valid TOML (Cannot overwrite"),
        ("[sram]", "[hbm]", "x.toml: expected valid TOML (Cannot declare"),
        ('tdp = "500 W"', 'tpd = "500 W"', 'x.toml [published] tpd = "500 W": expected one of'),
        ("sources = [", "sources = [3, ", "x.toml sources = [3, 'AWS"),
    ],
)
def test_broken_chip(old, new, line):
    assert message(load_chip, changed(CHIP, old, new)).startswith(line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = " + "[" * 5000 + "]" * 5000, "x.toml: expected valid TOML (nested too deeply)"),
        (b'name = "\xff\xfe"', "x.toml line 1: expected UTF-8 text"),
        ('name = "x"'.encode("utf-16"), "x.toml line 1: expected UTF-8 text"),
        ('name = "a\0"', "x.toml: expected valid TOML (Illegal character"),
        ("", "x.toml name is missing: expected a text"),
        ("array = 3\n" + CHIP.replace("[array]", "[sram.x]"), "x.toml [sram] x = {"),
        (CHIP.replace("[array]", "[array.x]"), "x.toml [array] x = {'rows': 128"),
    ],
)
def test_broken_file(text, line):
    assert message(load_chip, text).startswith(line)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "[4, 4, 4]",
            "[4, 4, 5]",
            "x.toml [cluster] num_chips = 64: expected a multiple of 80, the product of",
        ),
        (
            "[4, 4, 4]",
            "[4, 4, 0]",
            "x.toml [cluster] torus_sizes = [4, 4, 0]: expected a list, each item a whole number",
        ),
        ("[4, 4, 4]", "[]", "x.toml [cluster] torus_sizes = []: expected a list that is not empty"),
        ("[4, 4, 4]", '"4x4"', 'x.toml [cluster] torus_sizes = "4x4": expected a list'),
        (
            "[0.4, 0.4, 0.2]",
            "[0.4, 0.4, 0.4]",
            "x.toml [cluster] torus_bandwidth_fractions = [0.4, 0.4, 0.4]: expected numbers with",
        ),
        (
            "[0.4, 0.4, 0.2]",
            "[0.5, 0.5]",
            "x.toml [cluster] torus_bandwidth_fractions = [0.5, 0.5]: expected 3 numbers",
        ),
        ('"torus"', '"tours"', 'x.toml [cluster] topology = "tours": expected one of ring, torus'),
        ('"torus"', '"switch"', "x.toml [cluster] torus_sizes = [4, 4, 4]: expected one number"),
        ("pue_ratio = 1.1", "pue_ratio = 0.5", "x.toml [cluster] pue_ratio = 0.5: expected a"),
        (
            "pue_ratio = 1.1",
            "power_overhead_ratio = 2.0",
            "x.toml [cluster] power_overhead_ratio = 2: expected host_power, the constant watts",
        ),
        ('"trainium2"', '"trainum2"', 'x.toml chip = "trainum2": expected a path ending in .toml'),
        (
            "[published]",
            '[overrides]\nchip.hbm.bandwith = "3 TB/s"\n[published]',
            'x.toml [overrides] chip.hbm.bandwith = "3 TB/s": expected a path of the design '
            "(here capacity, bandwidth, energy); did you mean 'chip.hbm.bandwidth'?",
        ),
    ],
)
def test_broken_system(old, new, line):
    assert message(load_system, changed(SYSTEM, old, new)).startswith(line)


def test_broken_workload():
    text = changed(WORKLOAD, "num_kv_heads = 8", "num_kv_heads = 7")
    line = "x.toml [model] num_kv_heads = 7: expected a divisor of num_heads, 64"
    assert message(load_workload, text) == line
    text = changed(WORKLOAD, "seq_len = 8192", "attention_fraction = 1.5\nseq_len = 8192")
    line = "x.toml [pretraining] attention_fraction = 1.5: expected a number from 0 to 1"
    assert message(load_workload, text) == line


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            '"trn2_ultraserver"',
            '"trn2_ultrasever"',
            'x.toml [design] system = "trn2_ultrasever": expected a path ending in',
        ),
        (
            '"llama3_70b"',
            '"no/such.toml"',
            'x.toml [design] model = "no/such.toml": expected an existing file',
        ),
        (
            '"energy_delay"',
            '"energy_dealy"',
            'x.toml [objective] minimize = "energy_dealy": expected one of time_per_token',
        ),
        (
            'front = ["time_per_token", "energy_per_token"]',
            'front = ["time_per_token"]',
            "x.toml [objective] front = ['time_per_token']: expected two or more distinct",
        ),
        ("die_area =", "die_aera =", 'x.toml [limits] die_aera = "'),
        ('"290 W"', '"500 mm^2"', 'x.toml [limits] chip_power = "500 mm^2": expected a finite'),
        ("ratio = 1 ", "ratio = 0 ", "x.toml [limits] hbm_used_ratio = 0: expected a number above"),
        (
            "tensor = 16",
            "tensor = 48",
            "x.toml [design.parallelism] tensor = 48: expected a divisor of 64, the heads",
        ),
        (
            "pipeline = 4",
            "pipeline = 3",
            "x.toml [design.parallelism] tensor = 16: expected tensor * pipeline = 48 to divide",
        ),
        ("pipeline = 4", "pipeline = 128", "x.toml [design.parallelism] pipeline = 128: expected"),
        (
            "micro_batch = 1",
            "micro_batch = 3",
            "x.toml [design.parallelism] micro_batch = 3: expected data parallel x micro_batch",
        ),
        ("fp8_flop_fraction = 0", "fp8_flop_fraction = 2", "x.toml [design.mix] fp8_flop_fractio"),
        ('"60 min"', '"60 mins"', 'x.toml [design] checkpoint_interval = "60 mins": expected'),
        ("num_systems = 16", "num_systems = 0", "x.toml [design] num_systems = 0: expected a whol"),
        (
            '"chip.array.rows"',
            '"chip.array.row"',
            'x.toml [variables 1] path = "chip.array.row": expected a path of the design (here '
            "rows, cols, num_arrays, clock, dataflow, fold_overhead_cycles); did you mean "
            "'chip.array.rows'?",
        ),
        (
            '"chip.hbm.bandwidth"',
            '"hbm.bandwidth"',
            'x.toml [variables 4] path = "hbm.bandwidth": expected a path of the design (here chip,'
            " cluster, mix, parallelism, checkpoint_interval, checkpointing, software, workload);"
            " did you mean 'chip.hbm.bandwidth'?",
        ),
        ('"chip.hbm.bandwidth"', '"chip.hbm"', 'x.toml [variables 4] path = "chip.hbm": expected'),
        (
            '"chip.array.rows"',
            '"chip.array.dataflow"',
            'x.toml [variables 1] path = "chip.array.dataflow": expected a path that ends',
        ),
        (
            '"chip.array.rows"',
            '"workload.seq_len"',
            'x.toml [variables 1] path = "workload.seq_len": expected a path of the design; a work',
        ),
        (
            "low = 32\nhigh = 512",
            "low = 512\nhigh = 32",
            "x.toml [variables 1] low = 512: expected a value below high = 32",
        ),
        (
            "low = 1e-4\nhigh = 0.1",
            "low = 0\nhigh = 0.1",
            "x.toml [variables 6] low = 0: expected a value above 0, or scale",
        ),
        ('scale = "log"', 'scale = "lin"', 'x.toml [variables 1] scale = "lin": expected one of'),
        ("step = 32", "step = 0.5", "x.toml [variables 1] step = 0.5: expected a whole number"),
        ("step = 32", "step = 600", "x.toml [variables 1] step = 600: expected a step with a"),
        ("step = 32", "steps = 32", "x.toml [variables 1] steps = 32: expected one of the keys"),
        (
            '"chip.array.cols"',
            '"chip.array.rows"',
            'x.toml [variables 2] path = "chip.array.rows": expected each path once; it is '
            "also in [variables 1]",
        ),
        (
            '"input_stationary_overlapped"',
            '"input_stationary_overlaped"',
            'x.toml [variants 1] values = "input_stationary_overlaped": expected one of ',
        ),
        (
            'path = "chip.array.dataflow"',
            'path = "chip.num_dies"',
            'x.toml [variants 1] path = "chip.num_dies": expected a path that ends in a name',
        ),
        (
            'path = "parallelism"',
            'path = "mix"',
            'x.toml [choices 1] values = "best": expected a l',
        ),
        (
            'values = "best"',
            'micro_batch = [0.5]\nvalues = "best"',
            "x.toml [choices 1] micro_batch = [0.5]: expected a list of numbers",
        ),
        ("seed = 0", "seed = -1", "x.toml seed = -1: expected a whole number from 0 to 4294967295"),
    ],
)
def test_broken_search(old, new, line):
    assert message(load_search, changed(SEARCH, old, new)).startswith(line)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            'chip.hbm.bandwith="4 TB/s"',
            '--set chip.hbm.bandwith = "4 TB/s": expected a path of the design (here capacity, '
            "bandwidth, energy); did you mean 'chip.hbm.bandwidth'?",
        ),
        ("chip.hbm.bandwidth=4 TBs", '--set chip.hbm.bandwidth = "4 TBs": expected a finite numb'),
        ("chip.hbm.bandwidth", "--set chip.hbm.bandwidth: expected PATH=VALUE such as"),
        ("chip.hbm=3", "--set chip.hbm = 3: expected a path that ends in a number"),
        ("chip.array.dataflow=os", '--set chip.array.dataflow = "os": expected one of '),
        ("workload.seq_len=0", "--set workload.seq_len = 0: expected a whole number above 0"),
        ("cluster.torus_sizes.7=4", "--set cluster.torus_sizes.7 = 4: expected a path of the desi"),
        ("design.sistem=x", 'x.toml with --set [design] sistem = "x": expected one of the keys'),
        ("parallelism.tensor=7", "x.toml with --set [design.parallelism] tensor = 7: expected a d"),
    ],
)
def test_broken_override(override, line):
    assert message(load_search, SEARCH, [override]).startswith(line)


@pytest.mark.parametrize("load", [load_chip, load_system, load_workload, load_search])
@pytest.mark.parametrize(
    "name", ["nope", "", ".", "/", "a/b.toml", "x\ny", "\0", "x" * 5000, "x" * 5000 + ".toml"]
)
def test_no_such_file(load, name):
    with pytest.raises(ConfigError) as caught:
        load(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 320


def test_near_names_are_suggested():
    with pytest.raises(ConfigError, match="did you mean 'trainium2'"):
        load_chip("trainum2")
    Path("mychip.toml").write_text(CHIP)
    with pytest.raises(ConfigError, match=r"did you mean 'mychip\.toml'"):
        load_chip("./mychp.toml")


def test_both_spellings_of_a_quantity_are_the_same():
    Path("x.toml").write_text(changed(CHIP, HBM, "bandwidth_bytes_per_s = 2.9e12"))
    assert load_chip("x.toml") == load_chip("trainium2")
    Path("x.toml").write_text(changed(CHIP, HBM, 'bandwidth = "2900 GB/s"'))
    assert load_chip("x.toml") == load_chip("trainium2")


def test_preset_names_may_be_spelled_as_by_the_vendor():
    one, other = load_system("trn2.48xlarge"), load_system("trn2_48xlarge")
    assert (one.chip, one.cluster) == (other.chip, other.cluster)


def test_paths_in_files_are_relative_to_the_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/chip.toml").write_text(CHIP)
    (tmp_path / "a/system.toml").write_text(changed(SYSTEM, '"trainium2"', '"chip.toml"'))
    (tmp_path / "s.toml").write_text(changed(SEARCH, '"trn2_ultraserver"', '"a/system.toml"'))
    assert load_search("s.toml").base == load_search("trn2_llama3_70b").base


def test_process_values_override_their_preset():
    text = changed(CHIP, 'preset = "n5"', 'preset = "n5"\nleakage = "0.2 W/mm^2"')
    Path("x.toml").write_text(text)
    process = load_chip("trainium2").process
    assert load_chip("x.toml").process == process.replace(leakage_w_per_mm2=0.2)


def test_a_csv_is_a_layer_list():
    Path("net.csv").write_text("Layer, M, N, K,\nfirst, 4, 8, 16,\n")
    layers = load_workload("net.csv")
    assert isinstance(layers, LayerList)
    Path("bad.csv").write_text("Layer, M, N, K,\nfirst, 4, 8,\n")
    with pytest.raises(ConfigError) as caught:
        load_workload("bad.csv")
    assert str(caught.value).isprintable()


def test_layer_lists_need_no_strategy():
    Path("net.csv").write_text("Layer, M, N, K,\nfirst, 4, 8, 16,\n")
    text = changed(SEARCH, 'model = "llama3_70b"', 'layers = "net.csv"')
    Path("x.toml").write_text(text.split("[[choices]]")[0])
    assert isinstance(load_search("x.toml").workload, LayerList)
    line = message(load_search, text)
    assert line == (
        'x.toml [choices 1] values = "best": expected a training workload; a layer list has no '
        "parallelism strategies"
    )


def test_overrides_change_every_part():
    search = load_search(
        "trn2_llama3_70b",
        [
            'chip.hbm.bandwidth="4 TB/s"',
            "chip.link.bandwidth=1 TB/s",
            "design.parallelism.tensor=32",
            "cluster.torus_bandwidth_fractions.0=0.4",
            "workload.seq_len=4096",
            "limits.die_area=700 mm^2",
            "design.num_systems=4",
            "chip.array.dataflow=output_stationary_overlapped",
            "objective.minimize=cost_per_token",
        ],
    )
    assert search.base.chip.hbm.bandwidth_bytes_per_s == 4e12
    assert search.base.chip.link.bandwidth_bytes_per_s == 1e12
    assert search.base.parallelism.tensor == 32.0
    assert search.workload.seq_len == 4096.0
    assert search.limits["die_area"] == 700.0
    assert search.base.cluster.num_chips == 256.0
    assert search.base.chip.array.dataflow == "output_stationary_overlapped"
    assert search.objective == "cost_per_token"


def test_search_space_of_the_reference_search():
    search = load_search("trn2_llama3_70b")
    assert [dim.path for dim in search.space.dimensions] == [
        "chip.array.rows",
        "chip.array.cols",
        "chip.sram.capacity_bytes",
        "chip.hbm.bandwidth_bytes_per_s",
        "chip.link.bandwidth_bytes_per_s",
        "chip.fp64_per_fp16_ratio",
        "chip.array.clock_hz",
        "checkpoint_interval_s",
    ]
    assert search.space.dimensions[3].step == 1e11
    assert search.base.cluster.num_chips == 1024.0
    assert search.labels["workload"] == "Llama 3 70B pre-training"
    assert len(search.space.variant_bases(search.base)) == 3
    assert json.loads(json.dumps(search.resolved)) == search.resolved
    assert search.resolved["design"]["chip"]["hbm"]["bandwidth_bytes_per_s"] == 2.9e12
    kinds = [source["kind"] for source in search.resolved["sources"]]
    assert kinds == ["search", "system", "chip", "class", "process", "model", "task", "software"]


def test_every_strategy_of_the_reference_search_uses_all_chips():
    search = load_search("trn2_llama3_70b")
    (choice,) = search.space.choices
    assert len(set(choice.labels)) == len(choice.labels) == len(set(choice.table))
    fields = [path.removeprefix("parallelism.") for path in choice.paths]
    rows = [dict(zip(fields, row, strict=True)) for row in choice.table]
    for row in rows:
        data = 1024 / (row["tensor"] * row["pipeline"] * row["context"])
        assert data.is_integer()
        assert (1024 / (data * row["micro_batch"])).is_integer()
        assert 64 % row["tensor"] == 0
        assert row["recompute_fraction"] in (0.0, 1.0)
    own = search.base.parallelism  # the strategy of the base design is one of them
    assert {name: getattr(own, name) for name in fields} in rows


def test_listed_strategies_and_values():
    text = SEARCH.split("[[choices]]")[0] + (
        '[[choices]]\npath = "parallelism"\n'
        "values = [{ tensor = 8, pipeline = 4 }, { tensor = 64 }]\n"
        '[[choices]]\npath = "chip.num_dies"\nvalues = [1, 2, 4]\nlabels = ["a", "b", "c"]\n'
    )
    Path("x.toml").write_text(text)
    strategies, dies = load_search("x.toml").space.choices
    assert strategies.paths == ("parallelism.tensor", "parallelism.pipeline")
    assert strategies.table == ((8.0, 4.0), (64.0, 4.0))
    assert strategies.labels == ("tensor 8, pipeline 4", "tensor 64, pipeline 4")
    assert dies.table == ((1.0,), (2.0,), (4.0,))
    broken = changed(text, "tensor = 64 }", "tensor = 64, pipeline = 3 }")
    assert message(load_search, broken).startswith(
        'x.toml [choices 1] values = "tensor 64, pipeline 3": expected a possible row; [design.para'
    )
    broken = changed(text, "tensor = 64 }", "tensr = 64 }")
    assert "did you mean 'parallelism.tensor'?" in message(load_search, broken)


def test_written_designs_read_back_exactly():
    search = load_search("trn2_llama3_70b", ["workload.global_batch=2048"])
    design = search.base
    changes = {
        "chip.array.rows": 96.0,
        "chip.hbm.bandwidth_bytes_per_s": 1e12 / 3,
        "chip.fp64_per_fp16_ratio": 0.1 + 0.2,
        "cluster.torus_sizes.2": 8.0,
        "parallelism.tensor": 32.0,
        "checkpoint_interval_s": 1234.5678901234567,
        "chip.array.dataflow": "input_stationary_overlapped",
    }
    for path, value in changes.items():
        design = set_path(design, path, value)
    text = to_toml(search, design)
    Path("best.toml").write_text(text)
    again = load_search("best.toml")
    assert again.base == design
    assert again.workload == search.workload
    assert again.space.dimensions == search.space.dimensions
    assert again.space.variants == search.space.variants
    (choice,) = again.space.choices  # the best strategies on that design, its own among them
    own = tuple(get_path(design, path) for path in choice.paths)
    assert own in choice.table
    assert again.limits == search.limits
    assert to_toml(again, again.base) == text
    for override in ("parallelism.tensor=8", "design.parallelism.tensor=8"):
        assert load_search("best.toml", [override]).base.parallelism.tensor == 8.0


def test_a_design_of_arrays_can_be_written():
    search = load_search("trn2_llama3_70b")
    with jax.enable_x64(True):
        design = jax.tree.map(jax.numpy.asarray, search.base)
        Path("best.toml").write_text(to_toml(search, design))
    assert load_search("best.toml").base == search.base


def test_a_written_design_contains_absolute_paths(tmp_path, monkeypatch):
    Path("net.csv").write_text("Layer, M, N, K,\nfirst, 4, 8, 16,\n")
    text = changed(SEARCH, 'model = "llama3_70b"', 'layers = "net.csv"').split("[[choices]]")[0]
    Path("x.toml").write_text(text)
    search = load_search("x.toml")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/best.toml").write_text(to_toml(search, search.base))
    monkeypatch.chdir("/")
    assert load_search(tmp_path / "run/best.toml").base == search.base


ZERO_SEARCH = SEARCH.replace("tensor = 16 ", "zero = {} \ntensor = 16 ")


def shards(search):
    parallelism = search.base.parallelism
    return tuple(float(getattr(parallelism, name)) for name in ZERO_FIELDS)


@pytest.mark.parametrize("stage", sorted(ZERO))
def test_zero_sets_the_three_shard_fractions(stage):
    Path("x.toml").write_text(ZERO_SEARCH.format(stage))
    search = load_search("x.toml")
    assert shards(search) == ZERO[stage]
    assert (
        shards(load_search("trn2_llama3_70b", [f"design.parallelism.zero={stage}"]))
        == (ZERO[stage])
    )
    assert shards(load_search("trn2_llama3_70b", [f"parallelism.zero={stage}"])) == ZERO[stage]
    Path("over.toml").write_text(f"{SEARCH}\n[overrides]\nparallelism.zero = {stage}\n")
    assert shards(load_search("over.toml")) == ZERO[stage]
    Path("best.toml").write_text(to_toml(search, search.base))
    assert load_search("best.toml").base == search.base
    other = search.base.replace(
        parallelism=search.base.parallelism.replace(
            optimizer_shard_fraction=1.0, gradient_shard_fraction=0.5
        )
    )
    Path("best.toml").write_text(to_toml(search, other))
    assert load_search("best.toml").base == other


def test_zero_in_rows_of_choices():
    text = SEARCH.split("[[choices]]")[0] + (
        '[[choices]]\npath = "parallelism"\n'
        "values = [{ tensor = 8, zero = 1 }, { tensor = 8, zero = 3 }]\n"
    )
    Path("x.toml").write_text(text)
    (choice,) = load_search("x.toml").space.choices
    assert choice.paths == ("parallelism.tensor", *(f"parallelism.{name}" for name in ZERO_FIELDS))
    assert choice.table == ((8.0, *ZERO[1]), (8.0, *ZERO[3]))
    broken = changed(text, "zero = 3", "zero = 3, weight_shard_fraction = 1")
    assert message(load_search, broken) == (
        "x.toml [choices 1] zero = 3: expected either zero or weight_shard_fraction, which zero "
        "sets; remove one"
    )


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        (4, "zero = 4: expected a ZeRO stage: 0, 1, 2 or 3"),
        ("true", "zero = true: expected a ZeRO stage: 0, 1, 2 or 3"),
        ('"full"', 'zero = "full": expected a ZeRO stage: 0, 1, 2 or 3'),
        (
            "2\ngradient_shard_fraction = 1",
            "zero = 2: expected either zero or gradient_shard_fraction, which zero sets; "
            "remove one",
        ),
    ],
)
def test_broken_zero(stage, line):
    text = message(load_search, ZERO_SEARCH.format(stage))
    assert text == f"x.toml [design.parallelism] {line}"


def test_any_title_reads_back():
    search = load_search("trn2_llama3_70b", ['title = "a \\"b\\" \\\\ ü \\u007f \\n"'])
    Path("best.toml").write_text(to_toml(search, search.base))
    assert load_search("best.toml").title == search.title == 'a "b" \\ ü \x7f \n'


def test_objectives_and_limits_have_one_name_with_unit():
    names = {name: metric_field(name) for name in (*OBJECTIVES, *CONSTRAINTS)}
    assert names["cost_per_token"] == "cost_per_token_usd"
    assert set(names.values()) - set(SCALARS) == {"energy_delay_j_s", "memory_used_ratio"}
    assert objective_columns(tuple(OBJECTIVES), is_robust=False) == tuple(
        names[name] for name in OBJECTIVES
    )


MIXTURE = (preset_root() / "models/deepseek_v3.toml").read_text()


def test_keys_of_other_models_may_be_left_out():
    dense, mixture = load_workload("llama3_70b").model, load_workload("deepseek_v3").model
    assert (dense.num_experts, dense.kv_lora_rank, dense.load_imbalance_ratio) == (0.0, 0.0, 1.0)
    assert (mixture.num_experts, mixture.kv_lora_rank, mixture.num_layer_norms) == (256, 512, 2)
    path = Path("uneven.toml")
    path.write_text(changed(MIXTURE, "num_router_bias = 1", "load_imbalance_ratio = 1.3"))
    assert load_workload(path).model == mixture.replace(
        num_router_bias=0.0, load_imbalance_ratio=1.3
    )


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "num_router_bias = 1",
            "load_imbalance_ratio = 0.9",
            "load_imbalance_ratio = 0.9: expected a number of at least 1",
        ),
        (
            "experts_per_token = 8",
            "experts_per_token = 300",
            "experts_per_token = 300: expected a whole number from 1 to num_experts, 256",
        ),
        ("num_experts = 256", "", "experts_per_token = 8: expected 0 or left out without num_exp"),
        ("expert_feedforward = 2048", "", "expert_feedforward = 0: expected above 0 with num_exp"),
        (
            "num_dense_layers = 3",
            "num_dense_layers = 61",
            "num_dense_layers = 61: expected fewer than num_layers, 61",
        ),
        ("v_head_dim = 128", "", "v_head_dim = 0: expected above 0 with kv_lora_rank"),
        ("kv_lora_rank = 512", "", "qk_nope_head_dim = 128: expected above 0 with kv_lora_rank"),
        ("num_experts = 256", "num_expert = 256", "num_expert = 256: expected one of the keys"),
    ],
)
def test_broken_mixture(old, new, line):
    text = message(load_workload, changed(MIXTURE, old, new))
    assert text.startswith(f"x.toml [model] {line}")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("launch", "collective_launch"),
        ("latencyy", "latency"),
        ("fraction", "eager_fraction"),
        ("nothing_like_it", None),
    ],
)
def test_a_hint_prefers_the_name_that_contains_the_word(word, hint):
    names = ["latency", "collective_launch", "eager_fraction", "rendezvous"]
    assert did_you_mean(word, names) == (f"; did you mean '{hint}'?" if hint else "")


def test_two_names_that_contain_the_word_are_compared_by_spelling():
    assert (
        did_you_mean("fraction", ["eager_fraction", "fraction_s"]) == "; did you mean 'fraction_s'?"
    )


def test_a_hint_for_a_path_keeps_its_head():
    paths = ["chip.link.latency", "chip.link.collective_launch", "chip.launch_latency"]
    hint = did_you_mean("chip.link.launch", paths)
    assert hint == "; did you mean 'chip.link.collective_launch'?"
