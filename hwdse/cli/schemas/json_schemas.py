"""JSON Schema (draft 2020-12) of the output of every command with --json."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from hwdse.cli.schemas import core_schemas, job_schemas, search_schemas
from hwdse.cli.schemas.schema_parts import PARTS, Schema, referenced

DRAFT = "https://json-schema.org/draft/2020-12/schema"
SCHEMAS: Mapping[str, Callable[[], Schema]] = MappingProxyType(
    {
        "presets": job_schemas.presets_schema,
        "show": job_schemas.show_schema,
        "evaluate": job_schemas.evaluate_schema,
        "compare": job_schemas.compare_schema,
        "explain": job_schemas.explain_schema,
        "sensitivity": job_schemas.sensitivity_schema,
        "balance": job_schemas.balance_schema,
        "mapping": core_schemas.mapping_schema,
        "parallelism": job_schemas.parallelism_schema,
        "serve": job_schemas.serve_schema,
        "serve-front": job_schemas.serve_front_schema,
        "optimize": search_schemas.optimize_schema,
        "solve": search_schemas.solve_schema,
        "sweep": search_schemas.sweep_schema,
        "pareto": search_schemas.pareto_schema,
        "query": search_schemas.query_schema,
        "compare-search": search_schemas.compare_search_schema,
        "uncertainty": search_schemas.uncertainty_schema,
        "validate": core_schemas.validate_schema,
        "import": core_schemas.import_schema,
    }
)
"""Schema of the output by command."""


def schema_of(command: str) -> dict[str, Any]:
    """Schema of the output of `hwdse COMMAND --json` as a document of its own."""
    schema = SCHEMAS[command]()
    parts = {name: PARTS[name]() for name in sorted(referenced(schema))}
    return {
        "$schema": DRAFT,
        "$id": f"urn:hwdse:{command}",
        "title": f"Output of hwdse {command} --json",
        **schema,
        **({"$defs": parts} if parts else {}),
    }
