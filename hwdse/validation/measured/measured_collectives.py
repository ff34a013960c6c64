"""Collective library model against measured times: NCCL, oneCCL, framework kernels, DeepEP.

The file has one collective per row. The costs depend on the library (`configs/libraries`), the
line rate on the device. A device without a fit uses the fit of its link generation
(`fit=stand-in`).
"""

import math
from collections import Counter
from pathlib import Path

import jax
import numpy as np

from hwdse.validation.measured.collective_libraries import (
    EXCHANGES,
    KINDS,
    Rows,
    Tokens,
    counted_bytes,
    exchange_times,
    find_library,
    load_exchanges,
    model_times,
    read_tokens,
    routes_of,
)
from hwdse.validation.measured.device_fabrics import Fabric, find_fabric
from hwdse.validation.shared.reference_table import (
    Comparison,
    ReferenceTable,
    ValidationReport,
    build_report,
    printed_resolution,
    read_table,
)

COLUMNS = ("device", "library", "op", "n_nodes", "num_gpus", "bytes", "latency_us", "extra")


def validate(path: Path) -> ValidationReport:
    """Error table of the time of a collective, by device, library, kind and source of costs."""
    table = read_table(path, COLUMNS)
    reference = table.numbers("latency_us", at_least=0.0) * 1e-6
    rows = Rows(
        np.array(table.text("op")),
        table.numbers("bytes", at_least=0.0),
        table.numbers("num_gpus", at_least=1.0, whole=True),
        table.numbers("n_nodes", at_least=1.0, whole=True),
        reference,
    )
    tokens = read_tokens(table.text("extra"))
    skipped: Counter[str] = Counter()
    model, source = np.full(len(table), math.nan), ["-"] * len(table)
    with jax.enable_x64(True):
        for (device, library), chosen in _groups(table).items():
            _score(device, library, chosen, rows, tokens, model, source, skipped)
    resolution = printed_resolution(table.text("latency_us")) * 1e-6
    scored = np.where(np.isnan(model), math.nan, reference)
    return build_report(
        "collectives",
        path,
        {"time": Comparison(scored, model, resolution)},
        rows_skipped=skipped,
        group_by={
            "device": table.text("device"),
            "library": table.text("library"),
            "op": table.text("op"),
            "nodes": ["one" if n == 1 else "several" for n in rows.num_nodes],
            "fit": source,
        },
    )


def _groups(table: ReferenceTable) -> dict[tuple[str, str], np.ndarray]:
    pairs = list(zip(table.text("device"), table.text("library"), strict=True))
    return {pair: np.array([p == pair for p in pairs]) for pair in sorted(set(pairs))}


def _score(
    device: str,
    library: str,
    chosen: np.ndarray,
    rows: Rows,
    tokens: Tokens,
    model: np.ndarray,
    source: list[str],
    skipped: Counter[str],
) -> None:
    """Fill `model` and `source` for the chosen rows, or count the reasons of skipped rows."""
    fabric = find_fabric(device)
    if fabric is None:
        skipped[f"device {device}: no line rate known"] += int(chosen.sum())
        return
    for op in sorted(set(rows.kinds[chosen])):
        here = chosen & (rows.kinds == op)
        if op in EXCHANGES:
            times, name = _exchange_times(op, rows[here], _part(tokens, here), fabric)
        else:
            times, name = _library_times(device, library, rows[here], fabric)
        model[here] = times
        num_missing = int(np.isnan(times).sum())
        skipped[f"{op} of {library} on {device}: no fitted costs, or not stated"] += num_missing
        for index in np.flatnonzero(here):
            source[index] = "own" if name == fabric.name else "stand-in"


def _part(tokens: Tokens, chosen: np.ndarray) -> Tokens:
    return Tokens(*(getattr(tokens, name)[chosen] for name in Tokens.__dataclass_fields__))


def _exchange_times(
    op: str, rows: Rows, tokens: Tokens, fabric: Fabric
) -> tuple[np.ndarray, str | None]:
    """Times (s), NaN without token and expert counts, and the device of the fit."""
    exchanges, direction = load_exchanges(), EXCHANGES[op]
    for name in (fabric.name, fabric.fits):
        if (name, direction) in exchanges:
            costs = exchanges[name, direction]
            return exchange_times(costs, rows.message_bytes, tokens, fabric), name
    return np.full(len(rows.kinds), math.nan), None


def _library_times(
    device: str, library: str, rows: Rows, fabric: Fabric
) -> tuple[np.ndarray, str | None]:
    """Times (s), NaN if the library has no route, and the device of the fit."""
    times = np.full(len(rows.kinds), math.nan)
    found = find_library(device, library)
    if found is None:
        return times, None
    costs, name = found
    counted = _counted(library, rows)
    modeled = np.array(
        [
            _is_modeled(kind, nodes, library, costs.protocols)
            for kind, nodes in zip(counted.kinds, counted.num_nodes, strict=True)
        ]
    )
    if modeled.any():
        times[modeled] = model_times(library, costs, counted[modeled], fabric)
    return times, name


def _counted(library: str, rows: Rows) -> Rows:
    kinds = np.array([KINDS.get(op, op) for op in rows.kinds])
    sizes = counted_bytes(library, kinds, rows.message_bytes, rows.num_chips)
    return Rows(kinds, sizes, rows.num_chips, rows.num_nodes, rows.time_s)


def _is_modeled(kind: str, num_nodes: float, library: str, protocols: dict) -> bool:
    """True if the fitted costs contain a route for this kind, inside a node or across nodes."""
    if num_nodes > 1:
        name = "net_p2p" if kind == "point_to_point" else "net"
        return kind in KINDS.values() and name in protocols
    routes = routes_of(library).get(kind, ())
    return any(name in protocols for _, name in routes)
