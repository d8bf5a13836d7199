"""The code blocks of the README and of the documentation."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(
    r'(?:<!-- (needs .*?) -->\n)?^( *)```(\w+)(?: title="(.+?)")?\n(.*?)^\2```$', re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Attributes:
        language: What follows the backticks.
        code: The code, without the indentation of the block.
        title: Name of the file that the block shows, or None.
        needs: What the comment above the block says that it needs ("needs the Hub"), or None.
    """

    language: str
    code: str
    title: str | None
    needs: str | None


def blocks(page):
    """The code blocks of a page, in order."""
    return [
        Block(language, textwrap.dedent(code), title or None, needs or None)
        for needs, _, language, title, code in _BLOCK.findall(page.read_text(encoding="utf-8"))
    ]


def table(page, title):
    """The lines of the table whose first column has this title."""
    (found,) = [part for part in page.read_text(encoding="utf-8").split("\n\n") if part.startswith(f"| {title} |")]
    return found
