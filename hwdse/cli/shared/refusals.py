"""Refusals of jobs of another kind than a command answers."""

from typing import TYPE_CHECKING

from hwdse.cli.shared.exit_codes import CommandError

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch


def refuse_service(loaded: "LoadedSearch", expected: str) -> None:
    """Raise a `CommandError` if a job is a service."""
    from hwdse.specs.serving.engine import ServingDesign

    if isinstance(loaded.base, ServingDesign):
        raise CommandError(
            f"{loaded.title}: expected {expected}; this is a service, see hwdse serve"
        )
