"""Words for parameters in plots, and their groups."""

from collections.abc import Mapping

from hwdse.units.parse_units import split_field

DESIGN, CONSTANTS, OPERATION = (
    "Design", "Technology, efficiency, software", "Scale, operation, prices"
)  # fmt: skip
"""Groups of parameters, in the order of plots."""
LEVEL_WORDS = {"sram": "SRAM", "hbm": "HBM", "link": "scale-up port", "network": "scale-out port"}
"""Words for the memories and ports of a chip, by field."""
_FABRIC = ("torus", "pod_chips", "network_oversubscription", "topology")
"""Beginnings of the parameters of a cluster that are part of its design."""
_CONSTANT_ENDS = ("efficiency_fraction", "overlap_fraction", "eager_fraction", "latency_s", "_j",
                  "launch_s", "rendezvous_s", "flop_ratio", "energy_j_per_byte")  # fmt: skip
_PLACES = ("chip", "cluster", "parallelism", "accelerator", "array", "design")
"""Words of a path that a label does not need."""
_WORDS = {
    "hbm": "HBM", "sram": "SRAM", "fp64": "FP64", "fp16": "FP16", "fp8": "FP8", "link": "scale-up",
    "network": "scale-out", "mtbf": "MTBF", "cols": "array columns", "rows": "array rows",
    "num": "number of", "arrays": "arrays", "mac": "MAC", "dram": "DRAM",
}  # fmt: skip
_SPECIAL = {
    "parallelism.tensor": "TP degree",
    "parallelism.pipeline": "PP degree",
    "parallelism.context": "CP degree",
    "parallelism.expert": "EP degree",
    "parallelism.micro_batch": "micro-batch size",
    "parallelism.virtual_pipeline": "virtual pipeline stages",
    "parallelism.expert_tensor": "ranks that shard each expert",
    "parallelism.zero_bubble_fraction": "zero-bubble schedule",
    "parallelism.dual_pipe_fraction": "DualPipe schedule",
    "chip.array.clock_hz": "array clock",
    "accelerator.clock_hz": "array clock",
    "chip.vector_flop_per_s": "vector rate",
    "mix.fp64_flop_fraction": "FP64 share of FLOP",
    "mix.fp8_flop_fraction": "FP8 share of FLOP",
}


def parameter_words(path: str) -> str:
    """Label of a parameter without its unit: `HBM bandwidth` for
    `chip.hbm.bandwidth_bytes_per_s`."""
    if path in _SPECIAL:
        return _SPECIAL[path]
    steps = [split_field(step)[0] for step in path.split(".")]
    kept = [step for step in steps if step not in _PLACES] or steps[-1:]
    kept[-1] = kept[-1].removesuffix("_fraction").removesuffix("_ratio")
    words = " ".join(kept).replace("_", " ").split()
    text = " ".join(_WORDS.get(word, word) for word in words)
    return f"dimension {int(words[-1])} of {text[:-2]}" if words[-1].isdecimal() else text


def parameter_group(path: str) -> str:
    """Group of a parameter: `DESIGN`, `CONSTANTS` or `OPERATION`."""
    head, _, last = path.partition(".")
    if head == "cluster":
        return DESIGN if last.startswith(_FABRIC) else OPERATION
    is_constant = ".process." in path or "yield" in last or path.endswith(_CONSTANT_ENDS)
    if is_constant or head == "software":
        return CONSTANTS
    if "cost" in last or "carbon" in last:
        return OPERATION
    return DESIGN


def grouped_elasticities(elasticities: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Elasticities by group and label, in the order given; groups without any are left out.

    Parameters with the same words have their paths as labels.
    """
    words = {path: parameter_words(path) for path in elasticities}
    labels = {
        path: text if list(words.values()).count(text) == 1 else path
        for path, text in words.items()
    }
    groups: dict[str, dict[str, float]] = {name: {} for name in (DESIGN, CONSTANTS, OPERATION)}
    for path, value in elasticities.items():
        groups[parameter_group(path)][labels[path]] = value
    return {name: group for name, group in groups.items() if group}
