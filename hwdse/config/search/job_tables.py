"""Tables of a job: keys of older files, flags over a file, the title, the strategy written out."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from hwdse.config.files.base_files import merge_tables
from hwdse.config.schema.overrides import parse_override
from hwdse.config.schema.user_paths import Roots, leaf_paths
from hwdse.training.strategy_enumeration import FIELDS
from hwdse.units.parse_units import split_field

_WORK = ("model", "task", "layers", "seq_len", "global_batch")
"""Keys of `[design]` that say what runs."""
JOB_KEYS = ("system", "chip", "num_systems", "accelerator", "software", *_WORK)
"""Keys of `[design]` in the title of a job."""
HARDWARE = frozenset({"chip", "cluster", "accelerator"})
"""First words of the paths of hardware."""


def with_design_keys(
    tables: Mapping[str, Any], below: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """The tables with `model` or `layers` for the key `workload` of version 0.1.

    `below` are the tables that they replace: for a core, a workload is a list of layers.
    """
    design = tables.get("design")
    if not isinstance(design, Mapping) or "workload" not in design:
        return dict(tables)
    named, old = design["workload"], below.get("design")
    is_core = "accelerator" in design or (isinstance(old, Mapping) and "accelerator" in old)
    key = "layers" if is_core or str(named).lower().endswith(".csv") else "model"
    if key in design:
        return dict(tables)
    return {**tables, "design": {key if k == "workload" else k: v for k, v in design.items()}}


def with_new_job(tables: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The tables with those of a command line in place of theirs.

    Another model or list of layers replaces the whole work, another strategy the degrees.
    """
    design, own = tables.get("design"), new.get("design")
    if not isinstance(design, Mapping) or not isinstance(own, Mapping):
        return merge_tables(tables, new)
    kept = dict(design)
    if "model" in own or "layers" in own:
        kept = {key: value for key, value in kept.items() if key not in _WORK}
    if "system" in own:
        kept = {key: value for key, value in kept.items() if key != "chip"}
    if "strategy" in own and isinstance(kept.get("parallelism"), Mapping):
        others = {k: v for k, v in kept["parallelism"].items() if not _is_degree(k)}
        kept = {**kept, "parallelism": others}
    return merge_tables({**tables, "design": kept}, new)


def _is_degree(key: str) -> bool:
    """True for a key of `[design.parallelism]` that a strategy sets."""
    return key == "zero" or key in FIELDS or key in {split_field(name)[0] for name in FIELDS}


def names_other_job(override: str) -> bool:
    """True for a `--set` of a key that the title of a file may contain."""
    path = parse_override(override)[0]
    return path in {f"design.{key}" for key in (*JOB_KEYS, "workload")}


def job_title(checked: Any, labels: Mapping[str, str], *, is_other_job: bool) -> str:
    """Title of the file, or one of workload, count and system if it has none or no longer fits."""
    if checked.title is not None and not is_other_job:
        return checked.title
    count = getattr(checked.design, "num_systems", 1.0)
    many = f"{count:g} x " if count != 1.0 else ""
    return f"{labels['workload']} on {many}{labels['system']}"


def hardware_labels(labels: Mapping[str, str], overrides: Iterable[str]) -> dict[str, str]:
    """The labels; system and chip are marked as changed if `[overrides]` has paths of them."""
    roots = {path.partition(".")[0] for path in overrides}
    is_changed = {"chip": bool(roots & {"chip", "accelerator"}), "system": bool(roots & HARDWARE)}
    return {
        key: f"{label}, changed" if is_changed.get(key) else label for key, label in labels.items()
    }


def with_explicit_strategy(
    design: Mapping[str, Any], checked: Any, roots: Roots, before: Roots
) -> tuple[Mapping[str, Any], Roots]:
    """The table `[design]` and its specs with all fields of a strategy.

    Both are unchanged if the table lists the fields itself, or for a core.
    """
    is_listed = getattr(checked, "strategy", None) is None and checked_parallelism(checked)
    if "parallelism" not in roots or is_listed or roots["parallelism"] is before["parallelism"]:
        return design, before
    rest = {key: value for key, value in design.items() if key != "strategy"}
    leaves = leaf_paths(roots["parallelism"])
    fields = {name: float(value) for name, value in leaves.items() if value is not None}
    plain = {**before, "parallelism": roots["parallelism"]}
    return {**rest, "parallelism": fields}, plain


def checked_parallelism(checked: Any) -> bool:
    """True if a checked `[design]` table has the table `[design.parallelism]`."""
    return getattr(checked, "parallelism", None) is not None
