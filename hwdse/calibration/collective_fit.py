"""Fits of the collective library model to measured collectives.

`fit_library` returns the costs (`Library` of `models/network/collective_library.py`) for rows of
one device and library: least squares of the logarithm of time with a soft L1 loss. A weak prior
at NCCL's table of latencies keeps poorly constrained constants plausible. Deterministic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from hwdse.models.network.collective_library import (
    NOT_SHARED,
    ExpertExchange,
    Library,
    Protocol,
    Routes,
)
from hwdse.validation.measured.collective_libraries import Rows, Tokens, exchange_times, routes_of
from hwdse.validation.measured.device_fabrics import Fabric
from hwdse.workload.transformer.collective_algorithms import ALGORITHMS

PRIOR = {
    "ll": (1e-7, 0.8e-6, 0.3),
    "ll128": (3e-6, 1.5e-6, 0.6),
    "simple": (35e-6, 0.5e-6, 0.75),
    "nvls": (30e-6, 1e-6, 0.65),
    "p2p_ll": (2e-6, 0.5e-6, 0.05),
    "p2p": (12e-6, 0.5e-6, 0.7),
    "one_shot": (1e-7, 0.4e-6, 0.5),
    "two_shot": (2e-6, 1e-6, 0.5),
    "net": (50e-6, 5e-6, 0.5),
    "net_p2p": (20e-6, 5e-6, 0.6),
}
"""Initial value and prior by protocol: start-up and step time (s), bandwidth fraction."""
HOST_SHARED = frozenset({"L40S"})
"""Cards whose groups of more than two communicate through host memory."""
PRIOR_COPY, PRIOR_SHARED = 0.2, 2.0
PRIOR_WEIGHT = 0.03
"""Residual of a factor e from the prior, equivalent to an error of 3 % in one row."""
INLIER_LOG_ERROR = 0.1
SHARPNESS = (8.0, 20.0, 80.0)
"""Powers of the soft minimum over routes in successive fits; the exact minimum is evaluated."""
MIN_LAUNCH_S, MAX_START_S, MAX_FRACTION = 1e-6, 300e-6, 1.0


@dataclass(frozen=True)
class _Terms:
    """Parts of the time per row (first axis) and route (second) independent of the constants."""

    steps: np.ndarray
    sent_s: np.ndarray
    copied_s: np.ndarray
    protocol: np.ndarray
    is_open: np.ndarray
    shared_s: np.ndarray
    """Payload time of the shared host over `sent_s`, at a shared ratio of one."""


def _row_routes(kind: str, num_nodes: float, routes: Routes) -> Sequence[tuple[str, str]]:
    if num_nodes > 1:
        is_send = kind == "point_to_point"
        return (("direct", "net_p2p"),) if is_send else (("ring", "net"),)
    return routes[kind]


def _terms(rows: Rows, fabric: Fabric, routes: Routes, names: list[str]) -> _Terms:
    width = max(len(r) for r in routes.values())
    shape = (len(rows.kinds), width)
    steps, sent, copied = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    protocol, is_open = np.zeros(shape, int), np.zeros(shape, bool)
    inside = fabric.group_bandwidth(rows.num_chips)
    across = fabric.node_bandwidth(rows.num_chips / rows.num_nodes)
    rate = np.where(rows.num_nodes > 1, across, inside)
    for index, (kind, nodes) in enumerate(zip(rows.kinds, rows.num_nodes, strict=True)):
        chips = float(rows.num_chips[index])
        seconds = rows.message_bytes[index] / rate[index]
        for route, (algorithm, name) in enumerate(_row_routes(kind, nodes, routes)):
            if name not in names or (name == "nvls" and chips <= 2):
                continue
            work = ALGORITHMS[kind][algorithm](chips)
            steps[index, route] = work.num_steps
            sent[index, route] = seconds * work.sent_ratio
            copied[index, route] = seconds * work.copied_ratio * (nodes == 1)
            protocol[index, route] = names.index(name)
            is_open[index, route] = True
    is_shared = (rows.num_chips > 2) & (rows.num_nodes == 1)
    return _Terms(steps, sent, copied, protocol, is_open, np.where(is_shared, rows.num_chips, 0.0))


def _protocols(rows: Rows, fabric: Fabric, routes: Routes) -> list[str]:
    names = {
        name
        for kind, nodes in set(zip(rows.kinds, rows.num_nodes, strict=True))
        for _, name in _row_routes(kind, nodes, routes)
    }
    return sorted(names if fabric.has_in_switch else names - {"nvls"})


def _times(logs: np.ndarray, terms: _Terms, sharpness: float) -> np.ndarray:
    """Time of all rows (s): soft minimum over the routes."""
    launch, copy, shared = np.exp(logs[:3])
    start, step, fraction = np.exp(logs[3:]).reshape(3, -1)[:, terms.protocol]
    slow = np.maximum(1.0, terms.shared_s / shared)[:, None]
    payload = (terms.sent_s + copy * terms.copied_s) * slow / fraction
    time = np.where(terms.is_open, start + terms.steps * step + payload, np.inf)
    least = time.min(axis=1, keepdims=True)
    soft = ((time / least) ** -sharpness).sum(axis=1) ** (-1.0 / sharpness)
    return launch + least[:, 0] * soft


def fit_library(rows: Rows, fabric: Fabric, routes: Routes, *, is_host_shared: bool) -> Library:
    """Fitted costs; `is_host_shared` if cards communicate through host memory."""
    names = _protocols(rows, fabric, routes)
    terms = _terms(rows, fabric, routes, names)
    prior = np.log([[PRIOR[name][part] for name in names] for part in range(3)]).ravel()
    shared = PRIOR_SHARED if is_host_shared else NOT_SHARED
    launch = 0.7 * float(rows.time_s.min())
    prior = np.concatenate([np.log([launch, PRIOR_COPY, shared]), prior])
    high = np.full(len(prior), np.log(MAX_START_S))
    high[1:3], high[-len(names) :] = np.log([2.0, 1e10]), np.log(MAX_FRACTION)
    low = np.full(len(prior), np.log(1e-9))
    low[0], low[-len(names) :] = np.log(MIN_LAUNCH_S), np.log(1e-3)
    best = prior
    for sharpness in SHARPNESS:

        def errors(logs: np.ndarray, sharpness: float = sharpness) -> np.ndarray:
            residuals = np.log(_times(logs, terms, sharpness) / rows.time_s)
            return np.concatenate([residuals, PRIOR_WEIGHT * (logs - prior)])

        best = least_squares(
            errors,
            np.clip(best, low + 1e-6, high - 1e-6),
            bounds=(low, high),
            loss="soft_l1",
            f_scale=INLIER_LOG_ERROR,
            max_nfev=100,
        ).x
    return _library(np.exp(best), names, fabric, is_host_shared)


def _library(values: np.ndarray, names: list[str], fabric: Fabric, is_shared: bool) -> Library:
    launch, copy, shared = values[:3].tolist()
    columns = values[3:].reshape(3, -1)
    return Library(
        launch_s=launch,
        copy_ratio=copy,
        shared_ratio=shared if is_shared else NOT_SHARED,
        protocols={name: Protocol(*columns[:, i].tolist()) for i, name in enumerate(names)},
        has_in_switch=fabric.has_in_switch,
    )


def fit_rows(library: str, rows: Rows, fabric: Fabric) -> Library:
    """`fit_library` with the routes of the library and the host sharing of the device."""
    shared = fabric.name in HOST_SHARED
    return fit_library(rows, fabric, routes_of(library), is_host_shared=shared)


def fit_exchange(
    sizes: np.ndarray, tokens: Tokens, time_s: np.ndarray, fabric: Fabric
) -> ExpertExchange:
    """Costs of an expert exchange: least squares of log time, soft L1."""

    def costs(logs: np.ndarray) -> ExpertExchange:
        launch, token, copy, fraction = np.exp(logs).tolist()
        return ExpertExchange(launch, token, copy, fraction, fabric.num_multiprocessors)

    def errors(logs: np.ndarray) -> np.ndarray:
        return np.log(exchange_times(costs(logs), sizes, tokens, fabric) / time_s)

    start = np.log([1e-5, 1e-10, 5e-7, 0.7])
    return costs(least_squares(errors, start, loss="soft_l1", f_scale=0.1, max_nfev=100).x)
