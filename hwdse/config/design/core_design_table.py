"""`[design]` table of a search for one core: accelerator, network, mapping policy."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, StrictStr, create_model

from hwdse.config.design.initial_tiles import first_tiles
from hwdse.config.design.operator_csv import load_operators_file
from hwdse.config.files.errors import ConfigLocation
from hwdse.config.hardware.accelerators import load_accelerator_file
from hwdse.config.hardware.load_specs import BaseParts, DesignKind, NamedIn
from hwdse.config.schema.allowed_names import core_mappings
from hwdse.config.schema.consistency_checks import check_accelerator
from hwdse.config.schema.schema import STRICT, name_field
from hwdse.config.schema.user_paths import Roots
from hwdse.specs.design import CoreDesign
from hwdse.specs.mappings.tiles import roles

_TABLE = create_model(
    "CoreDesignTable",
    __config__=STRICT,
    accelerator=(StrictStr, Field()),
    layers=(StrictStr, Field()),
    mapping=name_field(core_mappings, "optimize"),
)


def _load(table: Any, folder: Path, where: ConfigLocation) -> BaseParts:
    core = load_accelerator_file(table.accelerator, NamedIn(folder, where, "accelerator"))
    network = load_operators_file(table.layers, NamedIn(folder, where, "layers"))
    try:
        roles(core.accelerator)
    except ValueError as error:
        raise where.error("accelerator", table.accelerator, str(error)) from None
    roots: Roots = {"accelerator": core.accelerator, "workload": network.operators}
    if table.mapping == "explicit":
        roots["tiles"] = first_tiles(network.operators, core.accelerator)
    files = zip(("accelerator", "process"), core.files, strict=False)
    return BaseParts(
        roots=roots,
        mapping=table.mapping,
        labels={"system": core.name, "chip": core.name, "workload": network.name},
        files=(*files, *(("layers", file) for file in network.files)),
        published={"accelerator": dict(core.published), "workload": dict(network.published)},
    )


def _design_of(roots: Roots, mapping: str) -> CoreDesign:
    return CoreDesign(roots["accelerator"], roots.get("tiles", ()), mapping)


CORE = DesignKind(
    table=_TABLE,
    load=_load,
    design_of=_design_of,
    with_strategy=lambda roots, *_: roots,
    check=lambda design, _workload, where: check_accelerator(design.accelerator, where),
    check_variant=lambda design, where: check_accelerator(design.accelerator, where),
    file_keys=MappingProxyType({"accelerator": "accelerators", "layers": "operators"}),
    no_objectives=("cost_per_token",),
)
"""One core with the operators of a network; it has no lifetime, hence no cost per pass."""
