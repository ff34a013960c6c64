"""`hwdse parallelism`: the best ways to cut a training job over the chips of a cluster."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwdse.cli.shared.common_options import Config, Json, Sets, parse_count
from hwdse.cli.shared.exit_codes import CommandError, Exit
from hwdse.cli.shared.table_output import print_json, say, tell_files

if TYPE_CHECKING:
    from hwdse.cli.parallelism.strategy_tables import Found
    from hwdse.config import LoadedSearch
    from hwdse.training.strategy_enumeration import StrategyOptions

NAME = "layout"
METRIC_NAMES = ("step_time", "time_per_token", "cost_per_token", "energy_per_token", "memory")
SEQUENCE = {"on": 1, "off": 0}


def run(
    config: Config,
    by: Annotated[
        str, typer.Option("--by", metavar="NAME", help=f"Rank by {', '.join(METRIC_NAMES)}.")
    ] = "step_time",
    top: Annotated[
        int, typer.Option("--top", parser=parse_count, metavar="N", help="Layouts to print.")
    ] = 10,
    tensor: Annotated[
        str | None, typer.Option("--tensor", metavar="LIST", help="Tensor degrees, such as 8,16.")
    ] = None,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", metavar="LIST", help="Pipeline degrees.")
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", metavar="LIST", help="Context degrees.")
    ] = None,
    expert: Annotated[
        str | None, typer.Option("--expert", metavar="LIST", help="Expert degrees.")
    ] = None,
    micro_batch: Annotated[
        str | None,
        typer.Option("--micro-batch", metavar="LIST", help="Sequences of a micro-batch."),
    ] = None,
    virtual_pipeline: Annotated[
        str | None,
        typer.Option("--virtual-pipeline", metavar="LIST", help="Chunks of a pipeline stage."),
    ] = None,
    recompute: Annotated[
        str, typer.Option("--recompute", metavar="LIST", help="Of none, selective, full.")
    ] = "none,selective,full",
    zero: Annotated[
        str, typer.Option("--zero", metavar="LIST", help="ZeRO stages of 0 to 3.")
    ] = "1,2,3",
    sequence: Annotated[
        str,
        typer.Option("--sequence", metavar="LIST", help="Sequence parallelism: on, off or both."),
    ] = "on,off",
    even_stages: Annotated[
        bool, typer.Option("--even-stages", help="Only stages of equally many layers.")
    ] = False,
    sets: Sets = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Write layouts.csv, best.toml and a picture here."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Rank every layout of a training job on the chips of a search file, those that fit the HBM.

    An option left out stands for all values that are possible. With --out all layouts that fit
    go to layouts.csv, the best to best.toml, which `hwdse evaluate` takes, and a picture.

    \b
    Examples:
      hwdse layout trn2_llama3_70b
      hwdse layout trn2_llama3_70b --tensor 8,16 --zero 1 --by cost_per_token --out runs/layouts
    """
    from hwdse.training.strategy_enumeration import RECOMPUTE, StrategyOptions

    if by not in METRIC_NAMES:
        raise typer.BadParameter(f"--by {by}: expected one of {', '.join(METRIC_NAMES)}.")
    options = StrategyOptions(
        tensor=_counts("--tensor", tensor),
        pipeline=_counts("--pipeline", pipeline),
        context=_counts("--context", context),
        expert=_counts("--expert", expert),
        micro_batch=_counts("--micro-batch", micro_batch),
        virtual_pipeline=_counts("--virtual-pipeline", virtual_pipeline),
        recompute=_words("--recompute", recompute, tuple(RECOMPUTE)),
        zero=tuple(int(x) for x in _words("--zero", zero, ("0", "1", "2", "3"))),
        sequence=tuple(SEQUENCE[x] for x in _words("--sequence", sequence, tuple(SEQUENCE))),
        even_stages=even_stages,
    )
    _run(config, sets, options, by, top, out, json=json)


def _run(
    config: str,
    sets: list[str] | None,
    options: "StrategyOptions",
    by: str,
    top: int,
    out: Path | None,
    *,
    json: bool,
) -> None:
    from hwdse.cli.parallelism import strategy_tables
    from hwdse.config import load_search

    loaded = load_search(config, sets or ())
    found = _find(loaded, options, by)
    files = []
    if out is not None:
        from hwdse.cli.parallelism import strategy_files

        files = strategy_files.save(loaded, found, config, out)
    if json:
        print_json({**strategy_tables.as_json(loaded, found, top), "files": files})
    elif len(found.order):
        strategy_tables.print_layouts(loaded, found, top)
    if not json:
        say(strategy_tables.summary(found))
    tell_files(files)
    if not len(found.order):
        raise CommandError(strategy_tables.explain_overfull(found), Exit.INFEASIBLE)


def _find(loaded: "LoadedSearch", options: "StrategyOptions", by: str) -> "Found":
    """Lists, scores and ranks the layouts of a search file's base design."""
    from hwdse.cli.parallelism.strategy_tables import Found
    from hwdse.specs.design import Design
    from hwdse.training.strategy_enumeration import enumerate_strategies
    from hwdse.training.strategy_ranking import evaluate_strategies, ranked
    from hwdse.workload.transformer.model_config import TransformerTraining

    design, job = loaded.base, loaded.workload
    if not isinstance(design, Design) or not isinstance(job, TransformerTraining):
        raise CommandError(
            f"{loaded.title}: layouts are about training jobs, and {loaded.labels['workload']} "
            "is none"
        )
    start = time.perf_counter()
    strategies = enumerate_strategies(job, design.cluster.num_chips, options)
    if not len(strategies):
        raise CommandError(
            f"no layout of {loaded.labels['workload']} on {design.cluster.num_chips:g} chips: "
            f"{job.model.num_heads:g} heads, {job.model.num_layers:g} layers and "
            f"{job.global_batch:g} sequences allow none with these options"
        )
    scores = evaluate_strategies(design, job, strategies)
    most = min(1.0, loaded.limits.get("hbm_used_ratio", 1.0))
    order = ranked(scores, by, most)
    return Found(design, strategies, scores, order, by, most, time.perf_counter() - start)


def _counts(option: str, text: str | None) -> tuple[float, ...] | None:
    """The whole numbers of a list, or nothing where the option is left out."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and 0 < int(part) <= 10**9 for part in parts):
        raise typer.BadParameter(f"{option} {text}: expected whole numbers, such as 1,2,4.")
    return tuple(float(part) for part in dict.fromkeys(parts))


def _words(option: str, text: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The words of a list, each of the allowed ones."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part in allowed for part in parts):
        raise typer.BadParameter(f"{option} {text}: expected some of {','.join(allowed)}.")
    return tuple(dict.fromkeys(parts))
