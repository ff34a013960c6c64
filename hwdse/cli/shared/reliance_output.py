"""Constants without a source that a result rests on, and parts that are not modeled, in outputs."""

from typing import TYPE_CHECKING, Any

from hwdse.cli.shared.table_output import say

if TYPE_CHECKING:
    from hwdse.config import LoadedSearch


def print_reliance(loaded: "LoadedSearch", design: Any, *metrics: str) -> None:
    """Print the constants that a metric of a design rests on; nothing if there are none.

    The metric is the first of `metrics` that is an objective or a limit, else the objective.
    """
    from hwdse.jobs.reliance import reliance_line, relied_constants
    from hwdse.report.metrics import kind_of

    name, found = relied_constants(loaded, design, *metrics)
    if line := reliance_line(found, name, kind=kind_of(loaded)):
        say(line)


def reliance_json(loaded: "LoadedSearch", design: Any, *metrics: str) -> list[dict[str, Any]]:
    """Assumed and default constants with their effect on a metric of a design, largest first."""
    from hwdse.jobs.reliance import reliance_rows, relied_constants

    return reliance_rows(relied_constants(loaded, design, *metrics)[1])


def print_bands(loaded: "LoadedSearch", design: Any) -> None:
    """Print the bands for the figures of a design; nothing if they take long."""
    from hwdse.jobs.footing.figure_bands import figure_texts, footing
    from hwdse.report.metrics import kind_of

    texts = figure_texts(footing(loaded, design), kind=kind_of(loaded))
    if texts:
        listed = "; ".join(f"{name} {text}" for name, text in texts.items())
        say(f"bands from the kinds of all constants: {listed}")


def print_unfitted(loaded: "LoadedSearch") -> None:
    """Print the efficiencies of the chip that were not fitted on it; nothing if all were."""
    from hwdse.jobs.footing.figure_bands import unfitted_efficiencies

    if texts := unfitted_efficiencies(loaded):
        say(f"efficiencies without a fit on {loaded.labels['chip']}: {'; '.join(texts)}")


def print_notes(loaded: "LoadedSearch") -> None:
    """Print the parts of imported files that are not modeled."""
    for text in loaded.notes:
        say(f"not modeled: {text}")
