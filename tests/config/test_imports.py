"""Files of Calculon, ASTRA-sim and SCALE-Sim as files of hwdse."""

import csv
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from hwdse.cli.files.commented_toml import commented_toml
from hwdse.config import ConfigError, load_accelerator, load_search, load_system
from hwdse.config.importers.astrasim_network import import_astrasim, parse_flat_yaml
from hwdse.config.importers.calculon_files import import_calculon
from hwdse.config.importers.scalesim_config import import_scalesim
from hwdse.evaluation import evaluate
from hwdse.models.compute.systolic import DATAFLOWS
from hwdse.models.network.hierarchical_collectives import collective_time_s
from hwdse.numerics.relaxation import EXACT

DATA = Path(__file__).parents[1] / "data"

# calculon-ai/calculon (Apache-2.0), systems/a100_80g.json, models/gpt3-175B.json and
# validation/seqsel/tab5/gpt3-175B_seqsel.json: facts
STEPS = {"matrix": [[128, 0.95], [16, 0.9], [1, 0.6], [0, 0.1]], "vector": [[16, 0.95], [0, 0.1]]}
OPS = {"p2p": [1.0, None], "reduce_scatter": [1.0, -1], "all_gather": [1.0, -1]}
NETWORK = {
    "bandwidth": 300, "efficiency": 0.65, "size": 8, "latency": 0.00001,
    "ops": {**OPS, "all_reduce": [2.0, -1]}, "must_be_filled": True, "processor_usage": 0.15,
}  # fmt: skip
SYSTEM = {
    "matrix": {"float16": {"tflops": 312, "gflops_efficiency": STEPS["matrix"]}},
    "vector": {"float16": {"tflops": 78, "gflops_efficiency": STEPS["vector"]}},
    "mem1": {"GiB": 80, "GBps": 2048, "MB_efficiency": [[100, 0.9], [0, 0.3]]},
    "mem2": {"GiB": 512, "GBps": 32, "MB_efficiency": [[100, 0.95], [0, 0.3]]},
    "processing_mode": "no_overlap",
    "networks": [NETWORK, {**NETWORK, "bandwidth": 25, "efficiency": 0.9, "size": 65536}],
}
APPLICATION = {
    "hidden": 12288, "feedforward": 49152, "seq_size": 2048, "attn_heads": 96,
    "attn_size": 128, "num_blocks": 96,
}  # fmt: skip
EXECUTION = {
    "num_procs": 64, "tensor_par": 8, "pipeline_par": 8, "data_par": 1, "tensor_par_net": 0,
    "pipeline_par_net": 1, "data_par_net": 1, "batch_size": 64, "microbatch_size": 1,
    "datatype": "float16", "fused_activation": False, "attention_type": "multihead",
    "activation_recompute": "attn_only", "pipeline_interleaving": 3, "optimizer_sharding": False,
    "tensor_par_comm_type": "rs_ag", "tensor_par_overlap": "none", "seq_par_ag_redo": True,
    "data_par_overlap": False, "weight_offload": False, "activations_offload": False,
    "optimizer_offload": False, "training": True,
}  # fmt: skip

CALCULON_S = 13.6380643
"""Time of this job in Calculon, which adds compute and memory times (row pub0001 of
calculon_public.csv)."""

# astra-sim/astra-sim (MIT), inputs/network/hgx_h100_16gpu.yml: facts
HGX = """# Analytical Network Input File
topology: [ Switch, Ring ]  # Ring, Switch, FullyConnected
npus_count: [ 8, 2 ]
#bandwidth: [820 ]
bandwidth: [400, 50 ]  # GB/s
latency: [ 936.25, 1000 ]  # ns
"""
ONE_DIMENSION = "topology: [{}]\nnpus_count: [8]\nbandwidth: [50.0]\nlatency: [500.0]\n"

# scalesim-project/SCALE-Sim (MIT), configs/scale.cfg: facts
CONFIG = """[general]
run_name = scale_example

[architecture_presets]
ArrayHeight:    32
ArrayWidth:     32
IfmapSramSzkB:   64
FilterSramSzkB:  64
OfmapSramSzkB:   64
IfmapOffset:    0
FilterOffset:   10000000
Bandwidth : 10
Dataflow : {}
MemoryBanks:   1

[run_presets]
InterfaceBandwidth: {}
"""


def written(folder, files):
    """Path of the main file after all files are written."""
    for file in files:
        (folder / f"{file.name}.toml").write_text(commented_toml(file), encoding="utf-8")
    return folder / f"{files[0].name}.toml"


def calculon(folder, **changes):
    """Imported files of a Calculon job with changed values, by the kind of the source."""
    sources = {"system": SYSTEM, "application": APPLICATION, "execution": EXECUTION}
    paths = []
    for kind, table in sources.items():
        if kind in changes and changes[kind] is None:
            continue
        paths.append(folder / f"{kind}.json")
        paths[-1].write_text(json.dumps({**table, **changes.get(kind, {})}))
    return import_calculon(paths, "job")


def lines_of(files):
    return [line for file in files for line in file.not_expressed]


class TestCalculon:
    def test_job_has_the_values_of_its_files(self, tmp_path):
        job = load_search(written(tmp_path, calculon(tmp_path)))
        chip, strategy = job.base.chip, job.base.parallelism
        array = chip.array
        peak = 2.0 * array.rows * array.cols * array.num_arrays * array.clock_hz
        assert peak == pytest.approx(312e12)
        assert chip.nominal_clock_hz == array.clock_hz
        assert (chip.hbm.capacity_bytes, chip.hbm.bandwidth_bytes_per_s) == (80 * 2**30, 2048e9)
        assert (chip.matrix_efficiency_fraction, chip.hbm_efficiency_fraction) == (0.95, 0.9)
        assert chip.link.bandwidth_bytes_per_s == 300e9
        assert chip.link.collective_launch_s == pytest.approx(1e-5)
        assert chip.network.bandwidth_bytes_per_s == 25e9
        assert job.base.cluster.num_chips == 64
        assert (strategy.tensor, strategy.pipeline, strategy.virtual_pipeline) == (8, 8, 3)
        assert strategy.attention_recompute_fraction == 1.0
        assert strategy.sequence_parallel_fraction == 1.0
        model = job.workload.model
        assert (model.num_layers, model.hidden, model.head_dim) == (96, 12288, 128)
        assert (job.workload.seq_len, job.workload.global_batch) == (2048, 64)

    def test_job_is_evaluated_within_its_bounds(self, tmp_path):
        job = load_search(written(tmp_path, calculon(tmp_path)))
        with jax.enable_x64(True):
            found = evaluate(job.base, job.workload)
        # 8 x layers x tokens x (matrices and all scores), over the peak of 64 chips at 95 %
        per_token = 96 * (6 * (4 * 12288**2 + 2 * 12288 * 49152) + 12 * 2048 * 12288)
        bound_s = per_token * 64 * 2048 / (64 * 312e12 * 0.95)
        assert bound_s < float(found.step_time_s) < CALCULON_S

    def test_overrides_of_the_base_do_not_hide_the_chip(self, tmp_path):
        path = tmp_path / "a.json"
        path.write_text(json.dumps(SYSTEM))
        system = load_system(written(tmp_path, import_calculon([path], "job", "dgx_h100")))
        assert system.chip.network.bandwidth_bytes_per_s == 25e9

    @pytest.mark.parametrize(
        ("execution", "key", "expected"),
        [
            ({"activation_recompute": "full"}, "recompute_fraction", 1.0),
            ({"tensor_par_comm_type": "ar", "seq_par_ag_redo": False},
             "sequence_parallel_fraction", 0.0),
            ({"tensor_par_overlap": "ring"}, "tensor_overlap_fraction", 1.0),
            ({"tensor_par_overlap": "pipe"}, "tensor_overlap_fraction", 7 / 8),
            ({"data_par_overlap": True}, "data_overlap_fraction", 1.0),
            ({"optimizer_sharding": True}, "optimizer_shard_fraction", 1.0),
        ],
    )  # fmt: skip
    def test_strategy_follows_the_execution(self, tmp_path, execution, key, expected):
        job = load_search(written(tmp_path, calculon(tmp_path, execution=execution)))
        assert getattr(job.base.parallelism, key) == expected

    @pytest.mark.parametrize("execution", [{"pipeline_interleaving": 5}, {"batch_size": 36}])
    def test_uneven_virtual_stages_are_left_out_and_named(self, tmp_path, execution):
        files = calculon(tmp_path, execution=execution)
        assert load_search(written(tmp_path, files)).base.parallelism.virtual_pipeline == 1.0
        assert [x for x in lines_of(files) if x.startswith("pipeline_interleaving = ")]

    def test_multiquery_attention_has_one_key_value_head(self, tmp_path):
        files = calculon(tmp_path, execution={"attention_type": "multiquery"})
        assert load_search(written(tmp_path, files)).workload.model.num_kv_heads == 1

    def test_in_network_reduction_is_a_reducing_switch(self, tmp_path):
        ops = {**OPS, "all_reduce": [1.0, 0]}
        files = calculon(tmp_path, system={"networks": [{**NETWORK, "ops": ops}]})
        assert load_search(written(tmp_path, files)).base.cluster.topology == "reducing_switch"

    def test_parts_without_a_counterpart_are_named(self, tmp_path):
        lines = lines_of(
            calculon(tmp_path, execution={"weight_offload": True, "datatype": "float32"})
        )
        starts = [line.partition(" = ")[0] for line in lines]
        assert {"mem2", "processing_mode", "weight_offload", "datatype", "seq_par_ag_redo",
                "networks[0].processor_usage", "mem1.MB_efficiency"} <= set(starts)  # fmt: skip

    def test_switch_operations_are_not_named(self, tmp_path):
        assert not [line for line in lines_of(calculon(tmp_path)) if ".ops." in line]
        odd = {**NETWORK, "ops": {**NETWORK["ops"], "all_gather": [1.5, -1]}}
        lines = lines_of(calculon(tmp_path, system={"networks": [odd]}))
        assert [line for line in lines if line.startswith("networks[0].ops.all_gather = [1.5, -1]")]

    def test_execution_alone_is_the_base_of_a_job(self, tmp_path):
        main = written(tmp_path, calculon(tmp_path, system=None, application=None))
        job = tmp_path / "mine.toml"
        job.write_text(f'base = "{main.name}"\n[design]\nsystem = "p4de_24xlarge"\n'
                       'num_systems = 8\nmodel = "gpt3_175b"\n')  # fmt: skip
        assert load_search(job).base.parallelism.virtual_pipeline == 3

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"execution": {"data_par": 2}}, "num_procs = 64: expected tensor_par x pipeline_par"),
            ({"execution": {"datatype": "int8"}}, 'datatype = "int8": expected one of float8'),
            ({"execution": {"activation_recompute": "atn_only"}}, "did you mean 'attn_only'"),
            ({"application": {"hidden": 0}}, "hidden = 0: expected a whole number of at least 1"),
            ({"system": {"processing_mode": "both"}}, "expected one of roofline, no_overlap"),
            ({"system": {"networks": []}}, "networks = []: expected a list that is not empty"),
            ({"system": {"networks": [{**NETWORK, "efficiency": 1.5}]}},
             "[networks[0]] efficiency = 1.5: expected a number above 0, at most 1"),
            ({"system": {"networks": [{**NETWORK, "ops": {**OPS, "all_reduce": [2]}}]}},
             "[networks[0].ops] all_reduce = [2]: expected a pair"),
            ({"system": {"matrix": {"float8": {}}}}, "[matrix] float16 is missing"),
            ({"system": {"networks": [{**NETWORK, "size": 24}]}}, "expected a multiple of 24"),
        ],
    )  # fmt: skip
    def test_wrong_values_are_one_line_with_the_key(self, tmp_path, changes, expected):
        with pytest.raises(ConfigError) as error:
            calculon(tmp_path, **changes)
        assert expected in str(error.value)
        assert "\n" not in str(error.value)

    def test_other_json_is_refused(self, tmp_path):
        path = tmp_path / "a.json"
        path.write_text(json.dumps({"hidden": 3}))
        with pytest.raises(ConfigError, match="expected a JSON file of Calculon"):
            import_calculon([path], "job")
        path.write_text(json.dumps(APPLICATION))
        with pytest.raises(ConfigError, match="expected one application file, found two"):
            import_calculon([path, path], "job")


def astrasim(folder, text, *others, base=None):
    path = folder / "network.yml"
    path.write_text(text)
    return import_astrasim([path, *others], "net", base)


def all_reduce_s(system, message_bytes):
    """All-reduce over the whole scale-up domain, in seconds."""
    cluster = system.cluster
    size = float(np.prod(cluster.torus_sizes))
    with jax.enable_x64(True):
        return float(
            collective_time_s("all_reduce", message_bytes, size, 1.0, system.chip, cluster)
        )


class TestAstraSim:
    def test_two_dimensions_are_a_domain_and_a_scale_out_network(self, tmp_path):
        files = astrasim(tmp_path, HGX)
        system = load_system(written(tmp_path, files))
        assert (system.cluster.num_chips, system.cluster.topology) == (8, "switch")
        assert system.chip.link.bandwidth_bytes_per_s == 400 * 2**30
        assert system.chip.link.latency_s == pytest.approx(2 * 936.25e-9)
        assert system.chip.network.bandwidth_bytes_per_s == 50 * 2**30
        assert [line for line in files[0].not_expressed if line.startswith('topology[1] = "Ring"')]
        assert ":2 " in files[0].usage

    def test_ring_all_reduce_is_that_of_astra_sim(self, tmp_path):
        system = load_system(written(tmp_path, astrasim(tmp_path, ONE_DIMENSION.format("Ring"))))
        # 14 messages of 1/8: 500 ns, then 128 KiB at 50 GiB/s
        expected_s = 14 * (500e-9 + 2**17 / (50 * 2**30))
        assert all_reduce_s(system, 2.0**20) == pytest.approx(expected_s)

    @pytest.mark.parametrize("size", [2, 8, 32])
    def test_ports_of_a_full_mesh_are_its_links_together(self, tmp_path, size):
        text = ONE_DIMENSION.format("FullyConnected").replace("[8]", f"[{size}]")
        system = load_system(written(tmp_path, astrasim(tmp_path, text)))
        assert system.cluster.topology == "fully_connected"
        assert system.chip.link.bandwidth_bytes_per_s == (size - 1) * 50 * 2**30
        assert system.chip.link.latency_s == pytest.approx(500e-9)

    def test_rings_are_a_torus_with_both_directions(self, tmp_path):
        text = "topology: [Ring, Ring]\nnpus_count: [4, 8]\nbandwidth: [30, 10]\nlatency: [10, 5]\n"
        cluster = (system := load_system(written(tmp_path, astrasim(tmp_path, text)))).cluster
        assert (cluster.topology, cluster.torus_sizes) == ("torus", (4.0, 8.0))
        assert cluster.torus_bandwidth_fractions == (0.75, 0.25)
        assert cluster.torus_latency_ratios == (1.0, 0.5)
        assert system.chip.link.bandwidth_bytes_per_s == 80 * 2**30

    def test_third_dimension_lies_between_pods(self, tmp_path):
        text = ("topology: [Ring, FullyConnected, Switch]\nnpus_count: [2, 8, 4]\n"
                "bandwidth: [200.0, 100.0, 50.0]\nlatency: [50.0, 500.0, 2000.0]\n")  # fmt: skip
        files = astrasim(tmp_path, text)
        cluster = load_system(written(tmp_path, files)).cluster
        assert cluster.pod_chips == 16
        assert cluster.network_oversubscription_ratio == 14.0
        assert len(files[0].not_expressed) == 2

    def test_system_file_gives_memory_and_peak_and_the_rest_is_named(self, tmp_path):
        other = tmp_path / "system.json"
        keys = {"endpoint-delay": 10, "local-mem-bw": 1600, "roofline-enabled": 1, "peak-perf": 700,
                "all-reduce-implementation": ["ring"], "scheduling-policy": "LIFO"}  # fmt: skip
        other.write_text(json.dumps(keys))
        files = astrasim(tmp_path, HGX, other)
        chip = load_system(written(tmp_path, files)).chip
        array = chip.array
        assert chip.hbm.bandwidth_bytes_per_s == 1600e9
        peak = 2.0 * array.rows * array.cols * array.num_arrays * array.clock_hz
        assert peak == pytest.approx(700e12)
        starts = {line.partition(" = ")[0] for line in files[0].not_expressed}
        assert {"endpoint-delay", "all-reduce-implementation", "scheduling-policy"} <= starts

    def test_base_is_a_choice(self, tmp_path):
        system = load_system(written(tmp_path, astrasim(tmp_path, HGX, base="trn2_48xlarge")))
        assert system.chip_name == "Trainium2"
        assert system.chip.link.bandwidth_bytes_per_s == 400 * 2**30

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (HGX.replace("Switch, Ring", "Switch, Rng"), "did you mean 'Ring'"),
            (HGX.replace("[ 8, 2 ]", "[ 8 ]"), "npus_count = ['8']: expected 2 numbers"),
            (HGX.replace("[400, 50 ]", "[ tbd, 50 ]"), 'bandwidth = "tbd": expected a number'),
            (HGX.replace("[ 8, 2 ]", "[ 8, 1 ]"), "expected a number of at least 2"),
            (HGX.replace("latency:", "latencies:"), "latency is missing"),
            (HGX.replace("936.25, 1000 ]", "936.25, 1000"), "expected a closing bracket"),
            ("just a text", "line 1: expected KEY: [VALUE, ...]"),
            ("", "topology is missing"),
        ],
    )
    def test_wrong_files_are_one_line(self, tmp_path, text, expected):
        with pytest.raises(ConfigError) as error:
            astrasim(tmp_path, text)
        assert expected in str(error.value)
        assert "\n" not in str(error.value)

    def test_unknown_base_is_named(self, tmp_path):
        with pytest.raises(ConfigError, match="--base dgx_h101"):
            astrasim(tmp_path, HGX, base="dgx_h101")

    def test_lists_of_both_styles(self):
        text = b"a: [ x, 'y' ]  # remark\nb:\n  - 1\n  - 2\nc: 3\nd: [1,\n  2]\n"
        expected = {"a": ["x", "y"], "b": ["1", "2"], "c": ["3"], "d": ["1", "2"]}
        assert parse_flat_yaml(text, "f") == expected


def scalesim(folder, dataflow="ws", mode="CALC", topology=None, config=CONFIG):
    path = folder / "run.cfg"
    path.write_text(config.format(dataflow, mode))
    paths = [path]
    if topology is not None:
        paths.append(folder / "net.csv")
        paths[-1].write_text(topology)
    return import_scalesim(paths, "run")


def reference_rows():
    """GEMM rows of the reference runs that never waited."""
    lines = (DATA / "scalesim_public.csv").read_text().splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return [row for row in rows if row["bw_mode"] == "CALC"]


ROWS = reference_rows()[:: max(len(reference_rows()) // 12, 1)]


class TestScaleSim:
    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row["row_id"])
    def test_cycles_of_a_job_equal_those_of_scale_sim(self, tmp_path, row):
        config = CONFIG.replace("ArrayHeight:    32", f"ArrayHeight: {row['array_rows']}")
        config = config.replace("ArrayWidth:     32", f"ArrayWidth: {row['array_cols']}")
        topology = f"Layer, M, N, K,\nlayer, {row['M']}, {row['N']}, {row['K']},\n"
        files = scalesim(tmp_path, row["dataflow"], topology=topology, config=config)
        job = load_search(written(tmp_path, files))
        array = job.base.chip.array
        with jax.enable_x64(True):
            gemms = jax.tree.map(lambda x: np.asarray(x, float), job.workload.gemms)
            cycles = float(DATAFLOWS[array.dataflow](gemms, array, EXACT)[0])
        assert cycles == float(row["total_cycles"]) + 1.0  # the tool prints the last index
        assert array.clock_hz == 1e9

    def test_evaluation_takes_the_cycles_at_the_clock(self, tmp_path):
        topology = "Layer, M, N, K,\nfirst, 128, 64, 256,\nsecond, 64, 64, 64,\n"
        job = load_search(written(tmp_path, scalesim(tmp_path, topology=topology)))
        with jax.enable_x64(True):
            found = evaluate(job.base, job.workload)
        # weight stationary: folds of K and N, each with 2 x 32 + 32 - 2 cycles beside M
        cycles = 8 * 2 * (128 + 94) + 2 * 2 * (64 + 94)
        assert float(found.step_time_s) == pytest.approx(cycles * 1e-9)

    def test_core_of_a_weight_stationary_array(self, tmp_path):
        files = scalesim(tmp_path)
        written(tmp_path, files)
        core = load_accelerator(tmp_path / "run_core.toml")
        sizes = {level.name: level.capacity_bytes for level in core.levels}
        assert (core.rows, core.cols) == (32, 32)
        assert sizes["scratchpad"] == 128 * 1024
        assert sizes["accumulator"] == 64 * 1024

    @pytest.mark.parametrize("dataflow", ["os", "is"])
    def test_other_arrays_have_no_core_and_say_so(self, tmp_path, dataflow):
        files = scalesim(tmp_path, dataflow)
        assert [file.kind for file in files] == ["system", "chip"]
        assert [line for line in lines_of(files) if f'Dataflow = "{dataflow}"' in line]

    def test_bandwidth_counts_in_user_mode_only(self, tmp_path):
        user, calc = (
            load_system(written(tmp_path, scalesim(tmp_path, mode=mode)))
            for mode in ("USER", "CALC")
        )
        assert user.chip.hbm.bandwidth_bytes_per_s == 3 * 10e9
        assert calc.chip.hbm.bandwidth_bytes_per_s > 1e12

    def test_unused_keys_are_named_as_written(self, tmp_path):
        lines = lines_of(scalesim(tmp_path))
        starts = [line.partition(" = ")[0] for line in lines]
        assert "architecture_presets.FilterOffset" in starts
        assert "architecture_presets.MemoryBanks" in starts
        assert "run_presets.InterfaceBandwidth" in starts
        assert not [start for start in starts if "run_name" in start]

    @pytest.mark.parametrize(
        ("config", "expected"),
        [
            (
                CONFIG.replace("ArrayHeight:    32", ""),
                "[architecture_presets] ArrayHeight is missing",
            ),
            (
                CONFIG.replace("ArrayHeight:    32", "ArrayHeight: 3x"),
                'ArrayHeight = "3x": expected',
            ),
            (
                CONFIG.replace("Dataflow : {}", "Dataflow : rs"),
                'Dataflow = "rs": expected one of os',
            ),
            (CONFIG.replace("[architecture_presets]", "[array]"), "with [architecture_presets]"),
            ("no sections", "expected sections and KEY: VALUE"),
            ("", "with [architecture_presets]"),
        ],
    )
    def test_wrong_files_are_one_line(self, tmp_path, config, expected):
        with pytest.raises(ConfigError) as error:
            scalesim(tmp_path, config=config)
        assert expected in str(error.value)
        assert "\n" not in str(error.value)
