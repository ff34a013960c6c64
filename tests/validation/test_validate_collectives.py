"""Collective libraries: formulas, fits, and targets of the validations."""

from pathlib import Path

import jax
import numpy as np
import pytest
from jax.test_util import check_grads

from hwdse.calibration.collective_fit import Rows, fit_rows
from hwdse.calibration.collective_tables import nccl_rows, read_rows
from hwdse.models.network.collective_library import (
    NCCL_ROUTES,
    ExpertExchange,
    Library,
    Protocol,
    expert_exchange_time_s,
    library_time_s,
)
from hwdse.validation.aws import aws_collectives
from hwdse.validation.measured import measured_collectives, nccl
from hwdse.validation.measured.collective_libraries import (
    VTRAIN,
    find_library,
    load_libraries,
    model_times,
)
from hwdse.validation.measured.device_fabrics import FABRICS, find_fabric
from hwdse.validation.simulators import astrasim
from hwdse.validation.simulators.astrasim_times import AstraSimDimension, collective_time_s

DATA = Path(__file__).parents[1] / "data"
LIBRARY = Library(
    launch_s=5e-6,
    copy_ratio=0.5,
    shared_ratio=1e9,
    protocols={"ll": Protocol(0.0, 1e-6, 0.25), "simple": Protocol(30e-6, 1e-6, 0.75)},
    has_in_switch=True,
)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def time_s(kind, size, chips, library=LIBRARY):
    return float(library_time_s(kind, size, chips, 100e9, library, NCCL_ROUTES))


def test_protocol_times_worked_by_hand():
    # 14 steps of 1 µs, then 1.75 n at three quarters of 100 GB/s.
    assert time_s("all_reduce", 0.0, 8.0) == pytest.approx(19e-6)
    assert time_s("all_reduce", 75e9, 8.0) == pytest.approx(1.75 + 49e-6)
    # An all-gather also copies the own eighth of the chip at half the cost.
    assert time_s("all_gather", 75e9, 8.0) == pytest.approx(0.875 + 0.5 / 8.0 + 42e-6)
    assert time_s("all_gather", 75e9, 1.0) == 0.0


def test_cards_behind_one_host_share_its_rate():
    shared = LIBRARY.replace(shared_ratio=1.0)
    assert time_s("all_gather", 1e12, 2.0, shared) == time_s("all_gather", 1e12, 2.0)
    ratio = time_s("all_gather", 1e12, 4.0, shared) / time_s("all_gather", 1e12, 4.0)
    assert ratio == pytest.approx(4.0, rel=1e-4)


def test_in_switch_reduction_requires_a_switch_with_it():
    ways = {**LIBRARY.protocols, "nvls": Protocol(0.0, 0.0, 0.75)}
    fast = LIBRARY.replace(protocols=ways)
    assert time_s("all_reduce", 75e9, 8.0, fast) == pytest.approx(1.125, rel=1e-4)
    assert time_s("all_reduce", 75e9, 2.0, fast) == time_s("all_reduce", 75e9, 2.0)
    plain = fast.replace(has_in_switch=False)
    assert time_s("all_reduce", 75e9, 8.0, plain) == time_s("all_reduce", 75e9, 8.0)


@pytest.mark.parametrize("kind", ["all_reduce", "all_to_all"])
def test_gradients(kind):
    library = load_libraries()["H100", "nccl"]

    def micros(size, chips, rate):
        return 1e6 * library_time_s(kind, 1e6 * size, chips, 1e11 * rate, library, NCCL_ROUTES)

    check_grads(micros, (2.0, 8.0, 4.5), order=1)
    for size, chips in ((0.0, 1.0), (1e9, 1.0), (0.0, 8.0)):
        assert np.isfinite(jax.grad(micros, (0, 1, 2))(size, chips, 4.5)).all()


def test_few_experts_occupy_few_multiprocessors():
    costs = ExpertExchange(1e-5, 1e-10, 0.0, 0.5, 132.0)
    run = lambda experts: float(  # noqa: E731
        expert_exchange_time_s(0.0, 1024.0, 1e4, 8.0, experts, 1e11, costs)
    )
    assert run(8.0) == pytest.approx(1e-5 + 128.0 * 1e-6)
    assert run(256.0) == run(132.0) == pytest.approx(1e-5 + 1024.0 / 132.0 * 1e-6)


def test_fitted_constants_are_physical():
    for (device, library), costs in load_libraries().items():
        assert device in FABRICS
        assert 5e-7 < costs.launch_s < 1e-4, (device, library)
        assert 0.0 < costs.copy_ratio <= 1.0
        for protocol in costs.protocols.values():
            assert 0.0 < protocol.bandwidth_fraction <= 1.0
            assert 0.0 <= protocol.step_s < 3e-5


def test_table_equals_the_fit():
    table = [
        r
        for r in read_rows(DATA / "measured_nccl_all_reduce_public.csv")[::2]
        if r["gpu"] == "V100"
    ]
    rows, fabric = nccl_rows(table), FABRICS["V100"]
    kept = model_times(VTRAIN, load_libraries()["V100", VTRAIN], rows, fabric)
    anew = model_times(VTRAIN, fit_rows(VTRAIN, rows, fabric), rows, fabric)
    assert anew == pytest.approx(kept, rel=0.01)


def test_devices_without_a_fit_use_that_of_their_generation():
    found = find_library("H200-SXM5-141GB", "nccl")
    assert found is not None
    assert found[1] == "H100"
    other = find_library("GB300", "vllm_custom_graph")
    assert other is not None
    assert other[1] == "GB200"
    assert find_library("TPU-v6e", "nccl") is None
    fabric = find_fabric("NVIDIA H200")
    assert fabric is not None
    assert fabric.bandwidth_bytes_per_s == 450e9


def test_rings_of_a_cube_mesh():
    """Two V100 share one link, all eight three bidirectional rings."""
    rate = FABRICS["V100"].group_bandwidth(np.array([2.0, 4.0, 8.0, 16.0]))
    assert rate.tolist() == [25e9, 100e9, 150e9, 150e9]


def test_nccl_reaches_its_target():
    """Mean error below 6 %, also on held-out sizes."""
    path = DATA / "measured_nccl_all_reduce_public.csv"
    assert nccl.validate(path).metrics["time"]["mape"] < 0.05
    held = nccl_rows(read_rows(path)[1::2])
    gpus = np.array([row["gpu"] for row in read_rows(path)[1::2]])
    for gpu in ("A100", "V100"):
        part = held[gpus == gpu]
        times = model_times(VTRAIN, load_libraries()[gpu, VTRAIN], part, FABRICS[gpu])
        assert np.mean(np.abs(times / part.time_s - 1.0)) < 0.06


def test_collectives_reach_their_target():
    report = measured_collectives.validate(DATA / "measured_collectives_public.csv")
    assert report.rows_scored == 1427
    assert report.metrics["time"]["median_ape"] < 0.06
    assert report.metrics["time"]["spearman"] > 0.99
    for name, group in report.groups.items():
        assert group["time"]["median_ape"] < 0.15, name


def test_rows_without_a_library_are_counted(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text(
        "device,library,op,n_nodes,num_gpus,bytes,latency_us,extra\n"
        "H200-SXM5-141GB,nccl,all_reduce,1,8,1048576,25,\n"
        "H200-SXM5-141GB,deepep,deepep_ll_combine,1,8,1048576,25,\n"
        "MI300X,rccl,all_reduce,1,8,1048576,25,\n"
        "H100-SXM5-80GB,nccl,all_gather,2,16,1048576,25,\n"
        "H100-SXM5-80GB,nccl,gather,1,8,1048576,25,\n"
    )
    report = measured_collectives.validate(path)
    assert report.rows_scored == 1
    assert sum(report.rows_skipped.values()) == 4
    path.write_text("device,library\nH100,nccl\n")
    with pytest.raises(ValueError, match="no column 'op'"):
        measured_collectives.validate(path)


def test_astrasim_convention_is_exact():
    """All rows of the congestion-unaware backend except trees agree in the printed digits."""
    report = astrasim.validate(DATA / "astrasim_collectives_public.csv")
    assert report.rows_scored == 382
    assert report.metrics["time"]["mismatches"] == 0
    assert sum(report.rows_skipped.values()) == 70


def test_astrasim_chunks_worked_by_hand():
    one = AstraSimDimension("Ring", 4, 1e9, 0.0, 0.0, 1e30)
    options = {"num_active": 1, "is_hierarchical": True}
    run = lambda chunks: collective_time_s(  # noqa: E731
        "all_reduce", 4e6, [one, one], ["ring", "ring"], num_chunks=chunks, **options
    )
    # Reduce-scatter 3 ms, all-reduce of a quarter 1.5 ms, all-gather 3 ms; two chunks overlap.
    assert run(1) == pytest.approx(7.5e-3)
    assert run(2) == pytest.approx(6e-3)


def test_collectives_on_aws():
    report = aws_collectives.validate(DATA / "aws_collectives_public.csv")
    assert report.rows_scored > 240
    assert report.metrics["time"]["median_ape"] < 0.15
    for chip in ("H100, 1", "H200, 1", "H100, 2", "A100-80GB, 2"):
        assert report.groups[f"chip={chip} server(s)"]["time"]["median_ape"] < 0.1


def test_indexing_rows_selects_all_fields():
    rows = Rows(*(np.arange(3.0) for _ in range(5)))
    assert rows[np.array([True, False, True])].time_s.tolist() == [0.0, 2.0]
