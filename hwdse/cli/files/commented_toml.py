"""TOML text of an imported file with a comment on the origin of each value."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from hwdse.config.files.errors import one_line
from hwdse.config.importers.imported_file import SOURCE, ImportedFile

_HEADER = re.compile(r"\[\[(?P<list>.+)\]\]|\[(?P<table>.+)\]")


def commented_toml(file: ImportedFile) -> str:
    """Text of a file: its sources with their SHA-256, its tables, and what they do not express."""
    from hwdse.config.search.write_toml import dump_tables

    head = [f"imported from {path.name} (sha256 {_sha256(path)})" for path in file.made_from]
    head += [file.notes[SOURCE]] if SOURCE in file.notes else []
    head += [f"not expressed: {line}" for line in file.not_expressed]
    lines = [f"# {one_line(text)}" for text in head]
    return "\n".join([*lines, "", *_commented(dump_tables(file.tables), file.notes)]) + "\n"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _commented(text: str, notes: Mapping[str, str]) -> list[str]:
    """Lines of a TOML text, with the note of its path behind each value."""
    lines, table = [], ""
    number: dict[str, int] = {}
    for line in text.splitlines():
        header = _HEADER.fullmatch(line)
        if header is not None:
            name = header["table"] or header["list"]
            if header["list"]:
                number[name] = number.get(name, -1) + 1
                name = f"{name}.{number[name]}"
            table = f"{name}."
        key = line.partition(" = ")[0]
        note = notes.get(f"{table}{key}") if key and header is None else None
        lines.append(f"{line}  # {one_line(note)}" if note else line)
    return lines
