"""Outputs shown in the documentation, measured again: `python tools/docs_outputs.py [PAGE...]`.

Every fence ```` ```console ```` of `docs/` and `README.md` holds commands after `$ ` and their
output. The commands run in a scratch folder per page, in order, and the output is replaced. A
```` ```text ```` fence directly after a ```` ```python ```` fence holds the output of the snippet.
A comment before the fence shortens the output:

    <!-- output: head=12 -->              the first 12 lines
    <!-- output: keep=limits|bottlenecks -->  blocks (between blank lines) with a matching line
    <!-- output: rows=6 -->               the first 6 lines of each block

Left-out lines become `...`. Commands that take hours stand in ```` ```bash ```` fences, which are
not run.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH = "100"
FENCE = re.compile(
    r"(?:<!-- output:(?P<options>[^\n]*?)-->\n)?```console\n(?P<console>.*?)```"
    r"|```python\n(?P<python>(?:(?!```).)*?)```\n\n(?:<!-- output:[^\n]*-->\n)?```text\n.*?```",
    flags=re.DOTALL,
)
ENVIRONMENT = {
    **os.environ,
    "COLUMNS": WIDTH,
    "NO_COLOR": "1",
    "TERM": "dumb",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def pages(names: list[str]) -> list[Path]:
    """Pages to refresh; all without names."""
    if names:
        return [Path(name).resolve() for name in names]
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands_of(text: str) -> list[str]:
    """Commands of a console fence, continuation lines included."""
    found: list[str] = []
    is_open = False
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(line[2:])
        elif is_open:
            found[-1] += "\n" + line
        is_open = bool(found) and found[-1].endswith("\\")
    return found


def run(command: list[str] | str, folder: Path) -> str:
    """Standard output of a command; its last error line if it fails."""
    done = subprocess.run(
        command, shell=isinstance(command, str), cwd=folder, env=ENVIRONMENT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    text = done.stdout
    if done.returncode:
        print(f"    exit code {done.returncode}: {done.stderr.strip()[-300:]}")
        text += done.stderr.strip().splitlines()[-1] + "\n" if done.stderr.strip() else ""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def shorten(text: str, options: str) -> str:
    """Output with the blocks and lines that the options select."""
    found = dict(re.findall(r"(\w+)=(\S+(?: [^=\s]+(?!=))*)", options))
    if "keep" in found:
        blocks = text.split("\n\n")
        kept, skipped = [], False
        for block in blocks:
            if re.search(found["keep"], block):
                kept.append(block)
                skipped = False
            elif not skipped:
                kept.append("...")
                skipped = True
        text = "\n\n".join(kept)
    if "rows" in found:
        limit = int(found["rows"])
        blocks = []
        for block in text.split("\n\n"):
            lines = block.splitlines()
            blocks.append("\n".join(lines[:limit] + (["..."] if len(lines) > limit else [])))
        text = "\n\n".join(blocks)
    if "head" in found:
        lines = text.splitlines()
        limit = int(found["head"])
        text = "\n".join(lines[:limit] + (["..."] if len(lines) > limit else []))
    return text


def refresh(page: Path) -> None:
    """Run the commands and snippets of a page and write their outputs into it."""
    old = page.read_text()
    if "```console" not in old and "```text" not in old:
        return
    print(page.relative_to(ROOT), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for link in ("tests", "configs", "experiments"):
            (folder / link).symlink_to(ROOT / link)

        def replaced(match: re.Match[str]) -> str:
            if match["python"] is not None:
                output = run([sys.executable, "-c", match["python"]], folder)
                head = match[0][: match[0].index("```\n\n") + 5]
                return f"{head}```text\n{output}\n```"
            parts = []
            for command in commands_of(match["console"]):
                print(f"  $ {command}", flush=True)
                output = shorten(run(command, folder), match["options"] or "")
                parts.append(f"$ {command}\n{output}".rstrip())
            comment = match[0][: match[0].index("```console")]
            return comment + "```console\n" + "\n".join(parts) + "\n```"

        new = FENCE.sub(replaced, old)
    if page.read_text() != old:
        raise SystemExit(f"{page}: changed meanwhile")
    if new != old:
        page.write_text(new)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", help="pages to refresh; all by default")
    for page in pages(parser.parse_args().pages):
        refresh(page)
