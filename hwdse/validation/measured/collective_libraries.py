"""Fitted costs of communication libraries, from the tables in `configs/libraries`.

`collectives.csv` has one row per device, library and protocol, `expert_exchange.csv` one per
device and direction. Both contain the number of fitted rows and the median error.
`hwdse/calibration/collective_tables.py` regenerates them from the reference files.
"""

import csv
import functools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwdse.config.files.toml_files import preset_root
from hwdse.models.network.collective_library import (
    CUSTOM_ROUTES,
    NCCL_ROUTES,
    ExpertExchange,
    Library,
    Protocol,
    Routes,
    expert_exchange_time_s,
    inter_node_time_s,
    library_time_s,
)
from hwdse.validation.measured.device_fabrics import FABRICS, Fabric, find_fabric

KINDS: Mapping[str, str] = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
    "all_to_all": "all_to_all",
    "send_recv": "point_to_point",
}
"""Kinds of collectives by their names in reference files."""
EXCHANGES = {"deepep_ll_dispatch": "dispatch", "deepep_ll_combine": "combine"}
GATHER_IS_PER_RANK = frozenset({"oneccl"})
"""Libraries whose benchmark counts the bytes that one rank contributes to an all-gather. Evidence
for oneCCL: times at 2 and 4 ranks match (p - 1) n bytes on the link, not n (p - 1) / p."""
VTRAIN = "nccl_vtrain"
"""NCCL in the measurements of vTrain (nccl-tests; start-up of 40 to 70 µs)."""
TABLE, EXCHANGE_TABLE = "collectives.csv", "expert_exchange.csv"
_TOKENS = re.compile(r"tokens_per_gpu=(\d+);hidden=(\d+);topk=(\d+);experts=(\d+)")


@dataclass(frozen=True)
class Rows:
    """Measured collectives of one device and library."""

    kinds: np.ndarray
    message_bytes: np.ndarray
    num_chips: np.ndarray
    num_nodes: np.ndarray
    time_s: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> "Rows":
        return Rows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def routes_of(library: str) -> Routes:
    """Routes of a library by name: those of serving frameworks, or of NCCL."""
    return CUSTOM_ROUTES if "custom" in library else NCCL_ROUTES


@dataclass(frozen=True)
class Tokens:
    """Token counts and sizes of expert exchanges, one element per row."""

    num_tokens: np.ndarray
    token_bytes: np.ndarray
    num_copies: np.ndarray
    num_experts: np.ndarray


def read_tokens(extras: Iterable[str]) -> Tokens:
    """Tokens per chip, bytes per token (16 bits), experts per token, experts; NaN if not stated."""
    matches = [_TOKENS.search(extra) for extra in extras]
    cells = [[float(x) for x in m.groups()] if m else [math.nan] * 4 for m in matches]
    tokens, hidden, copies, experts = np.array(cells).reshape(-1, 4).T
    return Tokens(tokens, 2.0 * hidden, copies, experts)


def counted_bytes(
    library: str, kinds: np.ndarray, sizes: np.ndarray, chips: np.ndarray
) -> np.ndarray:
    """Message bytes in the convention of `models/network/collective_library.py`."""
    if library in GATHER_IS_PER_RANK:
        return np.where(kinds == "all_gather", sizes * chips, sizes)
    return sizes


def model_times(library: str, costs: Library, rows: Rows, fabric: Fabric) -> np.ndarray:
    """Modeled time of every row (s), independent of the measured `time_s`."""
    times = np.full(len(rows.kinds), math.nan)
    for kind in set(rows.kinds):
        for is_across in (False, True):
            chosen = (rows.kinds == kind) & ((rows.num_nodes > 1) == is_across)
            if not chosen.any():
                continue
            size, chips = rows.message_bytes[chosen], rows.num_chips[chosen]
            if is_across:
                rate = fabric.node_bandwidth(chips / rows.num_nodes[chosen])
                times[chosen] = inter_node_time_s(kind, size, chips, rate, costs)
            else:
                rate = fabric.group_bandwidth(chips)
                routes = routes_of(library)
                times[chosen] = library_time_s(kind, size, chips, rate, costs, routes)
    return times


def exchange_times(
    costs: ExpertExchange, sizes: np.ndarray, tokens: Tokens, fabric: Fabric
) -> np.ndarray:
    """Time of expert exchanges of `sizes` bytes (s)."""
    time_s = expert_exchange_time_s(
        sizes,
        tokens.num_tokens,
        tokens.token_bytes,
        tokens.num_copies,
        tokens.num_experts,
        fabric.bandwidth_bytes_per_s,
        costs,
    )
    return np.asarray(time_s)


@functools.cache
def load_libraries() -> Mapping[tuple[str, str], Library]:
    """Fitted costs by device (a name of `FABRICS`) and library."""
    found: dict[tuple[str, str], Library] = {}
    for row in _read(preset_root() / "libraries" / TABLE):
        key = (row["device"], row["library"])
        protocol = Protocol(
            float(row["start_s"]), float(row["step_s"]), float(row["bandwidth_fraction"])
        )
        old = found[key].protocols if key in found else {}
        found[key] = Library(
            launch_s=float(row["launch_s"]),
            copy_ratio=float(row["copy_ratio"]),
            shared_ratio=float(row["shared_ratio"]),
            protocols={**old, row["protocol"]: protocol},
            has_in_switch=FABRICS[row["device"]].has_in_switch,
        )
    return found


@functools.cache
def load_exchanges() -> Mapping[tuple[str, str], ExpertExchange]:
    """Fitted costs of expert exchanges by device and direction."""
    return {
        (row["device"], row["direction"]): ExpertExchange(
            float(row["launch_s"]),
            float(row["token_s_per_byte"]),
            float(row["copy_s"]),
            float(row["bandwidth_fraction"]),
            FABRICS[row["device"]].num_multiprocessors,
        )
        for row in _read(preset_root() / "libraries" / EXCHANGE_TABLE)
    }


def find_library(device: str, library: str) -> tuple[Library, str] | None:
    """Costs of a library on a device, and the device of the fit; None without a fit.

    A device without a fit uses the fit of the same generation. `nccl_torch` without a fit uses
    `nccl` of the device, and a kernel of a framework that of another framework.
    """
    fabric = find_fabric(device)
    if fabric is None:
        return None
    fits = load_libraries()
    for name in (library, *_STAND_INS.get(library, ()), *_by_suffix(library)):
        for source in (fabric.name, fabric.fits):
            if (source, name) in fits:
                return fits[source, name], source
    return None


_STAND_INS = {"nccl_torch": ("nccl",), VTRAIN: ("nccl_torch", "nccl"), "oneccl": ()}


def _by_suffix(library: str) -> tuple[str, ...]:
    """Fitted kernels with the same launch method."""
    if "custom" not in library:
        return ("nccl",) if library.startswith("nccl") else ()
    is_eager = library.endswith("eager")
    return ("vllm_custom_eager",) if is_eager else ("vllm_custom_graph", "trtllm_custom")


def _read(path: Path) -> Iterable[dict[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return csv.DictReader(line for line in lines if not line.startswith("#"))
