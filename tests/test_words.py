"""User-facing text is plain English: short sentences, and no stilted phrases."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += [*(ROOT / "docs").rglob("*.md"), *(ROOT / "metrics").glob("*/README.md")]
PAGES += [*(ROOT / "spaces").glob("*/README.md"), *(ROOT / "pipelines").rglob("embedded/model/README.md")]
CODE = [
    path
    for folder in ("pipelines", "metrics", "spaces", "training", "benchmarks", "docs")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".jinja") and "build" not in path.parts
]
LIBRARY = [path for path in CODE if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ("pipelines", "spaces")]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RESULTS = ROOT / "benchmarks" / "RESULTS.md"

# Regular expressions, without regard to case.
ODD = [
    r"@@",
    r"\bdearer\b",
    r"\b(is|are|was|be) told\b",
    r"\bno knowing\b",
    r"\bis asked (of|for)\b",
    r"\b(is|are|was) there already\b",
    r"\bwhole or not at all\b",
    r"\bmakes? (nothing|no token) of\b",
    r"\bluck\b",
    r"\b(go|goes|gone|went) on (with|where)\b",
    r"\d %",
    r"\bis no (file|folder|text|number|integer|boolean|repository|address|tensor|probabilit\w+|regular)\b",
    r"\bmade where\b",
    r"\bwhoever\b",
    r"\bsurer\b",
    r"\bsurest\b",
    r"\btoo (sure|modest)\b",
    r"\bas sure\b",
    r"\bmeans nothing\b",
    r"\bstands? (behind|beside) (them|it)\b",
    r"\bmend(s|ed|ing)?\b",
    r"\bin vain\b",
    r"\bif that is the truth\b",
    r"\bthis data cannot tell\b",
    r"\bsafetensors alone\b",
    r"\bthere may be nothing\b",
    r"\ba (model|folder|process|file|mask|temperature) of (its|their|your) own\b",
    r"\b(un)?labelled(?! Sentences)\b",
    r"\bcolours?\b",
    r"\blicence\b",
    r"\bneighbours?\b",
    r"\bbehaviour\b",
    r"\bthrice\b",
]


def strings(path):
    """Every string in a source file, including docstrings."""
    if path.suffix == ".jinja":
        yield path.read_text(encoding="utf-8")
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def texts(path):
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    return list(strings(path)) if path.suffix in (".py", ".jinja") else [path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", [*PAGES, *CODE, *NOTEBOOKS, RESULTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_contain_no_stilted_phrases(path):
    found = []
    for text in texts(path):
        for phrase in ODD:
            found += [f"{match[0]!r} in {text[max(match.start() - 40, 0) : match.end() + 40]!r}"
                      for match in re.finditer(phrase, text, re.IGNORECASE)]  # fmt: skip
    assert not found, "\n".join(found)


def sentences(markdown):
    """The sentences of a page: no code, tables or headings; a name in backticks is a word, and so is a link."""
    text = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.DOTALL)
    text = re.sub(r"```.*?```|<!--.*?-->|\$\$.*?\$\$", "", text, flags=re.DOTALL)
    text = re.sub(r"^\s*\|.*$|^#+ .*$", "", text, flags=re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n|\n\s*(?=[-*] |\d+\. )", text):
        line = " ".join(paragraph.split()).lstrip("-* ")
        line = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "name", line))
        for sentence in re.split(r"(?<=[.!?])\)?\s+(?=[(\"*A-Z]|name)", line):
            if len(words := sentence.split()) > 2:
                yield words


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sentences_are_short(path):
    lengths = [len(words) for words in sentences(path.read_text(encoding="utf-8"))]
    assert sum(lengths) / len(lengths) <= 20


def test_sentences_are_counted_in_words():
    page = "# Title\n\nOne two three. `a b` is a name: so it counts once.\n\n- A [link](x) is here.\n\n| no | table |\n"
    assert [len(words) for words in sentences(page)] == [3, 8, 4]


def names(path):
    """Every name that a file of code defines or gives to what it imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


AMBIGUOUS = {"in_order", "_kind", "_kind_written", "is_kind"}  # names that stood for several things


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_name_has_one_meaning(path):
    found = set(names(path))
    assert not found & AMBIGUOUS
    assert "publish" not in found or path.name == "publishing.py"  # to the Hub


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_name_has_a_retired_word(path):
    retired = {"tell", "told", "sure", "surer", "tokenised"}
    assert not [name for name in names(path) if retired & set(name.lower().split("_"))]
