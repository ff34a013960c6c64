"""Which kernel a row of published measurements is about, read from its text.

A recognizer takes the text of a row and gives the kernel with the sizes that stand in it; the
first that knows the row wins. Sizes are free: nothing here names a row or a size.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hwdse.specs.hardware.neuron_core import NeuronCore
from hwdse.workload.kernels import (
    attention_kernels,
    elementwise_kernels,
    fused_kernels,
    matmul_kernels,
)
from hwdse.workload.kernels.kernel_instructions import FORMAT_BYTES, Kernel

CORES: Mapping[str, str] = MappingProxyType(
    {
        "trainium1": "neuron_core_v2",
        "inferentia2": "neuron_core_v2",
        "trainium2": "neuron_core_v3",
        "trainium3": "neuron_core_v4",
    }
)
"""Presets of `configs/engines` by chip."""

Sizes = Mapping[str, float]
BuildKernel = Callable[[NeuronCore], Kernel]


class UnmodeledRowError(Exception):
    """A row that no rule covers; the text says why."""


@dataclass(frozen=True)
class NamedKernel:
    """A kernel family and how to build the row's kernel on a core."""

    family: str
    build: BuildKernel


_COMPILED: Mapping[str, Callable[[Sizes, str, NeuronCore, bool], Kernel]] = MappingProxyType(
    {
        "matmul": lambda s, f, core, _: matmul_kernels.matmul(s["M"], s["K"], s["N"], f, core),
        "bmm": lambda s, f, core, _: matmul_kernels.matmul(
            s["M"], s["K"], s["N"], f, core, batch=s["B"]
        ),
        "transpose_matmul": lambda s, f, core, _: matmul_kernels.transpose_matmul(
            s["M"], s["K"], s["N"], f, core
        ),
        "swiglu": lambda s, f, core, _: fused_kernels.swiglu(s["M"], s["K"], s["N"], f, core),
        "lora": lambda s, f, core, _: fused_kernels.lora(s["M"], s["K"], s["N"], s["R"], f, core),
        "rmsnorm_matmul": lambda s, f, core, _: fused_kernels.norm_matmul(
            s["M"], s["K"], s["N"], f, core
        ),
        "add_rmsnorm_matmul": lambda s, f, core, hoisted: fused_kernels.norm_matmul(
            s["M"], s["K"], s["N"], f, core, is_added=True, is_hoisted=hoisted
        ),
        "matmul_add_rmsnorm": lambda s, f, core, hoisted: fused_kernels.matmul_norm(
            s["M"], s["K"], s["N"], f, core, is_hoisted=hoisted
        ),
        "bmm_softmax": lambda s, f, core, _: attention_kernels.batched_softmax(
            s["B"], s["M"], s["K"], s["N"], f, core
        ),
        "gqa_full": lambda s, f, core, _: attention_kernels.grouped_query_attention(
            s["B"], s["N"], s["QH"], s["KH"], s["D"], f, core
        ),
        "adamw": lambda s, f, core, _: elementwise_kernels.adamw(s["M"], s["N"], f, core),
        "silu": lambda s, f, core, _: elementwise_kernels.silu(s["M"], s["N"], f, core),
        "softmax": lambda s, f, core, _: elementwise_kernels.softmax(s["M"], s["N"], f, core),
        "rmsnorm": lambda s, f, core, _: elementwise_kernels.rms_norm(s["M"], s["N"], f, core),
        "rope_single_freq_apply": lambda s, f, core, _: elementwise_kernels.rotary(
            s["B"] * s["H"] * s["N"], s["D"], f, core
        ),
        "mamba": lambda s, f, core, _: elementwise_kernels.mamba_scan(
            s["C"], s["M"], s["S"], f, core, version="v1"
        ),
    }
)
"""Kernels of NKIBench by name: sizes, format, core, and whether invariant work is hoisted."""

_BENCH_NAME = re.compile(r"\b([a-z][a-z_]*?)_((?:[A-Z]{1,2}\d+_?)+)")
_SIZE = re.compile(r"([A-Z]{1,2})(\d+)")
_PRODUCT = re.compile(r"\b(\d+)x(\d+)x(\d+)\b")
_LETTERED = re.compile(r"\bM(\d+) K(\d+) N(\d+)\b")
_PLACED = re.compile(r"\b(ch|seq|state|d|b)(\d+)\b")
_VERSION = re.compile(r"\bv(\d)\b")
_TUTORIAL_PRODUCTS = MappingProxyType(
    {
        "2": matmul_kernels.tiled_matmul,
        "3": matmul_kernels.hoisted_matmul,
        "4": matmul_kernels.free_blocked_matmul,
        "5": matmul_kernels.blocked_matmul,
    }
)
"""Kernels of the NKI optimization tutorial by the number of its profile."""


def _bench_kernel(row: Mapping[str, str], text: str, format_name: str) -> NamedKernel | None:
    """NKIBench: `swiglu_K1024_M4096_N3072 baseline`.

    An "optimized" kernel is taken to be the published one with invariant work moved out of its
    loops; what else a search changed is not stated.
    """
    match = _BENCH_NAME.search(text)
    if match is None:
        return None
    name, sizes = match.group(1), {k: float(v) for k, v in _SIZE.findall(match.group(2))}
    if name not in _COMPILED:
        raise UnmodeledRowError(f"no model of the kernel {name}")
    is_hoisted = re.search(r"optimi[sz]ed", text) is not None

    def build(core: NeuronCore) -> Kernel:
        try:
            return _COMPILED[name](sizes, format_name, core, is_hoisted)
        except KeyError as error:
            raise UnmodeledRowError(f"{name} without its size {error.args[0]}") from None

    return NamedKernel(name, build)


def _placed(row: Mapping[str, str], text: str) -> dict[str, float]:
    """Sizes written as `ch256 seq512 state16 d128`; a length may stand in its own column."""
    sizes = {name: float(value) for name, value in _PLACED.findall(text)}
    if row.get("seq_len"):
        sizes.setdefault("seq", float(row["seq_len"]))
    return sizes


def _mamba_kernel(row: Mapping[str, str], text: str, format_name: str) -> NamedKernel | None:
    """The Mamba tutorial's versions, and the start (v3, all in SBUF) and end of a search."""
    if "mamba" not in row["model"].lower():
        return None
    sizes, version = _placed(row, text), _VERSION.search(text)
    if version is not None:
        name = version.group(0)
    elif "start of search" in text:
        name = "v3_sbuf"
    elif "best" in text:
        name = "best"
    else:
        raise UnmodeledRowError("a Mamba scan whose version the row does not state")
    if name not in elementwise_kernels.MAMBA_VERSIONS or not {"ch", "seq", "state"} <= set(sizes):
        raise UnmodeledRowError("a Mamba scan of unknown version or without its sizes")

    def build(core: NeuronCore) -> Kernel:
        return elementwise_kernels.mamba_scan(
            sizes["ch"], sizes["seq"], sizes["state"], format_name, core,
            version=name, batch=sizes.get("b", 1.0),
        )  # fmt: skip

    return NamedKernel("mamba_tutorial", build)


def _stated_product(text: str) -> Callable[..., Kernel]:
    """The tutorial's or the search's product that a text names."""
    version = _VERSION.search(text)
    if version is not None and version.group(1) in _TUTORIAL_PRODUCTS:
        return _TUTORIAL_PRODUCTS[version.group(1)]
    words = {
        "no blocking": matmul_kernels.tiled_matmul,
        "hoist": matmul_kernels.hoisted_matmul,
        "coalesced": matmul_kernels.blocked_matmul,
        "best": matmul_kernels.grouped_matmul,
        "search stage 0": matmul_kernels.free_blocked_matmul,
        "double_row": matmul_kernels.grouped_matmul,
    }
    for word, kernel in words.items():
        if word in text:
            return kernel
    raise UnmodeledRowError("a product whose loops the row does not state")


def _plain_product(row: Mapping[str, str], text: str, format_name: str) -> NamedKernel | None:
    """`matmul 4096x8192x8192` (M x K x N) with the version of a tutorial, or an end of a search.

    autocomp's search starts from the tutorial's blocks of 256 x 1024 (its stage 0).

    The tutorial's third profile ("v3") is of the kernel whose loads are hoisted: the bytes that
    it prints are those of B loaded once for every 128 rows.
    """
    match = _PRODUCT.search(row["model"]) or _LETTERED.search(row["model"])
    if match is None:
        return None
    m, k, n = (float(value) for value in match.groups())
    if "norm" in row["model"]:
        return NamedKernel(
            "rmsnorm_matmul",
            lambda core: fused_kernels.norm_matmul(m, k, n, format_name, core),
        )
    kernel = _stated_product(f"{row['model']} {text}")
    return NamedKernel("matmul_tutorial", lambda core: kernel(m, k, n, format_name, core))


def _attention(row: Mapping[str, str], text: str, format_name: str) -> NamedKernel | None:
    """`attention d128 seq4096`, all scores kept on the core."""
    sizes = _placed(row, f"{row['model']} {text}")
    if "attention" not in row["model"].lower() or not {"d", "seq"} <= set(sizes):
        return None
    return NamedKernel(
        "attention",
        lambda core: attention_kernels.fused_attention(sizes["seq"], sizes["d"], format_name, core),
    )


_RECOGNIZERS = (_bench_kernel, _mamba_kernel, _plain_product, _attention)


def recognize(row: Mapping[str, str]) -> NamedKernel:
    """The kernel of a row. Raises `UnmodeledRowError` with the reason where there is none."""
    text = f"{row['detail']} {row['model']} {row['notes']}"
    if re.search(r"pytorch|\btorch\b", text, re.IGNORECASE):
        raise UnmodeledRowError("the framework's own code, for which no kernel is stated")
    is_product = _PRODUCT.search(row["model"]) is not None
    stage = re.search(r"search stage (\d+)", text)
    if stage is not None and "best" not in text and not (stage.group(1) == "0" and is_product):
        raise UnmodeledRowError("a step of a search whose loops the row does not state")
    words = row["precision"].split()
    if not words or words[0] not in FORMAT_BYTES:
        raise UnmodeledRowError(f"no rule for the precision '{row['precision']}'")
    for recognizer in _RECOGNIZERS:
        named = recognizer(row, text, words[0])
        if named is not None:
            return named
    raise UnmodeledRowError("no model of the kernel " + re.sub(r"\s+\d.*", "", row["model"]))
