"""MkDocs hooks: READMEs and plots of experiments/ and root files as pages, formulas as MathML.

In the repository the pages of docs/ link to `../experiments/NAME/README.md`. The built site has
these files under `experiments/NAME/`. Links to other files of the repository become plain code.
"""

import html
import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
ROOT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")
FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>',
    flags=re.DOTALL,
)
"""Output of pymdownx.arithmatex: `\\(...\\)` inline, `\\[...\\]` as a block."""


def on_files(files: Files, config: Any) -> Files:
    """Add experiments, with the images that their READMEs show, and the pages of the root."""
    for readme in sorted(EXPERIMENTS.glob("*/README.md")):
        folder = readme.parent
        uri = f"experiments/{folder.name}/index.md"
        text = readme.read_text(encoding="utf-8")
        files.append(File.generated(config, uri, content=text))
        for image in dict.fromkeys(re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)):
            if (folder / image).exists():  # else the link is reported as broken
                uri = f"experiments/{folder.name}/{image}"
                files.append(File.generated(config, uri, abs_src_path=str(folder / image)))
    for name in ROOT_PAGES:
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name.lower(), content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links as the site needs them."""
    here = posixpath.dirname(page.file.src_uri)

    def replaced(match: re.Match[str]) -> str:
        mark, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        if mark or "://" in target:
            return match[0]
        if found := re.fullmatch(r"(?:\.\./)*experiments/(\w+)(?:/README\.md)?/?", target):
            path = posixpath.relpath(f"experiments/{found[1]}/index.md", here or ".")
            return f"[{text}]({path}{anchor})"
        if found := re.fullmatch(rf"(?:\.\./)*({'|'.join(ROOT_PAGES)})", target):
            path = posixpath.relpath(found[1].lower(), here or ".")
            return f"[{text}]({path}{anchor})"
        inside = posixpath.normpath(posixpath.join(here, target))
        is_experiment = page.file.src_uri.startswith("experiments/")
        if is_experiment and files.get_file_from_path(inside) is None:
            return f"`{target}`" if text.strip("`") == target else f"{text} (`{target}`)"
        return match[0]

    return LINK.sub(replaced, markdown)


def on_page_content(content: str, page: Any, config: Any, files: Files) -> str:
    """Formulas as MathML, so that the site needs no script from elsewhere."""

    def replaced(match: re.Match[str]) -> str:
        display = "block" if match["tag"] == "div" else "inline"
        return convert(html.unescape(match["latex"]), display=display)

    return FORMULA.sub(replaced, content)
