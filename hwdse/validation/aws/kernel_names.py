"""Kernels of published measurements, recognized from the text of a row.

A recognizer returns the kernel with the sizes in the text, or None; the first match is used. The
rules depend on neither row ids nor specific sizes.
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
    """A row without a matching rule; the message is the reason."""


@dataclass(frozen=True)
class NamedKernel:
    """Kernel family, and function that builds the kernel of a row on a core."""

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
"""Kernels of NKIBench by name; arguments: sizes, format, core, hoisting of invariant work."""

_BENCH_NAME = re.compile(r"\b([a-z][a-z_]*?)_((?:[A-Z]{1,2}\d+_?)+)")
_SIZE = re.compile(r"([A-Z]{1,2})(\d+)")
_GEMM_SIZE = re.compile(r"\b(\d+)x(\d+)x(\d+)\b")
_LETTERED_SIZE = re.compile(r"\bM(\d+) K(\d+) N(\d+)\b")
_LABELED_SIZE = re.compile(r"\b(ch|seq|state|d|b)(\d+)\b")
_VERSION = re.compile(r"\bv(\d)\b")
_TUTORIAL_GEMMS = MappingProxyType(
    {
        "2": matmul_kernels.tiled_matmul,
        "3": matmul_kernels.hoisted_matmul,
        "4": matmul_kernels.free_blocked_matmul,
        "5": matmul_kernels.blocked_matmul,
    }
)
"""Kernels of the NKI optimization tutorial by profile number."""


def _bench_kernel(row: Mapping[str, str], text: str, format_name: str) -> NamedKernel | None:
    """Kernel of NKIBench, such as `swiglu_K1024_M4096_N3072 baseline`.

    An "optimized" kernel is modeled as the published kernel with invariant work hoisted out of
    its loops; other changes by the search are not published.
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


def _labeled_sizes(row: Mapping[str, str], text: str) -> dict[str, float]:
    """Sizes in the form `ch256 seq512 state16 d128`; `seq` also from its own column."""
    sizes = {name: float(value) for name, value in _LABELED_SIZE.findall(text)}
    if row.get("seq_len"):
        sizes.setdefault("seq", float(row["seq_len"]))
    return sizes


def _mamba_kernel(row: Mapping[str, str], text: str, format_name: str) -> NamedKernel | None:
    """Mamba kernel: tutorial version, or start (v3, all in SBUF) or result of a search."""
    if "mamba" not in row["model"].lower():
        return None
    sizes, version = _labeled_sizes(row, text), _VERSION.search(text)
    if version is not None:
        name = version.group(0)
    elif "start of search" in text:
        name = "v3_sbuf"
    elif "best" in text:
        name = "best"
    else:
        raise UnmodeledRowError("a Mamba scan without a stated version")
    if name not in elementwise_kernels.MAMBA_VERSIONS or not {"ch", "seq", "state"} <= set(sizes):
        raise UnmodeledRowError("a Mamba scan of unknown version or without its sizes")

    def build(core: NeuronCore) -> Kernel:
        return elementwise_kernels.mamba_scan(
            sizes["ch"], sizes["seq"], sizes["state"], format_name, core,
            version=name, batch=sizes.get("b", 1.0),
        )  # fmt: skip

    return NamedKernel("mamba_tutorial", build)


def _stated_gemm(text: str) -> Callable[..., Kernel]:
    """GEMM kernel of the tutorial or of the search named in a text."""
    version = _VERSION.search(text)
    if version is not None and version.group(1) in _TUTORIAL_GEMMS:
        return _TUTORIAL_GEMMS[version.group(1)]
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
    raise UnmodeledRowError("a GEMM without stated loops")


def _plain_gemm(row: Mapping[str, str], text: str, format_name: str) -> NamedKernel | None:
    """GEMM such as `matmul 4096x8192x8192` (M x K x N) of the tutorial or of a search.

    The search of autocomp starts from the tutorial's blocks of 256 x 1024 (stage 0). The third
    profile of the tutorial ("v3") is the kernel with hoisted loads: its printed bytes match B
    loaded once per 128 rows.
    """
    match = _GEMM_SIZE.search(row["model"]) or _LETTERED_SIZE.search(row["model"])
    if match is None:
        return None
    m, k, n = (float(value) for value in match.groups())
    if "norm" in row["model"]:
        return NamedKernel(
            "rmsnorm_matmul",
            lambda core: fused_kernels.norm_matmul(m, k, n, format_name, core),
        )
    kernel = _stated_gemm(f"{row['model']} {text}")
    return NamedKernel("matmul_tutorial", lambda core: kernel(m, k, n, format_name, core))


def _attention(row: Mapping[str, str], text: str, format_name: str) -> NamedKernel | None:
    """Attention such as `attention d128 seq4096`, with all scores kept on the core."""
    sizes = _labeled_sizes(row, f"{row['model']} {text}")
    if "attention" not in row["model"].lower() or not {"d", "seq"} <= set(sizes):
        return None
    return NamedKernel(
        "attention",
        lambda core: attention_kernels.fused_attention(sizes["seq"], sizes["d"], format_name, core),
    )


_RECOGNIZERS = (_bench_kernel, _mamba_kernel, _plain_gemm, _attention)


def recognize(row: Mapping[str, str]) -> NamedKernel:
    """Kernel of a row; raises `UnmodeledRowError` with the reason if there is none."""
    text = f"{row['detail']} {row['model']} {row['notes']}"
    if re.search(r"pytorch|\btorch\b", text, re.IGNORECASE):
        raise UnmodeledRowError("framework code without a stated kernel")
    is_gemm = _GEMM_SIZE.search(row["model"]) is not None
    stage = re.search(r"search stage (\d+)", text)
    if stage is not None and "best" not in text and not (stage.group(1) == "0" and is_gemm):
        raise UnmodeledRowError("a search stage without stated loops")
    words = row["precision"].split()
    if not words or words[0] not in FORMAT_BYTES:
        raise UnmodeledRowError(f"no rule for the precision '{row['precision']}'")
    for recognizer in _RECOGNIZERS:
        named = recognizer(row, text, words[0])
        if named is not None:
            return named
    raise UnmodeledRowError("no model of the kernel " + re.sub(r"\s+\d.*", "", row["model"]))
