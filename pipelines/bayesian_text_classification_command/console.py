"""Terminal output of the command: results to stdout, everything else to stderr."""

import ast
import logging
import re
import shlex
import sys
import warnings
from collections.abc import Collection
from typing import Any, NoReturn

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

STDOUT = Console()
STDERR = Console(stderr=True)


class Refusal(Exception):
    """The command cannot do what was asked. `app.run` prints the message as one line and exits with 2."""


def fail(message: str) -> NoReturn:
    """Stop with one line on stderr and exit code 2."""
    raise Refusal(message)


def with_flags(message: str, arguments: Collection[str]) -> str:
    """A library message with arguments shown as command-line options: `text_column=` becomes `--text-column`.

    `resume=True` becomes `--resume`, `seed=3` becomes `--seed 3`, `threshold=None` becomes `no --threshold`, and
    `threshold={'joy': 0.8}` becomes `--threshold joy=0.8`. Quoted text and parts of a path are the user's, and stay as
    they are.
    """
    names = "|".join(map(re.escape, sorted(arguments)))

    def flag(match: re.Match[str]) -> str:
        if match["name"] is None:  # quoted
            return match[0]
        option = "--" + match["name"].replace("_", "-")
        if match["value"] == "None":
            return f"no {option}"
        if (match["value"] or "").startswith("{"):
            try:
                each = ast.literal_eval(match["value"])
                return " ".join(f"{option} {shlex.quote(f'{name}={value}')}" for name, value in each.items())
            except (ValueError, SyntaxError, AttributeError):  # braces of the user's
                return match[0]
        return option if match["value"] or match["bare"] is not None else f"{option} "

    quoted = r"""(?<!\w)(?P<quote>['"]).*?(?P=quote)(?!\w)"""
    argument = rf"(?<![^\s(])(?P<name>{names})=(?P<value>True\b|None\b|\{{[^{{}}]*\}})?(?P<bare>(?=[\s),;]|$))?"
    return for_shell(re.sub(f"{quoted}|{argument}", flag, message))


_FLAGS = {"by": "coverage-by", "score": "coverage-score"}  # of `conformalize`
_CALLS = {
    "calibrate": "run calibrate",
    "distill": "run distill",
    "conformalize": "fit them with calibrate --coverage",
    "learn_scope": "learn it with calibrate --scope-dataset",
}


def for_shell(message: str) -> str:
    """A library message whose calls of a classifier are commands."""

    def command(match: re.Match[str]) -> str:
        asked = dict(re.findall(r"(?:--)?([\w-]+)[ =]'?([^,']*)'?", match["options"] or ""))
        first = f" {asked.pop('coverage')}" if "coverage" in asked else ""
        flags = {_FLAGS.get(name, name.replace("_", "-")): value for name, value in asked.items()}
        options = "".join(f" --{name} {value}" for name, value in flags.items())
        call = _CALLS[match["name"]]
        return call.replace(" with ", " on more texts with ") if match["more"] else call + first + options

    names = "|".join(_CALLS)
    call = rf"call classifier\.(?P<name>{names})(\(texts(, labels)?(?P<options>(, [^()]+)?)\)|(?P<more> with more))"
    return re.sub(call, command, message).replace(", or be None", "")


def new_table(title: str) -> Table:
    """A table without columns. The title is bold and may be empty."""
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def print_table(table: Table) -> None:
    """Print at full width. In a narrow terminal lines wrap, but no number is cut."""
    wide = STDOUT.options.update(width=1_000)
    table.width = STDOUT.measure(table, options=wide).maximum
    STDOUT.print(table, soft_wrap=True)


def plain(value: Any) -> str:
    """Plain text: control characters and markup are escaped."""
    return escape("".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value)))


def show_warnings_in_one_line(arguments: Collection[str]) -> None:
    """Print warnings as refusals are printed, without the place in the code. `arguments` are those of the commands."""

    def show(message: Warning | str, *where: Any, **more: Any) -> None:
        print(f"warning: {with_flags(' '.join(str(message).split()), arguments)}", file=sys.stderr)

    warnings.showwarning = show


def quiet_libraries() -> None:
    """Hide loading bars and advice of libraries, which would bury the one line that a user needs."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)  # a logger's own level is reset when its library is imported later
    warnings.filterwarnings("ignore", module=r"(?!bayesian_text_classification)")
