"""Pages of the documentation whose source is elsewhere, and formulas. MkDocs calls these functions by their names."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[2]
COPIED = {  # pages, and their sources, which other pages link to
    "benchmarks.md": "benchmarks/RESULTS.md",
    "reference/changelog.md": "CHANGELOG.md",
    "reference/metric.md": "metrics/ece/README.md",
    "reference/prediction-set-coverage.md": "metrics/prediction_set_coverage/README.md",
    "reference/security.md": "SECURITY.md",
}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)  # that of a Space's card says nothing to MkDocs


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have their source elsewhere."""
    for page, source in COPIED.items():
        text = FRONT_MATTER.sub("", (ROOT / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "reference/command.md", content=help_of_the_command()))
    for path in NOTEBOOKS:
        for name, content in notebook(path).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point links at pages in place of their sources, and turn `$$ ... $$` into MathML, which needs no script."""
    up = "../" * page.file.src_uri.count("/")
    for target, source in [
        *COPIED.items(),
        *((f"notebooks/{path.stem}.md", f"notebooks/{path.name}") for path in NOTEBOOKS),
    ]:
        markdown = markdown.replace(f"](../{up}{source}", f"]({up}{target}")
    return re.sub(r"\$\$(.+?)\$\$", lambda found: convert(found[1].strip(), display="block"), markdown, flags=re.DOTALL)


def help_of_the_command() -> str:
    """All options of all commands, as Typer documents them."""
    module = "bayesian_text_classification_command.app"
    command = [sys.executable, "-m", "typer", module, "utils", "docs", "--name", "bayesian-text-classification"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text = text.replace("# `bayesian-text-classification`", "# The command", 1)
    text = re.sub(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+", "", text)  # these sentences are cut, and the sections follow
    return re.sub(r"^(#+ `)bayesian-text-classification ", r"\1", text, flags=re.MULTILINE)


def notebook(path: Path) -> dict[str, str | bytes]:
    """A notebook with its outputs as Markdown, and its pictures."""
    text, resources = MarkdownExporter().from_notebook_node(nbformat.read(path, as_version=4))
    pictures = {name: f"{path.stem}-{name}" for name in resources["outputs"]}
    for name, new in pictures.items():
        text = text.replace(f"({name})", f"({new})")
    return {f"{path.stem}.md": text} | {new: resources["outputs"][name] for name, new in pictures.items()}
