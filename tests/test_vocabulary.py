"""The field's words in docstrings, comments, help, tables and pages: terms of the project's own
dialect are found by pattern."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATTERNS = {
    r"(exact|smooth|relaxed) reading": "exact model, smooth relaxation, continuous relaxation",
    r"\bjudg(e|ed|es|ing)\b": "evaluate; re-evaluate in float64",
    r"\bverdicts?\b": "feasibility; reclassified designs",
    r"\bworth\b": "optimality report",
    r"\bcontests?\b": "optimizer comparison",
    r"\bstarv(e|ed|es|ing)\b": "bandwidth-bound; demand ratio above 1",
    r"\bsilicon of\b|\bequal silicon\b": "die area; iso-area",
    r"\bbuildable\b": "rounded to the parameter steps",
    r"\bheld by\b": "bound by; binding constraint",
    r"\bclock left\b": "throttled clock",
    r"\bnothing hides\b": "exposed communication",
    r"\buseful tokens?\b": "effective token",
    r"\b[Bb]ands? of\b": "percentile interval",
    r"\bwho wins\b": "ranking",
    r"(?<![-\w])[Oo]ptimis(e|ed|er|ers|es|ing|ation)\b": "American spelling",
}
FIRST_WORDS = ("What", "How", "Which", "Where", "Who")
"""A docstring begins with a noun phrase or a verb."""
OLD_NAMES = {"tools/compare_outputs.py"}
"""Files with names of version 0.1."""
SOURCES = sorted(
    path
    for folder in ("hwdse", "tests", "experiments", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if path != Path(__file__) and str(path.relative_to(ROOT)) not in OLD_NAMES
)
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.rglob("README.md"))
    if not {".venv", "node_modules", "site", ".git"} & set(path.relative_to(ROOT).parts)
    and path.name != "CHANGELOG.md"  # has the table of old terms
)
CONFIGS = sorted((ROOT / "configs").rglob("*.toml"))


def label(path):
    return str(path.relative_to(ROOT))


def words_of(path):
    """(line, text) of strings and comments of Python, of all lines of other files."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            yield token.start[0], re.sub(r"\s+", " ", token.string)


@pytest.mark.parametrize("path", [*SOURCES, *PAGES, *CONFIGS], ids=label)
def test_words_are_those_of_the_field(path):
    found = [
        f"{label(path)}:{line}: {match[0]!r}: {better}"
        for line, text in words_of(path)
        for pattern, better in PATTERNS.items()
        for match in re.finditer(pattern, text)
    ]
    assert not found, "\n".join(found)


def docstrings(path):
    """(line, docstring) of the module, its classes and its functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


@pytest.mark.parametrize("path", [p for p in SOURCES if "tests" not in p.parts], ids=label)
def test_docstrings_begin_with_what_they_name(path):
    found = [
        f"{label(path)}:{line}: {text.splitlines()[0]}"
        for line, text in docstrings(path)
        if text.split()[0] in FIRST_WORDS
    ]
    assert not found, "\n".join(found)
