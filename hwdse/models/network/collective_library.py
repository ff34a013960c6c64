r"""Time of collectives in communication libraries: algorithms, protocols and their selection.

An algorithm is a `CollectiveWork`: sequential steps, bytes sent and copied by a chip. A protocol
has a time per step and a payload fraction of the line rate. A library has a launch time, several
protocols, and routes (algorithm, protocol). The fastest route is taken, which is the aim of library
tuning.

    $t = t_{launch} + \min_r [t_r + s_r \alpha_r + n (w_r + c c_r) / (f_r \beta)]$

n bytes at $\beta$ B/s; route r has start $t_r$ (s), $s_r$ steps of $\alpha_r$ (s), $w_r$ and $c_r$
bytes sent and copied per message byte, payload fraction $f_r$; c is the copy ratio. Message sizes
are those of `workload/transformer/collective_algorithms.py`.
"""

from collections.abc import Mapping
from types import MappingProxyType

import jax.numpy as jnp

from hwdse.numerics import struct
from hwdse.numerics.array_types import Leaf, PerOp
from hwdse.workload.transformer.collective_algorithms import ALGORITHMS, CollectiveWork

NEVER_S = 1e30
"""Time of a route that a group cannot use (s)."""
NOT_SHARED = 1e9
"""`Library.shared_ratio` if every port has a separate path."""


@struct.dataclass
class Protocol:
    """Cost parameters of one transfer protocol: start-up time, time per step, fraction of line
    rate."""

    start_s: Leaf
    step_s: Leaf
    bandwidth_fraction: Leaf


Routes = Mapping[str, tuple[tuple[str, str], ...]]
"""(algorithm, protocol) pairs available to a library, by kind of collective."""
_RINGS = (("ring", "ll"), ("ring", "ll128"), ("ring", "simple"))
_EXCHANGE = (("direct", "p2p_ll"), ("direct", "p2p"))
NCCL_ROUTES: Routes = MappingProxyType(
    {
        "all_reduce": (*_RINGS, ("in_switch", "nvls")),
        "all_gather": _RINGS,
        "reduce_scatter": _RINGS,
        "all_to_all": _EXCHANGE,
        "point_to_point": _EXCHANGE,
    }
)
"""NCCL: three protocols on rings, in-switch reduction, point-to-point sends for exchanges. Source:
NVIDIA/nccl, src/graph/tuning.cc."""
CUSTOM_ROUTES: Routes = MappingProxyType(
    {
        "all_reduce": (
            ("mesh", "one_shot"),
            ("direct", "two_shot"),
            ("ring", "simple"),
            ("in_switch", "nvls"),
        )
    }
)
"""Kernels of serving frameworks: one-shot and two-shot loads from peer memory; larger messages use
NCCL. Source: vLLM, TensorRT-LLM and SGLang, custom all-reduce kernels."""


@struct.dataclass
class Library:
    """Cost parameters of one communication library on one kind of chip; see the module's
    equation."""

    launch_s: Leaf
    """Start of a collective of any kind and size: kernel launch and synchronization of all
    ranks."""
    copy_ratio: Leaf
    """Time to copy a byte of the chip's own part relative to sending a byte."""
    shared_ratio: Leaf
    """Total send rate of more than two chips relative to one chip's line rate: the host path of
    PCIe cards without a switch. `NOT_SHARED` if every port has a separate path."""
    protocols: dict[str, Protocol]
    has_in_switch: bool = struct.field(pytree_node=False)
    """True if the switches reduce (NVSwitch of Hopper and later)."""


def route_time_s(
    message_bytes: PerOp,
    work: CollectiveWork,
    protocol: Protocol,
    copy_ratio: PerOp,
    bandwidth_bytes_per_s: PerOp,
) -> PerOp:
    """Start, steps and payload of one route, without the launch (s); see the module's equation."""
    payload_bytes = message_bytes * (work.sent_ratio + copy_ratio * work.copied_ratio)
    rate = protocol.bandwidth_fraction * bandwidth_bytes_per_s
    return protocol.start_s + work.num_steps * protocol.step_s + payload_bytes / rate


def library_time_s(
    kind: str,
    message_bytes: PerOp,
    num_chips: PerOp,
    bandwidth_bytes_per_s: PerOp,
    library: Library,
    routes: Routes,
) -> PerOp:
    """Time of a collective in one domain by the fastest route (s); zero for one chip.

    The gradient is that of the fastest route. In-switch reduction needs more than two chips: for a
    pair it would send more than the exchange of halves.
    """
    shared = library.shared_ratio * bandwidth_bytes_per_s / num_chips
    rate = jnp.where(num_chips > 2.0, jnp.minimum(bandwidth_bytes_per_s, shared), 1.0)
    rate = jnp.where(num_chips > 2.0, rate, bandwidth_bytes_per_s)
    times = []
    for algorithm, name in routes[kind]:
        if name not in library.protocols or (name == "nvls" and not library.has_in_switch):
            continue
        work = ALGORITHMS[kind][algorithm](num_chips)
        time_s = route_time_s(
            message_bytes, work, library.protocols[name], library.copy_ratio, rate
        )
        times.append(jnp.where(num_chips > 2.0, time_s, NEVER_S) if name == "nvls" else time_s)
    fastest_s = library.launch_s + jnp.min(jnp.stack(times), axis=0)
    return jnp.where(num_chips > 1.0, fastest_s, 0.0)


def inter_node_time_s(
    kind: str,
    message_bytes: PerOp,
    num_chips: PerOp,
    node_bandwidth_bytes_per_s: PerOp,
    library: Library,
) -> PerOp:
    """Time of rings (or one send) through the network ports of nodes with the given total rate (s).

    All rings of a node cross its ports, each with its part of the message. The ports therefore
    carry the bytes that a chip sends in a flat ring: $2 n (p - 1) / p$ of an all-reduce.
    """
    algorithm = "direct" if kind == "point_to_point" else "ring"
    work = ALGORITHMS[kind][algorithm](num_chips)
    protocol = library.protocols["net_p2p" if kind == "point_to_point" else "net"]
    time_s = route_time_s(message_bytes, work, protocol, 0.0, node_bandwidth_bytes_per_s)
    return jnp.where(num_chips > 1.0, library.launch_s + time_s, 0.0)


@struct.dataclass
class ExpertExchange:
    """Costs of a low-latency dispatch or combine of tokens to experts on one kind of chip."""

    launch_s: Leaf
    token_s_per_byte: Leaf
    """Time of one streaming multiprocessor per byte of a dispatched token, one token at a time."""
    copy_s: Leaf
    """Time to issue one of the copies of a token, which are sent sequentially."""
    bandwidth_fraction: Leaf
    num_multiprocessors: Leaf


def expert_exchange_time_s(
    message_bytes: PerOp,
    num_tokens: PerOp,
    token_bytes: PerOp,
    num_copies: PerOp,
    num_experts: PerOp,
    bandwidth_bytes_per_s: PerOp,
    costs: ExpertExchange,
) -> PerOp:
    r"""Time of a dispatch or combine of `num_tokens` per chip (s).

    $t = t_0 + t_{sm} + k t_k + n / (f \beta)$. Each token goes to k experts, `num_copies`, n bytes
    in total. The kernel assigns multiprocessors to experts and uses at most as many as there are
    experts. Tokens are distributed over them: $t_{sm} = T / \min(E, SMs) \cdot c\, b$. Source:
    deepseek-ai/DeepEP, csrc/kernels/internode_ll.cu.
    """
    workers = jnp.minimum(num_experts, costs.num_multiprocessors)
    token_s = num_tokens / workers * token_bytes * costs.token_s_per_byte
    rate = costs.bandwidth_fraction * bandwidth_bytes_per_s
    copies_s = num_copies * costs.copy_s
    return costs.launch_s + token_s + copies_s + message_bytes / rate
