"""`hwdse import`: files of other tools as files of hwdse."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwdse.cli.shared.common_options import Json
from hwdse.cli.shared.exit_codes import CommandError
from hwdse.cli.shared.table_output import note, print_json, say, tell_files

if TYPE_CHECKING:
    from hwdse.config.importers.imported_file import ImportedFile

NAME = "import"
PEERS = ("hf", "calculon", "astrasim", "scalesim")


def run(
    peer: Annotated[
        str, typer.Argument(metavar="PEER", help=f"Tool of the files: {', '.join(PEERS)}.")
    ],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="config.json (hf); system, application and execution (calculon); network.yml, "
            "then system.json (astrasim); run.cfg, then a topology CSV (scalesim).",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Main file to write; others lie beside it.  [default: NAME.toml]",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="SYSTEM",
            help="System preset with the values that the source lacks, such as energies and "
            "prices.  [default: by PEER]",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    json: Json = False,
) -> None:
    """Import files of another tool: models, systems, jobs.

    Writes TOML files with the origin of every value as a comment. Parts of the source that hwdse
    does not express are listed as "not expressed: KEY = VALUE (reason)".

    \b
    Examples:
      hwdse import hf Llama-3.1-8B/config.json --out llama31_8b.toml
      hwdse import calculon a100_80g.json gpt3-175B.json 3072_t4_p64_d12.json --out job.toml
      hwdse import astrasim hgx_h100_16gpu.yml --base dgx_h100
      hwdse import scalesim scale.cfg resnet50.csv
    """
    if peer not in PEERS:
        raise CommandError(f"PEER {peer}: expected one of {', '.join(PEERS)}")
    from hwdse.config import ConfigError

    if out is not None and out.suffix.lower() != ".toml":
        raise CommandError(f"--out {out}: expected a file ending in .toml")
    imported = _import(peer, files, out, base)
    folder = Path() if out is None else out.parent
    paths = [folder / f"{file.name}.toml" for file in imported]
    existing = [path for path in paths if path.exists()]
    if existing and not force:
        raise CommandError(f"{existing[0]}: exists; give --out with another name, or --force")
    _write(imported, paths)
    try:
        summary = _summary(imported[0], paths[0])
    except ConfigError:
        for path in paths:
            path.unlink()
        raise
    if json:
        print_json(
            {
                "peer": peer,
                "summary": summary,
                "usage": imported[0].usage.format(path=paths[0]),
                "files": [
                    {"kind": file.kind, "path": path, "tables": file.tables,
                     "not_expressed": file.not_expressed}
                    for file, path in zip(imported, paths, strict=True)
                ],
            }
        )  # fmt: skip
    else:
        say(f"{imported[0].kind}: {summary}")
        say(f"next: {imported[0].usage.format(path=paths[0])}")
        for file in imported:
            for line in file.not_expressed:
                note(f"not expressed: {line}")
    tell_files(paths)


def _import(
    peer: str, files: Sequence[Path], out: Path | None, base: str | None
) -> tuple["ImportedFile", ...]:
    """Files of hwdse, the main one first."""
    from hwdse.config.importers.imported_file import file_stem

    stem = out.stem if out is not None else file_stem(files[0].stem)
    if peer == "hf":
        from hwdse.config.importers.hugging_face import model_tables_of_config

        if base is not None:
            raise CommandError(f"--base {base}: expected none for hf, which has models only")
        if len(files) != 1:
            raise CommandError(f"hf: expected one config.json, found {len(files)} files")
        found = model_tables_of_config(files[0])
        return (found.renamed(stem) if out is not None else found,)
    return _importer(peer)(files, stem, base)


def _importer(peer: str) -> Callable[..., tuple["ImportedFile", ...]]:
    from hwdse.config.importers.astrasim_network import import_astrasim
    from hwdse.config.importers.calculon_files import import_calculon
    from hwdse.config.importers.scalesim_config import import_scalesim

    importers: dict[str, Any] = {
        "calculon": import_calculon,
        "astrasim": import_astrasim,
        "scalesim": import_scalesim,
    }
    return importers[peer]


def _write(imported: Sequence["ImportedFile"], paths: Sequence[Path]) -> None:
    """Write the files."""
    from hwdse.cli.files.commented_toml import commented_toml
    from hwdse.runs.atomic_files import replacing

    for file, path in zip(imported, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(commented_toml(file), encoding="utf-8")


def _summary(file: "ImportedFile", path: Path) -> str:
    """Title of the main file, which is read back, with the size of a model."""
    from hwdse import config

    if file.kind == "model":
        return _model_summary(path)
    if file.kind == "job":
        return config.load_search(path).title
    if file.kind == "system":
        return config.load_system(path).name
    return str(path)


def _model_summary(path: Path) -> str:
    """Title of a model with its number of parameters."""
    import jax

    from hwdse.config.design.model_and_task import load_model_file
    from hwdse.workload.transformer.dense_transformer import num_parameters

    file = load_model_file(path)
    with jax.enable_x64(True):
        return f"{file.name}, {float(num_parameters(file.model)):,.0f} parameters"
