"""The documentation builds without a warning, its search finds what people look for, and it needs no other server."""

import json
import re
import subprocess
import sys

import pytest
from documents import ROOT

pytest.importorskip("mkdocs", reason="the documentation needs the extra [docs]")
pytestmark = pytest.mark.slow  # builds the site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("word", ["temperature", "ModernBERT", "threshold", "ensemble", "ECE", "predict_proba"])
def test_the_search_finds(site, word):
    documents = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    assert any(word.lower() in (one["title"] + one["text"]).lower() for one in documents)


def test_every_document_is_a_page_of_the_menu(site):
    """Pages of other sources, notebooks and the command's help included."""
    menu = (site / "index.html").read_text(encoding="utf-8")
    pages = {str(path.parent.relative_to(site)) for path in site.rglob("index.html")} - {"."}
    missing = [page for page in sorted(pages) if f'href="{page}/"' not in menu]
    assert len(pages) >= 25 and not missing, missing


def test_pages_load_nothing_from_other_servers(site):
    loaded = re.compile(
        r'<(?:script|img|iframe|source)[^>]*\bsrc="(https?:[^"]*)"|<link[^>]*stylesheet[^>]*href="(https?:[^"]*)"'
    )
    for page in site.rglob("*.html"):
        found = loaded.findall(page.read_text(encoding="utf-8"))
        assert not found, (page, found)


def test_formulas_are_mathml(site):
    page = (site / "explanation" / "ece" / "index.html").read_text(encoding="utf-8")
    assert "<math" in page and "$$" not in page


def test_the_reference_shows_every_public_name(site):
    import bayesian_text_classification

    page = (site / "reference" / "python" / "index.html").read_text(encoding="utf-8")
    names = set(bayesian_text_classification.__all__) - {"TASK", "__version__", "load_classifier"}
    assert not [name for name in names if f'id="bayesian_text_classification.{name}"' not in page]
