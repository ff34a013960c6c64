"""Makes the tables of `configs/libraries` anew from reference files of measured collectives."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from hwdse.calibration.collective_fit import fit_exchange, fit_rows
from hwdse.models.network.collective_library import Library
from hwdse.validation.measured.collective_libraries import (
    EXCHANGES,
    KINDS,
    VTRAIN,
    Rows,
    counted_bytes,
    exchange_times,
    model_times,
    read_tokens,
)
from hwdse.validation.measured.device_fabrics import Fabric, find_fabric

COLLECTIVE_HEAD = """\
# Fitted costs of communication libraries; see hwdse/models/network/collective_library.py for the model.
# Made by hwdse.calibration.collective_tables from tests/data/measured_collectives_public.csv
# (every second row of the published file: the other half is held out) and, for nccl_vtrain, from
# every second size of tests/data/measured_nccl_all_reduce_public.csv.
# launch_s: start of any collective; copy_ratio: time to copy a byte over that to send one;
# shared_ratio: what all cards together may send over one card's line rate (1e9: no limit);
# start_s, step_s: of the protocol, once and a step; bandwidth_fraction: of the line rate.
"""
EXCHANGE_HEAD = """\
# Fitted costs of DeepEP's low-latency dispatch and combine, from the same rows; the model is
# models.collectives.expert_exchange_time_s.
"""
COLUMNS = (
    "device,library,launch_s,copy_ratio,shared_ratio,"
    "protocol,start_s,step_s,bandwidth_fraction,num_rows,median_ape"
)
EXCHANGE_COLUMNS = (
    "device,direction,launch_s,token_s_per_byte,copy_s,bandwidth_fraction,num_rows,median_ape"
)
Table = list[dict[str, str]]


def read_rows(path: Path) -> Table:
    """Rows of a reference file as texts."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def stack_gemms(table: Table, library: str) -> Rows:
    """Rows of `measured_collectives` in the convention of the model."""
    kinds = np.array([KINDS[row["op"]] for row in table])
    chips = np.array([float(row["num_gpus"]) for row in table])
    sizes = np.array([float(row["bytes"]) for row in table])
    nodes = np.array([float(row["n_nodes"]) for row in table])
    time_s = np.array([float(row["latency_us"]) * 1e-6 for row in table])
    return Rows(kinds, counted_bytes(library, kinds, sizes, chips), chips, nodes, time_s)


def nccl_rows_of(table: Table) -> Rows:
    """Rows of `measured_nccl_all_reduce`: out of place, inside a node."""
    column = {key: [float(row[key]) for row in table] for key in table[0] if key != "gpu"}
    return Rows(
        np.full(len(table), "all_reduce"),
        np.array(column["message_bytes"]),
        np.array(column["num_chips"]),
        np.ones(len(table)),
        np.array(column["out_of_place_time_s"]),
    )


def _groups(table: Table, *keys: str) -> Iterator[tuple[tuple[str, ...], Table]]:
    names = sorted({tuple(row[key] for key in keys) for row in table})
    for name in names:
        yield name, [row for row in table if tuple(row[key] for key in keys) == name]


def _library_lines(
    fabric: Fabric, library: str, fitted: Library, rows: Rows
) -> Iterator[list[str]]:
    error = np.abs(model_times(library, fitted, rows, fabric) / rows.time_s - 1.0)
    for name, way in fitted.protocols.items():
        numbers = (fitted.launch_s, fitted.copy_ratio, fitted.shared_ratio)
        costs = (way.start_s, way.step_s, way.bandwidth_fraction)
        yield [
            fabric.name,
            library,
            *(f"{x:.4g}" for x in numbers),
            name,
            *(f"{x:.4g}" for x in costs),
            str(len(rows.kinds)),
            f"{np.median(error):.3f}",
        ]


def collective_lines(collectives: Path, nccl_tests: Path) -> list[list[str]]:
    """Body of `collectives.csv`."""
    lines: list[list[str]] = []
    table = [row for row in read_rows(collectives) if row["op"] in KINDS]
    with jax.enable_x64(True):
        for (device, library), group in _groups(table, "device", "library"):
            fabric = find_fabric(device)
            if fabric is None:
                continue
            rows = stack_gemms(group, library)
            lines += _library_lines(fabric, library, fit_rows(library, rows, fabric), rows)
        for (gpu,), group in _groups(read_rows(nccl_tests)[::2], "gpu"):
            fabric = find_fabric(gpu)
            if fabric is None:
                continue
            rows = nccl_rows_of(group)
            lines += _library_lines(fabric, VTRAIN, fit_rows(VTRAIN, rows, fabric), rows)
    return lines


def exchange_lines(collectives: Path) -> list[list[str]]:
    """Body of `expert_exchange.csv`."""
    lines = []
    table = [row for row in read_rows(collectives) if row["op"] in EXCHANGES]
    with jax.enable_x64(True):
        for (device, op), group in _groups(table, "device", "op"):
            fabric = find_fabric(device)
            if fabric is None:
                continue
            sizes = np.array([float(row["bytes"]) for row in group])
            time_s = np.array([float(row["latency_us"]) * 1e-6 for row in group])
            tokens = read_tokens(row["extra"] for row in group)
            fitted = fit_exchange(sizes, tokens, time_s, fabric)
            error = np.abs(exchange_times(fitted, sizes, tokens, fabric) / time_s - 1.0)
            costs = (
                fitted.launch_s,
                fitted.token_s_per_byte,
                fitted.copy_s,
                fitted.bandwidth_fraction,
            )
            numbers = (*(f"{x:.4g}" for x in costs), str(len(group)), f"{np.median(error):.3f}")
            lines.append([fabric.name, EXCHANGES[op], *numbers])
    return lines


def as_csv(head: str, columns: str, lines: list[list[str]]) -> str:
    """Text of a table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns.split(","), *lines])
    return head + text.getvalue()
